"""Naive: a 1x1 convolution on the last layer, and one resize to the image."""

from dataclasses import replace

from setr.data.reading.ade20k import ADE20K
from setr.models.decoders import up_head
from setr.models.decoders.decoder import Asked, Decoder, Heads, Tensors
from setr.models.decoders.up_head import UpHeadSpec
from setr.models.importing.shapes import Shapes, count, on_transformer

MOST_STAGES = 2  # of which PUP has more
AUXILIARY_LAYERS = (10, 15, 20)


def heads(asked: Asked) -> Heads:
    """Returns the heads of a row, by one flavour's rules."""
    rules, naive = asked.rules, up_head.single_stage(asked)
    taps = asked.auxiliary_taps("naive", AUXILIARY_LAYERS)
    scale = up_head.to_stride_4(asked) if rules.naive_resizes_twice else 1
    ade20k = asked.num_classes == ADE20K.num_classes
    stages = rules.naive_auxiliary_stages_ade20k if ade20k else rules.naive_auxiliary_stages
    auxiliary = up_head.auxiliary(asked, replace(naive, up_scales=(scale,) * stages), taps)
    return Heads(replace(naive, up_scales=(scale,)), auxiliary, taps)


def recognised(shapes: Shapes) -> bool:
    """Returns whether tensors are a transformer's, with a head of one or two stages."""
    return on_transformer(shapes) and count(shapes, r"decode_head\.convs\.(\d+)\.") <= MOST_STAGES


def inferred(tensors: Tensors) -> Heads:
    """Returns a checkpoint's heads."""
    # mmsegmentation's has one stage; a factor of 4 for up to two keeps the product within the patch.
    return Heads(up_head.inferred_main(tensors, 4), up_head.inferred_auxiliary(tensors))


def made(spec: UpHeadSpec) -> bool:
    """Returns whether a head has as few stages as Naive, and auxiliary heads."""
    return len(spec.up_scales) <= MOST_STAGES


NAIVE = Decoder(
    "naive",
    UpHeadSpec,
    layers=(24,),
    heads=heads,
    cost=up_head.cost,
    made=made,
    recognised=recognised,
    inferred=inferred,
    published_as="naive",
    owns_unused_convolution=True,
)
