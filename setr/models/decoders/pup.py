"""PUP, progressive upsampling: 3x3 convolutions on the last layer, each before a resize by 2."""

import math
from dataclasses import replace

from setr.models.decoders import naive, up_head
from setr.models.decoders.decoder import Asked, Decoder, Heads, Tensors
from setr.models.decoders.up_head import UpHeadSpec
from setr.models.importing.shapes import Shapes, on_transformer


def heads(asked: Asked) -> Heads:
    """Returns the heads of a row, by one flavour's rules; another patch than 16 gets as many resizes as it needs."""
    rules, single = asked.rules, up_head.single_stage(asked)
    taps = asked.auxiliary_taps("pup", rules.pup_auxiliary_layers)
    doublings = max(1, round(math.log2(up_head.stride(asked))))
    last = 2 if rules.pup_last_stage_resizes else 1
    main = replace(single, kernel=3, up_scales=(2,) * (doublings - 1) + (last,))
    resizes = (up_head.to_stride_4(asked),) * rules.pup_auxiliary_resizes or (1,)
    auxiliary = replace(single, kernel=rules.pup_auxiliary_kernel, up_scales=resizes)
    return Heads(main, up_head.auxiliary(asked, auxiliary, taps), taps)


def recognised(shapes: Shapes) -> bool:
    """Returns whether tensors are a transformer's, with a head of more stages than Naive has."""
    return on_transformer(shapes) and not naive.recognised(shapes)


def inferred(tensors: Tensors) -> Heads:
    """Returns a checkpoint's heads."""
    # The authors' PUP configs resize twice (num_upsampe_layer=2), their Naive ones once.
    return Heads(up_head.inferred_main(tensors, 2), up_head.inferred_auxiliary(tensors, authors_scale_of_3x3=4))


def made(spec: UpHeadSpec) -> bool:
    """Returns whether a head has more stages than Naive."""
    return not naive.made(spec)


PUP = Decoder(
    "pup",
    UpHeadSpec,
    layers=(24,),
    heads=heads,
    cost=up_head.cost,
    made=made,
    recognised=recognised,
    inferred=inferred,
    published_as="pup",
    owns_unused_convolution=True,
)
