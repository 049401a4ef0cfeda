"""Values that depend on words: rules in order, each of which holds where all of its conditions fit."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from setr.errors import InputError

# What a rule may depend on.
OF_RECIPES = ("data", "decoder", "flavour", "schedule")
OF_PROTOCOLS = ("data", "decoder", "short_side")


@dataclass(frozen=True)
class Rule:
    """Values that hold under conditions."""

    values: Mapping[str, Any]
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # condition -> the words that fit
    refused: str = ""  # why nothing exists under these conditions; "": it does

    def fits(self, words: Mapping[str, str]) -> bool:
        """Returns whether every condition is met by the words given."""
        return all(words.get(name, "") in allowed for name, allowed in self.when.items())


Rules = tuple[Rule, ...]


def resolved(rules: Iterable[Rule], **words: str) -> dict[str, Any]:
    """Returns the values of all rules that fit, later ones over earlier ones.

    Raises InputError where a rule that fits says why there is nothing.
    """
    found: dict[str, Any] = {}
    for rule in rules:
        if rule.fits(words):
            if rule.refused:
                where = " ".join(word for word in words.values() if word)
                raise InputError("E_RECIPE", rule.refused, where=where, remedy="use another flavour")
            found |= rule.values
    return found
