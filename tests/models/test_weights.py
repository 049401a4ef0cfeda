"""Released checkpoints compute what their source computes, and what is not in a file is decided or asked for."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from setr.errors import InputError
from setr.files.hashing import file_sha256
from setr.models.importing.key_maps import map_keys
from setr.models.segmenter import Segmenter, build_model
from setr.models.weights import import_checkpoint
from tests.helpers.published_weights import (
    HEADS,
    TAPS,
    TOLERANCE,
    WIDTH,
    Weights,
    authors_forward,
    authors_weights,
    both,
    difference,
    mmseg_forward,
    mmseg_weights,
    resize,
    timm_weights,
)


@pytest.mark.parametrize("kind", ["naive", "pup", "mla"])
def test_reference_logits(reference: Path, kind: str) -> None:
    model, receipt = import_checkpoint(reference / f"tiny_{kind}.pth", num_heads=HEADS)
    arrays = np.load(reference / f"tiny_{kind}_64x64.npz")
    images = torch.from_numpy(arrays["input"])
    main, auxiliary = both(model, images)
    names = [name for name in arrays if re.fullmatch(r"aux\d_head", name)]
    expected = [resize(torch.from_numpy(arrays[name]), images.shape[2:]) for name in sorted(names)]
    if kind == "mla":
        expected.reverse()
    head = resize(torch.from_numpy(arrays["main_head"]), images.shape[2:])
    assert difference(main, head) <= TOLERANCE
    assert torch.equal(main.argmax(1), torch.from_numpy(arrays["pred"]).long())
    assert [difference(a, b) <= TOLERANCE for a, b in zip(auxiliary, expected, strict=True)] == [True] * len(names)
    counts = receipt.counts()
    assert counts["unused"] == counts["missing"] == 0
    assert sum(counts.values()) == len(model.state_dict())
    assert counts["converted"] > 100  # stored as float16
    assert counts["permuted"] == (kind == "mla")
    assert receipt.sha256 == file_sha256(reference / f"tiny_{kind}.pth")
    assert json.loads(json.dumps(receipt.as_dict()))["settings"]["taps"] == list(TAPS if kind == "mla" else TAPS[-1:])


SIZES = [(64, 64), (96, 64), (48, 128), (100, 70), (33, 17)]


@pytest.mark.parametrize("kind", ["naive", "pup", "mla"])
def test_mmsegmentation_at_any_size(reference: Path, kind: str) -> None:
    model, _ = import_checkpoint(reference / f"tiny_{kind}.pth", num_heads=HEADS)
    weights = mmseg_weights(reference, kind)
    for height, width in SIZES:
        images = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(height))
        main, auxiliary = both(model, images)
        expected_main, expected = mmseg_forward(weights, images, kind, TAPS)
        if kind == "mla":
            expected.reverse()
        assert difference(main, expected_main) <= TOLERANCE
        assert max(difference(a, b) for a, b in zip(auxiliary, expected, strict=True)) <= TOLERANCE


@pytest.mark.parametrize("kind", ["naive", "pup", "mla"])
def test_the_authors_checkpoints(save: Callable[..., Path], kind: str) -> None:
    weights = authors_weights(kind)
    model, receipt = import_checkpoint(save(weights), num_heads=HEADS)
    for height, width in SIZES[:4]:
        images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(width))
        main, auxiliary = both(model, images)
        expected_main, expected = authors_forward(weights, images, kind, TAPS)
        assert difference(main, expected_main) <= TOLERANCE
        assert max(difference(a, b) for a, b in zip(auxiliary, expected, strict=True)) <= TOLERANCE
    unused = receipt.with_status("unused")
    assert {entry.key for entry in unused} == {key for key in weights if "conv_seg" in key}
    assert all("never call" in entry.detail for entry in unused)
    assert receipt.counts()["missing"] == 0
    assert receipt.settings["taps_from"] == "floor(layer x depth / 24) - 1"
    assert model.spec.flavour == "authors"


def test_formats_and_prefixes_are_the_same_model(reference: Path, tmp_path: Path, save: Callable[..., Path]) -> None:
    weights = mmseg_weights(reference, "naive")
    plain, _ = import_checkpoint(save(weights), num_heads=HEADS)
    images = torch.randn(1, 3, 64, 64)
    save_file(weights, tmp_path / "a.safetensors")
    torch.save(weights, tmp_path / "plain.pth")
    for path in (
        tmp_path / "a.safetensors",
        tmp_path / "plain.pth",
        save({f"module.{key}": value for key, value in weights.items()}),
        save(weights | {"ema_backbone_cls_token": torch.ones(3)}, optimizer={"state": {}}),
    ):
        model, _ = import_checkpoint(path, num_heads=HEADS)
        assert torch.equal(model(images), plain(images))


AROUND = ("_orig_mod.", "_forward_module.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
HOLDERS = ("module.", "model.", "net.")
PREFIXES = [
    *AROUND,
    *HOLDERS,
    *(f"{holder}{around}" for holder in HOLDERS for around in AROUND),
    *(f"{around}{holder}" for holder in HOLDERS for around in AROUND),
    "module.model.",
    "_forward_module.module._orig_mod.model.",
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_stands_around_a_model_does_not_count(prefix: str) -> None:
    keys = list(authors_weights("pup"))
    plain, found = map_keys(keys), map_keys([prefix + key for key in keys])
    assert plain is not None
    assert found is not None
    assert found.keys == {parameter: prefix + key for parameter, key in plain.keys.items()}
    assert (found.format, found.unknown) == (plain.format, ())


def test_a_submodule_may_have_been_wrapped_alone() -> None:
    keys = list(authors_weights("naive"))
    wrapped = [
        re.sub(r"^(backbone\.blocks\.\d+\.)", r"backbone._orig_mod.\1_fsdp_wrapped_module.", key) for key in keys
    ]
    wrapped = [key.replace("_orig_mod.backbone.", "_orig_mod.") for key in wrapped]
    assert wrapped != keys
    plain, found = map_keys(keys), map_keys(wrapped)
    assert plain is not None
    assert found is not None
    assert list(found.keys) == list(plain.keys)


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", "module", "net"])
@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module._orig_mod.", "_forward_module."])
def test_a_compiled_models_file_is_the_same_model(tmp_path: Path, wrapper: str, prefix: str) -> None:
    weights = authors_weights("naive")
    torch.save(weights, tmp_path / "plain.pth")
    beside = {"optimizer": {"state": {}}, "epoch": 3} | ({"state_dict": {}} if wrapper != "state_dict" else {})
    torch.save({wrapper: {prefix + key: value for key, value in weights.items()}, **beside}, tmp_path / "a.pth")
    images = torch.randn(1, 3, 64, 64)
    plain, _ = import_checkpoint(tmp_path / "plain.pth", num_heads=HEADS)
    model, receipt = import_checkpoint(tmp_path / "a.pth", num_heads=HEADS)
    assert torch.equal(model(images), plain(images))
    assert receipt.counts()["missing"] == 0


def test_a_weight_that_is_there_twice_is_refused(save: Callable[..., Path]) -> None:
    weights = authors_weights("naive")
    twice = weights | {"_orig_mod.backbone.cls_token": torch.ones(1, 1, WIDTH)}
    with pytest.raises(InputError, match=r"E_CKPT_ARCHITECTURE.*_orig_mod\.backbone\.cls_token"):
        import_checkpoint(save(twice), num_heads=HEADS)


def test_patch_bias_may_be_absent(reference: Path, save: Callable[..., Path]) -> None:
    weights = mmseg_weights(reference, "naive")
    del weights["backbone.patch_embed.projection.bias"]
    model, receipt = import_checkpoint(save(weights), num_heads=HEADS)
    images = torch.randn(1, 3, 64, 64)
    assert difference(model(images), mmseg_forward(weights, images, "naive", TAPS)[0]) <= TOLERANCE
    (entry,) = [entry for entry in receipt.tensors if entry.parameter == "encoder.patch_embed.proj.bias"]
    assert entry.status == "converted"
    assert "zeros" in entry.detail


def test_given_values_come_before_the_config_and_the_config_before_rules(save: Callable[..., Path]) -> None:
    config = """
# comment
model = dict(
    backbone=dict(type='VisionTransformer', img_size=(32, 128), num_heads=6, unknown=len('x')),
    decode_head=dict(in_index=3, align_corners=False),
    auxiliary_head=[dict(in_index=0), dict(in_index=0), dict(in_index=1)])
raise SystemExit
"""
    weights = authors_weights("naive")
    model, receipt = import_checkpoint(save(weights, meta={"config": config}))
    assert model.spec.encoder.num_heads == 6
    assert receipt.settings["num_heads_from"] == "config in the file"
    assert (model.spec.main_taps, model.spec.auxiliary_taps) == ((3,), (0, 0, 1))
    assert receipt.settings["grid"] == [2, 8]
    model, receipt = import_checkpoint(save(weights, meta={"config": config}), num_heads=3, taps=(1, 2, 2, 3))
    assert receipt.settings["num_heads_from"] == receipt.settings["taps_from"] == "given"
    assert (model.spec.main_taps, model.spec.auxiliary_taps) == ((3,), (1, 2, 2))
    with pytest.raises(InputError, match="E_CKPT_HEADS"):
        import_checkpoint(save(weights))
    for taps in ((4,), (0, 1, 2), (3, 2, 1, 7), ()):
        with pytest.raises(InputError, match="E_CKPT_TAPS"):
            import_checkpoint(save(weights if taps != (0, 1, 2) else authors_weights("mla")), num_heads=3, taps=taps)


def test_a_timm_file_becomes_a_model_whose_decoder_is_missing(save: Callable[..., Path]) -> None:
    weights = timm_weights(width=64, extra=1)
    weights["dist_token"] = torch.zeros(1, 1, 64)
    model, receipt = import_checkpoint(save(weights), decoder="pup", num_classes=5)
    assert model(torch.randn(1, 3, 40, 50)).shape == (1, 5, 40, 50)
    assert model.spec.encoder.num_heads == 1
    assert all(not entry.parameter.startswith("encoder.") for entry in receipt.with_status("missing"))
    assert {entry.key for entry in receipt.with_status("unused")} == {
        "norm.weight", "norm.bias", "head.weight", "head.bias", "dist_token",
    }  # fmt: skip
    (entry,) = receipt.with_status("resized")
    assert "distillation" in entry.detail
    table = weights["pos_embed"]
    assert torch.equal(model.encoder.pos_embed, torch.cat([table[:, :1], table[:, 2:]], dim=1))


def mmseg_baseline(variant: str, *, num_classes: int, side: int) -> tuple[Segmenter, Weights]:
    """A miniature baseline, and its weights under mmsegmentation's names."""
    torch.manual_seed(0)
    source = build_model(variant, num_classes=num_classes, crop_size=(side, side), scale="miniature").eval()
    weights = {}
    for name, value in source.state_dict().items():
        for pattern, key in (
            (r"^encoder\.body\.bn1\.", "backbone.stem.7."),
            (r"^encoder\.body\.conv1\.", "backbone.stem."),
            (r"^encoder\.body\.", "backbone."),
            (r"^neck\.laterals\.(\d)\.", r"neck.lateral_convs.\1.conv."),
            (r"^neck\.outputs\.(\d)\.", r"neck.fpn_convs.\1.conv."),
            (r"^auxiliary_heads\.0\.", "auxiliary_head."),
            (r"\.classifier\.", ".conv_seg."),
            (r"\.fuse\.", ".conv_cat."),
        ):
            name = re.sub(pattern, key, name)
        name = re.sub(r"\.branches\.(\d)\.(\d)\.", lambda m: f".scale_heads.{m[1]}.{2 * int(m[2])}.", name)
        weights[name] = value
    return source, weights


@pytest.mark.parametrize("variant", ["fcn", "semantic-fpn"])
def test_mmsegmentations_baselines(save: Callable[..., Path], variant: str) -> None:
    source, weights = mmseg_baseline(variant, num_classes=4, side=65)
    align = f"model = dict(decode_head=dict(align_corners={source.align_corners}))"
    model, receipt = import_checkpoint(save(weights, meta={"config": align}))
    images = torch.randn(1, 3, 65, 97)
    assert torch.equal(model(images), source(images))
    assert set(receipt.counts().items()) >= {("missing", 0), ("unused", 0)}
    assert len(model.auxiliary_heads) == len(source.auxiliary_heads)


@pytest.mark.parametrize("num_classes", [4, 19])
@pytest.mark.parametrize("beside", [{}, {"meta": {}}, {"meta": {"config": "model = dict(backbone=dict(depth=101))"}}])
@pytest.mark.parametrize("side", [65, 64])
def test_a_bare_fcn_must_be_told_whether_it_aligns_corners(
    save: Callable[..., Path], num_classes: int, beside: dict[str, Any], side: int
) -> None:
    source, weights = mmseg_baseline("fcn", num_classes=num_classes, side=side)
    file = save(weights, **beside)
    with pytest.raises(InputError, match=r"E_CKPT_ALIGN.*--align-corners.*--no-align-corners"):
        import_checkpoint(file)
    model, receipt = import_checkpoint(file, align_corners=source.align_corners)
    images = torch.randn(1, 3, 65, 97)
    assert torch.equal(model(images), source(images))
    assert receipt.settings["align_corners"] is (side == 65)
    assert receipt.settings["align_corners_from"] == "given"
    other, _ = import_checkpoint(file, align_corners=not source.align_corners)
    assert difference(other(images), source(images)) > 1e-4


@pytest.mark.parametrize(
    ("variant", "num_classes"), [("fcn", 150), ("fcn", 60), ("fcn", 59), ("fcn", 21), ("semantic-fpn", 19)]
)
def test_a_bare_baseline_of_which_one_sort_is_published_needs_no_word(
    save: Callable[..., Path], variant: str, num_classes: int
) -> None:
    source, weights = mmseg_baseline(variant, num_classes=num_classes, side=64)
    model, receipt = import_checkpoint(save(weights))
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(model(images), source(images))
    assert receipt.settings["align_corners_from"] == "the published configs"


def test_what_no_shape_tells_comes_from_the_config_or_is_refused(save: Callable[..., Path]) -> None:
    _, weights = mmseg_baseline("fcn", num_classes=19, side=65)
    # FCN-D6 has FCN's names and shapes.
    dilated = "model = dict(decode_head=dict(dilation=6, align_corners=True))"
    with pytest.raises(InputError, match=r"E_CKPT_ARCHITECTURE.*dilate.*found 6"):
        import_checkpoint(save(weights, meta={"config": dilated}))
    plain = "model = dict(decode_head=dict(dilation=1))"  # aligning is off where a config does not name it
    model, receipt = import_checkpoint(save(weights, meta={"config": plain}))
    assert not model.align_corners
    assert receipt.settings["align_corners_from"] == "config in the file"
    assert import_checkpoint(save(weights, meta={"config": plain}), align_corners=True)[0].align_corners
    with pytest.raises(InputError, match=r"E_CKPT_ALIGN.*encoder alone"):
        import_checkpoint(save(timm_weights(width=64)), align_corners=True)
