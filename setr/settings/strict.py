"""From values to a frozen record: each name, type, choice and bound is checked; the first mistake names its key."""

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from setr.errors import InputError
from setr.settings.rules import check_rules
from setr.settings.written import Argument, Written, parse, plain

_LARGEST = 2**63 - 1  # of a whole number that no field bounds: what databases and tensors hold


def build(record: type, values: Any, where: str) -> Any:
    """Returns `record(**values)`; `where` prefixes the key in errors.

    `values` is a mapping, of plain values or as it was written: then a field of type text is the text. Raises
    InputError for an unknown name, a wrong type, a wrong choice, or what a field's rules (its metadata) refuse.
    """
    if isinstance(values, Argument):
        values = parse(values.text, where)
    if isinstance(values, Written):
        values = {} if values.value is None and values.text == "" else values.value
    if not isinstance(values, Mapping):
        found = plain(values)
        raise InputError("E_CONFIG", f"{where or 'settings'} is no section", found=found, expected="keys and values")
    return record(**{name: checked(record, name, value, where) for name, value in values.items()})


def checked(record: type, name: str, value: Any, where: str) -> Any:
    """Returns the value of one field of a record, as `build` takes it; raises InputError as `build` does."""
    fields = _fields(record)
    key = f"{where}.{name}" if where else str(name)
    if name not in fields:
        near = difflib.get_close_matches(str(name), fields, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"known: {', '.join(fields)}"
        raise InputError("E_CONFIG", f"unknown key {key}", remedy=remedy)
    found = _convert(value, _hints(record)[name], key)
    check_rules(found, dict(fields[name].metadata), key)
    return found


_hints = functools.cache(typing.get_type_hints)


@functools.cache
def _fields(record: type) -> dict[str, dataclasses.Field[Any]]:
    return {entry.name: entry for entry in dataclasses.fields(record)}


def _convert(value: Any, hint: Any, key: str) -> Any:
    origin, parameters = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, key)
    if origin in (typing.Union, types.UnionType):
        value = _read(value, key)
        if plain(value) is None and type(None) in parameters:
            return None
        return _convert(value, next(entry for entry in parameters if entry is not type(None)), key)
    if origin is Literal:
        return _choice(_text(value), parameters, key)
    if origin is tuple:
        return _tuple(value, parameters, key)
    if origin is dict:
        return _mapping(value, parameters[1], key)
    if hint is str:
        text = _text(value)
        if not isinstance(text, str):
            raise _wrong_type(key, text, "text (put it in quotes)")
        return text
    if hint is Any:
        return _anything(value, key)
    return _number(plain(_read(value, key)), hint, key)


def _text(value: Any) -> Any:
    """Returns the characters that a value was written with, and one that was not written as it is."""
    if isinstance(value, Argument):
        return value.text
    if isinstance(value, Written):
        return plain(value.value) if value.text is None else value.text
    return value


def _read(value: Any, key: str) -> Any:
    """Returns what YAML makes of a value of the command line, "" being nothing; others as they are."""
    if not isinstance(value, Argument):
        return value
    return parse(value.text, f"{key}={value.text}") or Written("", None)


def _is_list(text: str) -> bool:
    return text.lstrip().startswith("[")


def _choice(value: Any, choices: tuple[Any, ...], key: str) -> Any:
    if value in choices:
        return value
    near = difflib.get_close_matches(str(value), [str(entry) for entry in choices], n=1)
    raise InputError(
        "E_CONFIG",
        f"key {key}",
        found=repr(value),
        expected=" or ".join(map(str, choices)),
        remedy=f"did you mean {near[0]}?" if near else "",
    )


def _tuple(value: Any, parameters: tuple[Any, ...], key: str) -> tuple[Any, ...]:
    any_length = len(parameters) == 2 and parameters[1] is Ellipsis
    if isinstance(value, Argument) and not (any_length and parameters[0] is str and not _is_list(value.text)):
        value = _read(value, key)  # of text, one that is no list is the one element
    if isinstance(value, Argument | Written) and any_length and value.text == "":
        return ()
    entries = value.value if isinstance(value, Written) and isinstance(value.value, list) else value
    if any_length and not isinstance(entries, list | tuple):
        entries = [value]  # tables=2 means tables=[2]
    if not isinstance(entries, list | tuple):
        raise _wrong_type(key, plain(value), f"a list of {len(parameters)} values")
    if not any_length and len(entries) != len(parameters):
        raise InputError("E_CONFIG", f"key {key}", found=f"{len(entries)} values", expected=f"{len(parameters)} values")
    hints = [parameters[0]] * len(entries) if any_length else list(parameters)
    pairs = enumerate(zip(entries, hints, strict=True))
    return tuple(_convert(entry, hint, f"{key}[{index}]") for index, (entry, hint) in pairs)


def _mapping(value: Any, hint: Any, key: str) -> dict[str, Any]:
    value = _read(value, key)
    if isinstance(value, Written):
        value = {} if value.value is None and value.text == "" else value.value
    if not isinstance(value, dict):
        raise _wrong_type(key, plain(value), "keys and values")
    return {str(name): _convert(entry, hint, f"{key}.{name}") for name, entry in value.items()}


def _anything(value: Any, key: str) -> Any:
    """Returns a value that JSON holds; raises InputError for one that it does not."""
    if isinstance(value, Argument):
        try:
            value = _read(value, key)
        except InputError:
            if value.text.lstrip().startswith(("[", "{", "!", "*", "&")):
                raise
            value = value.text
    return _json(plain(value), key)


def _json(value: Any, key: str) -> Any:
    if isinstance(value, list | tuple):
        return [_json(entry, f"{key}[{index}]") for index, entry in enumerate(value)]
    if isinstance(value, dict):
        return {str(name): _json(entry, f"{key}.{name}") for name, entry in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError("E_CONFIG", f"key {key}", found=value, expected="a finite number")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise InputError("E_CONFIG", f"key {key}", found="a huge number", expected="a number of 64 bits")
    if value is not None and not isinstance(value, bool | int | float | str):
        raise _wrong_type(key, value, "text, a number, true or false, a list, or keys and values")
    return value


def _number(value: Any, hint: Any, key: str) -> Any:
    if hint is bool:
        if not isinstance(value, bool):
            raise _wrong_type(key, value, "true or false")
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _LARGEST:
        raise InputError("E_CONFIG", f"key {key}", found="a huge number", expected="a number of 64 bits")
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong_type(key, value, "a number")
        if not math.isfinite(value):
            raise InputError("E_CONFIG", f"key {key}", found=value, expected="a finite number")
        return float(value)
    if hint is int and (isinstance(value, bool) or not isinstance(value, int)):
        raise _wrong_type(key, value, "a whole number")
    return value


def _wrong_type(key: str, value: Any, expected: str) -> InputError:
    remedy = ""
    if isinstance(value, str) and expected.endswith("number"):
        try:
            number = float(value)
        except ValueError:
            pass
        else:
            # YAML 1.1 reads 1e-3 as text: a number needs a dot and a signed exponent.
            remedy = f"write {number:.6e}" if "e" in value.lower() else f"write {value} without quotes"
    return InputError(
        "E_CONFIG", f"key {key}", found=f"{value!r} ({type(value).__name__})", expected=expected, remedy=remedy
    )
