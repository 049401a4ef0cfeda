"""Semantic FPN of the tables, on a ResNet's four stages, as mmsegmentation 0.6 has it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from setr.models.counter import Activation, Tally
from setr.models.decoders.decoder import Asked, Decoder, Heads, Tensors
from setr.models.importing.shapes import Shapes, dims, on_resnet
from setr.models.specification import HeadSpec, ResNetSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class FPNSpec(HeadSpec):
    """Semantic FPN: a top-down pyramid over four stages and a head that brings every level to stride 4."""

    in_channels: tuple[int, ...]
    channels: int = 256
    head_channels: int = 128
    dropout: float = 0.1

    def build_head(self, num_classes: int) -> "nn.Module":
        """Returns the head's module."""
        from setr.models.decoders.semantic_fpn_modules import SemanticFPNHead

        return SemanticFPNHead(self, num_classes)

    def build_neck(self) -> "nn.Module":
        """Returns the pyramid's module."""
        from setr.models.decoders.semantic_fpn_modules import FPNNeck

        return FPNNeck(self)


def heads(asked: Asked) -> Heads:
    """Returns the head of a row."""
    stages = asked.stages_in(asked.reading(4))
    return Heads(FPNSpec(stages, channels=asked.width(256), head_channels=asked.width(128)))


def neck_cost(spec: FPNSpec, features: Sequence[Activation], tally: Tally) -> list[Activation]:
    """Counts the pyramid and returns its outputs."""
    levels = [tally.conv(x, spec.channels, 1, bias=True) for x in features]
    for index in reversed(range(len(levels) - 1)):
        levels[index] = tally.add(levels[index], levels[index + 1])
    return [tally.conv(level, spec.channels, 3, bias=True) for level in levels]


def cost(
    spec: FPNSpec, features: Sequence[Activation], size: tuple[int, int], classes: int, tally: Tally
) -> Activation:
    """Counts the head on the pyramid's outputs and returns its logits before the last resize."""
    total = tally.conv_norm_relu(features[0], spec.head_channels, 3)
    for level, x in enumerate(features[1:], start=1):
        for _ in range(level):
            x = tally.resize(tally.conv_norm_relu(x, spec.head_channels, 3), 2)
        total = tally.add(total, tally.resize_to(x, (total.height, total.width)))
    return tally.conv(tally.dropout(total), classes, 1, bias=True)


def recognised(shapes: Shapes) -> bool:
    """Returns whether tensors are a ResNet's, with a pyramid."""
    return on_resnet(shapes) and "neck.laterals.0.weight" in shapes


def inferred(tensors: Tensors) -> Heads:
    """Returns a checkpoint's head."""
    assert isinstance(tensors.encoder, ResNetSpec)
    channels = dims(tensors.shapes, "neck.laterals.0.weight", 4)[0]
    head_channels = dims(tensors.shapes, "decode_head.branches.0.0.conv.weight", 4)[0]
    return Heads(FPNSpec(tensors.encoder.stage_channels, channels, head_channels))


SEMANTIC_FPN = Decoder(
    "semantic-fpn",
    FPNSpec,
    layers=(1, 2, 3, 4),
    heads=heads,
    cost=cost,
    neck_cost=neck_cost,
    recognised=recognised,
    inferred=inferred,
    output_stride=32,
    published_as="semantic-fpn",
)
