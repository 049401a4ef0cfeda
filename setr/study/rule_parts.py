"""Rules as a study's file has them, and the recipes, protocols and models that it takes from other studies."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setr.models.variants import Variant
from setr.settings.config import check_recipe
from setr.settings.strict import checked
from setr.study.part import StudyPart
from setr.study.protocols import Protocol
from setr.study.recipes import Recipe
from setr.study.rules import OF_PROTOCOLS, OF_RECIPES, Rule, Rules

if TYPE_CHECKING:
    from setr.study.records import Study

Changes = Callable[[Mapping[str, StudyPart]], dict[str, Any]]
_RECIPE = tuple(entry.name for entry in fields(Recipe) if entry.name != "flavour")
_PROTOCOL = tuple(entry.name for entry in fields(Protocol) if entry.name != "num_classes")


def recipe_changes(parts: Mapping[str, StudyPart]) -> dict[str, Any]:
    """Returns fields of a recipe, each checked on its own."""
    found: dict[str, Any] = {}
    for name, part in parts.items():
        if name not in _RECIPE:
            part.unknown("setting of a recipe", name, _RECIPE)
            continue
        with part.telling():
            value = checked(Recipe, name, part.written, "")
            Recipe(**{name: value})  # the words
            check_recipe({name: value}, "recipe")
            found[name] = value
    return found


def scoring_changes(parts: Mapping[str, StudyPart]) -> dict[str, Any]:
    """Returns fields of a protocol, each checked on its own."""
    found: dict[str, Any] = {}
    neutral = {"name": "ss", "resize": None, "mode": "slide", "window": (8, 8), "stride": (8, 8), "num_classes": 2}
    for name, part in parts.items():
        if name not in _PROTOCOL:
            part.unknown("setting of a protocol", name, _PROTOCOL)
            continue
        with part.telling():
            found[name] = checked(Protocol, name, part.written, "")
            Protocol(**{**neutral, name: found[name]})  # the words
    return found


class Included:
    """What a study takes from others: those that it includes, and recipes by `<study>/<name>`."""

    def __init__(self, name: str, part: StudyPart | None, folder: Path, find: Callable[[str, Path], "Study"]) -> None:
        """Opens the studies named in `include`; what is wrong with that is noted there."""
        self.name, self.folder, self.find = name, folder, find
        self.models: dict[str, Variant] = {}
        self.recipes: dict[str, Rules] = {}
        self.protocols: dict[str, Rules] = {}
        for entry in [] if part is None else part.each():
            with entry.telling():
                other = find(entry.text(), folder)
                self.models |= other.models
                self.recipes |= other.recipes
                self.protocols |= other.protocols

    def usual(self, data: str, own: Collection[str], *, base: bool) -> str:
        """Returns the recipe of a column that names none: the study's own of its data set's name, else the study's.

        One that is included, of the data set's name, comes last; "" is the study's.
        """
        return data if data in own or (not base and data in self.recipes) else ""

    def take(self, part: StudyPart, name: str, known: dict[str, Rules]) -> None:
        """Puts the recipe of a name into those known; notes a mistake at the part if there is none."""
        known[name] = self.rules(part, name, known)

    def rules(self, part: StudyPart, name: str, known: Mapping[str, Rules]) -> Rules:
        """Returns the rules of a name: the study's own, those of an included one, or <study>/<name>."""
        if name in known:
            return known[name]
        if name in self.recipes:
            return self.recipes[name]
        study, separator, word = name.partition("/")
        if not separator:
            part.unknown("recipe", name, {**known, **self.recipes}, remedy="setr/cityscapes is one")
            return ()
        with part.telling():
            other = self.find(study, self.folder)
            if word in other.recipes:
                return other.recipes[word]
            part.unknown(f"recipe of {study}", word, other.recipes)
        return ()


def rules_of(
    parts: Iterable[StudyPart], included: Included, changes: Changes, known: Mapping[str, Rules] | None = None
) -> Rules:
    """Returns the rules in a list of parts, those that they begin from in their place."""
    found: list[Rule] = []
    for part in parts:
        if not part.is_mapping:
            name = part.text()
            found += included.rules(part, name, known or {})
            continue
        entries = part.entries()
        if "from" in entries:
            found += included.rules(entries["from"], entries["from"].text(), known or {})
        known_words = OF_RECIPES if changes is recipe_changes else OF_PROTOCOLS
        conditions = entries["when"].entries(known_words) if "when" in entries else {}
        when = {name: entry.texts() for name, entry in conditions.items()}
        refused = entries["refused"].text() if "refused" in entries else ""
        own = {name: entry for name, entry in entries.items() if name not in ("from", "when", "refused")}
        if own or refused:
            found.append(Rule(changes(own), when, refused))
    return tuple(found)
