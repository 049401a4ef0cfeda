"""The words that a recipe, a protocol or a cell may use, and the error for a word that is none of them."""

import difflib
from collections.abc import Iterable

from setr.errors import InputError

DATASETS = ("cityscapes", "ade20k", "pascal_context", "camvid", "scenes")
DECODERS = ("naive", "pup", "mla", "fcn", "semantic-fpn")
FLAVOURS = ("authors", "paper", "mmseg")
PROTOCOL_KINDS = ("ss", "ms")  # single scale; multi-scale and horizontal flip


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
