"""What a setting may be besides its type: bounds with their reason, and kinds of text."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from setr.errors import InputError

Rules = dict[str, Any]  # a field's metadata

SEED: Rules = {"minimum": 0, "maximum": 2**32 - 1, "why": "generators take 32 bits"}
MAX_TEXT = 4096  # characters, what a path has at most
MAX_NAME = 255  # bytes of a file's name


def between(minimum: float, maximum: float, why: str) -> Rules:
    """Returns the rules of a number with both ends allowed; `why` says what sets the upper one."""
    return {"minimum": minimum, "maximum": maximum, "why": why}


def above(low: float, maximum: float, why: str) -> Rules:
    """Returns the rules of a number that is greater than `low`."""
    return {"above": low, "maximum": maximum, "why": why}


def check_rules(value: Any, rules: Rules, key: str) -> None:
    """Raises InputError if a number, a text, or one inside a list or mapping, breaks the rules of its field."""
    if isinstance(value, tuple | list):
        for index, entry in enumerate(value):
            check_rules(entry, rules, f"{key}[{index}]")
    elif isinstance(value, dict):
        for name, entry in value.items():
            check_text(name, rules.get("keys", ""), f"{key}, the name before the colon")
            check_rules(entry, rules, f"{key}.{name}")
    elif isinstance(value, str):
        check_text(value, rules.get("text", ""), key)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(value, rules, key)


def check_text(text: str, kind: str, key: str) -> None:
    """Raises InputError for text that no terminal, file or database holds, or that is not of the kind."""
    found = _unusable(text)
    if not found and kind:
        found = _KINDS[kind](text)
    if found:
        raise InputError("E_CONFIG", f"key {key}", found=repr(text), expected=found)


def _check_number(value: float, rules: Rules, key: str) -> None:
    if "minimum" in rules and value < rules["minimum"]:
        raise InputError("E_CONFIG", f"key {key}", found=value, expected=f"at least {rules['minimum']}")
    if "above" in rules and value <= rules["above"]:
        raise InputError("E_CONFIG", f"key {key}", found=value, expected=f"above {rules['above']}")
    if "maximum" in rules and value > rules["maximum"]:
        raise InputError("E_CONFIG", f"key {key}", found=value, expected=f"at most {rules['maximum']} ({rules['why']})")
    if "least" in rules and 0 < value < rules["least"]:
        raise InputError(
            "E_CONFIG", f"key {key}", found=value, expected=f"0, or at least {rules['least']} ({rules['why']})"
        )


def _unusable(text: str) -> str:
    """Returns what would be usable instead, "" for a text that is."""
    if len(text) > MAX_TEXT:
        return f"at most {MAX_TEXT} characters"
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of the command line that are no UTF-8
        return "UTF-8 text"
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        return "text without control characters"
    return ""


def _path(text: str) -> str:
    if any(len(part.encode()) > MAX_NAME for part in text.split("/")):
        return f"a path of names of at most {MAX_NAME} bytes"
    return ""


def _some_path(text: str) -> str:
    return _path(text) if text.strip() else "a path"


def _some_text(text: str) -> str:
    return "" if text.strip() else "some text"


def _folder_name(text: str) -> str:
    """A data set's name stands in paths, in the pipeline's stages (between double quotes of a shell) and in URIs."""
    if not text.strip() or text in (".", "..") or len(text.encode()) > MAX_NAME or re.search(r'[/\\"$`]', text):
        return 'a name that a folder can have, without / \\ " $ `'
    return ""


def _device(text: str) -> str:
    return "" if re.fullmatch(r"|[a-z]+(:\d{1,3})?", text) else "cpu, cuda, cuda:1, ..."


_KINDS: Mapping[str, Callable[[str], str]] = {
    "path": _path,
    "some path": _some_path,
    "some text": _some_text,
    "folder name": _folder_name,
    "device": _device,
}
