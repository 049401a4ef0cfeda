"""A decoder as a model asks for it: by name, on any encoder, with its options, layers and auxiliary heads."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from setr.errors import InputError
from setr.models.decoders import fcn
from setr.models.decoders.decoder import Asked, Decoder, Heads
from setr.models.decoders.fcn import FCN
from setr.models.decoders.options import with_options
from setr.models.decoders.table import DECODERS
from setr.models.specification import HeadSpec
from setr.settings.choices import require_choice

Auxiliary = Sequence[Mapping[str, Any]] | bool | None
LAYER, DECODER = "layer", "decoder"  # keys of an auxiliary head, beside its options


def heads_for(
    decoder: str,
    asked: Asked,
    *,
    options: Mapping[str, Any],
    layers: Sequence[int] | None,
    auxiliary: Auxiliary,
) -> tuple[Heads, tuple[int, ...]]:
    """Returns a decoder with its auxiliary heads, and the layers or stages, from 0, that it reads.

    `options` are fields of its spec by name. `layers` count from 1 (None: the decoder's choice). `auxiliary`: None or
    True take the decoder's own heads (True refuses a decoder that has none), False none; else one mapping a head:
    `layer` (from 1), `decoder` (of one layer; fcn unless said), and that decoder's options. Raises InputError.
    """
    row = DECODERS[require_choice("decoder", decoder, DECODERS)]
    asked = replace(asked, taps=() if layers is None else _taps(row, asked, layers))
    taps = row.taps_on(asked)
    asked = replace(asked, taps=taps)
    made = row.heads(asked)
    main = with_options(decoder, made.decoder, options)
    if asked.facts.pyramid and getattr(main, "pyramid", "none") != "none":
        raise InputError(
            "E_OPTION",
            "a pyramid is made of a plain transformer's layers, and the encoder has stages",
            where=f"{decoder}: pyramid",
            found=options.get("pyramid"),
            expected="none",
        )
    if options and not row.has(main):
        raise InputError("E_OPTION", "with these options it is another decoder", where=decoder, found=dict(options))
    return with_auxiliary(row.name, asked, row.agreed(replace(made, decoder=main)), auxiliary), taps


def _taps(row: Decoder, asked: Asked, layers: Sequence[int]) -> tuple[int, ...]:
    number = len(row.layers)
    free = row.any_number or (asked.facts.pyramid and number > 1)
    return taps_named(row.name, asked, layers, None if free else number)


def taps_named(name: str, asked: Asked, layers: Sequence[int], number: int | None) -> tuple[int, ...]:
    """Returns the block indices or stages of `layers`, as many as `number` (None: any).

    Raises InputError for what cannot be read.
    """
    there = len(asked.facts.channels)
    valid = (
        not isinstance(layers, str)
        and all(isinstance(layer, int) and not isinstance(layer, bool) and 1 <= layer <= there for layer in layers)
        and list(layers) == sorted(set(layers))
        and len(layers) > 0
    )
    if not valid or (number is not None and len(layers) != number):
        what = "stages" if asked.facts.pyramid else "layers"
        raise InputError(
            "E_LAYERS",
            f"{what} that this decoder cannot read",
            where=f"{name} on {asked.encoder.name}",
            found=list(layers),
            expected=f"{'one or more' if number is None else number} of 1 to {there}, each once, shallow first",
        )
    return tuple(layer - 1 for layer in layers)


def with_auxiliary(name: str, asked: Asked, heads: Heads, auxiliary: Auxiliary) -> Heads:
    """Returns a decoder with the auxiliary heads that are asked for, in the place of its own."""
    if auxiliary is False:
        return replace(heads, auxiliary=(), auxiliary_taps=(), reads_neck=False)
    if auxiliary is True and not heads.auxiliary:
        raise InputError(
            "E_AUXILIARY",
            "this decoder has no auxiliary heads of its own",
            where=name,
            remedy="say where they stand: auxiliary: [{layer: 9}]",
        )
    if auxiliary is None or auxiliary is True:
        return _own(asked, heads)
    if isinstance(auxiliary, str | Mapping) or not all(isinstance(head, Mapping) for head in auxiliary):
        raise InputError(
            "E_AUXILIARY",
            "auxiliary heads that are none",
            where=name,
            found=auxiliary,
            expected="true, false, or a list such as [{layer: 9}]",
        )
    made = sorted((_auxiliary_head(asked, head) for head in auxiliary), key=lambda entry: entry[1])
    return replace(
        heads,
        auxiliary=tuple(spec for spec, _ in made),
        auxiliary_taps=tuple(tap for _, tap in made),
        reads_neck=False,
    )


def _own(asked: Asked, heads: Heads) -> Heads:
    """Returns the decoder's own auxiliary heads, none deeper than what it reads."""
    if heads.reads_neck:
        return heads
    pairs = zip(heads.auxiliary, heads.auxiliary_taps, strict=True)
    kept = [(head, tap) for head, tap in pairs if tap <= max(asked.taps)]
    return replace(heads, auxiliary=tuple(head for head, _ in kept), auxiliary_taps=tuple(tap for _, tap in kept))


def _auxiliary_head(asked: Asked, record: Mapping[str, Any]) -> tuple[HeadSpec, int]:
    allowed = [name for name, row in DECODERS.items() if len(row.layers) == 1]
    row = DECODERS[require_choice("decoder of an auxiliary head", str(record.get(DECODER, FCN.name)), allowed)]
    if LAYER not in record:
        raise InputError(
            "E_AUXILIARY", "an auxiliary head without a layer", found=dict(record), expected="such as {layer: 9}"
        )
    (tap,) = _taps(replace(row, any_number=False), asked, [record[LAYER]])
    here = replace(asked, taps=(tap,))
    spec = fcn.auxiliary(here, (tap,))[0] if row is FCN else row.heads(here).decoder
    options = {name: value for name, value in record.items() if name not in (LAYER, DECODER)}
    return with_options(row.name, spec, options), tap
