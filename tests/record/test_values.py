"""A value of a record is of its type, finite, of a sane size and fit to print, or it is named in one line."""

import re
from pathlib import Path
from typing import Any

import pytest

from setr.errors import InputError
from setr.record.values import HASH, NAME, mapping, number, optional, place, plain, sequence, text, whole


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


GOOD = [
    (text, "a é", {}, "a é"),
    (text, "a\tb\nc", {"lines": True}, "a\tb\nc"),
    (text, "f" * 64, {"pattern": HASH}, "f" * 64),
    (text, "SETR-PUP 1.0", {"pattern": NAME}, "SETR-PUP 1.0"),
    (number, 3, {}, 3),
    (number, 0.5, {"low": 0.5, "high": 0.5}, 0.5),
    (whole, 0, {}, 0),
    (whole, 2**53, {}, 2**53),
    (mapping, {"a": 1}, {}, {"a": 1}),
    (sequence, (1, 2), {"length": 2}, [1, 2]),
    (plain, {"a": [None, True, 1, 0.5, "x\ny"]}, {}, {"a": [None, True, 1, 0.5, "x\ny"]}),
    (plain, nested(12), {}, nested(12)),
    (place, "checkpoints/a..b", {}, "checkpoints/a..b"),
    (place, Path("/tmp/x"), {}, "/tmp/x"),
]
BAD = [
    *((text, value, {}) for value in (None, 1, b"a", "a\nb", "\x1b[31m", "\u202e", "x" * 2001)),
    (text, "a\x1bb", {"lines": True}),
    *((text, value, {"pattern": HASH}) for value in ("F" * 64, "f" * 63, "f" * 64 + "\n", "")),
    *((text, value, {"pattern": NAME}) for value in (".hidden", "a/b", "", "-x")),
    *((number, value, {}) for value in (True, "1", None, float("nan"), float("inf"), -float("inf"))),
    *((number, value, {"low": 0.0, "high": 100.0}) for value in (-0.1, 100.1)),
    *((whole, value, {}) for value in (-1, 2**53 + 1, 1.0, True, "1", None)),
    *((mapping, value, {}) for value in ([], None, {1: 2}, {"a\n": 1}, {"x" * 501: 1})),
    *((sequence, value, {}) for value in ("ab", None, {})),
    *((sequence, value, {"length": 2}) for value in ([], [1], [1, 2, 3])),
    (sequence, [1, 2], {"most": 1}),
    *((plain, value, {}) for value in (float("nan"), 2**63 + 1, {"a": {"b": "\x00"}}, [object()], nested(13))),
    *((place, value, {}) for value in ("../x", "a/../b", "~/x", "~x", "a\nb", None, "x" * 4097)),
]


@pytest.mark.parametrize(("check", "value", "options", "expected"), GOOD)
def test_what_is_right_is_given_back(check: Any, value: Any, options: dict, expected: Any) -> None:
    assert check(value, "record.x", **options) == expected


@pytest.mark.parametrize(("check", "value", "options"), BAD)
def test_what_is_wrong_is_one_short_line_that_names_the_place(check: Any, value: Any, options: dict) -> None:
    with pytest.raises(InputError, match=r"^E_RESULTS.*record\.x") as caught:
        check(value, "record.x", **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_the_place_inside_a_value_is_named() -> None:
    with pytest.raises(InputError, match=re.escape("r.a.b")):
        plain({"a": {"b": float("inf")}}, "r")


def test_none_is_allowed_where_a_value_is_optional() -> None:
    assert optional(whole, None, "r") is None
    assert optional(whole, 3, "r", 0, 3) == 3
    with pytest.raises(InputError, match="E_RESULTS"):
        optional(whole, 4, "r", 0, 3)
