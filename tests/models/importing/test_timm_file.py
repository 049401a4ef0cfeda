"""timm's weight files in encoders of timm's: the values arrive, every tensor is accounted for, others are refused."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from setr.errors import InputError
from setr.models.segmenter import Segmenter, build_segmenter
from setr.models.specification import TimmSpec
from setr.models.timm_miniatures import miniature_options
from setr.models.weights import Receipt, import_checkpoint, load_pretrained, loaded_sha256
from tests.models.test_timm_encoder import (
    BEIT,
    CLIP,
    CONVNEXT,
    CROP,
    EVA,
    HIERA,
    RESNET,
    SWIN,
    VIT,
    timm_spec,
)

DINOV3 = "vit_small_patch16_dinov3_qkvb.lvd1689m"
FAMILIES = (
    VIT,
    CLIP,
    EVA,
    DINOV3,
    BEIT,
    SWIN,
    "swinv2_tiny_window8_256.ms_in1k",
    CONVNEXT,
    "convnextv2_base.fcmae",
    HIERA,
    "sam2_hiera_tiny.fb_r896_2pt1",
    RESNET,
    "naflexvit_base_patch16_siglip.v2_webli",
    "vit_base_patch16_siglip_224.v2_webli",
    "aimv2_large_patch14_224.apple_pt",
    "deit_base_distilled_patch16_384.fb_in1k",
    "deit3_base_patch16_384.fb_in22k_ft_in1k",
)
PATCH_IS_RESAMPLED = (VIT, EVA, BEIT)


def published(name: str, **changes: Any) -> nn.Module:
    """Returns timm's model at its own image size, random values in every tensor."""
    torch.manual_seed(0)
    model = timm.create_model(name, **{**dict(miniature_options(name)), **changes})
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.1, 1.0)
    return model


def stored(path: Path, tensors: dict[str, Tensor]) -> Path:
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "weights.safetensors"


def accounted(receipt: Receipt, model: Segmenter, tensors: dict[str, Tensor]) -> None:
    keys = [entry.key for entry in receipt.tensors if entry.key]
    assert sorted(keys) == sorted(tensors)  # each tensor of the file once
    places = [entry.parameter for entry in receipt.tensors if entry.parameter]
    assert sorted(places) == sorted(name for name in model.state_dict() if name.startswith("encoder."))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_file_of_timms_fills_the_encoder(name: str, file: Path) -> None:
    source = published(name).state_dict()
    spec = timm_spec(name, taps=(1,))  # layers after it are in the file and not in the model
    model = build_segmenter(spec)
    receipt = load_pretrained(model, stored(file, source))
    accounted(receipt, model, source)
    assert receipt.counts()["missing"] == 0
    assert receipt.format == "timm"
    filled = model.encoder.state_dict()
    for entry in receipt.with_status("mapped"):
        torch.testing.assert_close(filled[entry.parameter.removeprefix("encoder.")], source[entry.key])
    beyond = [entry for entry in receipt.with_status("unused") if "beyond" in entry.detail]
    assert beyond
    assert loaded_sha256(spec, file) == loaded_sha256(spec, file)


@pytest.mark.parametrize("name", [VIT, CLIP, EVA, HIERA, "deit3_base_patch16_384.fb_in22k_ft_in1k"])
def test_position_tables_are_resized_to_the_crop(name: str, file: Path) -> None:
    source = published(name)
    source.pos_embed.data.fill_(0.25)  # which a resize keeps
    model = build_segmenter(timm_spec(name))
    receipt = load_pretrained(model, stored(file, source.state_dict()))
    [entry] = [entry for entry in receipt.with_status("resized") if entry.key == "pos_embed"]
    assert "by timm's filter" in entry.detail
    table = model.encoder.state_dict()["body.pos_embed"]
    assert table.shape[1] < source.pos_embed.shape[1]
    torch.testing.assert_close(table, torch.full_like(table, 0.25))


@pytest.mark.parametrize("name", PATCH_IS_RESAMPLED)
def test_a_patch_of_another_size_is_resampled(name: str, file: Path) -> None:
    source = published(name, patch_size=16)
    model = build_segmenter(timm_spec(name))
    receipt = load_pretrained(model, stored(file, source.state_dict()))
    assert "patch_embed.proj.weight" in {entry.key for entry in receipt.with_status("resized")}


def test_relative_positions_follow_the_window(file: Path) -> None:
    model = build_segmenter(timm_spec(BEIT))
    receipt = load_pretrained(model, stored(file, published(BEIT).state_dict()))
    tables = [entry for entry in receipt.with_status("resized") if "relative_position_bias_table" in entry.key]
    assert len(tables) == 4


def test_a_missing_tensor_of_the_encoder_is_an_error(file: Path) -> None:
    source = published(VIT).state_dict()
    del source["blocks.2.attn.qkv.weight"]
    model = build_segmenter(timm_spec(VIT))
    before = model.state_dict()["encoder.body.blocks.0.attn.qkv.weight"].clone()
    with pytest.raises(InputError, match=r"E_CKPT_KEYS.*blocks\.2\.attn\.qkv\.weight"):
        load_pretrained(model, stored(file, source))
    torch.testing.assert_close(model.state_dict()["encoder.body.blocks.0.attn.qkv.weight"], before)


@pytest.mark.parametrize(
    ("name", "other", "changes"),
    [
        (VIT, SWIN, {}),
        (SWIN, CONVNEXT, {}),
        (EVA, VIT, {}),
        (VIT, VIT, {"depth": 6}),  # deeper: layers would be left out without a word
        (VIT, VIT, {"embed_dim": 96, "num_heads": 3}),
        (BEIT, VIT, {}),
        (HIERA, BEIT, {}),
        (RESNET, VIT, {}),
        (VIT, RESNET, {}),
    ],
)
def test_another_encoders_weights_are_refused(name: str, other: str, changes: dict[str, Any], file: Path) -> None:
    model = build_segmenter(timm_spec(name))
    with pytest.raises(InputError, match="E_PRETRAINED_ARCHITECTURE") as caught:
        load_pretrained(model, stored(file, published(other, **changes).state_dict()))
    assert "\n" not in str(caught.value)


def test_what_pre_training_leaves_is_named_and_unused(file: Path) -> None:
    source = {**published(VIT).state_dict(), "decoder.weight": torch.ones(2), "mask_token_of_theirs": torch.ones(1)}
    receipt = load_pretrained(build_segmenter(timm_spec(VIT)), stored(file, source))
    assert {"decoder.weight", "mask_token_of_theirs"} <= {entry.key for entry in receipt.with_status("unused")}


@pytest.mark.parametrize("name", [BEIT, EVA, SWIN])
def test_an_own_checkpoint_opens_with_the_tensors_that_no_file_holds(name: str, file: Path) -> None:
    """Indices and rotary tables are computed where the model is made; made without memory they would be empty."""
    import json

    from setr.models.spec_json import spec_to_json
    from setr.models.weights import SPEC_KEY

    model = build_segmenter(timm_spec(name)).eval()
    save_file(model.state_dict(), file, metadata={SPEC_KEY: json.dumps(spec_to_json(model.spec))})
    opened, _ = import_checkpoint(file)
    images = torch.randn(1, 3, *CROP)
    with torch.no_grad():
        torch.testing.assert_close(opened(images), model(images))


def test_the_same_structure_by_name_and_options() -> None:
    assert timm_spec(VIT).encoder == TimmSpec(VIT, miniature_options(VIT))
