"""Files of weights that make no model are refused in one line that names what is wrong."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from setr.errors import InputError
from setr.models.weights import import_checkpoint, load_pretrained
from tests.helpers.published_weights import DEPTH, HEADS, mmseg_weights, timm_weights, tiny


def refused(path: Path, **arguments: Any) -> str:
    with pytest.raises(InputError) as error:
        import_checkpoint(path, **arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_tensor_of_the_encoder_missing_is_an_error_and_one_of_the_decoder_is_told(
    reference: Path, save: Callable[..., Path]
) -> None:
    for key in ("backbone.layers.2.ln1.weight", "backbone.layers.3.ffn.layers.1.bias", "backbone.cls_token"):
        weights = mmseg_weights(reference, "naive")
        del weights[key]
        said = refused(save(weights), num_heads=HEADS)
        assert "E_CKPT_KEYS" in said
        assert "encoder" in said
    weights = {
        key: value
        for key, value in mmseg_weights(reference, "naive").items()
        if not key.startswith("backbone.layers.1.")
    }
    assert "12 tensors of the encoder are missing" in refused(save(weights), num_heads=HEADS)
    weights = mmseg_weights(reference, "naive")
    del weights["decode_head.norm.bias"]
    _, receipt = import_checkpoint(save(weights), num_heads=HEADS)
    assert [entry.parameter for entry in receipt.with_status("missing")] == ["decode_head.norm.bias"]


def test_values_that_are_not_finite(reference: Path, save: Callable[..., Path]) -> None:
    for value in (float("nan"), float("inf")):
        weights = mmseg_weights(reference, "naive")
        weights["backbone.layers.2.ffn.layers.0.0.weight"][3, 4] = value
        said = refused(save(weights), num_heads=HEADS)
        assert "E_CKPT_NONFINITE" in said
        assert "backbone.layers.2.ffn.layers.0.0.weight" in said
    weights = timm_weights()
    weights["blocks.1.attn.qkv.weight"][0, 0] = float("nan")
    with pytest.raises(InputError, match="E_CKPT_NONFINITE"):
        load_pretrained(tiny("setr-pup"), save(weights))


def test_shapes_that_make_no_model(reference: Path, save: Callable[..., Path]) -> None:
    for key, shape in (
        ("backbone.layers.2.ffn.layers.0.0.weight", (192, 40)),
        ("backbone.patch_embed.projection.weight", (48, 3, 16, 8)),
        ("backbone.patch_embed.projection.weight", (48, 3, 0, 0)),
        ("backbone.pos_embed", (1, 14, 48)),
        ("backbone.pos_embed", (17, 48)),
        ("backbone.pos_embed", (1, 0, 48)),
        ("decode_head.conv_seg.weight", (6,)),
        ("decode_head.up_convs.0.0.conv.weight", (32, 48, 1)),
        ("decode_head.norm.weight", (47,)),
    ):
        said = refused(save(mmseg_weights(reference, "naive") | {key: torch.zeros(shape)}), num_heads=HEADS)
        assert re.match(r"E_CKPT_(SHAPE|KEYS|GRID)", said), said
    integers = {"decode_head.norm.weight": torch.zeros(48, dtype=torch.int64)}
    assert "E_CKPT_SHAPE" in refused(save(mmseg_weights(reference, "naive") | integers), num_heads=HEADS)


@pytest.mark.parametrize(
    ("architecture", "keys"),
    [
        ("Segmenter", ["encoder.blocks.0.norm1.weight", "decoder.cls_emb", "decoder.mask_norm.weight"]),
        ("Swin", ["backbone.stages.0.blocks.0.attn.w_msa.relative_position_bias_table", "decode_head.conv_seg.weight"]),
        ("BEiT", ["blocks.0.gamma_1", "blocks.0.attn.q_bias", "blocks.0.norm1.weight", "pos_embed"]),
        ("DPT", ["backbone.layers.0.ln1.weight", "decode_head.reassemble_blocks.projects.0.conv.weight"]),
        ("ResNet", ["conv1.weight", "layer1.0.conv1.weight", "layer4.2.conv3.weight", "fc.weight"]),
        ("SegFormer", ["backbone.layers.0.1.0.attn.sr.weight", "decode_head.fusion_conv.conv.weight"]),
        (
            "DeepLabV3",
            ["backbone.stem.0.weight", "backbone.layer1.0.conv1.weight", "decode_head.aspp_modules.0.conv.weight"],
        ),
        ("DINOv2", ["blocks.0.ls1.gamma", "blocks.0.norm1.weight", "pos_embed"]),
        ("no architecture", ["weight"]),
    ],
)
def test_keys_of_another_architecture(save: Callable[..., Path], architecture: str, keys: list[str]) -> None:
    said = refused(save(dict.fromkeys(keys, torch.ones(2))))
    assert "E_CKPT_ARCHITECTURE" in said
    assert architecture in said
    assert "nearest here" in said


def test_a_foreign_head_on_a_known_encoder(reference: Path, save: Callable[..., Path]) -> None:
    weights = mmseg_weights(reference, "naive")
    segmenter = {key: value for key, value in weights.items() if key.startswith("backbone.")}
    segmenter |= {"decode_head.cls_emb": torch.ones(1, 6, 48), "decode_head.conv_seg.weight": torch.ones(6, 48, 1, 1)}
    assert "Segmenter" in refused(save(segmenter), num_heads=HEADS)
    scaled = weights | {f"backbone.layers.{layer}.gamma_1": torch.ones(48) for layer in range(DEPTH)}
    assert "BEiT" in refused(save(scaled), num_heads=HEADS)
    assert "final_norm" in refused(save(weights | {"backbone.ln1.weight": torch.ones(48)}), num_heads=HEADS)
