"""Where an override's text goes: to the section that it names, or to the command's own."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from setr.errors import InputError
from setr.settings.overrides import apply_override
from setr.settings.written import Argument, parse


@dataclass(frozen=True)
class Inner:
    seed: int = 0
    data: str = ""


@dataclass(frozen=True)
class Outer:
    training: Inner = field(default_factory=Inner)
    data: Inner = field(default_factory=Inner)
    datasets: dict[str, Inner] = field(default_factory=dict)
    space: dict[str, Any] = field(default_factory=dict)


def applied(override: str, section: str = "", values: dict | None = None) -> dict:
    found = dict(values or {})
    apply_override(Outer, found, override, section)
    return found


@pytest.mark.parametrize(
    ("override", "section", "expected"),
    [
        ("training.seed=3", "", {"training": {"seed": Argument("3")}}),
        ("seed=3", "training", {"training": {"seed": Argument("3")}}),
        ("data=x", "training", {"training": {"data": Argument("x")}}),  # the command's own comes first
        ("space={}", "training", {"space": Argument("{}")}),
        ("unknown=1", "training", {"training": {"unknown": Argument("1")}}),
        ("unknown=1", "", {"unknown": Argument("1")}),
        ("training.seed=a=b = c", "", {"training": {"seed": Argument("a=b = c")}}),
        ("training.seed=", "", {"training": {"seed": Argument("")}}),
        ("datasets.my.set=/x", "", {"datasets": {"my.set": Argument("/x")}}),
        ("space.base_lr.low=1", "", {"space": {"base_lr": {"low": Argument("1")}}}),
    ],
)
def test_the_text_goes_to_its_setting(override: str, section: str, expected: dict) -> None:
    assert applied(override, section) == expected


@pytest.mark.parametrize("override", ["", "seed", "=3", "training.seed"])
def test_what_has_no_key_or_no_value_is_refused(override: str) -> None:
    with pytest.raises(InputError, match=r"E_CONFIG.*cannot read.*section\.key=value"):
        applied(override, "training")


def test_a_section_that_was_read_or_given_as_text_is_gone_on_with() -> None:
    file = {"training": parse("{seed: 1, data: a}", "file")}
    found = applied("training.seed=2", "", file)["training"]
    assert (found["seed"], found["data"].value) == (Argument("2"), "a")
    assert file["training"].value["seed"].value == 1, "what was read is not changed"
    given = applied("training.seed=2", "", {"training": Argument("{data: b}")})["training"]
    assert (given["seed"], given["data"].value) == (Argument("2"), "b")
    assert applied("training.seed=2", "", {"training": parse("", "file")}) == {"training": {"seed": Argument("2")}}


@pytest.mark.parametrize("there", [Argument("7"), parse("[1]", "file"), parse("7", "file")])
def test_below_a_value_there_is_no_setting(there: object) -> None:
    with pytest.raises(InputError, match=r"E_CONFIG.*training\.seed is no setting.*a value at training"):
        applied("training.seed=2", "", {"training": there})
