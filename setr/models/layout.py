"""What decoders read: layers of a transformer of any depth, and the stages of the tables' ResNets."""

from collections.abc import Sequence
from dataclasses import replace

from setr.models.specification import ResNetSpec

LARGE_DEPTH = 24  # layers of T-Large, of which the paper counts

R50 = ResNetSpec("r-50", (3, 4, 6, 3))
R101 = ResNetSpec("r-101", (3, 4, 23, 3))


def taps_of(layers: Sequence[int], depth: int, *, full_depth: int = LARGE_DEPTH) -> tuple[int, ...]:
    """Return floor(layer x depth / full_depth) - 1 for each layer (from 1) of a `full_depth` encoder: block indices."""
    return tuple(max(layer * depth // full_depth, 1) - 1 for layer in layers)


def resnet(full: ResNetSpec, *, miniature: bool) -> ResNetSpec:
    """Return the ResNet itself, or its miniature: a quarter of the width, the fewest blocks, stage 3 the deepest."""
    if not miniature:
        return full
    return ResNetSpec(f"{full.name}-miniature", (1, 1, 2 if full is R101 else 1, 1), base_channels=16)


def baseline_body(row: str, output_stride: int, *, miniature: bool) -> ResNetSpec:
    """Return the ResNet-101 under a baseline: r-101, or r-101-bit (Big Transfer's)."""
    body = replace(resnet(R101, miniature=miniature), output_stride=output_stride)
    return replace(body, name=f"{body.name}-bit", kind="bit") if row == "r-101-bit" else body
