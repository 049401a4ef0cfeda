"""The head of convolutions and resizes that Naive, PUP and all auxiliary heads of SETR are."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from setr.models.counter import Activation, Tally
from setr.models.decoders.decoder import Asked, Tensors
from setr.models.importing.shapes import count, dims
from setr.models.specification import HeadSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class UpHeadSpec(HeadSpec):
    """A head of convolutions and resizes: Naive, PUP, and all auxiliary heads."""

    in_channels: int
    channels: int = 256
    kernel: int = 1  # of each convolution before the classifier: 1 or 3
    up_scales: tuple[int, ...] = (1,)  # one convolution each, followed by a bilinear resize of this factor (1: none)
    norm: bool = True  # LayerNorm over the channels first
    convolution_bias: bool = True
    classifier_bias: bool = True

    def build_head(self, num_classes: int) -> "nn.Module":
        """Returns the module."""
        from setr.models.decoders.up_head_module import UpHead

        return UpHead(self, num_classes)


def single_stage(asked: Asked) -> UpHeadSpec:
    """Returns one 1x1 convolution without a resize: what the decoders' records and auxiliary heads start from."""
    width = asked.facts.channels[asked.reading(1)[-1]]
    return UpHeadSpec(width, asked.decoder_channels, convolution_bias=asked.rules.convolution_bias)


def stride(asked: Asked) -> int:
    """Returns the stride of what is read last: of a plain transformer its patch."""
    return asked.facts.strides[asked.reading(1)[-1]]


def to_stride_4(asked: Asked) -> int:
    """Returns the resize that ends at stride 4: the paper's 4 for a patch of 16."""
    return max(1, stride(asked) // 4)


def auxiliary(asked: Asked, spec: UpHeadSpec, taps: Sequence[int]) -> tuple[UpHeadSpec, ...]:
    """Returns one auxiliary head like `spec` for each layer or stage."""
    return tuple(replace(spec, in_channels=width) for width in asked.channels_in(taps))


def cost(
    spec: UpHeadSpec, features: Sequence[Activation], size: tuple[int, int], classes: int, tally: Tally
) -> Activation:
    """Counts the head on the last feature and returns its logits before the last resize."""
    x = tally.layer_norm(features[-1]) if spec.norm else features[-1]
    pending = 1
    for scale in spec.up_scales:
        x = tally.conv_norm_relu(x, spec.channels, spec.kernel, scale=pending, bias=spec.convolution_bias)
        pending = scale
    logits = tally.conv(x, classes, 1, bias=spec.classifier_bias)
    if (logits.height * pending, logits.width * pending) == size:
        return logits
    return tally.resize(logits, pending)


def stages(tensors: Tensors, prefix: str = "decode_head") -> int:
    """Returns the number of convolutions of a checkpoint's head."""
    return count(tensors.shapes, re.escape(prefix) + r"\.convs\.(\d+)\.")


def inferred_main(tensors: Tensors, default_scale: int) -> UpHeadSpec:
    """Returns a checkpoint's decode head; mmsegmentation's resizes by `default_scale` unless its config says."""
    number = stages(tensors)
    if tensors.flavour == "mmseg":
        return inferred(tensors, "decode_head", (tensors.settings.up_scale or default_scale,) * number)
    return inferred(tensors, "decode_head", (2,) * (number - 1) + (1,))


def inferred_auxiliary(tensors: Tensors, *, authors_scale_of_3x3: int = 1) -> tuple[UpHeadSpec, ...]:
    """Returns a checkpoint's auxiliary heads; the authors resize after a 1x1 by 1, after a 3x3 as is given."""
    found = []
    for index in range(count(tensors.shapes, r"auxiliary_heads\.(\d+)\.")):
        prefix = f"auxiliary_heads.{index}"
        scale = tensors.settings.auxiliary_up_scale or 4
        if tensors.flavour != "mmseg":
            kernel = tensors.shapes.get(f"{prefix}.convs.0.conv.weight", (0, 0, 0, 1))[-1]
            scale = authors_scale_of_3x3 if kernel == 3 else 1
        found.append(inferred(tensors, prefix, (scale,) * stages(tensors, prefix)))
    return tuple(found)


def inferred(tensors: Tensors, prefix: str, scales: tuple[int, ...]) -> UpHeadSpec:
    """Returns the spec of a checkpoint's head whose names begin with `prefix`."""
    shapes = tensors.shapes
    channels, kernel = dims(shapes, f"{prefix}.classifier.weight", 4)[1], 1
    if scales:
        kernel = dims(shapes, f"{prefix}.convs.0.conv.weight", 4)[-1]
    norm = f"{prefix}.norm.weight" in shapes
    return UpHeadSpec(
        in_channels=tensors.width if norm or scales else channels,
        channels=channels,
        kernel=kernel,
        up_scales=scales,
        norm=norm,
        convolution_bias=f"{prefix}.convs.0.conv.bias" in shapes,
        classifier_bias=f"{prefix}.classifier.bias" in shapes,
    )
