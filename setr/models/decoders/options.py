"""A decoder's options: the fields of its spec, by name, but for those that follow from what it reads."""

import math
from collections.abc import Mapping
from dataclasses import Field, fields, replace
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from setr.errors import InputError
from setr.models.specification import HeadSpec
from setr.settings.choices import require_choice

Spec = TypeVar("Spec", bound=HeadSpec)
FOLLOWING = ("channels_in", "in_channels", "levels", "factors")  # from encoder and layers
FRACTIONS = ("dropout", "drop_path")


def options_of(spec: HeadSpec) -> dict[str, Any]:
    """Returns a decoder's options with the values they have."""
    return {name: getattr(spec, name) for name in _fields(spec)}


def with_options(decoder: str, spec: Spec, options: Mapping[str, Any]) -> Spec:
    """Returns the spec with these options in the place of its own.

    Raises InputError for an option that the decoder does not have (the nearest named, all listed) or a value that it
    cannot have.
    """
    known, hints = _fields(spec), get_type_hints(type(spec))
    values = {}
    for name, value in options.items():
        require_choice(f"option of the decoder {decoder}", name, known)
        values[name] = _value(decoder, known[name], hints[name], value)
    return replace(spec, **values) if values else spec  # type: ignore[type-var]  # every spec is a dataclass


def _fields(spec: HeadSpec) -> dict[str, Field[Any]]:
    return {entry.name: entry for entry in fields(spec) if entry.name not in FOLLOWING}  # type: ignore[arg-type]


def _value(decoder: str, entry: Field[Any], hint: Any, value: Any) -> Any:
    """Returns an option's value as its field holds it."""
    least = entry.metadata.get("least", 1)
    choices = entry.metadata.get("choices")
    if get_origin(hint) is tuple:
        kind, expected = get_args(hint)[0], "a list of whole numbers of 1 or more"
        fits = isinstance(value, list | tuple) and len(value) > 0 and all(_fits(item, kind, 1) for item in value)
        value = tuple(value) if fits else value
    elif choices is not None:
        return require_choice(f"{entry.name} of the decoder {decoder}", value, choices)
    elif entry.name.endswith("kernel"):
        expected = "an odd whole number"
        fits = _fits(value, int, 1) and value % 2 == 1
    elif entry.name in FRACTIONS:
        expected = "a number from 0 to less than 1"
        fits = _fits(value, float, 0) and value < 1
    else:
        expected = {bool: "true or false", int: f"a whole number of {least} or more"}.get(hint, "a number above 0")
        fits = _fits(value, hint, least) and not (hint is float and value == 0)
    if not fits:
        raise InputError(
            "E_OPTION",
            "an option cannot have this value",
            where=f"{decoder}: {entry.name}",
            found=value,
            expected=expected,
        )
    return float(value) if hint is float else value


def _fits(value: Any, kind: type, least: int) -> bool:
    """Returns whether a value is of that kind; a whole number is a number, and neither true nor false is one."""
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float) and 0 <= value < math.inf
    return isinstance(value, int) and value >= least if kind is int else isinstance(value, kind)
