"""The dilated FCN of the tables, on a ResNet that stops shrinking at stride 8, as mmsegmentation 0.6 has it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from setr.models.counter import Activation, Tally
from setr.models.decoders.decoder import Asked, Decoder, Heads, Tensors
from setr.models.importing.shapes import Shapes, count, dims, on_resnet
from setr.models.specification import HeadSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class FCNHeadSpec(HeadSpec):
    """3x3 convolutions at the feature's resolution; with `concatenate`, one more 3x3 over input and result."""

    in_channels: int
    channels: int = 512
    num_convs: int = 2
    concatenate: bool = True
    dropout: float = 0.1

    def build_head(self, num_classes: int) -> "nn.Module":
        """Returns the module."""
        from setr.models.decoders.fcn_module import FCNHead

        return FCNHead(self, num_classes)


def heads(asked: Asked) -> Heads:
    """Returns the heads of a row: the last stage's and, on the stage before, an auxiliary head."""
    last = asked.reading(1)[-1]
    taps = asked.before(last)
    return Heads(
        FCNHeadSpec(asked.facts.channels[last], channels=asked.width(512)),
        auxiliary(asked, taps),
        taps,
        # The 769x769 models of the tables are trained and tested with aligned corners: 769 = 8 x 96 + 1.
        align_corners=all(side % 8 == 1 for side in asked.crop_size),
    )


def auxiliary(asked: Asked, taps: Sequence[int]) -> tuple[FCNHeadSpec, ...]:
    """Returns the auxiliary head that UPerNet has too, one for each layer or stage: a single 3x3 convolution."""
    return tuple(
        FCNHeadSpec(width, channels=asked.width(256), num_convs=1, concatenate=False)
        for width in asked.channels_in(taps)
    )


def cost(
    spec: FCNHeadSpec, features: Sequence[Activation], size: tuple[int, int], classes: int, tally: Tally
) -> Activation:
    """Counts the head on the last feature and returns its logits before the last resize."""
    x = features[-1]
    for _ in range(spec.num_convs):
        x = tally.conv_norm_relu(x, spec.channels, 3)
    if spec.concatenate:
        last = features[-1]
        joined = tally.new(last.channels + x.channels, x.height, x.width, max(x.itemsize, last.itemsize))
        x = tally.conv_norm_relu(joined, spec.channels, 3)
    return tally.conv(tally.dropout(x), classes, 1, bias=True)


def recognised(shapes: Shapes) -> bool:
    """Returns whether tensors are a ResNet's, without a pyramid."""
    return on_resnet(shapes) and "neck.laterals.0.weight" not in shapes


def inferred(tensors: Tensors) -> Heads:
    """Returns a checkpoint's heads."""
    main = _head(tensors.shapes, "decode_head")
    if any(name.startswith("auxiliary_heads.0.") for name in tensors.shapes):
        return Heads(main, (_head(tensors.shapes, "auxiliary_heads.0"),), (2,))
    return Heads(main)


def _head(shapes: Shapes, prefix: str) -> FCNHeadSpec:
    channels, in_channels = dims(shapes, f"{prefix}.convs.0.conv.weight", 4)[:2]
    convs = count(shapes, re.escape(prefix) + r"\.convs\.(\d+)\.")
    return FCNHeadSpec(in_channels, channels, convs, concatenate=f"{prefix}.fuse.conv.weight" in shapes)


FCN = Decoder(
    "fcn",
    FCNHeadSpec,
    layers=(4,),
    heads=heads,
    cost=cost,
    recognised=recognised,
    inferred=inferred,
    output_stride=8,
    published_as="fcn",
)
