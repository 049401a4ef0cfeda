"""The JSON schema of a study's file: what editors complete and check as it is written."""

import dataclasses
import typing
from typing import Any

from setr.models.decoders.table import DECODERS
from setr.study.protocols import Protocol
from setr.study.recipes import Recipe
from setr.study.rules import OF_PROTOCOLS, OF_RECIPES

_TEXT: dict[str, Any] = {"type": ["string", "number", "boolean"]}
_TEXTS: dict[str, Any] = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}
_NUMBER: dict[str, Any] = {"type": ["number", "null"]}
_NUMBERS: dict[str, Any] = {"type": "object", "additionalProperties": _NUMBER}
_STEPS: dict[str, Any] = {"type": ["string", "integer"], "description": "steps: 20k, or 20000"}


def schema() -> dict[str, Any]:
    """Returns the schema (JSON Schema, draft 2020-12)."""
    recipe = _record(Recipe, without=("flavour",))
    protocol = _record(Protocol, without=("num_classes",))
    changes = {"anyOf": [_TEXT, _closed({**recipe, "from": _TEXT})]}
    top = {
        "title": _TEXT,
        "short": _TEXT,
        "notes": _TEXTS,
        "include": _TEXTS,
        "begin_with": _TEXTS,
        "flavours": _TEXTS,
        "miniature": _closed({"data": {"anyOf": [_TEXT, _by_name(_TEXT)]}, "recipe": _closed(recipe)}),
        "models": _by_name(_model()),
        "recipe": changes,
        "recipes": _by_name(_rules(recipe, OF_RECIPES)),
        "protocols": _by_name(_rules(protocol, OF_PROTOCOLS)),
        "tables": _by_name(_table(recipe, changes, protocol)),
        "seeds": _whole(),
        "claims": _TEXTS,
        "many": {"type": "boolean"},
        "reproductions": {"type": "array"},
        "parameter_counts": {"type": "array"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A study: tables of segmentation models",
        **_closed(top),
    }


def _table(recipe: dict[str, Any], changes: dict[str, Any], protocol: dict[str, Any]) -> dict[str, Any]:
    column = {
        "title": _TEXT,
        "data": {**_TEXT, "description": "name of a prepared data set"},
        "train": {**_TEXT, "description": "the split that it trains on: train, or train+val"},
        "schedule": _STEPS,
        "protocol": {"anyOf": [_TEXT, _closed({**protocol, "from": _TEXT})]},
        "split": {"enum": ["val", "test"]},
        "metric": {"enum": ["mIoU", "pixel_accuracy"]},
        "recipe": changes,
        "quoted": {"type": "boolean"},
    }
    row = {
        "id": _TEXT,
        "model": _TEXT,
        "texts": _TEXTS,
        "values": _NUMBERS,
        "facts": _NUMBERS,
        "schedules": _by_name(_STEPS),
        "unconfirmed": _TEXTS,
        "inferred": _TEXTS,
        "not_found": _TEXTS,
        "recipe": _closed(recipe),
    }
    table = {
        "title": _TEXT,
        "texts": _TEXTS,
        "facts": _by_name(_TEXT),
        "notes": _TEXTS,
        "columns": _by_name(_closed(column)),
        "rows": {"type": "array", "items": {"anyOf": [_TEXT, _closed(row)]}},
        "grid": {"type": "object"},
        "seeds": _whole(),
    }
    return _closed(table)


def _model() -> dict[str, Any]:
    known = {
        "encoder": {**_TEXT, "description": "t-base, t-large, r-101, r-101-bit, or timm:<name>"},
        "weights": {**_TEXT, "description": "R, 1K, 21K"},
        "decoder": {"anyOf": [{"enum": sorted(DECODERS)}, {"type": "string", "pattern": ".+:.+"}]},
        "cnn": {"enum": ["r-50"]},
        "layers": {"type": "array", "items": {"type": "integer", "minimum": 1}},
        "frozen": {"type": "boolean"},
    }
    return {"type": "object", "properties": known}  # a decoder's own options stand beside them


def _rules(values: dict[str, Any], conditions: tuple[str, ...]) -> dict[str, Any]:
    when = _closed(dict.fromkeys(conditions, _TEXTS))
    rule = {"anyOf": [_TEXT, _closed({**values, "when": when, "from": _TEXT, "refused": _TEXT})]}
    return {"anyOf": [rule, {"type": "array", "items": rule}]}


def _record(record: type, *, without: tuple[str, ...]) -> dict[str, Any]:
    hints = typing.get_type_hints(record)
    names = [entry.name for entry in dataclasses.fields(record) if entry.name not in without]
    return {name: _kind(hints[name]) for name in names}


def _kind(hint: Any) -> dict[str, Any]:
    if typing.get_origin(hint) is tuple:
        return {"type": "array", "items": _kind(typing.get_args(hint)[0])}
    if typing.get_args(hint):
        inner = [_kind(part) for part in typing.get_args(hint) if part is not type(None)]
        return {"anyOf": [*inner, {"type": "null"}]}
    return {"type": {bool: "boolean", int: "integer", float: "number", str: "string"}[hint]}


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _by_name(value: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": value}


def _whole() -> dict[str, Any]:
    return {"type": "integer", "minimum": 1, "maximum": 1000}
