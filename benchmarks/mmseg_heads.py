"""Writes the arrays that the decoders are compared with, from the heads of mmsegmentation 1.2.2 themselves.

    python -m pip install --no-deps mmsegmentation==1.2.2 mmcv-lite==2.1.0 mmengine==0.10.7
    python -m pip install addict yapf rich termcolor torch safetensors
    python benchmarks/mmseg_heads.py tests/models/decoders/data/mmseg_heads.safetensors

In an environment of its own: the project needs none of them. Of each head the file holds its tensors under their own
names, the maps that it was given, and its logits in eval and in train mode (dropout 0).
"""

import importlib
import importlib.util
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

CLASSES = 5
BATCH = 2
SIZES = ((16, 12), (8, 6), (4, 3), (2, 2))  # of a pyramid's maps; odd sides too
GRID = (4, 2)  # of a plain transformer's
NORM = {"type": "BN"}
COMMON = {"num_classes": CLASSES, "dropout_ratio": 0.0, "norm_cfg": NORM, "align_corners": False}
FOUR = {"in_index": [0, 1, 2, 3], **COMMON}

# Packages whose own start imports compiled operators, which none of these heads uses.
SHELLS: Mapping[str, Mapping[str, Any]] = {
    "mmseg.structures": {"build_pixel_sampler": None},
    "mmseg.utils": {"ConfigType": dict, "SampleList": list},
    "mmseg.models": {},
    "mmseg.models.losses": {"accuracy": None},
    "mmseg.models.utils": {},
    "mmseg.models.backbones": {},
    "mmseg.models.necks": {},
    "mmseg.models.decode_heads": {},
}


def load(module: str, name: str) -> Any:
    """Returns a class of mmsegmentation without running its packages' own start."""
    return getattr(importlib.import_module(f"mmseg.models.{module}"), name)


def lay_shells() -> None:
    """Puts packages with nothing but a path in the place of mmsegmentation's."""
    root = importlib.util.find_spec("mmseg")
    if root is None or not root.submodule_search_locations:
        sys.exit("mmsegmentation 1.2.2 is not installed here; the first lines of this file say how")
    folder = Path(root.submodule_search_locations[0]).parent
    for name, attributes in {"mmseg": {"__version__": "1.2.2"}, **SHELLS}.items():
        shell = types.ModuleType(name)
        shell.__path__ = [str(folder.joinpath(*name.split(".")))]
        vars(shell).update(attributes)
        sys.modules[name] = shell
    importlib.import_module("mmseg.models.losses.cross_entropy_loss")  # every head makes one
    utils = sys.modules["mmseg.models.utils"]
    vars(utils)["resize"] = importlib.import_module("mmseg.models.utils.wrappers").resize
    vars(utils)["PatchEmbed"] = importlib.import_module("mmseg.models.utils.embed").PatchEmbed


def cases() -> dict[str, tuple[nn.Module | None, nn.Module, list[Tensor]]]:
    """Returns neck, head and maps by name."""
    upernet = load("decode_heads.uper_head", "UPerHead")
    segformer = load("decode_heads.segformer_head", "SegformerHead")
    dpt = load("decode_heads.dpt_head", "DPTHead")
    mask = load("decode_heads.segmenter_mask_head", "SegmenterMaskTransformerHead")
    to_pyramid = load("necks.featurepyramid", "Feature2Pyramid")
    multi_level = load("necks.multilevel_neck", "MultiLevelNeck")
    widths, equal = [4, 6, 8, 10], [8] * 4
    stages = [torch.randn(BATCH, width, *size) for width, size in zip(widths, SIZES, strict=True)]
    layers = [torch.randn(BATCH, 8, *GRID) for _ in equal]
    tokens = [torch.randn(BATCH, 16, *GRID)]
    return {
        "upernet": (None, upernet(in_channels=widths, channels=6, pool_scales=(1, 2, 3, 6), **FOUR), stages),
        "upernet-feature2pyramid": (
            to_pyramid(8, norm_cfg=NORM),
            upernet(in_channels=equal, channels=6, pool_scales=(1, 2), **FOUR),
            layers,
        ),
        "upernet-multi-level": (
            multi_level(equal, 8, scales=[4, 2, 1, 0.5]),
            upernet(in_channels=equal, channels=6, pool_scales=(1, 2), **FOUR),
            layers,
        ),
        "segformer": (None, segformer(in_channels=widths, channels=6, **FOUR), stages),
        "dpt": (
            None,
            dpt(
                in_channels=equal,
                channels=6,
                embed_dims=8,
                post_process_channels=[4, 6, 8, 10],
                readout_type="ignore",
                input_transform="multiple_select",
                **FOUR,
            ),
            layers,
        ),
        "segmenter-mask": (
            None,
            mask(
                in_channels=16,
                channels=16,
                num_layers=2,
                num_heads=2,
                embed_dims=16,
                drop_path_rate=0.0,
                in_index=0,
                **{name: value for name, value in COMMON.items() if name != "norm_cfg"},
            ),
            tokens,
        ),
    }


def randomise(module: nn.Module) -> None:
    """Fills parameters and running statistics so that none of them is at a value that hides a mistake."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -1, 1)
            nn.init.uniform_(part.running_var, 0.5, 2)
        if isinstance(part, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.uniform_(part.weight, 0.5, 1.5)


def logits(name: str, neck: nn.Module | None, head: nn.Module, maps: list[Tensor]) -> Tensor:
    """Returns a head's logits; DPT's maps come with a class token, which `ignore` leaves alone."""
    given: Any = [x.clone() for x in maps]
    given = list(neck(given)) if neck is not None else given
    if name == "dpt":
        given = [(x, torch.zeros(BATCH, x.shape[1])) for x in given]
    return head(given)


def main(target: Path) -> None:
    """Writes the file."""
    lay_shells()
    torch.manual_seed(0)
    arrays: dict[str, Tensor] = {}
    for name, (neck, head, maps) in cases().items():
        parts = {"neck": neck, "head": head} if neck is not None else {"head": head}
        for prefix, part in parts.items():
            randomise(part)
            for key, value in part.state_dict().items():
                if not key.endswith("num_batches_tracked"):
                    arrays[f"{name}/state/{prefix}.{key}"] = value.clone()
        for index, x in enumerate(maps):
            arrays[f"{name}/map/{index}"] = x.clone()
        with torch.no_grad():
            for mode in ("eval", "train"):
                for part in parts.values():
                    part.train(mode == "train")
                arrays[f"{name}/{mode}"] = logits(name, neck, head, maps).contiguous()
    save_file(arrays, target)
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB, torch {torch.__version__}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
