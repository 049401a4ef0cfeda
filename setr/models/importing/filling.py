"""Puts a file's tensors in a model's places: shapes and values are checked, and each tensor is accounted for once."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from setr.errors import InputError
from setr.models.importing.receipt import TensorEntry

POSITIONS = "encoder.pos_embed"
CLASSIFIER = "decode_head.classifier.weight"
INTERPOLATIONS = ("bilinear", "bicubic")


@dataclass(frozen=True)
class Placement:
    """How the tensors of one file go into one model."""

    keys: Mapping[str, str]  # parameter -> key in the file
    grid: tuple[int, int] = (0, 0)  # h, w patches of the model's position table
    source_grid: tuple[int, int] | None = None  # of the file's table; None: square
    interpolation: str | None = "bilinear"  # None: the table must have the model's grid
    reversed_streams: int = 0  # MLA: streams that the classifier of the file reads, deepest first


def place(
    parameters: Mapping[str, Tensor], tensors: Mapping[str, Tensor], plan: Placement, *, where: object
) -> tuple[dict[str, Tensor], list[TensorEntry]]:
    """Returns new values for `parameters` (their shapes and types count) and one entry for each of them.

    Parameters without a key are entries with status missing. Raises InputError for a shape that does not fit and for
    values that are not finite.
    """
    values: dict[str, Tensor] = {}
    entries: list[TensorEntry] = []
    misfits: list[str] = []
    for name, parameter in parameters.items():
        shape = tuple(parameter.shape)
        if name not in plan.keys:
            entries.append(TensorEntry("missing", name, shape=shape, detail=_why_missing(name)))
            continue
        key = plan.keys[name]
        value, status, details = tensors[key], "mapped", []
        if value.dtype != parameter.dtype:
            if value.dtype.is_floating_point != parameter.dtype.is_floating_point:
                misfits.append(f"{key} is {value.dtype}")
                continue
            status = "converted"
            details.append(f"{_name(value.dtype)} to {_name(parameter.dtype)}")
            value = value.to(parameter.dtype)
        if name == CLASSIFIER and plan.reversed_streams and value.ndim == 4:
            status = "permuted"
            details.append("input channels from deepest first to shallowest first")
            value = value.unflatten(1, (plan.reversed_streams, -1)).flip(1).flatten(1, 2)
        if name == POSITIONS and value.ndim == 3 and value.shape[-1] == shape[-1]:
            value, changed = _fit_positions(value, plan, where)
            if changed:
                status = "resized"
                details.append(changed)
        if tuple(value.shape) != shape:
            misfits.append(f"{key} {tuple(value.shape)} for {shape}")
            continue
        if not torch.isfinite(value).all():
            raise InputError(
                "E_CKPT_NONFINITE",
                "a weight holds NaN or infinity",
                where=f"{where}: {key}",
                found=f"{int((~torch.isfinite(value)).sum())} of {value.numel()} values",
                remedy="take an earlier checkpoint: the training that wrote this one had diverged",
            )
        # A copy: tensors of a file may share memory, parameters of a model must not.
        values[name] = value.clone(memory_format=torch.contiguous_format)
        entries.append(TensorEntry(status, name, key, shape, "; ".join(details)))
    if misfits:
        more = f" and {len(misfits) - 3} more" if len(misfits) > 3 else ""
        raise InputError(
            "E_CKPT_SHAPE", "weights do not fit the model", where=where, found=", ".join(misfits[:3]) + more
        )
    return values, entries


def require_encoder(entries: Iterable[TensorEntry], where: object) -> None:
    """Raises InputError where a parameter of the encoder got no value; a counter of BatchNorm is none."""
    names = [
        entry.parameter
        for entry in entries
        if entry.status == "missing"
        and entry.parameter.startswith("encoder.")
        and not entry.parameter.endswith("num_batches_tracked")
    ]
    if names:
        raise InputError(
            "E_CKPT_KEYS",
            f"{len(names)} tensors of the encoder are missing",
            where=where,
            found=", ".join(names[:4]) + (" ..." if len(names) > 4 else ""),
            expected="every tensor of the encoder",
            remedy="training would start from random values without a word; use a complete file",
        )


def square_grid(tokens: int) -> tuple[int, int] | None:
    """Returns the sides of a square table behind a class token (or a distillation token too), None where not square."""
    for prefix in (1, 2):
        side = math.isqrt(max(tokens - prefix, 0))
        if side > 0 and side * side + prefix == tokens:
            return side, side
    return None


def _fit_positions(table: Tensor, plan: Placement, where: object) -> tuple[Tensor, str]:
    """Returns the table (1, 1 + h*w, C) for the model's grid, and what was done ("": nothing)."""
    tokens = table.shape[1]
    source = plan.source_grid or square_grid(tokens)
    if source is None:
        return table, ""
    done = []
    # The last entries are the grid; the first is the class token's. What stands between is DeiT's distillation token's.
    first, grid = table[:, :1], table[:, tokens - source[0] * source[1] :]
    if tokens - grid.shape[1] > 1:
        done.append("the distillation token's entry dropped")
    if source != plan.grid:
        if plan.interpolation is None:
            raise InputError(
                "E_PRETRAINED_SHAPE",
                "the position table has another grid",
                where=where,
                found=f"{source[0]}x{source[1]}",
                expected=f"{plan.grid[0]}x{plan.grid[1]}",
                remedy="pass interpolation='bilinear' to resize it as the authors do",
            )
        square = grid.unflatten(1, source).permute(0, 3, 1, 2)
        square = F.interpolate(square, size=plan.grid, mode=plan.interpolation, align_corners=False)
        grid = square.flatten(2).transpose(1, 2)
        sizes = f"{source[0]}x{source[1]} to {plan.grid[0]}x{plan.grid[1]}"
        done.append(f"{sizes}, {plan.interpolation}, align_corners False, no antialias")
    return torch.cat([first, grid], dim=1), "; ".join(done)


def _why_missing(name: str) -> str:
    if name.endswith("num_batches_tracked"):
        return "BatchNorm's counter, which nothing reads; it starts at 0"
    return "not in the file: initialised at random"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
