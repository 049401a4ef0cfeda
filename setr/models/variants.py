"""Models by name: Table 1's encoders (ENCODERS), the models of SETR's tables (VARIANTS), and what each is built of."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from setr.errors import InputError
from setr.models.decoders.asking import heads_for, taps_named, with_auxiliary
from setr.models.decoders.decoder import Asked, Heads
from setr.models.decoders.table import DECODERS
from setr.models.flavours import FLAVOURS, flavour_rules
from setr.models.own_code import OwnCode
from setr.models.own_head import own_head
from setr.models.pretrained import RANDOM, WORDS, Pretrained
from setr.models.spec_json import spec_from_json, spec_to_json
from setr.models.specification import EncoderSize, ResNetSpec, SegmenterSpec, TimmSpec
from setr.models.timm_miniatures import miniature_options
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
TIMM = "timm:"  # before timm's name of an encoder
MAPS_READ = 4  # by a decoder of one's own that does not say which
# Words of a model; others are options of its decoder.
PARTS = (
    *("decoder", "encoder", "weights", "printed_weights", "cnn", "cnn_weights"),
    *("layers", "auxiliary", "frozen", "encoder_options", "miniature"),
)
R50 = ResNetSpec("r-50", (3, 4, 6, 3))
R101 = ResNetSpec("r-101", (3, 4, 23, 3))


@dataclass(frozen=True)
class Variant:
    """A model of a study: which decoder on which encoder from which weights."""

    name: str
    decoder: str  # a row of setr.models.decoders.table, or the source of one's own: mine.py:ConcatHead
    encoder: str  # t-base | t-large | r-101 | r-101-bit | timm:<name>
    pre: str  # R | 1K | 21K | timm's tag: pre-training of the transformer part (else of the ResNet), as printed
    pretrained: Pretrained | None = None
    cnn: str = ""  # Hybrid only: r-50, in the patch projection's place
    cnn_pretrained: Pretrained | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)  # of the decoder, by name
    layers: tuple[int, ...] | None = None  # that it reads, from 1; None: its own choice
    auxiliary: Any = field(default=None, hash=False)  # heads, as setr.models.decoders.asking takes them
    frozen: bool = False  # the heads alone are trained
    encoder_options: Mapping[str, Any] = field(default_factory=dict, hash=False)  # for timm.create_model
    miniature: Mapping[str, Any] | None = field(default=None, hash=False)  # the same in miniature; None: its family's
    own: OwnCode | None = field(default=None, repr=False)  # the text of a decoder of one's own
    line: int = field(default=0, compare=False)  # of its study's file

    @property
    def timm(self) -> str:
        """Returns timm's name of the encoder, "" for one of the paper's."""
        return self.encoder.removeprefix(TIMM) if self.encoder.startswith(TIMM) else ""


def variant_of(name: str, values: Mapping[str, Any], where: str, own: OwnCode | None = None) -> Variant:
    """Returns the model that a study's words stand for; `where` is told in errors, `own` is its decoder's text.

    Words that are no part of a model are its decoder's options. Raises InputError for a part that does not exist,
    weights that belong to another encoder, a decoder that does not stand on the encoder.
    """
    encoder, decoder = str(values.get("encoder", "t-base")), str(values.get("decoder", "naive"))
    if own is None and ":" not in decoder:
        require_choice(f"decoder in {where}", decoder, DECODERS)
    if not encoder.startswith(TIMM):
        require_choice(f"encoder in {where}", encoder, [name for name in WORDS if name != "r-50"])
    cnn = str(values.get("cnn", ""))
    if cnn:
        require_choice(f"cnn in {where}", cnn, ("r-50",))
    _require_stand(decoder, encoder, cnn, where)
    if not isinstance(values.get("frozen", False), bool):
        raise InputError("E_MODEL", "frozen", where=where, found=values["frozen"], expected="true or false")
    if not encoder.startswith(TIMM) and (wrong := {"encoder_options", "miniature"} & values.keys()):
        what = f"{min(wrong)} is for encoders of timm"
        raise InputError("E_MODEL", what, where=where, found=encoder, expected="timm:<name>")
    weights = str(values.get("weights", encoder.rpartition(".")[2] if encoder.startswith(TIMM) else RANDOM))
    layers = values.get("layers")
    return Variant(
        name,
        own.source if own is not None else decoder,
        encoder,
        str(values.get("printed_weights", weights)),
        _weights(encoder, weights, where),
        cnn,
        _weights(cnn, str(values.get("cnn_weights", "1K")), where) if cnn else None,
        options={word: value for word, value in values.items() if word not in PARTS},
        layers=None if layers is None else tuple(layers) if isinstance(layers, list) else (layers,),
        auxiliary=values.get("auxiliary"),
        frozen=bool(values.get("frozen", False)),
        encoder_options=dict(values.get("encoder_options") or {}),
        miniature=values.get("miniature"),
        own=own,
    )


def _require_stand(decoder: str, encoder: str, cnn: str, where: str) -> None:
    """Raises InputError for a baseline's decoder on another encoder than its ResNet, and SETR's on a ResNet."""
    if decoder not in DECODERS:
        return
    on_resnet, plain = DECODERS[decoder].output_stride > 0, decoder in ("naive", "pup", "mla")
    wrong = (on_resnet and (encoder not in RESNETS or bool(cnn))) or (plain and encoder in RESNETS)
    if wrong or (cnn and not encoder.startswith("t-")):
        stands = ", ".join(name for name in WORDS if (name in RESNETS) == on_resnet and name != "r-50")
        found = f"{encoder} behind {cnn}" if cnn else encoder
        what = "the decoder does not stand on this encoder"
        raise InputError("E_MODEL", what, where=where, found=f"{decoder} on {found}", expected=stands)


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
    if encoder.startswith(TIMM):
        name, tag = encoder.removeprefix(TIMM), encoder.rpartition(".")[2]
        if word != tag and "." not in word:
            expected = f"R, {tag}, or another of timm's names with its tag"
            raise InputError("E_WEIGHTS", "no weights of timm's", where=where, found=word, expected=expected)
        return Pretrained(name if word == tag else word.removeprefix(TIMM))
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
    body = encoder_of(row, miniature=miniature)
    body = sizes if sizes is not None and isinstance(body, EncoderSize) else body
    asked = Asked(row.encoder, body, rules, num_classes, crop_size, miniature)
    heads, taps = _heads(row, asked)
    baseline = isinstance(body, ResNetSpec)
    cnn = None
    if row.cnn and isinstance(body, EncoderSize):
        cnn = replace(resnet(R50, miniature=miniature), output_stride=body.patch_size)
    return SegmenterSpec(
        encoder=body,
        image_size=crop_size,
        num_classes=num_classes,
        decoder=heads.decoder,
        main_taps=taps,
        auxiliary=heads.auxiliary,
        auxiliary_taps=heads.auxiliary_taps,
        cnn=cnn,
        # The baselines are mmsegmentation's own in every flavour.
        flavour="authors" if baseline else flavour,
        align_corners=heads.align_corners,
        drop_path=0.0 if baseline else drop_path,
        frozen=row.frozen,
    )


def encoder_of(row: Variant, *, miniature: bool) -> EncoderSize | ResNetSpec | TimmSpec:
    """Returns the encoder of a model at one scale."""
    if row.timm:
        own = row.miniature if miniature else row.encoder_options
        if own is None:
            return TimmSpec(row.timm, miniature_options(row.timm))
        return TimmSpec(row.timm, tuple(sorted((name, _tuple(value)) for name, value in own.items())))
    if row.encoder not in RESNETS:
        return (MINIATURES if miniature else ENCODERS)[row.encoder]
    stride = DECODERS[row.decoder].output_stride if row.decoder in DECODERS else 0
    body = replace(resnet(R101, miniature=miniature), output_stride=stride or 32)
    return replace(body, name=f"{body.name}-bit", kind="bit") if row.encoder == "r-101-bit" else body


def _heads(row: Variant, asked: Asked) -> tuple[Heads, tuple[int, ...]]:
    if ":" not in row.decoder:
        return heads_for(row.decoder, asked, options=row.options, layers=row.layers, auxiliary=row.auxiliary)
    taps = asked.reading(MAPS_READ) if row.layers is None else taps_named(row.decoder, asked, row.layers, None)
    asked = replace(asked, taps=taps)
    heads = Heads(own_head(row.decoder, asked.channels_in(taps), row.options))
    return with_auxiliary(row.decoder, asked, heads, row.auxiliary), taps


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value


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
