"""Single values of a record that anybody may have written: of the right type, finite, of a sane size, fit to print."""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from setr.errors import InputError

BINS = 15  # of equal width over [0, 1], as Guo et al. 2017 (On Calibration of Modern Neural Networks)

HASH = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"\w[\w .+@-]*")  # of a data set, a variant, a protocol: no separator of paths, nothing hidden
_MANY = 1_000_000  # entries of one list
_DEPTH = 12


def wrong(where: str, found: object, expected: str) -> InputError:
    """Returns the error of one value of a record."""
    text = repr(found)
    return InputError(
        "E_RESULTS",
        "a wrong value in a record",
        where=where,
        found=text if len(text) <= 80 else text[:77] + "...",
        expected=expected,
    )


def text(
    value: Any, where: str, *, most: int = 2000, pattern: re.Pattern[str] | None = None, lines: bool = False
) -> str:
    """Returns a text without control characters; `lines` lets line breaks and tabs through."""
    if not isinstance(value, str) or len(value) > most:
        raise wrong(where, value, f"a text of at most {most} characters")
    if not all(map(str.isprintable, re.split(r"[\n\r\t]", value)) if lines else (value.isprintable(),)):
        raise wrong(where, value, "a text without control characters")
    if pattern is not None and not pattern.fullmatch(value):
        raise wrong(where, value, "a hash" if pattern is HASH else "a plain name")
    return value


def number(value: Any, where: str, low: float = -1e300, high: float = 1e300) -> float:
    """Returns a finite number between two bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise wrong(where, value, "a finite number" if high > 1e15 else f"a number from {low:g} to {high:g}")
    return value


def whole(value: Any, where: str, low: int = 0, high: int = 2**53) -> int:
    """Returns a whole number between two bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise wrong(where, value, f"a whole number, at least {low}")
    return value


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """Returns keys and values, the keys fit to print."""
    if not isinstance(value, Mapping) or len(value) > _MANY:
        raise wrong(where, value, "keys and values")
    for key in value:
        text(key, f"a key of {where}", most=500)
    return value


def sequence(value: Any, where: str, *, length: int | None = None, most: int = _MANY) -> list[Any]:
    """Returns a list."""
    if not isinstance(value, list | tuple) or len(value) > most or length not in (None, len(value)):
        raise wrong(where, value, "a list" if length is None else f"a list of {length} values")
    return list(value)


def optional(check: Callable[..., Any], value: Any, where: str, *bounds: Any) -> Any:
    """Returns None for None, else what `check` returns."""
    return None if value is None else check(value, where, *bounds)


def plain(value: Any, where: str, depth: int = _DEPTH) -> Any:
    """Returns a value that is anything JSON can say, of finite numbers, printable texts and a sane depth."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text(value, where, most=1_000_000, lines=True)
    if isinstance(value, int | float):
        if not math.isfinite(value) if isinstance(value, float) else abs(value) > 2**63:
            raise wrong(where, value, "a finite number")
        return value
    if depth == 0:
        raise InputError("E_RESULTS", "a wrong value in a record", where=where, found="too deep a nesting")
    if isinstance(value, list | tuple):
        return [plain(entry, where, depth - 1) for entry in sequence(value, where)]
    entries = mapping(value, where)
    return {name: plain(entry, f"{where}.{name}", depth - 1) for name, entry in entries.items()}


def place(value: Any, where: str) -> str:
    """Returns a path or an address, as text, that cannot climb out of where it is below."""
    found = text(str(value) if hasattr(value, "__fspath__") else value, where, most=4096)
    if found.startswith("~") or ".." in PurePosixPath(found).parts:
        raise wrong(where, found, "a path without .. and ~")
    return found
