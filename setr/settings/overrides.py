"""`section.key=value` on a command line, put into the settings as they were read from the file."""

import dataclasses
import typing
from typing import Any

from setr.errors import InputError
from setr.settings.written import Argument, Written, parse


def apply_override(record: type, values: dict[str, Any], override: str, section: str) -> None:
    """Puts one override into `values`, the settings of `record`; one without a dot belongs to `section`.

    What stands after the first `=` is kept as it is. Raises InputError for an override without a key or a value, and
    for one below a setting that has nothing below it.
    """
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise InputError("E_CONFIG", f"cannot read {override!r}", expected="section.key=value")
    sections = typing.get_type_hints(record)
    if "." not in key and section:
        own = dataclasses.is_dataclass(sections[section]) and key in {
            entry.name for entry in dataclasses.fields(sections[section])
        }
        if own or key not in sections:
            key = f"{section}.{key}"
    *folders, last = _places(record, key)
    target: Any = values
    for name in folders:
        target[name] = _opened(target.get(name), key, name)
        target = target[name]
    target[last] = Argument(text)


def _places(record: type, key: str) -> list[str]:
    """Returns the names on the way to a setting; in a mapping of plain values, a name may have dots in it."""
    names, hint = key.split("."), typing.cast(Any, record)
    for depth, name in enumerate(names):
        if typing.get_origin(hint) is dict:
            inner = typing.get_args(hint)[1]
            return names if inner is Any else [*names[:depth], ".".join(names[depth:])]
        hint = typing.get_type_hints(hint).get(name) if dataclasses.is_dataclass(hint) else None
    return names


def _opened(section: Any, key: str, name: str) -> dict[str, Any]:
    """Returns a section as a dictionary that can be written into."""
    if isinstance(section, Argument):
        section = parse(section.text, f"{name}={section.text}")
    if isinstance(section, Written):
        section = {} if section.value is None and section.text == "" else section.value
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise InputError("E_CONFIG", f"{key} is no setting", found=f"a value at {name}", expected="a section")
    return dict(section)
