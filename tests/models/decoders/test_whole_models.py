"""Every decoder in a whole model: a step, images of another size, the structure stored and read."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from setr.models.decoders.asking import heads_for
from setr.models.decoders.decoder import Asked
from setr.models.decoders.table import DECODERS, decoder_with
from setr.models.export import export_onnx
from setr.models.flavours import flavour_rules
from setr.models.segmenter import Segmenter, build_segmenter
from setr.models.spec_json import spec_from_json, spec_to_json
from setr.models.specification import EncoderSize, ResNetSpec, SegmenterSpec
from setr.models.variants import MINIATURES, R50, resnet

PLAIN = [name for name in DECODERS if name != "semantic-fpn"]
STAGED = [name for name in DECODERS if name != "mla"]
CASES = [("t-large", name) for name in PLAIN] + [("r-50", name) for name in STAGED]
CROP = (64, 64)


def spec_of(row: str, decoder: str, num_classes: int = 5, flavour: str = "authors") -> SegmenterSpec:
    encoder: EncoderSize | ResNetSpec = MINIATURES[row] if row in MINIATURES else resnet(R50, miniature=True)
    asked = Asked(row, encoder, flavour_rules(flavour), num_classes, CROP, miniature=True)
    heads, taps = heads_for(decoder, asked, options={}, layers=None, auxiliary=None)
    return SegmenterSpec(
        encoder=encoder,
        image_size=CROP,
        num_classes=num_classes,
        decoder=heads.decoder,
        main_taps=taps,
        auxiliary=heads.auxiliary,
        auxiliary_taps=heads.auxiliary_taps,
        flavour=flavour,
        align_corners=heads.align_corners,
    )


def model_of(row: str, decoder: str) -> Segmenter:
    torch.manual_seed(0)
    return build_segmenter(spec_of(row, decoder))


@pytest.mark.parametrize(("row", "decoder"), CASES)
def test_it_trains_and_reads_images_of_any_size(row: str, decoder: str) -> None:
    model = model_of(row, decoder).train()
    logits, auxiliary = model(torch.randn(2, 3, 64, 96))
    assert logits.shape == (2, 5, 64, 96)
    assert all(extra.shape == logits.shape for extra in auxiliary)
    loss = sum((extra * torch.randn_like(extra)).mean() for extra in (logits, *auxiliary))
    loss.backward()
    still = [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
    assert still == []
    with torch.no_grad():
        assert model.eval()(torch.randn(1, 3, 50, 70)).shape == (1, 5, 50, 70)


@pytest.mark.parametrize("flavour", ["authors", "mmseg"])
@pytest.mark.parametrize(("row", "decoder"), CASES)
def test_its_structure_is_stored_and_told(row: str, decoder: str, flavour: str) -> None:
    spec = spec_of(row, decoder, flavour=flavour)
    assert spec_from_json(spec_to_json(spec)) == spec
    assert decoder_with(spec.decoder).name == decoder
    assert [known.has(spec.decoder) for known in DECODERS.values()].count(True) == 1


@pytest.mark.parametrize("decoder", PLAIN)
def test_its_classes_are_told_from_its_tensors(decoder: str) -> None:
    """What opens a checkpoint reads the number of classes from `classifier`."""
    with torch.device("meta"):
        model = Segmenter(spec_of("t-large", decoder, num_classes=11))
    assert model.state_dict()["decode_head.classifier.weight"].shape[0] == 11
    assert replace(model.spec, num_classes=11) == model.spec


def test_upernets_pooling_is_exported_to_onnx(tmp_path: Path) -> None:
    """Its sides are symbols there, of which each average's positions are reckoned."""
    pytest.importorskip("onnxruntime")
    assert export_onnx(model_of("t-large", "upernet"), tmp_path / "model.onnx").largest_difference < 1e-4
