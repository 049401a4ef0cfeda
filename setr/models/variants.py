"""Models by name: Table 1's encoders (ENCODERS), the models of SETR's tables (VARIANTS), and what each is built of."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from setr.errors import InputError
from setr.models.decoders.decoder import Asked
from setr.models.decoders.table import DECODERS
from setr.models.flavours import FLAVOURS, flavour_rules
from setr.models.pretrained import RANDOM, WORDS, Pretrained
from setr.models.spec_json import spec_from_json, spec_to_json
from setr.models.specification import EncoderSize, ResNetSpec, SegmenterSpec
from setr.settings.choices import require_choice
from setr.settings.home import SETR
from setr.settings.written import parse_file, plain

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

RESNETS = ("r-101", "r-101-bit")
R50 = ResNetSpec("r-50", (3, 4, 6, 3))
R101 = ResNetSpec("r-101", (3, 4, 23, 3))


@dataclass(frozen=True)
class Variant:
    """A model of a study: which decoder on which encoder from which weights."""

    name: str
    decoder: str  # a row of setr.models.decoders.table
    encoder: str  # t-base | t-large | r-101 | r-101-bit
    pre: str  # R | 1K | 21K: pre-training of the transformer part (of the ResNet in the baselines), as printed
    pretrained: Pretrained | None = None
    cnn: str = ""  # Hybrid only: r-50, in the patch projection's place
    cnn_pretrained: Pretrained | None = None


def variant_of(name: str, values: Mapping[str, Any], where: str) -> Variant:
    """Returns the model that a study's words stand for; `where` is told in errors.

    Raises InputError for a part that does not exist, weights that belong to another encoder, a setting of no model.
    """
    known = ("decoder", "encoder", "weights", "printed_weights", "cnn", "cnn_weights")
    for word in values:
        require_choice(f"setting of a model in {where}", word, known)
    encoder = str(values.get("encoder", "t-base"))
    decoder = require_choice(f"decoder in {where}", str(values.get("decoder", "naive")), DECODERS)
    require_choice(f"encoder in {where}", encoder, [name for name in WORDS if name != "r-50"])
    weights = str(values.get("weights", RANDOM))
    cnn = str(values.get("cnn", ""))
    if cnn:
        require_choice(f"cnn in {where}", cnn, ("r-50",))
    on_resnet = DECODERS[decoder].output_stride > 0
    if on_resnet != (encoder in RESNETS) or (on_resnet and cnn):
        stands = ", ".join(name for name in WORDS if (name in RESNETS) == on_resnet and name != "r-50")
        found = f"{encoder} behind {cnn}" if on_resnet and cnn else encoder
        raise InputError(
            "E_MODEL",
            "the decoder does not stand on this encoder",
            where=where,
            found=f"{decoder} on {found}",
            expected=stands,
        )
    return Variant(
        name,
        decoder,
        encoder,
        str(values.get("printed_weights", weights)),
        _weights(encoder, weights, where),
        cnn,
        _weights(cnn, str(values.get("cnn_weights", "1K")), where) if cnn else None,
    )


def composed(name: str) -> Variant | None:
    """Returns the model that a name made of parts stands for, <decoder>-<encoder>-<weights>[-<cnn>]; None if none does.

    mla-t-large-1K and naive-t-base-21K-r-50 are such names. Parts that a table has together are its model.
    """
    match = _COMPOSED.fullmatch(name)
    if match is None:
        return None
    parts = {word: part for word, part in match.groupdict().items() if part}
    made = variant_of(name, parts, name)
    return next((row for row in VARIANTS.values() if replace(row, name=name, pre=made.pre) == made), made)


def _weights(encoder: str, word: str, where: str) -> Pretrained | None:
    if word == RANDOM:
        return None
    require_choice(f"weights of {encoder} in {where}", word, (RANDOM, *WORDS[encoder]))
    return WORDS[encoder][word]


def _rows() -> dict[str, Variant]:
    """Returns the models of SETR's tables."""
    models = plain(parse_file(SETR).value["models"])
    return {name: variant_of(name, values, f"models.{name}") for name, values in models.items()}


VARIANTS: dict[str, Variant] = _rows()
_COMPOSED = re.compile(
    rf"(?P<decoder>{'|'.join(sorted(DECODERS, key=len, reverse=True))})"
    r"-(?P<encoder>t-base|t-large|r-101-bit|r-101)-(?P<weights>R|1K|21K)(-(?P<cnn>r-50))?"
)


def variant_spec(
    variant: str | Variant,
    *,
    num_classes: int,
    crop_size: tuple[int, int],
    scale: str = "paper",
    flavour: str = "authors",
    sizes: EncoderSize | None = None,
    drop_path: float = 0.0,
) -> SegmenterSpec:
    """Return the spec that `build_model` builds."""
    row = variant if isinstance(variant, Variant) else VARIANTS[require_choice("variant", variant, VARIANTS)]
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
    if row.cnn:
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
