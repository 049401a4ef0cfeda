"""YAML keeps what was written beside what it means, and only values that a setting can have are read."""

import math
from typing import Any

import pytest

from setr.errors import InputError
from setr.settings.written import MAX_CHARACTERS, MAX_DEPTH, Argument, Written, parse, plain


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024", 2024),
        ("-3", -3),
        ("1_000", 1000),
        ("1.5e-3", 0.0015),
        (".5", 0.5),
        ("1e-3", "1e-3"),
        ("010", "010"),
        ("0x10", "0x10"),
        ("12:30:00", "12:30:00"),
        ("2024-01-02", "2024-01-02"),
        ("no", False),
        ("On", True),
        ("~", None),
        ("null", None),
        ("'no'", "no"),
        ('"7"', "7"),
        ("<<", "<<"),
        ("9999999999999999999", 9999999999999999999),
    ],
)
def test_a_scalar_means_one_thing_and_keeps_its_text(text: str, value: object) -> None:
    found = parse(text, "file")
    assert found is not None
    assert type(found.value) is type(value)
    assert found == Written(text.strip("'\""), value)


def test_infinity_and_nan_are_numbers() -> None:
    values = [parse(text, "file") for text in (".inf", "-.INF", ".nan")]
    numbers = [found.value for found in values if found]
    assert numbers[:2] == [math.inf, -math.inf]
    assert math.isnan(numbers[2])


def test_lists_and_mappings_keep_their_text_on_one_line_only() -> None:
    found = parse("a: [1, no]\nb: {c: x}\n", "file")
    assert found is not None
    assert found.text is None
    assert [found.value[name].text for name in "ab"] == ["[1, no]", "{c: x}"]
    assert plain(found) == {"a": [1, False], "b": {"c": "x"}}
    assert parse("", "file") is None
    assert parse("# a remark\n", "file") is None


def test_plain_takes_the_text_off_everything() -> None:
    value: Any = {"a": Argument("1"), "b": [Written("no", False), 3], "c": (1,)}
    assert plain(value) == {"a": "1", "b": [False, 3], "c": (1,)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: *b", r"alias.*\*b"),
        ("a: &b [*b]", "alias"),
        ("!!python/object/apply:os.system [ls]", "tag"),
        ("a: !!int x", "tag"),
        ("a: 1\na: 2", "a stands twice"),
        ("{[1]: 2}", "a key that is no text"),
        ("a: [", "not YAML"),
        ("a\0b", "not YAML"),
        ("a: 1\n--- \nb: 2", "not YAML"),
        ("9" * 20, "64 bits"),
        ("x" * (MAX_CHARACTERS + 1), "too long"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "too deep"),
    ],
)
def test_everything_else_is_refused_in_one_line_with_its_place(text: str, said: str) -> None:
    with pytest.raises(InputError, match=rf"^E_CONFIG.*{said}") as caught:
        parse(text, "the file")
    assert "the file" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_line_of_a_mistake_is_named() -> None:
    with pytest.raises(InputError, match="the file, line 3"):
        parse("a: 1\nb: 2\na: 3", "the file")


def test_the_deepest_nesting_that_is_allowed_is_read() -> None:
    assert plain(parse("[" * MAX_DEPTH + "]" * MAX_DEPTH, "file")) == eval("[" * MAX_DEPTH + "]" * MAX_DEPTH)
