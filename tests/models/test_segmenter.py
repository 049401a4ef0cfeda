"""Every row of VARIANTS builds and trains; logits equal the reference; any image size; nothing idle in eval."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from setr.errors import InputError
from setr.models.segmenter import Segmenter, build_model, build_segmenter
from setr.models.spec_json import spec_from_json, spec_to_json
from setr.models.specification import EncoderSize
from setr.models.variants import VARIANTS, variant_spec

MINIATURE = {"num_classes": 7, "crop_size": (64, 96), "scale": "miniature"}

# Layers from 1, as the paper and the released configurations count them.
LAYERS = {
    "setr-naive": ((24,), (10, 15, 20)),
    "setr-pup": ((24,), (10, 15, 20, 24)),
    "setr-mla": ((6, 12, 18, 24), ()),
    "setr-naive-base": ((12,), (3, 6, 9)),
    "setr-pup-base": ((12,), (5, 8, 10, 12)),
    "setr-mla-base": ((3, 6, 9, 12), ()),
    "hybrid-base": ((12,), (3, 6, 9)),
}


def miniature(variant: str, **options: object) -> Segmenter:
    torch.manual_seed(0)
    return build_model(variant, **{**MINIATURE, **options})  # type: ignore[arg-type]


def test_the_rows_are_those_of_the_tables() -> None:
    assert len(VARIANTS) == 16
    assert all(name == row.name for name, row in VARIANTS.items())
    assert [row.pre for row in VARIANTS.values()].count("R") == 2
    for name, row in VARIANTS.items():
        assert (row.pretrained is None) == (row.pre == "R")
        assert (row.cnn_pretrained is not None) == name.startswith("hybrid")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_row_builds_at_paper_scale(variant: str) -> None:
    with torch.device("meta"):
        model = build_model(variant, num_classes=19, crop_size=(768, 768)).eval()
        logits = model(torch.empty(1, 3, 768, 768))
    assert logits.shape == (1, 19, 768, 768)


@pytest.mark.parametrize("flavour", ["authors", "mmseg", "paper"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_row_trains_in_miniature(variant: str, flavour: str) -> None:
    model = miniature(variant, flavour=flavour).train()
    images = torch.randn(2, 3, 64, 96)
    main, auxiliary = model(images)
    assert main.shape == (2, 7, 64, 96)
    assert all(logits.shape == main.shape for logits in auxiliary)
    assert len(auxiliary) == len(model.spec.auxiliary)
    labels = torch.randint(0, 7, (2, 64, 96))
    sum(F.cross_entropy(logits, labels) for logits in [main, *auxiliary]).backward()
    idle = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("variant", ["setr-naive", "setr-pup-base", "setr-mla-base", "hybrid-base", "semantic-fpn"])
@pytest.mark.parametrize("size", [(64, 96), (33, 70), (96, 64), (8, 8), (40, 129)])
def test_any_image_size(variant: str, size: tuple[int, int]) -> None:
    model = miniature(variant).eval()
    with torch.no_grad():
        logits = model(torch.randn(1, 3, *size))
    assert logits.shape == (1, 7, *size)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("variant", ["setr-naive", "setr-pup", "setr-mla", "fcn"])
@pytest.mark.parametrize("size", [(64, 96), (50, 41)])
def test_forward_is_head_logits_resized_to_the_image(variant: str, size: tuple[int, int]) -> None:
    model = miniature(variant).train()
    model.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
    images = torch.randn(2, 3, *size)
    main, auxiliary = model(images)
    head_main, head_auxiliary = model.head_logits(images)
    for full, small in zip([main, *auxiliary], [head_main, *head_auxiliary], strict=True):
        assert small.is_contiguous()
        resized = F.interpolate(small, size=size, mode="bilinear", align_corners=model.align_corners)
        torch.testing.assert_close(full, resized, rtol=0, atol=1e-6)


@pytest.mark.parametrize("decoder", ["naive", "pup", "mla"])
def test_logits_equal_the_reference(decoder: str, reference: Path, reference_model: Callable[[str], Segmenter]) -> None:
    arrays = np.load(reference / f"tiny_{decoder}_64x64.npz")
    model = reference_model(decoder)
    with torch.no_grad():
        logits = model(torch.from_numpy(arrays["input"]))
    expected = arrays["main_img"] if "main_img" in arrays else arrays["main_head"]
    np.testing.assert_allclose(logits.numpy(), expected, rtol=0, atol=2e-5)
    np.testing.assert_array_equal(logits.argmax(dim=1).numpy(), arrays["pred"])


def test_eval_does_no_auxiliary_work() -> None:
    model = miniature("setr-pup").eval()
    for head in model.auxiliary_heads:
        head.register_forward_pre_hook(lambda *_: pytest.fail("an auxiliary head ran"))
    _, auxiliary = model.head_logits(torch.randn(1, 3, 64, 96))
    assert auxiliary == []


@pytest.mark.parametrize("variant", LAYERS)
def test_layers_read(variant: str) -> None:
    spec = variant_spec(variant, num_classes=19, crop_size=(768, 768))
    main, auxiliary = LAYERS[variant]
    assert tuple(tap + 1 for tap in spec.main_taps) == main
    assert tuple(tap + 1 for tap in spec.auxiliary_taps) == auxiliary


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name.startswith(("setr", "hybrid"))])
def test_miniatures_read_different_layers_in_order(variant: str) -> None:
    spec = variant_spec(variant, **MINIATURE)  # type: ignore[arg-type]
    for taps in (spec.main_taps, spec.auxiliary_taps):
        assert list(taps) == sorted(set(taps))
    assert spec.main_taps[-1] == spec.encoder.depth - 1  # type: ignore[union-attr]


def test_parameter_names_tell_the_learning_rate() -> None:
    for variant in VARIANTS:
        with torch.device("meta"):
            names = {name.split(".")[0] for name, _ in miniature(variant).named_parameters()}
        assert names <= {"encoder", "neck", "decode_head", "auxiliary_heads"}
        assert ("neck" in names) == ("mla" in variant or variant == "semantic-fpn")


def test_aligned_corners_of_the_769_baseline() -> None:
    crops = {(769, 769): True, (512, 512): False, (480, 480): False}
    for crop, aligned in crops.items():
        assert variant_spec("fcn", num_classes=19, crop_size=crop).align_corners == aligned
    assert not variant_spec("setr-pup", num_classes=19, crop_size=(768, 768)).align_corners


def test_the_same_seed_gives_the_same_model() -> None:
    first, second = miniature("setr-mla").state_dict(), miniature("setr-mla").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_encoder_size_and_drop_path() -> None:
    size = EncoderSize("odd", 48, depth=6, num_heads=3, patch_size=16, decoder_channels=24)
    model = miniature("setr-pup", sizes=size, drop_path=0.2)
    assert model.spec.encoder == size
    assert model.decode_head.convs[0].conv.out_channels == 24
    assert model.encoder.blocks[-1].drop_path1.drop_prob == pytest.approx(0.2)


@pytest.mark.parametrize("variant", ["setr-naive", "setr-mla", "hybrid-deit", "fcn-21k", "semantic-fpn"])
def test_a_spec_survives_json(variant: str) -> None:
    model = miniature(variant, flavour="paper")
    spec = spec_from_json(json.loads(json.dumps(spec_to_json(model.spec))))
    assert spec == model.spec
    build_segmenter(spec).load_state_dict(model.state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "setr-pub"}, "unknown variant .* did you mean setr-pup"),
        ({"scale": "tiny"}, "unknown scale"),
        ({"flavour": "mmsegmentation"}, "unknown flavour .* expected authors, paper, mmseg"),
        ({"num_classes": 1}, "num_classes is too small"),
        ({"crop_size": (60, 96)}, "crop_size is not a multiple of the patch"),
    ],
)
def test_a_mistake_is_one_line(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        build_model(**{"variant": "setr-pup", **MINIATURE, **options})
    assert "\n" not in str(raised.value)


def test_exported_graph_takes_other_sizes() -> None:
    model = miniature("setr-mla-base").eval()
    auto = torch.export.Dim.AUTO
    images = torch.randn(2, 3, 64, 96)
    exported = torch.export.export(model, (images,), dynamic_shapes={"images": {0: auto, 2: auto, 3: auto}}).module()
    for size in ((64, 96), (50, 81)):
        images = torch.randn(1, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(exported(images), model(images), rtol=0, atol=1e-5)
