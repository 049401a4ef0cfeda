"""What a head of a user's own returned, against logits (B, K, h, w): the usual mistakes, each by its name."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from setr.errors import InputError


def require_logits(found: Any, num_classes: int, batch: int, problem: Callable[..., InputError]) -> Tensor:
    """Returns what a head returned if it is logits of `num_classes` for `batch` images; raises `problem(...)` else."""
    expected = f"logits ({batch}, {num_classes}, h, w)"
    if isinstance(found, list | tuple | dict):
        raise problem(f"returns a {type(found).__name__}", expected=expected, remedy="return the logits alone")
    if not isinstance(found, Tensor):
        raise problem("returns no tensor", found=type(found).__name__, expected=expected)
    shape = tuple(found.shape)
    if len(shape) == 3:
        raise problem(
            "returns tokens, not a map",
            found=shape,
            expected=expected,
            remedy="put them back on their grid: x.transpose(1, 2).unflatten(2, features[0].shape[-2:])",
        )
    if len(shape) != 4 or shape[0] != batch or 0 in shape:
        raise problem("returns another shape", found=shape, expected=expected)
    if shape[1] != num_classes:
        last = shape[3] == num_classes
        raise problem(
            "returns its classes last" if last else "returns another number of classes",
            found=shape,
            expected=expected,
            remedy="x.permute(0, 3, 1, 2)" if last else "end in num_classes channels",
        )
    if not found.is_floating_point():
        raise problem("returns no logits", found=str(found.dtype), expected="numbers of any size, before argmax")
    return found
