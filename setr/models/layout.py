"""From a row of the tables to its structure: which layers are read, by which heads, how wide."""

import math
from collections.abc import Sequence
from dataclasses import replace

from setr.models.flavours import Flavour
from setr.models.specification import EncoderSize, FCNHeadSpec, FPNSpec, MLASpec, ResNetSpec, SegmenterSpec, UpHeadSpec

# Layers of T-Large, counted from 1 (paper section 4): what the decoder reads, and what its auxiliary heads read
# (PUP's differ by flavour).
MAIN_LAYERS = {"naive": (24,), "pup": (24,), "mla": (6, 12, 18, 24)}
AUXILIARY_LAYERS = {"naive": (10, 15, 20), "mla": (6, 12, 18, 24)}
LARGE_DEPTH, BASE_DEPTH = 24, 12
ADE20K_CLASSES = 150

R50 = ResNetSpec("r-50", (3, 4, 6, 3))
R101 = ResNetSpec("r-101", (3, 4, 23, 3))

SetrHeads = tuple[UpHeadSpec | MLASpec, tuple[UpHeadSpec, ...], tuple[int, ...]]


def taps_of(layers: Sequence[int], depth: int, *, full_depth: int = LARGE_DEPTH) -> tuple[int, ...]:
    """Return floor(layer x depth / full_depth) - 1 for each layer (from 1) of a `full_depth` encoder: block indices."""
    return tuple(max(layer * depth // full_depth, 1) - 1 for layer in layers)


def setr_heads(decoder: str, encoder: str, size: EncoderSize, rules: Flavour, num_classes: int) -> SetrHeads:
    """Return the decoder, its auxiliary heads and their taps (none: they read the neck) for one flavour's rules.

    The resizes are the paper's for a patch of 16; another patch size gets those that end at the same strides.
    """
    taps = _auxiliary_taps(decoder, encoder, size, rules)
    naive = UpHeadSpec(size.embed_dim, size.decoder_channels, convolution_bias=rules.convolution_bias)
    to_stride_4 = max(1, size.patch_size // 4)
    if decoder == "naive":
        scale = to_stride_4 if rules.naive_resizes_twice else 1
        ade20k = num_classes == ADE20K_CLASSES
        stages = rules.naive_auxiliary_stages_ade20k if ade20k else rules.naive_auxiliary_stages
        return replace(naive, up_scales=(scale,)), (replace(naive, up_scales=(scale,) * stages),) * len(taps), taps
    if decoder == "pup":
        doublings = max(1, round(math.log2(size.patch_size)))
        last = 2 if rules.pup_last_stage_resizes else 1
        main = replace(naive, kernel=3, up_scales=(2,) * (doublings - 1) + (last,))
        resizes = (to_stride_4,) * rules.pup_auxiliary_resizes or (1,)
        return main, (replace(naive, kernel=rules.pup_auxiliary_kernel, up_scales=resizes),) * len(taps), taps
    mla = _mla(size, rules, to_stride_4)
    if rules.mla_auxiliary_reads == "encoder":
        return mla, (naive,) * len(taps), taps
    width = mla.neck_channels
    single = UpHeadSpec(width, width, up_scales=(), norm=False, classifier_bias=rules.mla_auxiliary_bias)
    return mla, (single,) * mla.levels, ()


def baseline_spec(
    decoder: str, encoder: str, *, num_classes: int, crop_size: tuple[int, int], miniature: bool
) -> SegmenterSpec:
    """Return the dilated FCN (stride 8, one auxiliary head) or Semantic FPN (stride 32) on a ResNet-101."""
    shrink = 8 if miniature else 1
    body = resnet(R101, miniature=miniature)
    if decoder == "semantic-fpn":
        return SegmenterSpec(
            encoder=body,
            image_size=crop_size,
            num_classes=num_classes,
            decoder=FPNSpec(body.stage_channels, channels=256 // shrink, head_channels=128 // shrink),
            main_taps=(0, 1, 2, 3),
        )
    body = replace(body, output_stride=8)
    if encoder == "r-101-bit":
        body = replace(body, name=f"{body.name}-bit", kind="bit")
    third, fourth = body.stage_channels[2:]
    return SegmenterSpec(
        encoder=body,
        image_size=crop_size,
        num_classes=num_classes,
        decoder=FCNHeadSpec(fourth, channels=512 // shrink),
        main_taps=(3,),
        auxiliary=(FCNHeadSpec(third, channels=256 // shrink, num_convs=1, concatenate=False),),
        auxiliary_taps=(2,),
        # The 769x769 models of the tables are trained and tested with aligned corners: 769 = 8 x 96 + 1.
        align_corners=all(side % 8 == 1 for side in crop_size),
    )


def resnet(full: ResNetSpec, *, miniature: bool) -> ResNetSpec:
    """Return the ResNet itself, or its miniature: a quarter of the width, the fewest blocks, stage 3 the deepest."""
    if not miniature:
        return full
    return ResNetSpec(f"{full.name}-miniature", (1, 1, 2 if full is R101 else 1, 1), base_channels=16)


def _auxiliary_taps(decoder: str, encoder: str, size: EncoderSize, rules: Flavour) -> tuple[int, ...]:
    if encoder == "t-base" and rules.base_auxiliary_layers is not None:
        return taps_of(rules.base_auxiliary_layers[decoder], size.depth, full_depth=BASE_DEPTH)
    layers = rules.pup_auxiliary_layers if decoder == "pup" else AUXILIARY_LAYERS[decoder]
    return taps_of(layers, size.depth)


def _mla(size: EncoderSize, rules: Flavour, up_scale: int) -> MLASpec:
    neck = size.embed_dim // rules.mla_neck_divisor if rules.mla_neck_divisor else size.decoder_channels
    return MLASpec(
        in_channels=size.embed_dim,
        levels=len(MAIN_LAYERS["mla"]),
        neck_channels=neck,
        inner_channels=neck if rules.mla_halves_at_last else neck // 2,
        head_channels=neck // 2,
        up_scale=up_scale,
        classifier_kernel=rules.mla_classifier_kernel,
        align_corners=rules.mla_align_corners,
    )
