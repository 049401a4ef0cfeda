"""Planes of logits, one class each: resized by the batch, compared one after another.

Shapes: n planes, B images, H W pixels, h w the size before.
"""

from collections.abc import Iterator

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from setr.evaluation.windows import Size


def resize_planes(planes: Tensor, size: Size, *, align_corners: bool = False) -> Tensor:
    """Returns float32 planes (n,h,w) resized bilinearly to (n,H,W), without antialias.

    Enlarged 2, 4, 8, 16, ... times on the CPU, which is what a head's logits need, cv2 takes a seventh of PyTorch's
    time; the coordinates are exact in both there, so the two differ by rounding alone (2 units in the last place).
    """
    height, width = planes.shape[-2:]
    if (height, width) == size:
        return planes
    # Planes are the batch here: PyTorch has another, less exact, kernel for exactly three channels.
    if (
        align_corners
        or planes.device.type != "cpu"
        or not (_power_of_two(size[0], height) and _power_of_two(size[1], width))
    ):
        return F.interpolate(planes[:, None], size=size, mode="bilinear", align_corners=align_corners)[:, 0]
    resized = np.empty((len(planes), *size), np.float32)
    for source, target in zip(planes.numpy(), resized, strict=True):
        cv2.resize(source, (size[1], size[0]), dst=target, interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(resized)


def _power_of_two(large: int, small: int) -> bool:
    return large % small == 0 and (large // small).bit_count() == 1


def argmax(planes: Iterator[Tensor], num_classes: int) -> Tensor:
    """Returns the index of the largest of `num_classes` planes (B,H,W), the first one of equals.

    One plane at a time: equal to stacking them and taking argmax, several times faster on a CPU, without the stack.
    """
    first = next(planes)
    if first.device.type != "cpu" or num_classes > 256:
        best, classes = first.clone(), torch.zeros_like(first, dtype=torch.uint8 if num_classes <= 256 else torch.int32)
        for index, plane in enumerate(planes, start=1):
            classes.masked_fill_(plane > best, index)
            torch.maximum(best, plane, out=best)
        return classes
    highest, result = first.numpy().copy(), np.zeros(tuple(first.shape), np.uint8)
    larger, assigned = np.empty(result.shape, np.bool_), np.empty_like(result)
    for index, plane in enumerate(planes, start=1):
        values = plane.numpy()
        np.greater(values, highest, out=larger)
        np.maximum(highest, values, out=highest)
        # The index only grows, so the maximum is an assignment where `larger` holds.
        np.multiply(larger.view(np.uint8), np.uint8(index), out=assigned)
        np.maximum(result, assigned, out=result)
    return torch.from_numpy(result)
