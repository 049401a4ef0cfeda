"""timm's own weight files for an encoder of timm's: renamed and resized by the family's own filter, then accounted for.

The filter is that of the model's module (`checkpoint_filter_fn`): position tables, relative position tables, patches
of another size, and the names of the projects that the weights come from.
"""

import inspect
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from setr.errors import InputError
from setr.models.importing.checkpoint_file import CheckpointFile
from setr.models.importing.filling import Placement, place, require_encoder
from setr.models.importing.key_maps import KeyFormat
from setr.models.importing.receipt import TensorEntry
from setr.models.timm_encoder import TimmEncoder

TIMM = KeyFormat("timm", {}, (), holds="encoder")
PREFIX = "encoder.body."
_BEYOND = "beyond the layers that are read"
_OTHER_PART = "of a classifier or of the pre-training, no part of the encoder"
_DROPPED = "dropped by timm's filter: the model computes it"


@dataclass(frozen=True)
class Filling:
    """What a file gives an encoder."""

    values: dict[str, Tensor]  # by parameter
    entries: list[TensorEntry]
    keys: dict[str, str]  # parameter -> key in the file
    unused: dict[str, str]  # key in the file -> reason


def fill_timm(encoder: TimmEncoder, expected: Mapping[str, Tensor], file: CheckpointFile) -> Filling:
    """Returns what a file of timm's puts in the places `expected` (`encoder.body.<timm's name>`); shapes alone count.

    Raises InputError for weights of another encoder, and where a tensor of the encoder is missing.
    """
    whole = encoder.whole()
    found = _filtered(whole, file, encoder.encoder.name)
    known = whole.state_dict()
    _require_same_encoder(encoder, known, found, file)
    keys = {PREFIX + name: name for name in found if PREFIX + name in expected}
    values, entries = place(expected, found, Placement(keys), where=file.path)
    require_encoder(entries, file.path)
    sources = _sources(found, file.tensors)
    entries = [_with_source(entry, sources, found, file.tensors) for entry in entries]
    used = {entry.key for entry in entries}
    unused = {}
    for key in file.tensors:
        if key not in used:
            name = next((name for name, source in sources.items() if source == key), "")
            unused[key] = (_BEYOND if name in known else _OTHER_PART) if name else _DROPPED
    return Filling(values, entries, {entry.parameter: entry.key for entry in entries if entry.key}, unused)


def _filtered(whole: nn.Module, file: CheckpointFile, name: str) -> dict[str, Tensor]:
    """Returns the file's tensors under the names and in the shapes of timm's model."""
    filter_of_family: Callable[..., Any] | None = getattr(
        sys.modules[type(whole).__module__], "checkpoint_filter_fn", None
    )
    if filter_of_family is None:
        return dict(file.tensors)
    more = {"adapt_layer_scale": True} if "adapt_layer_scale" in inspect.signature(filter_of_family).parameters else {}
    try:
        found = filter_of_family(dict(file.tensors), whole, **more)
    except Exception as error:  # a filter stumbles over names and shapes that it was not made for
        raise InputError(
            "E_PRETRAINED_ARCHITECTURE",
            "the weights are not for this encoder",
            where=file.path,
            found=f"{type(error).__name__} in timm's filter: {str(error).partition(chr(10))[0]}",
            expected=name,
        ) from None
    return _with_positions({key: value for key, value in found.items() if isinstance(value, Tensor)}, whole)


def _with_positions(found: dict[str, Tensor], whole: Any) -> dict[str, Tensor]:
    """Returns the tensors with Hiera's position table at the model's grid, which its filter leaves as it is."""
    table, grid = found.get("pos_embed"), getattr(whole, "tokens_spatial_shape", None)
    if table is None or grid is None or table.ndim != 3 or table.shape == whole.pos_embed.shape:
        return found
    if math.isqrt(table.shape[1]) ** 2 != table.shape[1]:
        return found  # refused by its shape
    return {**found, "pos_embed": resample_abs_pos_embed(table, list(grid), num_prefix_tokens=0)}


def _require_same_encoder(
    encoder: TimmEncoder, known: Mapping[str, Tensor], found: Mapping[str, Tensor], file: CheckpointFile
) -> None:
    """Raises InputError where the file has more layers, or lacks tensors, or has them in other shapes."""
    parts = {name.partition(".")[0] for name in known} - _head_parts(encoder)
    more = [name for name in found if name not in known and name.partition(".")[0] in parts]
    here = [name for name in encoder.body.state_dict() if not name.endswith("num_batches_tracked")]
    missing = [name for name in here if name not in found]
    other = [name for name in here if name in found and found[name].shape != known[name].shape]
    if not more and not other and len(missing) < len(here) / 2:
        return  # single tensors that are missing are named one by one afterwards
    told = []
    if more:
        told.append(f"{len(more)} tensors that it has not ({more[0]})")
    if missing:
        told.append(f"{len(missing)} of its {len(here)} missing ({missing[0]})")
    if other:
        shapes = f"{tuple(found[other[0]].shape)} for {tuple(known[other[0]].shape)}"
        told.append(f"{len(other)} of another shape ({other[0]} {shapes})")
    raise InputError(
        "E_PRETRAINED_ARCHITECTURE",
        "the weights are not for this encoder",
        where=file.path,
        found=", ".join(told),
        expected=encoder.encoder.name,
        remedy="choose the encoder that the weights belong to, or the weights that go with it",
    )


def _head_parts(encoder: TimmEncoder) -> set[str]:
    """Returns the first names of the model's classifiers."""
    named = encoder.body.pretrained_cfg.get("classifier") or ()
    return {name.partition(".")[0] for name in ([named] if isinstance(named, str) else named)}


def _sources(found: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Returns {name in timm's model: key in the file}: by the tensor itself, else by memory, else by the name.

    A filter hands tensors on, renames them, cuts them or makes new ones of them.
    """
    by_object = {id(value): key for key, value in tensors.items()}
    by_memory = {value.untyped_storage().data_ptr(): key for key, value in tensors.items() if value.numel()}
    sources = {}
    for name, value in found.items():
        key = by_object.get(id(value)) or by_memory.get(value.untyped_storage().data_ptr())
        sources[name] = key or (name if name in tensors else "")
    left = [key for key in tensors if key not in sources.values()]
    for name, key in sources.items():
        if not key:  # made new under another name: the one key left that ends alike
            alike = [other for other in left if other.rpartition(".")[2] == name.rpartition(".")[2]]
            sources[name] = alike[0] if len(alike) == 1 else "made by timm's filter"
    return sources


def _with_source(
    entry: TensorEntry, sources: Mapping[str, str], found: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> TensorEntry:
    """Returns an entry that names the file's key, and says where timm's filter has changed the shape."""
    if not entry.key:
        return entry
    key = sources[entry.key]
    source = tensors.get(key)
    if source is None or source.shape == found[entry.key].shape:
        return replace(entry, key=key)
    detail = f"{'x'.join(map(str, source.shape))} to {'x'.join(map(str, entry.shape))} by timm's filter"
    return replace(entry, key=key, status="resized", detail="; ".join(filter(None, (entry.detail, detail))))
