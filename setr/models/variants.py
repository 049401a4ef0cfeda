"""The rows of the paper's tables by name: Table 1's encoders (ENCODERS), the models (VARIANTS), and their specs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from setr.errors import InputError
from setr.models.decoders.decoder import Asked
from setr.models.decoders.table import DECODERS
from setr.models.flavours import FLAVOURS, flavour_rules
from setr.models.spec_json import spec_from_json, spec_to_json
from setr.models.specification import EncoderSize, ResNetSpec, SegmenterSpec
from setr.settings.choices import require_choice

SCALES = ("paper", "miniature")

ENCODERS: dict[str, EncoderSize] = {
    "t-base": EncoderSize("t-base", embed_dim=768, depth=12, num_heads=12),
    "t-large": EncoderSize("t-large", embed_dim=1024, depth=24, num_heads=16),
}

# Same structure, for two CPU cores: T-Large stays deeper and wider than T-Base, and each layer that a decoder reads
# stays a different one.
MINIATURES: dict[str, EncoderSize] = {
    "t-base": EncoderSize("t-base-miniature", 64, depth=4, num_heads=2, patch_size=8, decoder_channels=32),
    "t-large": EncoderSize("t-large-miniature", 96, depth=6, num_heads=3, patch_size=8, decoder_channels=32),
}

R50 = ResNetSpec("r-50", (3, 4, 6, 3))
R101 = ResNetSpec("r-101", (3, 4, 23, 3))


@dataclass(frozen=True)
class Pretrained:
    """Published weights an encoder or CNN starts from: timm's name and, where it differs, the file used at the time."""

    timm_name: str
    file: str = ""  # the published file, with the start of its SHA-256
    exact: bool = True  # False: the nearest that timm has by name; `file` is what the paper's authors used
    note: str = ""


VIT_BASE_21K = Pretrained("vit_base_patch16_384.orig_in21k_ft_in1k", "jx_vit_base_p16_384-83fb41ba.pth")
VIT_LARGE_21K = Pretrained(
    "vit_large_patch16_384.augreg_in21k_ft_in1k",
    "jx_vit_large_p16_384-b3be5167.pth",
    exact=False,
    note="timm names only the AugReg weights of this size; the authors' file is given by path",
)
DEIT_BASE_1K = Pretrained("deit_base_distilled_patch16_384.fb_in1k", "deit_base_distilled_patch16_384-d0272ac0.pth")
RESNET50_1K = Pretrained("resnet50c.gluon_in1k", "gluon_resnet50_v1c-48092f55.pth")
RESNET101_1K = Pretrained("resnet101c.gluon_in1k", "gluon_resnet101_v1c-1f26822a.pth")
RESNET101_21K = Pretrained(
    "resnetv2_101x1_bit.goog_in21k",
    exact=False,
    note="the paper's own ResNet-101 21k weights are not released; Big Transfer's are the nearest",
)


@dataclass(frozen=True)
class Variant:
    """One row of the tables: which decoder on which encoder from which weights."""

    name: str
    decoder: str  # a row of setr.models.decoders.table
    encoder: str  # t-base | t-large | r-101 | r-101-bit
    pre: str  # R | 1K | 21K: pre-training of the transformer part (of the ResNet in the baselines), as printed
    pretrained: Pretrained | None = None
    cnn_pretrained: Pretrained | None = None  # Hybrid only: its ResNet-50 always starts from ImageNet-1k


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("fcn", "fcn", "r-101", "1K", RESNET101_1K),
        Variant("fcn-21k", "fcn", "r-101-bit", "21K", RESNET101_21K),
        Variant("semantic-fpn", "semantic-fpn", "r-101", "1K", RESNET101_1K),
        Variant("hybrid-base-random", "naive", "t-base", "R", None, RESNET50_1K),
        Variant("hybrid-base", "naive", "t-base", "21K", VIT_BASE_21K, RESNET50_1K),
        # Printed as 21K in Table 2; DeiT's weights are ImageNet-1k everywhere else in the paper.
        Variant("hybrid-deit", "naive", "t-base", "21K", DEIT_BASE_1K, RESNET50_1K),
        Variant("setr-naive", "naive", "t-large", "21K", VIT_LARGE_21K),
        Variant("setr-mla", "mla", "t-large", "21K", VIT_LARGE_21K),
        Variant("setr-pup", "pup", "t-large", "21K", VIT_LARGE_21K),
        Variant("setr-pup-random", "pup", "t-large", "R"),
        Variant("setr-naive-base", "naive", "t-base", "21K", VIT_BASE_21K),
        Variant("setr-mla-base", "mla", "t-base", "21K", VIT_BASE_21K),
        Variant("setr-pup-base", "pup", "t-base", "21K", VIT_BASE_21K),
        Variant("setr-naive-deit", "naive", "t-base", "1K", DEIT_BASE_1K),
        Variant("setr-mla-deit", "mla", "t-base", "1K", DEIT_BASE_1K),
        Variant("setr-pup-deit", "pup", "t-base", "1K", DEIT_BASE_1K),
    )
}


def variant_spec(
    variant: str,
    *,
    num_classes: int,
    crop_size: tuple[int, int],
    scale: str = "paper",
    flavour: str = "authors",
    sizes: EncoderSize | None = None,
    drop_path: float = 0.0,
) -> SegmenterSpec:
    """Return the spec that `build_model` builds."""
    row = VARIANTS[require_choice("variant", variant, VARIANTS)]
    miniature = require_choice("scale", scale, SCALES) == "miniature"
    rules = flavour_rules(require_choice("flavour", flavour, FLAVOURS))
    if num_classes < 2:
        raise InputError("E_CLASSES", "num_classes is too small", found=num_classes, expected="2 or more")
    decoder = DECODERS[require_choice("decoder", row.decoder, DECODERS)]
    if decoder.output_stride:
        # The baselines are mmsegmentation's own in every flavour.
        body = replace(resnet(R101, miniature=miniature), output_stride=decoder.output_stride)
        if row.encoder == "r-101-bit":
            body = replace(body, name=f"{body.name}-bit", kind="bit")
        heads = decoder.heads(Asked(row.encoder, body, rules, num_classes, crop_size, miniature))
        return SegmenterSpec(
            encoder=body,
            image_size=crop_size,
            num_classes=num_classes,
            decoder=heads.decoder,
            main_taps=decoder.taps(len(body.blocks)),
            auxiliary=heads.auxiliary,
            auxiliary_taps=heads.auxiliary_taps,
            align_corners=heads.align_corners,
        )
    size = sizes or (MINIATURES if miniature else ENCODERS)[row.encoder]
    heads = decoder.heads(Asked(row.encoder, size, rules, num_classes, crop_size, miniature))
    cnn = None
    if row.cnn_pretrained is not None:
        cnn = replace(resnet(R50, miniature=miniature), output_stride=size.patch_size)
    return SegmenterSpec(
        encoder=size,
        image_size=crop_size,
        num_classes=num_classes,
        decoder=heads.decoder,
        main_taps=decoder.taps(size.depth),
        auxiliary=heads.auxiliary,
        auxiliary_taps=heads.auxiliary_taps,
        cnn=cnn,
        flavour=flavour,
        align_corners=heads.align_corners,
        drop_path=drop_path,
    )


def resnet(full: ResNetSpec, *, miniature: bool) -> ResNetSpec:
    """Return the ResNet itself, or its miniature: a quarter of the width, the fewest blocks, stage 3 the deepest."""
    if not miniature:
        return full
    return ResNetSpec(f"{full.name}-miniature", (1, 1, 2 if full is R101 else 1, 1), base_channels=16)


def decoder_of_variant(variant: str) -> str:
    """Returns the decoder of a row of the tables: naive, pup, mla, ..."""
    return VARIANTS[require_choice("variant", variant, VARIANTS)].decoder


def structure_record(spec: SegmenterSpec) -> dict[str, Any]:
    """Returns a model's structure as an experiment keeps it: JSON values, with the style of its random start."""
    return {**spec_to_json(spec), "initialisation": flavour_rules(spec.flavour).initialisation}


def structure_of(record: Mapping[str, Any]) -> tuple[SegmenterSpec, str]:
    """Returns spec and style of the random start from what `structure_record` returned.

    Raises InputError for a record that is none.
    """
    try:
        spec = spec_from_json({name: value for name, value in record.items() if name != "initialisation"})
        if isinstance(spec, SegmenterSpec):
            return spec, str(record["initialisation"])
    except (TypeError, KeyError, ValueError):
        pass
    raise InputError("E_EXPERIMENT", "the model's structure cannot be read", found=sorted(record))


def structure_parts(record: Mapping[str, Any]) -> frozenset[str]:
    """Returns the kinds of records that a structure is made of: what its code hash takes of the tables of parts."""
    kinds = {str(record["type"])} if "type" in record else set()
    for value in record.values():
        for entry in value if isinstance(value, list) else [value]:
            kinds |= structure_parts(entry) if isinstance(entry, Mapping) else set()
    return frozenset(kinds)
