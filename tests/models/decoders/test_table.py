"""Every decoder of the table: told from specs and from tensors, counted."""

from dataclasses import dataclass

import pytest
import torch

from setr.errors import InputError
from setr.models.decoders.table import DECODERS, decoder_with
from setr.models.importing.inferred_spec import infer_spec
from setr.models.importing.stored_config import StoredConfig
from setr.models.segmenter import build_model
from setr.models.specification import HeadSpec
from setr.models.variants import VARIANTS, variant_spec
from setr.planning.footprint import footprint


@pytest.mark.parametrize("flavour", ["authors", "mmseg", "paper"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_rows_decoder_is_told_from_its_spec(variant: str, flavour: str) -> None:
    for scale in ("paper", "miniature"):
        spec = variant_spec(variant, num_classes=19, crop_size=(64, 96), scale=scale, flavour=flavour)
        assert decoder_with(spec.decoder) is DECODERS[VARIANTS[variant].decoder]
        assert [row.has(spec.decoder) for row in DECODERS.values()].count(True) == 1


@pytest.mark.parametrize("variant", [name for name in VARIANTS if not name.startswith(("hybrid", "fcn-21k"))])
def test_a_rows_decoder_is_told_from_its_tensors(variant: str) -> None:
    flavour = "mmseg" if DECODERS[VARIANTS[variant].decoder].output_stride else "authors"
    with torch.device("meta"):
        model = build_model(variant, num_classes=19, crop_size=(64, 64), flavour=flavour)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    recognised = [name for name, row in DECODERS.items() if row.recognised is not None and row.recognised(shapes)]
    assert recognised == [VARIANTS[variant].decoder]
    found = infer_spec(shapes, flavour=flavour, settings=StoredConfig(), num_heads=None, taps=None, align_corners=False)
    assert (found.spec.decoder, found.spec.main_taps) == (model.spec.decoder, model.spec.main_taps)
    assert [type(head) for head in found.spec.auxiliary] == [type(head) for head in model.spec.auxiliary]
    assert found.settings["decoder"] == VARIANTS[variant].decoder


@dataclass(frozen=True)
class StrangeSpec(HeadSpec):
    in_channels: int = 8


def test_a_head_of_no_row_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="StrangeSpec"):
        decoder_with(StrangeSpec())


@pytest.mark.parametrize("place", ["decoder", "auxiliary"])
def test_a_plan_counts_no_head_that_it_does_not_know(place: str) -> None:
    known = variant_spec("setr-pup", num_classes=19, crop_size=(64, 96), scale="miniature")
    strange = StrangeSpec() if place == "decoder" else (StrangeSpec(), *known.auxiliary[1:])
    values = {**vars(known), place: strange}
    with pytest.raises(InputError, match=r"E_DECODER.*StrangeSpec"):
        footprint(type(known)(**values), (64, 96))
