"""Encoder weights arrive whole, in every variant's encoder, or are refused in one line."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from setr.errors import EnvironmentFailure, InputError
from setr.models.importing.key_maps import map_keys
from setr.models.segmenter import build_model
from setr.models.variants import VARIANTS
from setr.models.weights import load_pretrained
from tests.helpers.published_weights import (
    SIZE,
    WIDTH,
    authors_weights,
    resize,
    timm_weights,
    tiny,
)


@pytest.mark.parametrize("variant", ["setr-naive", "setr-mla"])
@pytest.mark.parametrize("extra", [0, 1])
def test_encoder_weights_with_another_grid(save: Callable[..., Path], variant: str, extra: int) -> None:
    weights = timm_weights(grid=3, extra=extra)
    if extra:
        weights["dist_token"] = torch.zeros(1, 1, WIDTH)
        weights["head_dist.weight"] = torch.zeros(10, WIDTH)
    model = tiny(variant)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    receipt = load_pretrained(model, save(weights))
    after = model.state_dict()
    grid = weights["pos_embed"][:, 1 + extra :].reshape(1, 3, 3, WIDTH).permute(0, 3, 1, 2)
    table = torch.cat([weights["pos_embed"][:, :1], resize(grid, (4, 6)).flatten(2).mT], dim=1)
    for name, value in after.items():
        if name == "encoder.pos_embed":
            assert torch.equal(value, table)
        elif name.startswith("encoder."):
            assert torch.equal(value, weights[name.removeprefix("encoder.")])
        else:
            assert torch.equal(value, before[name])
    (entry,) = receipt.with_status("resized")
    assert entry.detail.endswith("3x3 to 4x6, bilinear, align_corners False, no antialias")
    assert receipt.counts()["missing"] == 0
    reasons = {entry.key: entry.detail for entry in receipt.with_status("unused")}
    assert "every head has its own" in reasons["norm.weight"]
    assert ("dist_token" in reasons) == bool(extra)
    assert receipt.settings["interpolation"] == "bilinear"
    with pytest.raises(InputError, match="E_PRETRAINED_SHAPE"):
        load_pretrained(model, save(weights), interpolation=None)
    with pytest.raises(InputError, match="E_INTERPOLATION"):
        load_pretrained(model, save(weights), interpolation="nearest")


@pytest.mark.parametrize("variant", ["fcn", "fcn-21k", "semantic-fpn"])
def test_resnet_weights_for_the_baselines(save: Callable[..., Path], variant: str) -> None:
    torch.manual_seed(1)
    source = build_model(variant, num_classes=3, crop_size=(64, 64), scale="miniature")
    weights = {name.removeprefix("body."): value for name, value in source.encoder.state_dict().items()}
    receipt = load_pretrained(model := tiny(variant), save(weights | {"fc.weight": torch.ones(2, 2)}))
    assert all(
        torch.equal(value, weights[name.removeprefix("body.")]) for name, value in model.encoder.state_dict().items()
    )
    assert [entry.key for entry in receipt.with_status("unused")] == ["fc.weight"]
    with pytest.raises(InputError, match=r"E_PRETRAINED_ARCHITECTURE.*a ViT.*a ResNet"):
        load_pretrained(model, save(timm_weights()))


def test_hybrid_takes_a_cnn_and_a_transformer(save: Callable[..., Path]) -> None:
    torch.manual_seed(1)
    model = tiny("hybrid-base", (64, 64))
    source = build_model("hybrid-base", num_classes=3, crop_size=(64, 64), sizes=SIZE, scale="miniature")
    body = source.encoder.patch_embed.backbone.body
    cnn = {name: value.clone() + 1 for name, value in body.state_dict().items()}
    receipt = load_pretrained(model, save(timm_weights()), save(cnn))
    assert torch.equal(model.encoder.patch_embed.backbone.body.bn1.weight, cnn["bn1.weight"])
    assert torch.equal(model.encoder.blocks[3].mlp.fc2.bias, timm_weights()["blocks.3.mlp.fc2.bias"])
    missing = receipt.with_status("missing")
    assert [entry.parameter for entry in missing] == [
        "encoder.patch_embed.proj.weight",
        "encoder.patch_embed.proj.bias",
    ]
    assert "random" in missing[0].detail
    assert receipt.sha256.count("+") == 1
    json.dumps(receipt.as_dict())


def test_encoders_of_another_size_are_refused(save: Callable[..., Path]) -> None:
    path = save(timm_weights(depth=3, width=32))
    with pytest.raises(InputError, match=r"E_PRETRAINED_SHAPE.*3 layers of width 32.*4 layers of width 48") as error:
        load_pretrained(tiny("setr-pup"), path)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="import_checkpoint"):
        load_pretrained(tiny("setr-pup"), save(authors_weights("pup")))


def test_a_name_of_timm_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"E_PRETRAINED_NAME.*deit_base_distilled_patch16_384\.fb_in1k"):
        load_pretrained(tiny("setr-pup"), "deit_base_distilled_patch16_384.fb_1k")
    with pytest.raises(InputError, match="E_CKPT_NOT_FOUND"):
        load_pretrained(tiny("setr-pup"), "weights/deit_base.pth")

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args, **kwargs: None)
    start = time.perf_counter()
    with pytest.raises(EnvironmentFailure, match="E_PRETRAINED_FETCH") as error:
        load_pretrained(tiny("setr-pup"), "deit_base_distilled_patch16_384.fb_in1k")
    assert time.perf_counter() - start < 5
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_the_keys_of_timms_models_fill_each_variant(variant: str) -> None:
    """At paper scale, by name and shape alone: nothing here has memory."""
    row = VARIANTS[variant]
    with torch.device("meta"):
        expected = {
            name: value.shape
            for name, value in build_model(variant, num_classes=150, crop_size=(384, 384)).state_dict().items()
            if name.startswith("encoder.")
        }
        filled: dict[str, torch.Size] = {}
        for weights in (row.pretrained, row.cnn_pretrained):
            if weights is not None:
                state = timm.create_model(weights.timm_name).state_dict()
                key_map = map_keys(state)
                assert key_map is not None
                assert not key_map.unknown
                assert all(reason for reason in key_map.unused.values())
                filled |= {name: state[key].shape for name, key in key_map.keys.items()}
    if row.cnn_pretrained is not None:
        filled = {
            name.replace("encoder.body.", "encoder.patch_embed.backbone.body."): shape
            for name, shape in filled.items()
            if not name.startswith("encoder.patch_embed.")
        }
        expected = {name: shape for name, shape in expected.items() if not name.startswith("encoder.patch_embed.proj.")}
    if row.pretrained is None:
        expected = {name: shape for name, shape in expected.items() if ".backbone." in name}
    assert filled.keys() == expected.keys()
    different = {name for name, shape in filled.items() if shape != expected[name]}
    # DeiT's table has an entry for its distillation token.
    assert different <= {"encoder.pos_embed"}
