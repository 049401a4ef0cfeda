"""UPerNet, SegFormer, DPT and Segmenter's mask transformer against the logits of mmsegmentation's own heads.

data/README.md says how they were made.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from setr.models.decoders.dpt import DPTSpec
from setr.models.decoders.segformer import SegFormerSpec
from setr.models.decoders.segmenter_mask import SegmenterMaskSpec
from setr.models.decoders.upernet import UPerNetSpec
from setr.models.specification import HeadSpec

CLASSES = 5
STAGES, LAYERS = (4, 6, 8, 10), (8, 8, 8, 8)
SPECS: Mapping[str, HeadSpec] = {
    "upernet": UPerNetSpec(STAGES, channels=6, dropout=0.0, norm=False),
    "upernet-feature2pyramid": UPerNetSpec(LAYERS, 6, (1, 2), dropout=0.0, norm=False, pyramid="feature2pyramid"),
    "upernet-multi-level": UPerNetSpec(LAYERS, 6, (1, 2), dropout=0.0, norm=False, pyramid="multi_level"),
    "segformer": SegFormerSpec(STAGES, channels=6, dropout=0.0, form="mmseg", norm=False),
    "dpt": DPTSpec(LAYERS, reassemble_channels=(4, 6, 8, 10), channels=6, dropout=0.0),
    "segmenter-mask": SegmenterMaskSpec((16,), 16, num_heads=2, dropout=0.0, start="mmseg", norm=False),
}

# Their names to ours; {0} is the first number in the name.
RENAMED: tuple[tuple[str, str], ...] = (
    (r"^head\.conv_seg\.", "head.classifier."),
    (r"^neck\.upsample_4x\.(\d)\.", r"neck.pyramid.up4.\1."),
    (r"^neck\.upsample_2x\.0\.", "neck.pyramid.up2."),
    (r"^neck\.lateral_convs\.(\d)\.conv\.", r"neck.pyramid.laterals.\1."),
    (r"^neck\.convs\.(\d)\.conv\.", r"neck.pyramid.outputs.\1."),
    (r"^head\.psp_modules\.(\d)\.1\.", r"head.pools.\1."),
    (r"^head\.bottleneck\.", "head.context."),
    (r"^head\.lateral_convs\.", "head.laterals."),
    (r"^head\.fpn_convs\.", "head.outputs."),
    (r"^head\.fpn_bottleneck\.", "head.fuse."),
    (r"^head\.fusion_conv\.", "head.fuse."),
    (r"^head\.reassemble_blocks\.projects\.(\d)\.conv\.", r"head.projections.\1."),
    (r"^head\.reassemble_blocks\.resize_layers\.", "head.resizes."),
    (r"\.res_conv_unit1\.", ".skip."),
    (r"\.res_conv_unit2\.", ".unit."),
    (r"\.(skip|unit)\.conv(\d)\.conv\.", r".\1.conv\2."),
    (r"\.(skip|unit)\.conv(\d)\.bn\.", r".\1.norm\2."),
    (r"^head\.fusion_blocks\.(\d)\.project\.conv\.", r"head.fusion_blocks.\1.project."),
    (r"^head\.cls_emb$", "head.classifier.weight"),
    (r"^head\.layers\.(\d)\.", r"head.blocks.\1."),
    (r"\.ln(\d)\.", r".norm\1."),
    (r"\.attn\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.attn\.out_proj\.", ".attn.proj."),
    (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
    (r"^head\.dec_proj\.", "head.project."),
    (r"^head\.patch_proj\.", "head.project_patches."),
    (r"^head\.classes_proj\.", "head.project_classes."),
    (r"^head\.decoder_norm\.", "head.norm."),
)


def renamed(key: str, case: str) -> str:
    for pattern, ours in RENAMED:
        key = re.sub(pattern, ours, key)
    if case == "segformer":
        key = key.replace("head.convs.", "head.projections.")
    if case == "dpt":
        key = re.sub(r"^head\.convs\.(\d)\.conv\.", r"head.convs.\1.", key)
        # They count fusions from the deepest map.
        key = re.sub(r"^head\.fusion_blocks\.(\d)", lambda found: f"head.fusions.{3 - int(found[1])}", key)
    return key


@pytest.fixture(scope="module")
def arrays() -> dict[str, Tensor]:
    return load_file(Path(__file__).parent / "data" / "mmseg_heads.safetensors")


def modules(case: str, arrays: Mapping[str, Tensor]) -> nn.ModuleDict:
    """Returns neck and head with the stored tensors, every one of which has its place and every place its tensor."""
    spec = SPECS[case]
    neck = spec.build_neck()
    parts = nn.ModuleDict({"head": spec.build_head(CLASSES)} | ({"neck": neck} if neck is not None else {}))
    stored = {
        renamed(name.removeprefix(f"{case}/state/"), case): value
        for name, value in arrays.items()
        if name.startswith(f"{case}/state/")
    }
    if case == "segmenter-mask":
        stored["head.classifier.weight"] = stored["head.classifier.weight"][0]
    wanted = {name for name in parts.state_dict() if not name.endswith("num_batches_tracked")}
    assert stored.keys() == wanted
    parts.load_state_dict(stored, strict=False)
    return parts


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("case", SPECS)
def test_logits_are_theirs(case: str, layout: torch.memory_format, mode: str, arrays: dict[str, Tensor]) -> None:
    parts = modules(case, arrays).train(mode == "train")
    number = len(SPECS[case].channels_in)  # type: ignore[attr-defined]
    maps = [arrays[f"{case}/map/{index}"].contiguous(memory_format=layout) for index in range(number)]
    with torch.no_grad():
        logits = parts["head"](parts["neck"](maps) if "neck" in parts else maps, (64, 64))
    torch.testing.assert_close(logits, arrays[f"{case}/{mode}"], rtol=0, atol=2e-5)
