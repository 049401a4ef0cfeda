"""From a study's rules to the recipe and the protocol of one cell."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from setr.settings.choices import require_choice
from setr.study.protocols import RATIOS, SHORT_SIDE_RULES, Protocol, overlapping
from setr.study.recipes import Recipe, iterations
from setr.study.rules import Rule, resolved

PRINTED_RULE = "authors-2021-03"  # the reading that the tables' multi-scale numbers are scored by
KINDS = ("ss", "ms")  # protocols that every study has: single scale; multi-scale and horizontal flip


def recipe_of(
    rules: Iterable[Rule],
    *,
    data: str,
    decoder: str,
    schedule: str,
    flavour: str,
    own: Mapping[str, Any] | None = None,
) -> Recipe:
    """Returns the recipe that the rules give for these words; `own` values win over them.

    Scored and saved ten times in a training, as the released schedules are, unless that is said. Raises InputError
    where nobody published one.
    """
    found = resolved(rules, data=data, decoder=decoder, schedule=schedule, flavour=flavour) | dict(own or {})
    if schedule:
        found["iterations"] = iterations(schedule)
    made = Recipe(**{"flavour": flavour, **found})
    tenth = max(1, made.iterations // 10)
    unset: dict[str, Any] = {name: tenth for name in ("evaluate_every", "checkpoint_every") if name not in found}
    return dataclasses.replace(made, **unset)


def protocol_of(
    rules: Mapping[str, Iterable[Rule]],
    kind: str,
    recipe: Recipe | None,
    *,
    data: str,
    decoder: str,
    classes: int,
    short_side: str = PRINTED_RULE,
    own: Mapping[str, Any] | None = None,
) -> Protocol:
    """Returns the protocol of a kind (ss, ms or another that `rules` has) for these words; `own` values win.

    What the rules leave open follows from the recipe: windows of its crop, images of its base size. `short_side` is the
    reading of multi-scale scores that is asked for; another than the tables' is in the protocol's name.
    """
    require_choice("short_side rule", short_side, SHORT_SIDE_RULES)
    found = resolved(rules.get(kind, ()), data=data, decoder=decoder, short_side=short_side) | dict(own or {})
    if kind == "ms":
        found = {"ratios": RATIOS, "flip": True, "short_side": short_side} | found
    asked_rule = found.get("short_side") == PRINTED_RULE and kind == "ms"
    if asked_rule:
        found["short_side"] = short_side
    named = kind if short_side == PRINTED_RULE or not asked_rule else f"{kind}-{short_side}"
    window = tuple(found["window"]) if "window" in found else recipe.crop_size if recipe else (512, 512)
    values = {
        "name": named,
        "resize": recipe.base_size if recipe else None,
        "mode": "slide",
        "window": window,
        "stride": overlapping(window),
        **found,
    }
    return Protocol(**values, num_classes=classes)
