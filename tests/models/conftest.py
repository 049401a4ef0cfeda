"""The reference models: tiny checkpoints that mmsegmentation wrote, mapped to our names by the rules written here."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from setr.models.decoders.mla import MLASpec
from setr.models.decoders.up_head import UpHeadSpec
from setr.models.segmenter import Segmenter, SegmenterSpec, build_segmenter
from setr.models.specification import EncoderSize

RENAMES = (
    (r"^backbone\.patch_embed\.projection\.", "encoder.patch_embed.proj."),
    (r"^backbone\.layers\.(\d+)\.ln(\d)\.", r"encoder.blocks.\1.norm\2."),
    (r"^backbone\.layers\.(\d+)\.attn\.attn\.in_proj_", r"encoder.blocks.\1.attn.qkv."),
    (r"^backbone\.layers\.(\d+)\.attn\.attn\.out_proj\.", r"encoder.blocks.\1.attn.proj."),
    (r"^backbone\.layers\.(\d+)\.ffn\.layers\.0\.0\.", r"encoder.blocks.\1.mlp.fc1."),
    (r"^backbone\.layers\.(\d+)\.ffn\.layers\.1\.", r"encoder.blocks.\1.mlp.fc2."),
    (r"^backbone\.", "encoder."),
    (r"^neck\.norm\.", "neck.norms."),
    (r"^neck\.mla\.channel_proj\.", "neck.projections."),
    (r"^auxiliary_head\.", "auxiliary_heads."),
    (r"\.conv_seg\.", ".classifier."),
)


@pytest.fixture(scope="session")
def reference_model(reference: Path) -> Callable[[str], Segmenter]:
    """Returns a function: decoder name -> its reference model in eval mode."""

    def load(decoder: str) -> Segmenter:
        facts = json.loads((reference / f"tiny_{decoder}.json").read_text())
        model = build_segmenter(_spec(facts))
        tensors = torch.load(reference / f"tiny_{decoder}.pth", weights_only=True)["state_dict"]
        model.load_state_dict(_renamed(tensors, decoder))
        return model.eval()

    return load


def _spec(facts: dict) -> SegmenterSpec:
    width, channels, decoder = facts["embed_dim"], facts["channels"], facts["decoder"]
    taps = tuple(facts["out_indices"])
    main: UpHeadSpec | MLASpec
    if decoder == "mla":
        main = MLASpec(width, 4, channels, channels // 2, channels // 2, classifier_kernel=1, align_corners=False)
        auxiliary = (UpHeadSpec(channels, channels, up_scales=(), norm=False),) * 4
    else:
        kernel, scales = (1, (4,)) if decoder == "naive" else (3, (2, 2, 2, 2))
        main = UpHeadSpec(width, channels, kernel, scales, convolution_bias=False)
        auxiliary = (UpHeadSpec(width, channels, kernel, (4, 4), convolution_bias=False),) * 3
    return SegmenterSpec(
        encoder=EncoderSize("tiny", width, facts["depth"], facts["heads"]),
        image_size=tuple(facts["img_size"]),
        num_classes=facts["num_classes"],
        decoder=main,
        main_taps=taps if decoder == "mla" else taps[-1:],
        auxiliary=auxiliary,
        auxiliary_taps=() if decoder == "mla" else taps[:3],
        flavour="mmseg",
    )


def _renamed(tensors: dict[str, Tensor], decoder: str) -> dict[str, Tensor]:
    result = {}
    for key, value in tensors.items():
        for pattern, replacement in RENAMES:
            key = re.sub(pattern, replacement, key)
        if decoder == "mla":
            # mmsegmentation counts these from the deepest layer.
            key = re.sub(r"^neck\.mla\.feat_extract\.(\d)", lambda m: f"neck.extractions.{3 - int(m[1])}", key)
            key = re.sub(r"^decode_head\.up_convs\.(\d)", lambda m: f"decode_head.branches.{3 - int(m[1])}", key)
            key = re.sub(r"^auxiliary_heads\.(\d)", lambda m: f"auxiliary_heads.{3 - int(m[1])}", key)
        else:
            key = re.sub(r"\.up_convs\.(\d)\.0\.", r".convs.\1.", key)
        value = value.float() if value.is_floating_point() else value
        if decoder == "mla" and key == "decode_head.classifier.weight":
            value = torch.cat(value.chunk(4, dim=1)[::-1], dim=1)
        result[key] = value
    return result


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Returns a function: tensors, and what stands beside them -> the file they are in."""

    def write(weights: dict[str, Tensor], **beside: Any) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.pth"
        torch.save({"state_dict": weights, **beside}, path)
        return path

    return write
