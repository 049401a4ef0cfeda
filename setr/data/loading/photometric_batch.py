"""Photometric distortion of a whole batch on its device: photometric.py in tensors, with the same rounding.

Each step rounds as OpenCV does on x86 with fused multiply-add: integers for RGB to HSV, single precision rounded down
for the way back. There the result equals the CPU's to the bit; where OpenCV takes another path (pixels at the end of a
row that fill no vector register, other processors) one conversion may differ by one level.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from setr.data.loading.photometric import Distortion

_SHIFT = 12  # binary digits after the point of OpenCV's reciprocals
_HUES = 180
_PER_LEVEL = float(np.float32(1 / 255))
_SECTOR = np.float32(6 / _HUES)  # sectors of the colour wheel per hue
# For red, green and blue in each of the six sectors: which of (v, v(1-s), v(1-sf), v(1-s(1-f))).
_CHANNELS = ((0, 3, 1), (2, 0, 1), (1, 0, 3), (1, 2, 0), (3, 1, 0), (0, 1, 2))


@dataclass(frozen=True)
class BatchDistortion:
    """What was drawn for each image of a batch, and the part of each that is no padding."""

    steps: tuple[Distortion, ...]
    extents: tuple[tuple[int, int], ...]  # rows, columns


def distort_batch(images: Tensor, distortion: BatchDistortion) -> Tensor:
    """Returns the distorted uint8 images (B, H, W, 3) RGB, on the device of `images`; padding stays as it is."""
    steps = distortion.steps
    result = _scaled(images, [1.0] * len(steps), [step.brightness or 0.0 for step in steps])
    early = [step.contrast is not None and step.contrast_first for step in steps]
    factors = [1.0 if step.contrast is None else step.contrast for step in steps]
    result = _scaled(result, [factor if first else 1.0 for factor, first in zip(factors, early, strict=True)])
    result = _in_hsv(result, [step.saturation for step in steps], _saturate)
    result = _in_hsv(result, [step.hue for step in steps], _turn)
    result = _scaled(result, [1.0 if first else factor for factor, first in zip(factors, early, strict=True)])
    for number, (rows, columns) in enumerate(distortion.extents):
        result[number, rows:] = images[number, rows:]
        result[number, :, columns:] = images[number, :, columns:]
    return result


def _scaled(images: Tensor, factors: Sequence[float], offsets: Sequence[float] | None = None) -> Tensor:
    """Returns level * factor + offset of each image, in float32, clipped and rounded down."""
    levels = images.float().mul_(_column(factors, images))
    if offsets is not None:
        levels.add_(_column(offsets, images))
    return levels.clamp_(0, 255).byte()


def _column(values: Sequence[float], images: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).to(images.device, non_blocking=True).view(-1, 1, 1, 1)


def _in_hsv(
    images: Tensor, values: Sequence[float | None], change: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
) -> Tensor:
    """Returns the images, those that have a value changed in hue or saturation."""
    chosen = [number for number, value in enumerate(values) if value is not None]
    if not chosen:
        return images
    places = torch.tensor(chosen).to(images.device, non_blocking=True)
    amount = _column([value for value in values if value is not None], images)[..., 0]
    hue, saturation, value = _to_hsv(images[places])
    hue, saturation = change(hue, saturation, amount)
    images[places] = _to_rgb(hue, saturation, value)
    return images


def _saturate(hue: Tensor, saturation: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    return hue, saturation.float().mul_(factor).clamp_(0, 255).int()


def _turn(hue: Tensor, saturation: Tensor, amount: Tensor) -> tuple[Tensor, Tensor]:
    return (hue + amount.int()).remainder_(_HUES), saturation


def _to_hsv(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns hue (0..179), saturation and value (0..255), int32 (B, H, W), by OpenCV's integer arithmetic."""
    red, green, blue = images.int().unbind(-1)
    value = torch.maximum(torch.maximum(red, green), blue)
    spread = value - torch.minimum(torch.minimum(red, green), blue)
    per_value, per_spread, _ = _tables(images.device)
    half = 1 << (_SHIFT - 1)
    saturation = (spread * per_value[value] + half) >> _SHIFT
    hue = torch.where(
        value == red,
        green - blue,
        torch.where(value == green, blue - red + 2 * spread, red - green + 4 * spread),
    )
    hue = (hue * per_spread[spread] + half) >> _SHIFT
    return torch.where(hue < 0, hue + _HUES, hue), saturation, value


def _to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Returns uint8 (B, H, W, 3) of hue (0..179), saturation and value (0..255), int32 (B, H, W)."""
    _, _, shares = _tables(hue.device)
    return (shares[hue, saturation] * value.float().mul_(_PER_LEVEL)[..., None]).mul_(255).byte()


@functools.lru_cache(maxsize=8)
def _tables(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Returns reciprocals of value and spread, int32 (256,), and red, green, blue over value, (180, 256, 3)."""
    level = np.arange(256, dtype=np.float64)
    level[0] = np.inf
    per_value = np.rint((255 << _SHIFT) / level).astype(np.int32)
    per_spread = np.rint((_HUES << _SHIFT) / (6 * level)).astype(np.int32)

    hue = np.arange(_HUES, dtype=np.float32) * _SECTOR
    sector = np.trunc(hue)
    fraction = (hue - sector)[:, None]
    saturation = (np.arange(256, dtype=np.float32) * np.float32(_PER_LEVEL))[None]
    one = np.float32(1)
    # Fused: the product of two float32 is exact in float64, and the difference is rounded once.
    falling, rising = (
        (1 - saturation.astype(np.float64) * part.astype(np.float64)).astype(np.float32)
        for part in (fraction, one - fraction)
    )
    flat = np.broadcast_to(one - saturation, falling.shape)
    shares = np.stack([np.ones_like(falling), flat, falling, rising])
    channels = np.array(_CHANNELS)[sector.astype(int)]  # (180, 3)
    rgb = shares[channels[:, None, :], np.arange(_HUES)[:, None, None], np.arange(256)[None, :, None]]
    return tuple(torch.from_numpy(np.ascontiguousarray(table)).to(device) for table in (per_value, per_spread, rgb))  # type: ignore[return-value]
