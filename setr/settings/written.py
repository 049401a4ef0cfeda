"""YAML with the characters that each value was written with: a setting of type text is what stands there, no more.

YAML makes a number of 2024, a truth of `no`, nothing of `~` and a date of 2024-01-02. Only the field that a value is
for knows whether that is meant, so both are kept here: the text and what YAML takes it for.
"""

import functools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from setr.errors import InputError

MAX_CHARACTERS = 200_000  # of one text: the parser reads about as many in two seconds
MAX_DEPTH = 20  # lists and mappings inside one another; settings need five
MAX_DIGITS = 19  # of a whole number: what 64 bits hold


@dataclass(frozen=True)
class Written:
    """A value of a YAML text."""

    text: str | None  # as written, without the quotes around it; None: a list or mapping over several lines
    value: Any  # None, bool, int, float, str, list[Written] or dict[str, Written]
    line: int = field(default=0, compare=False)  # from 1; 0: not known


@dataclass(frozen=True)
class Argument:
    """What stands after `section.key=` on a command line; YAML only where the field wants more than text."""

    text: str


def parse(text: str, where: object) -> Written | None:
    """Returns the one value of a YAML text, None for an empty text; raises InputError for everything else."""
    if len(text) > MAX_CHARACTERS:
        found, expected = f"{len(text)} characters", f"at most {MAX_CHARACTERS}"
        raise InputError("E_CONFIG", "settings are too long", where=where, found=found, expected=expected)
    try:
        loader = _StrictLoader(text)
        loader.place = where
        node = loader.get_single_node()
        return None if node is None else _written(node, text, where)
    except yaml.YAMLError as error:
        raise InputError("E_CONFIG", "not YAML", where=where, found=error, remedy="mend the line") from None


def parse_file(path: Path) -> Written:
    """Returns the mapping in a YAML file, read once for as long as the file does not change.

    Raises InputError for a file that is not there, cannot be read or holds something else.
    """
    try:
        status = path.stat()
        return _parsed(path, status.st_mtime_ns, status.st_size)
    except UnicodeDecodeError as error:
        raise InputError("E_CONFIG", "not UTF-8 text", where=path, found=error) from None
    except FileNotFoundError:
        raise InputError("E_CONFIG", "no such file", where=path) from None
    except OSError as error:
        raise InputError("E_CONFIG", "cannot read the file", where=path, found=error.strerror or error) from None


@functools.lru_cache(maxsize=16)
def _parsed(path: Path, *_: int) -> Written:
    found = parse(path.read_text(encoding="utf-8-sig"), path)
    if found is None or not isinstance(found.value, dict):
        raise InputError("E_CONFIG", "not keys and values", where=path, expected="title: ..., tables: ...")
    return found


def plain(value: Any) -> Any:
    """Returns a value without the text that it was written with; others than Written and Argument as they are."""
    if isinstance(value, Argument):
        return value.text
    if isinstance(value, Written):
        return plain(value.value)
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    return value


class _StrictLoader(yaml.SafeLoader):
    """Composes nodes of text, numbers, truths, lists and mappings; no alias (which expands without bound), no tag."""

    depth = 0
    place: object = ""  # of the text, for errors

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.events.AliasEvent):
            raise self._refused(event, "an alias in YAML", f"*{event.anchor}", "write the value out")
        if getattr(event, "tag", None) not in (None, "!", "tag:yaml.org,2002:str"):
            raise self._refused(event, "a tag in YAML", event.tag, "write the value without it")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._refused(event, "lists and mappings too deep in YAML", f"more than {MAX_DEPTH}", "write it flat")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def _refused(self, event: Any, what: str, found: object, remedy: str) -> InputError:
        where = f"{self.place}, line {event.start_mark.line + 1}"
        return InputError("E_CONFIG", what, where=where, found=found, remedy=remedy)


# Dates, merged mappings, sexagesimal, octal and hexadecimal numbers are no settings: they stay text. 010 is not 8.
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag.rpartition(":")[2] in ("bool", "null")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"[-+]?(?:0|[1-9][0-9_]*)$", re.ASCII), list("-+0123456789")
)
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"""(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?
        |[-+]?\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?
        |[-+]?\.(?:inf|Inf|INF)
        |\.(?:nan|NaN|NAN))$""",
        re.ASCII | re.VERBOSE,
    ),
    list("-+0123456789."),
)


def _written(node: Any, source: str, where: object) -> Written:
    number = node.start_mark.line + 1
    if isinstance(node, yaml.ScalarNode):
        return Written(node.value, _scalar(node, where), number)
    text = source[node.start_mark.index : node.end_mark.index] if node.flow_style else None
    if isinstance(node, yaml.SequenceNode):
        return Written(text, [_written(entry, source, where) for entry in node.value], number)
    entries: dict[str, Written] = {}
    for key, value in node.value:
        line = f"{where}, line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise InputError("E_CONFIG", "a key that is no text", where=line, remedy="write it without brackets")
        if key.value in entries:
            raise InputError("E_CONFIG", f"key {key.value} stands twice", where=line, remedy="keep one of them")
        entries[key.value] = _written(value, source, where)
    return Written(text, entries, number)


def _scalar(node: Any, where: object) -> Any:
    """Returns what a scalar is without a field that knows better."""
    kind, text = node.tag.rpartition(":")[2], node.value
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() in ("yes", "true", "on")
    if kind == "int":
        digits = text.replace("_", "")
        if len(digits.lstrip("-+")) > MAX_DIGITS:
            line = f"{where}, line {node.start_mark.line + 1}"
            raise InputError(
                "E_CONFIG", "a number beyond 64 bits", where=line, found=text, remedy="write a smaller one"
            )
        return int(digits)
    if kind == "float":
        return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text
