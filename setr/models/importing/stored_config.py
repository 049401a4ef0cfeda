"""What the training config inside a checkpoint says about the model: parsed as text, never executed."""

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_CONFIG_CHARACTERS = 1_000_000


@dataclass(frozen=True)
class StoredConfig:
    """What the training config in a checkpoint says; None where it does not."""

    num_heads: int | None = None
    image_size: tuple[int, int] | None = None  # H, W pixels
    main_taps: tuple[int, ...] | None = None
    auxiliary_taps: tuple[int, ...] | None = None
    up_scale: int | None = None  # of each stage of the decode head
    auxiliary_up_scale: int | None = None
    align_corners: bool | None = None
    head_dilation: int | None = None  # of the decode head's convolutions
    output_stride: int | None = None  # of a ResNet


def stored_config_in(metadata: Mapping[str, Any]) -> StoredConfig:
    """Returns what the training config in a checkpoint's metadata says (mmcv: `config`, mmengine: `cfg`)."""
    meta = metadata.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    text = next((meta[name] for name in ("config", "cfg") if isinstance(meta.get(name), str)), None)
    model = config_model(text) if text else {"backbone": dict(meta)}
    backbone, head = (_mapping(model.get(name)) for name in ("backbone", "decode_head"))
    auxiliary = model.get("auxiliary_head")
    auxiliaries = [_mapping(item) for item in (auxiliary if isinstance(auxiliary, list) else [auxiliary])]
    heads = next((backbone[name] for name in ("num_heads", "heads") if isinstance(backbone.get(name), int)), None)
    main, extra = _config_taps(backbone, head, auxiliaries)
    return StoredConfig(
        num_heads=heads,
        image_size=_pair(backbone.get("img_size")),
        main_taps=main,
        auxiliary_taps=extra,
        up_scale=_whole(head.get("up_scale")),
        auxiliary_up_scale=_whole(auxiliaries[0].get("up_scale")),
        align_corners=head.get("align_corners") is True if head else None,
        head_dilation=_whole(head.get("dilation")),
        output_stride=_output_stride(backbone),
    )


def config_model(text: str) -> dict[str, Any]:
    """Returns the `model = dict(...)` of a config's text as plain values; what is no constant is None."""
    if len(text) > MAX_CONFIG_CHARACTERS:
        return {}
    try:
        assignments = [statement for statement in ast.parse(text).body if isinstance(statement, ast.Assign)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    for statement in assignments:
        if any(isinstance(target, ast.Name) and target.id == "model" for target in statement.targets):
            return _mapping(_constant(statement.value))
    return {}


def _constant(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        return {keyword.arg: _constant(keyword.value) for keyword in node.keywords if keyword.arg}
    if isinstance(node, ast.List | ast.Tuple):
        return [_constant(item) for item in node.elts]
    return node.value if isinstance(node, ast.Constant) else None


def _config_taps(
    backbone: Mapping[str, Any], head: Mapping[str, Any], auxiliaries: list[dict[str, Any]]
) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Returns the block indices of decoder and auxiliary heads: `in_index` counts among the outputs of the backbone."""
    read = _indices(backbone.get("mla_index"))
    if read:
        return read, read
    outputs = _indices(backbone.get("out_indices"))
    if not head:
        # A config without heads, as a converter may leave them: every output is read, the last one by the decoder.
        return (outputs, outputs) if outputs else (None, None)
    chosen = [_indices(item.get("in_index")) for item in (head, *auxiliaries)]
    if any(outputs and index >= len(outputs) for group in chosen for index in group) or not chosen[0]:
        return None, None
    # The authors' encoders return every layer, so `in_index` is one. MLA's heads read the neck's outputs, which come
    # deepest first; here the layers are what counts.
    main, *rest = [tuple(sorted(outputs[index] if outputs else index for index in group)) for group in chosen]
    return main, tuple(sorted(tap for group in rest for tap in group)) or None


def _output_stride(backbone: Mapping[str, Any]) -> int | None:
    strides = _indices(backbone.get("strides"))
    return 4 * math.prod(strides) if len(strides) == 4 else None


def _indices(value: Any) -> tuple[int, ...]:
    items = [value] if type(value) is int else value
    if isinstance(items, list | tuple) and all(type(item) is int and item >= 0 for item in items):
        return tuple(items)
    return ()


def _pair(value: Any) -> tuple[int, int] | None:
    values = _indices(value)
    if len(values) == 1:
        values *= 2
    return (values[0], values[1]) if len(values) == 2 else None


def _whole(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
