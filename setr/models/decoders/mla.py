"""MLA, multi-level aggregation: four layers, each projected, summed from the deepest up, convolved and concatenated."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from setr.models.counter import Activation, Tally
from setr.models.decoders import up_head
from setr.models.decoders.decoder import Asked, Decoder, Heads, Tensors
from setr.models.decoders.up_head import UpHeadSpec
from setr.models.importing.shapes import Shapes, count, dims, on_transformer
from setr.models.specification import HeadSpec

if TYPE_CHECKING:
    from torch import nn

LAYERS = (6, 12, 18, 24)


@dataclass(frozen=True)
class MLASpec(HeadSpec):
    """The MLA neck (per layer: LayerNorm, 1x1, top-down sums, 3x3) and head (per layer: two 3x3; one classifier)."""

    in_channels: int
    levels: int = 4
    neck_channels: int = 256
    inner_channels: int = 128  # of the first 3x3 of each branch
    head_channels: int = 128  # of the second 3x3
    up_scale: int = 4  # bilinear, between the branches and the classifier
    classifier_kernel: int = 3
    align_corners: bool = True  # of that resize

    keeps_class_token = False
    initialises_neck = True

    def build_head(self, num_classes: int) -> "nn.Module":
        """Returns the head's module."""
        from setr.models.decoders.mla_modules import MLAHead

        return MLAHead(self, num_classes)

    def build_neck(self) -> "nn.Module":
        """Returns the neck's module."""
        from setr.models.decoders.mla_modules import MLANeck

        return MLANeck(self)


def heads(asked: Asked) -> Heads:
    """Returns the heads of a row, by one flavour's rules."""
    rules, size = asked.rules, asked.size
    levels = len(asked.reading(len(LAYERS)))
    neck = size.embed_dim // rules.mla_neck_divisor if rules.mla_neck_divisor else size.decoder_channels
    main = MLASpec(
        in_channels=size.embed_dim,
        levels=levels,
        neck_channels=neck,
        inner_channels=neck if rules.mla_halves_at_last else neck // 2,
        head_channels=neck // 2,
        up_scale=up_head.to_stride_4(asked),
        classifier_kernel=rules.mla_classifier_kernel,
        align_corners=rules.mla_align_corners,
    )
    if rules.mla_auxiliary_reads == "encoder":
        taps = asked.auxiliary_taps("mla", LAYERS)
        return Heads(main, up_head.auxiliary(asked, up_head.single_stage(asked), taps), taps)
    single = UpHeadSpec(neck, neck, up_scales=(), norm=False, classifier_bias=rules.mla_auxiliary_bias)
    return Heads(main, (single,) * main.levels, reads_neck=True)


def agreed(heads: Heads) -> Heads:
    """Returns the heads with auxiliary ones as wide as the neck that they read."""
    if not heads.reads_neck:
        return heads
    main: Any = heads.decoder
    width = main.neck_channels
    single = tuple(replace(head, in_channels=width, channels=width) for head in heads.auxiliary)  # type: ignore[type-var]
    return replace(heads, auxiliary=single)


def neck_cost(spec: MLASpec, features: Sequence[Activation], tally: Tally) -> list[Activation]:
    """Counts the neck and returns its outputs."""
    streams = [tally.conv_norm_relu(tally.layer_norm(x), spec.neck_channels, 1) for x in features]
    for index in reversed(range(len(streams) - 1)):
        streams[index] = tally.add(streams[index], streams[index + 1])
    return [tally.conv_norm_relu(x, spec.neck_channels, 3) for x in streams]


def cost(
    spec: MLASpec, features: Sequence[Activation], size: tuple[int, int], classes: int, tally: Tally
) -> Activation:
    """Counts the head on the neck's outputs and returns its logits before the last resize."""
    branches = [
        tally.conv_norm_relu(tally.conv_norm_relu(x, spec.inner_channels, 3), spec.head_channels, 3) for x in features
    ]
    joined = tally.new(spec.head_channels * len(branches), branches[0].height, branches[0].width, branches[0].itemsize)
    if spec.classifier_kernel == 1:
        return tally.resize(tally.conv(joined, classes, 1, bias=True), spec.up_scale)
    return tally.conv(tally.resize(joined, spec.up_scale), classes, spec.classifier_kernel, bias=True)


def recognised(shapes: Shapes) -> bool:
    """Returns whether tensors are a transformer's, with a neck."""
    return on_transformer(shapes, neck=True)


def inferred(tensors: Tensors) -> Heads:
    """Returns a checkpoint's heads."""
    shapes = tensors.shapes
    main = MLASpec(
        in_channels=tensors.width,
        levels=count(shapes, r"neck\.norms\.(\d+)\."),
        neck_channels=dims(shapes, "neck.projections.0.conv.weight", 4)[0],
        inner_channels=dims(shapes, "decode_head.branches.0.0.conv.weight", 4)[0],
        head_channels=dims(shapes, "decode_head.branches.0.1.conv.weight", 4)[0],
        classifier_kernel=dims(shapes, "decode_head.classifier.weight", 4)[-1],
        align_corners=tensors.flavour == "authors",
    )
    auxiliary = up_head.inferred_auxiliary(tensors)
    return Heads(main, auxiliary, reads_neck=all(not spec.norm for spec in auxiliary))


MLA = Decoder(
    "mla",
    MLASpec,
    layers=LAYERS,
    heads=heads,
    cost=cost,
    neck_cost=neck_cost,
    recognised=recognised,
    inferred=inferred,
    any_number=True,
    agreed=agreed,
    published_as="mla",
    owns_unused_convolution=True,
)
