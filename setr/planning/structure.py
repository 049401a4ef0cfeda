"""A model's training pass on paper, from its SegmenterSpec: the same layers, in the order that the model runs them."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from setr.models.specification import (
    EncoderSize,
    FCNHeadSpec,
    FPNSpec,
    HeadSpec,
    MLASpec,
    ResNetSpec,
    SegmenterSpec,
    UpHeadSpec,
)
from setr.planning.tally import FLOAT32, INT64, Activation, Tally

STRIPS_FROM = 300  # classes x pixel ratio from which a GPU's loss is walked in strips (setr.training.loss.strips_win)


@dataclass(frozen=True)
class Footprint:
    """What one training pass of a model takes; bytes and operations of one image unless said otherwise."""

    parameters: int
    trainable: int
    saved: int  # bytes that autograd keeps until backward
    saved_checkpointed: int  # the same with activation checkpointing: one layer at a time is kept
    fixed: int  # bytes that it keeps however many images there are
    largest: int  # bytes of the largest tensor
    flops: int  # forward, auxiliary heads included; a multiply-add is two
    flops_inference: int  # forward without them
    flops_layers: int  # of the transformer layers alone, which checkpointing runs twice


@functools.lru_cache(maxsize=1024)
def footprint(
    spec: SegmenterSpec, size: tuple[int, int], precision: str = "float32", device: str = "cuda"
) -> Footprint:
    """Returns what a training pass takes for images of H x W pixels; `device` decides how the loss is computed."""
    tally = Tally(precision, device)
    layers = Tally(precision, device)  # the transformer layers apart, for checkpointing
    image = tally.new(3, *size, FLOAT32)
    features, last = _encode(spec, image, tally, layers)
    main = features[: len(spec.main_taps)]
    auxiliary = features[len(spec.main_taps) :]
    if isinstance(spec.decoder, MLASpec):
        main = _mla_neck(spec.decoder, main, tally)
    elif isinstance(spec.decoder, FPNSpec):
        main = _fpn_neck(spec.decoder, main, tally)
    _loss(_head(spec.decoder, main, size, spec.num_classes, tally), size, tally)
    inference = tally.flops + layers.flops
    sources = auxiliary if spec.auxiliary_taps else main
    for head, source in zip(spec.auxiliary, sources, strict=False):
        _loss(_head(head, [source], size, spec.num_classes, tally), size, tally)
    depth = last + 1
    kept = depth * layers_input(spec, size) + layers.saved // depth if layers.saved else 0
    return Footprint(
        parameters=tally.parameters + layers.parameters,
        trainable=tally.parameters + layers.parameters - tally.frozen,
        saved=tally.saved + layers.saved,
        saved_checkpointed=tally.saved + min(kept, layers.saved),
        fixed=tally.fixed + layers.fixed,
        largest=max(tally.largest, layers.largest),
        flops=tally.flops + layers.flops,
        flops_inference=inference,
        flops_layers=layers.flops,
    )


def layers_input(spec: SegmenterSpec, size: tuple[int, int]) -> int:
    """Returns the bytes of the tokens between two transformer layers, for one image of H x W pixels."""
    assert isinstance(spec.encoder, EncoderSize)
    patch = spec.encoder.patch_size
    return (-(-size[0] // patch) * -(-size[1] // patch) + 1) * spec.encoder.embed_dim * FLOAT32


def _encode(spec: SegmenterSpec, image: Activation, tally: Tally, layers: Tally) -> tuple[list[Activation], int]:
    """Returns the features of main and auxiliary taps, and the last layer that runs."""
    taps = spec.main_taps + spec.auxiliary_taps
    if isinstance(spec.encoder, ResNetSpec):
        stages = _resnet(spec.encoder, image, tally)
        return [stages[tap] for tap in taps], max(taps)
    encoder = spec.encoder
    if spec.cnn is None:
        patch = encoder.patch_size
        tally.keep_as(image, tally.low)
        grid = (-(-image.height // patch), -(-image.width // patch))
        tally.weight(encoder.embed_dim * 3 * patch * patch, encoder.embed_dim)
        tally.flops += 2 * encoder.embed_dim * 3 * patch * patch * grid[0] * grid[1]
    else:
        [*_, last_map] = _resnet(spec.cnn, image, tally)
        x = tally.conv(last_map, encoder.embed_dim, 1, bias=True)
        grid = (x.height, x.width)
    has_token = not isinstance(spec.decoder, MLASpec)
    rows, columns = (side // encoder.patch_size for side in spec.image_size)
    tally.weight((rows * columns + 1) * encoder.embed_dim, encoder.embed_dim, cast=False)
    tally.frozen += 0 if has_token else encoder.embed_dim
    tokens = layers.new(encoder.embed_dim, 1, grid[0] * grid[1] + has_token, FLOAT32)
    outputs: list[Activation] = []
    for index in range(encoder.depth):
        if index > max(taps):
            before = layers.parameters
            _layer(encoder, tokens, ignored := Tally(layers.precision))
            layers.parameters += ignored.parameters
            tally.frozen += layers.parameters - before
        else:
            tokens = _layer(encoder, tokens, layers)
            outputs.append(tokens)
    # A feature is a view of its layer's tokens: what is kept of it is the tokens.
    found = []
    for tap in taps:
        x = outputs[tap]
        view = Activation(x.channels, grid[0], grid[1], x.itemsize, saved=True)
        layers.keep(x)
        found.append(view)
    return found, max(taps)


def _layer(encoder: EncoderSize, x: Activation, tally: Tally) -> Activation:
    attended = tally.linear(tally.attention(tally.layer_norm(x), encoder.num_heads), x.channels)
    x = tally.add(x, attended)
    hidden = tally.keep(tally.linear(tally.layer_norm(x), int(encoder.mlp_ratio * x.channels)))
    activated = tally.new(hidden.channels, hidden.height, hidden.width, hidden.itemsize)
    return tally.add(x, tally.linear(activated, x.channels))


def _resnet(spec: ResNetSpec, image: Activation, tally: Tally) -> list[Activation]:
    """Returns the outputs of the four stages."""
    width = spec.base_channels
    bit = spec.kind == "bit"
    if bit:
        x = tally.conv(image, width, 7, stride=2, standard=True)
        padded = tally.new(x.channels, x.height + 2, x.width + 2, x.itemsize)
        tally.saved += padded.bytes - x.bytes
        x = tally.max_pool(x)
    else:
        x = tally.batch_norm_relu(tally.conv(image, width // 2, 3, stride=2))
        x = tally.batch_norm_relu(tally.conv(x, width // 2, 3))
        x = tally.max_pool(tally.batch_norm_relu(tally.conv(x, width, 3)))
    stride_so_far = 4
    stages = []
    for stage, blocks in enumerate(spec.blocks):
        stride = 1 if stage == 0 or stride_so_far >= spec.output_stride else 2
        stride_so_far *= stride
        for block in range(blocks):
            out = spec.stage_channels[stage]
            step = stride if block == 0 else 1
            make = _bit_block if bit else _bottleneck
            x = make(x, out, step, block == 0, tally)
        stages.append(x)
    if bit:
        stages[-1] = tally.group_norm_relu(stages[-1])
    return stages


def _bottleneck(x: Activation, channels: int, stride: int, first: bool, tally: Tally) -> Activation:
    inner = tally.batch_norm_relu(tally.conv(x, channels // 4, 1))
    inner = tally.batch_norm_relu(tally.conv(inner, channels // 4, 3, stride=stride))
    out = tally.batch_norm(tally.conv(inner, channels, 1))
    if first:
        tally.batch_norm(tally.conv(x, channels, 1, stride=stride))
    return tally.keep(out)  # the last ReLU works in place and keeps its result


def _bit_block(x: Activation, channels: int, stride: int, first: bool, tally: Tally) -> Activation:
    before = tally.group_norm_relu(x)
    shortcut = tally.conv(before, channels, 1, stride=stride, standard=True) if first else x
    inner = tally.group_norm_relu(tally.conv(before, channels // 4, 1, standard=True))
    inner = tally.group_norm_relu(tally.conv(inner, channels // 4, 3, stride=stride, standard=True))
    return tally.add(tally.conv(inner, channels, 1, standard=True), shortcut)


def _head(
    spec: HeadSpec, features: Sequence[Activation], size: tuple[int, int], classes: int, tally: Tally
) -> Activation:
    """Returns a head's logits before the last resize."""
    if isinstance(spec, UpHeadSpec):
        return _up_head(spec, features[-1], size, classes, tally)
    if isinstance(spec, MLASpec):
        return _mla_head(spec, features, classes, tally)
    if isinstance(spec, FCNHeadSpec):
        return _fcn_head(spec, features[-1], classes, tally)
    return _fpn_head(spec, features, classes, tally)


def _conv_norm_relu(
    x: Activation, channels: int, kernel: int, tally: Tally, *, scale: int = 1, bias: bool = False
) -> Activation:
    if kernel == 1:
        return tally.batch_norm_relu(tally.resize(tally.conv(x, channels, 1, bias=bias), scale))
    return tally.batch_norm_relu(tally.conv(tally.resize(x, scale), channels, kernel, bias=bias))


def _up_head(spec: UpHeadSpec, x: Activation, size: tuple[int, int], classes: int, tally: Tally) -> Activation:
    x = tally.layer_norm(x) if spec.norm else x
    pending = 1
    for scale in spec.up_scales:
        x = _conv_norm_relu(x, spec.channels, spec.kernel, tally, scale=pending, bias=spec.convolution_bias)
        pending = scale
    logits = tally.conv(x, classes, 1, bias=spec.classifier_bias)
    if (logits.height * pending, logits.width * pending) == size:
        return logits
    return tally.resize(logits, pending)


def _mla_neck(spec: MLASpec, features: Sequence[Activation], tally: Tally) -> list[Activation]:
    streams = [_conv_norm_relu(tally.layer_norm(x), spec.neck_channels, 1, tally) for x in features]
    for index in reversed(range(len(streams) - 1)):
        streams[index] = tally.add(streams[index], streams[index + 1])
    return [_conv_norm_relu(x, spec.neck_channels, 3, tally) for x in streams]


def _mla_head(spec: MLASpec, features: Sequence[Activation], classes: int, tally: Tally) -> Activation:
    branches = [
        _conv_norm_relu(_conv_norm_relu(x, spec.inner_channels, 3, tally), spec.head_channels, 3, tally)
        for x in features
    ]
    joined = tally.new(spec.head_channels * len(branches), branches[0].height, branches[0].width, branches[0].itemsize)
    if spec.classifier_kernel == 1:
        return tally.resize(tally.conv(joined, classes, 1, bias=True), spec.up_scale)
    return tally.conv(tally.resize(joined, spec.up_scale), classes, spec.classifier_kernel, bias=True)


def _fcn_head(spec: FCNHeadSpec, features: Activation, classes: int, tally: Tally) -> Activation:
    x = features
    for _ in range(spec.num_convs):
        x = _conv_norm_relu(x, spec.channels, 3, tally)
    if spec.concatenate:
        joined = tally.new(features.channels + x.channels, x.height, x.width, max(x.itemsize, features.itemsize))
        x = _conv_norm_relu(joined, spec.channels, 3, tally)
    return tally.conv(tally.dropout(x), classes, 1, bias=True)


def _fpn_neck(spec: FPNSpec, features: Sequence[Activation], tally: Tally) -> list[Activation]:
    levels = [tally.conv(x, spec.channels, 1, bias=True) for x in features]
    for index in reversed(range(len(levels) - 1)):
        levels[index] = tally.add(levels[index], levels[index + 1])
    return [tally.conv(level, spec.channels, 3, bias=True) for level in levels]


def _fpn_head(spec: FPNSpec, features: Sequence[Activation], classes: int, tally: Tally) -> Activation:
    total = _conv_norm_relu(features[0], spec.head_channels, 3, tally)
    for level, x in enumerate(features[1:], start=1):
        for _ in range(level):
            x = tally.resize(_conv_norm_relu(x, spec.head_channels, 3, tally), 2)
        total = tally.add(total, tally.resize_to(x, (total.height, total.width)))
    return tally.conv(tally.dropout(total), classes, 1, bias=True)


def _loss(logits: Activation, size: tuple[int, int], tally: Tally) -> None:
    """Counts the cross-entropy of logits that are resized to the labels (setr.training.loss)."""
    tally.fixed += 64  # the divisor and the like
    ratio = size[0] * size[1] / logits.pixels
    if ratio >= 2 if tally.device == "cpu" else logits.channels * ratio > STRIPS_FROM:
        tally.keep(tally.new(logits.channels, logits.height, logits.width, FLOAT32))  # the gradient, at low resolution
        return
    tally.keep(tally.new(logits.channels, *size, FLOAT32))  # the logarithms of the softmax
    tally.saved += size[0] * size[1] * INT64  # the labels
