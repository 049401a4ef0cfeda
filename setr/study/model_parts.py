"""Models as a study's file has them: by their parts, or as a grid of parts."""

import dataclasses
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from setr.models.own_code import read_source
from setr.models.variants import Variant, variant_of
from setr.study.part import StudyPart
from setr.study.recipes import Recipe
from setr.study.rule_parts import recipe_changes

_RECIPE = {entry.name for entry in dataclasses.fields(Recipe)}


def model_of(name: str, part: StudyPart, folder: Path | None) -> Variant:
    """Returns a model; `folder` is what paths in it are relative to. Raises InputError for parts that do not exist.

    None: the files of decoders of one's own are not looked for.
    """
    made = _made(name, {word: entry.plain() for word, entry in part.entries().items()}, part.place, folder)
    return dataclasses.replace(made, line=part.written.line)


def _made(name: str, values: Mapping[str, Any], where: str, folder: Path | None) -> Variant:
    decoder = str(values.get("decoder", ""))
    own = read_source(decoder, folder) if ":" in decoder and folder is not None else None
    return variant_of(name, values, where, own)


def grid_rows(part: StudyPart, folder: Path | None) -> list[tuple[Variant, dict[str, Any]]]:
    """Returns the models that a grid of parts makes, each with its changes of the recipe; `model` is what they share.

    {decoder: [naive, pup], encoder: [t-base, t-large], base_lr: [0.01, 0.02]} makes eight.
    """
    axes = part.entries()
    shared = axes.pop("model").plain() if "model" in axes else {}
    choices = {name: axis.each() for name, axis in axes.items()}
    if not choices or not all(choices.values()):
        part.mistake("a grid without choices", expected="{decoder: [naive, pup], encoder: [t-base, t-large]}")
        return []
    found = []
    for chosen in itertools.product(*choices.values()):
        values = dict(zip(choices, chosen, strict=True))
        name = "-".join(_word(value) for value in values.values())
        with part.telling():
            parts = {word: value.plain() for word, value in values.items() if word not in _RECIPE}
            changes = recipe_changes({word: value for word, value in values.items() if word in _RECIPE})
            found.append((_made(name, {**shared, **parts}, part.place, folder), changes))
    return found


def _word(part: StudyPart) -> str:
    """Returns a choice as it stands in a row's name."""
    text = part.written.text or "-".join(map(str, part.each()))
    return re.sub(r"[^\w.+]+", "-", text.rpartition(":")[2]).strip("-")
