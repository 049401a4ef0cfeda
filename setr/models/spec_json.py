"""A model's structure as JSON values, and back: each record carries the name of its class under `type`."""

from dataclasses import fields, is_dataclass
from typing import Any

from setr.models.decoders.table import DECODERS
from setr.models.own_head import OwnHeadSpec
from setr.models.specification import EncoderSize, ResNetSpec, SegmenterSpec, TimmSpec


def records() -> dict[str, type[Any]]:
    """Return the classes that a structure is made of, by name."""
    decoders = {decoder.spec for decoder in DECODERS.values()}
    single = (SegmenterSpec, EncoderSize, ResNetSpec, TimmSpec, OwnHeadSpec)
    return {record.__name__: record for record in (*single, *decoders)}


def spec_to_json(spec: Any) -> Any:
    """Return a spec as plain JSON values; every record carries its type's name under `type`."""
    if is_dataclass(spec) and not isinstance(spec, type):
        values = {field.name: spec_to_json(getattr(spec, field.name)) for field in fields(spec)}
        return {"type": type(spec).__name__, **values}
    if isinstance(spec, tuple | list):
        return [spec_to_json(item) for item in spec]
    return spec


def spec_from_json(value: Any) -> Any:
    """Return the spec that `spec_to_json` wrote."""
    if isinstance(value, dict):
        values = {key: spec_from_json(item) for key, item in value.items() if key != "type"}
        return records()[value["type"]](**values)
    if isinstance(value, list):
        return tuple(spec_from_json(item) for item in value)
    return value
