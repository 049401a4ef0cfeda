"""Each difference between the sources decides something in the model, and is the value the sources give."""

from dataclasses import fields, replace

import pytest
import torch

from setr.models.decoders.decoder import Asked
from setr.models.decoders.mla import MLASpec
from setr.models.decoders.table import DECODERS
from setr.models.decoders.up_head import UpHeadSpec
from setr.models.flavours import DIFFERENCES, Difference, Flavour, flavour_rules
from setr.models.segmenter import build_model
from setr.models.specification import SegmenterSpec
from setr.models.variants import ENCODERS, variant_spec


def spec(variant: str, flavour: str, classes: int = 19) -> SegmenterSpec:
    return variant_spec(variant, num_classes=classes, crop_size=(512, 512), flavour=flavour)


def test_each_field_has_one_entry_with_meaning_and_source() -> None:
    assert [difference.name for difference in DIFFERENCES] == [field.name for field in fields(Flavour)]
    assert all(difference.meaning and difference.source for difference in DIFFERENCES)


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.name)
def test_each_difference_decides_something(difference: Difference) -> None:
    """Taking the other source's value for this field alone changes the heads (or, once, the initialisation)."""
    authors = flavour_rules("authors")
    other = next((v for v in (difference.mmseg, difference.paper) if v != difference.authors), 2)
    changed = replace(authors, **{difference.name: other})
    if difference.name == "initialisation":
        torch.manual_seed(0)
        model = build_model("setr-naive", num_classes=5, crop_size=(64, 64), scale="miniature", flavour="mmseg")
        assert model.decode_head.classifier.weight.std().item() == pytest.approx(0.01, rel=0.2)
        return
    base = replace(authors, mla_auxiliary_reads="neck")
    heads = [
        DECODERS[decoder].heads(Asked(encoder, ENCODERS[encoder], rules, classes, (512, 512)))
        for rules in (base, changed)
        for decoder in ("naive", "pup", "mla")
        for encoder in ("t-base", "t-large")
        for classes in (19, 150)
    ]
    half = len(heads) // 2
    assert heads[:half] != heads[half:]


def test_naive_and_its_auxiliary_heads() -> None:
    authors, mmseg = spec("setr-naive", "authors"), spec("setr-naive", "mmseg")
    assert authors.decoder == UpHeadSpec(1024, 256, 1, (1,), convolution_bias=True)
    assert mmseg.decoder == UpHeadSpec(1024, 256, 1, (4,), convolution_bias=False)
    assert [len(head.up_scales) for head in mmseg.auxiliary] == [1, 1, 1]  # type: ignore[union-attr]
    ade20k = spec("setr-naive", "mmseg", classes=150)
    assert [head.up_scales for head in ade20k.auxiliary] == [(4, 4)] * 3  # type: ignore[union-attr]
    assert spec("setr-naive", "authors", classes=150).auxiliary == authors.auxiliary


def test_pup_and_its_auxiliary_heads() -> None:
    authors, mmseg, paper = (spec("setr-pup", flavour) for flavour in ("authors", "mmseg", "paper"))
    assert authors.decoder == UpHeadSpec(1024, 256, 3, (2, 2, 2, 1))
    assert mmseg.decoder == UpHeadSpec(1024, 256, 3, (2, 2, 2, 2), convolution_bias=False)
    assert authors.auxiliary == (UpHeadSpec(1024, 256, 3, (4,)),) * 4
    assert mmseg.auxiliary == (UpHeadSpec(1024, 256, 3, (4, 4), convolution_bias=False),) * 3
    assert paper.auxiliary == (UpHeadSpec(1024, 256, 1, (1,)),) * 4
    assert authors.auxiliary_taps == paper.auxiliary_taps == (9, 14, 19, 23)
    assert mmseg.auxiliary_taps == (9, 14, 19)


def test_mla_and_its_auxiliary_heads() -> None:
    authors, mmseg, paper = (spec("setr-mla", flavour) for flavour in ("authors", "mmseg", "paper"))
    assert authors.decoder == MLASpec(1024, 4, 256, 128, 128, 4, classifier_kernel=3, align_corners=True)
    assert mmseg.decoder == MLASpec(1024, 4, 256, 128, 128, 4, classifier_kernel=1, align_corners=False)
    assert paper.decoder == MLASpec(1024, 4, 512, 512, 256, 4, classifier_kernel=3, align_corners=False)
    single = UpHeadSpec(256, 256, up_scales=(), norm=False, classifier_bias=False)
    assert authors.auxiliary == (single,) * 4
    assert mmseg.auxiliary == (replace(single, classifier_bias=True),) * 4
    assert authors.auxiliary_taps == mmseg.auxiliary_taps == ()
    assert paper.auxiliary == (UpHeadSpec(1024, 256, 1, (1,)),) * 4
    assert paper.auxiliary_taps == (5, 11, 17, 23)


def test_base_layers() -> None:
    assert spec("setr-pup-base", "authors").auxiliary_taps == (4, 7, 9, 11)
    assert spec("setr-pup-base", "mmseg").auxiliary_taps == (4, 6, 9)
    assert spec("setr-naive-base", "authors").auxiliary_taps == (2, 5, 8)
    assert spec("setr-naive-base", "mmseg").auxiliary_taps == (4, 6, 9)


def test_mmseg_has_the_published_number_of_parameters() -> None:
    """mmsegmentation's T-Large encoder with a patch bias: 304,147,456 at 512, 305,458,176 at 768."""
    for crop, expected in (((512, 512), 304_147_456), ((768, 768), 305_458_176)):
        with torch.device("meta"):
            model = build_model("setr-naive", num_classes=19, crop_size=crop, flavour="mmseg")
        assert sum(parameter.numel() for parameter in model.encoder.parameters()) == expected
