"""The error for a word that is none of those allowed."""

import difflib
from collections.abc import Iterable

from setr.errors import InputError


def require_choice(what: str, value: str, allowed: Iterable[str]) -> str:
    """Returns `value` if it is one of `allowed`.

    Raises InputError that lists what is allowed and names the nearest one.
    """
    words = tuple(allowed)
    if value in words:
        return value
    near = difflib.get_close_matches(str(value), words, n=1)
    raise InputError(
        "E_CHOICE",
        f"unknown {what}",
        found=value,
        expected=", ".join(words),
        remedy=f"did you mean {near[0]}?" if near else "",
    )
