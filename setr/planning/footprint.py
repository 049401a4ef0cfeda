"""A model's training pass on paper, from its SegmenterSpec: the same layers, in the order that the model runs them.

What has no count on paper is counted from the model itself (setr.planning.traced).
"""

import functools
from dataclasses import dataclass

from setr.errors import InputError
from setr.models.counter import FLOAT32, INT64, Activation, Tally
from setr.models.decoders.decoder import Decoder, HeadCost
from setr.models.decoders.table import decoder_with
from setr.models.specification import EncoderSize, HeadSpec, ResNetSpec, SegmenterSpec, TimmSpec

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
    flops_frozen: int = 0  # of flops, what has no backward


@functools.lru_cache(maxsize=1024)
def footprint(
    spec: SegmenterSpec, size: tuple[int, int], precision: str = "float32", device: str = "cuda"
) -> Footprint:
    """Returns what a training pass takes for images of H x W pixels; `device` decides how the loss is computed.

    What has no count on paper (an encoder of timm's, a head without one, a frozen encoder) is counted from the model
    itself, which loads torch. Raises InputError for a head that no decoder of the table has and that makes no module.
    """
    if not _on_paper(spec):
        return _from_model(spec, size, precision, device)
    tally = Tally(precision, device)
    layers = Tally(precision, device)  # the transformer layers apart, for checkpointing
    image = tally.new(3, *size, FLOAT32)
    features, last = _encode(spec, image, tally, layers)
    main = features[: len(spec.main_taps)]
    auxiliary = features[len(spec.main_taps) :]
    decoder = decoder_with(spec.decoder)
    if decoder.neck_cost is not None:
        main = decoder.neck_cost(spec.decoder, main, tally)
    _loss(_cost(decoder)(spec.decoder, main, size, spec.num_classes, tally), size, tally)
    inference = tally.flops + layers.flops
    sources = auxiliary if spec.auxiliary_taps else main
    for head, source in zip(spec.auxiliary, sources, strict=False):
        _loss(_cost(decoder_with(head))(head, [source], size, spec.num_classes, tally), size, tally)
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


def _cost(decoder: Decoder) -> HeadCost:
    """Returns how a decoder is counted; raises InputError for one that is counted from its module alone."""
    if decoder.cost is None:
        raise InputError("E_DECODER", "this decoder is not counted on paper", found=decoder.name)
    return decoder.cost


def _on_paper(spec: SegmenterSpec) -> bool:
    """Returns whether every part of a model has a count here or in its decoder's file."""
    heads = [_has_cost(head) for head in (spec.decoder, *spec.auxiliary)]  # all of them: each may be refused
    return all(heads) and not spec.frozen and not isinstance(spec.encoder, TimmSpec)


def _has_cost(head: HeadSpec) -> bool:
    try:
        return getattr(decoder_with(head), "cost", None) is not None
    except InputError:
        if type(head).build_head is HeadSpec.build_head:
            raise
        return False


def _from_model(spec: SegmenterSpec, size: tuple[int, int], precision: str, device: str) -> Footprint:
    from setr.planning.traced import trace

    found = trace(spec, size, precision, device)
    tally = Tally(precision, device)
    for channels, height, width, itemsize in found.logits:
        _loss(Activation(channels, height, width, itemsize), size, tally)
    encoder = found.flops_encoder
    return Footprint(
        parameters=found.parameters,
        trainable=found.trainable,
        saved=found.saved + tally.saved,
        saved_checkpointed=found.saved_checkpointed + tally.saved,
        fixed=found.fixed + tally.fixed,
        largest=max(found.largest, tally.largest),
        flops=found.flops,
        flops_inference=found.flops_inference,
        flops_layers=0 if spec.frozen else encoder,
        flops_frozen=encoder if spec.frozen else 0,
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
    assert isinstance(spec.encoder, EncoderSize)
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
    has_token = spec.decoder.keeps_class_token
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


def _loss(logits: Activation, size: tuple[int, int], tally: Tally) -> None:
    """Counts the cross-entropy of logits that are resized to the labels (setr.training.loss)."""
    tally.fixed += 64  # the divisor and the like
    ratio = size[0] * size[1] / logits.pixels
    if ratio >= 2 if tally.device == "cpu" else logits.channels * ratio > STRIPS_FROM:
        tally.keep(tally.new(logits.channels, logits.height, logits.width, FLOAT32))  # the gradient, at low resolution
        return
    tally.keep(tally.new(logits.channels, *size, FLOAT32))  # the logarithms of the softmax
    tally.saved += size[0] * size[1] * INT64  # the labels
