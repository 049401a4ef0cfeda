"""Photometric distortion as mmsegmentation does it, on uint8 pixels: brightness, contrast, saturation, hue.

Each step rounds down to uint8, so brightness and contrast are look-up tables, exactly, and steps that follow each other
are one table. Saturation and hue go through OpenCV's 8-bit HSV (hue in 0..179) and back, each on its own.
"""

from dataclasses import dataclass

import cv2
import numpy as np

BRIGHTNESS_DELTA = 32  # levels
CONTRAST_RANGE = (0.5, 1.5)
SATURATION_RANGE = (0.5, 1.5)
HUE_DELTA = 18  # of OpenCV's 180
DRAWS = 9  # random numbers for one distortion


@dataclass(frozen=True)
class Distortion:
    """The steps for one image; None leaves a step out."""

    brightness: float | None = None  # added levels
    contrast: float | None = None  # factor
    contrast_first: bool = False  # before saturation and hue, else after them
    saturation: float | None = None  # factor
    hue: int | None = None  # added, modulo 180


def draw_distortion(uniforms: np.ndarray) -> Distortion:
    """Returns the distortion that DRAWS numbers in [0, 1) stand for; each step happens with probability one half."""
    u = uniforms.tolist()
    return Distortion(
        brightness=_between((-BRIGHTNESS_DELTA, BRIGHTNESS_DELTA), u[1]) if u[0] < 0.5 else None,
        contrast=_between(CONTRAST_RANGE, u[3]) if u[2] < 0.5 else None,
        contrast_first=u[4] < 0.5,
        saturation=_between(SATURATION_RANGE, u[6]) if u[5] < 0.5 else None,
        hue=int(u[8] * 2 * HUE_DELTA) - HUE_DELTA if u[7] < 0.5 else None,
    )


def distort(image: np.ndarray, distortion: Distortion) -> None:
    """Change a uint8 image (H, W, 3) RGB in place."""
    in_hsv = distortion.saturation is not None or distortion.hue is not None
    first = None if distortion.brightness is None else _table(1.0, distortion.brightness)
    last = None if distortion.contrast is None else _table(distortion.contrast, 0.0)
    if last is not None and (distortion.contrast_first or not in_hsv):
        first, last = (last if first is None else last[first]), None
    if first is not None:
        cv2.LUT(image, first, dst=image)
    if distortion.saturation is not None:
        _in_hsv(image, 1, _table(distortion.saturation, 0.0))
    if distortion.hue is not None:
        _in_hsv(image, 0, ((np.arange(256) + distortion.hue) % 180).astype(np.uint8))
    if last is not None:
        cv2.LUT(image, last, dst=image)


def _table(factor: float, offset: float) -> np.ndarray:
    """Returns uint8 (256,): level * factor + offset in float32, clipped, rounded down."""
    levels = np.arange(256, dtype=np.float32) * np.float32(factor) + np.float32(offset)
    return np.clip(levels, 0, 255).astype(np.uint8)


def _in_hsv(image: np.ndarray, channel: int, table: np.ndarray) -> None:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    cv2.insertChannel(cv2.LUT(cv2.extractChannel(hsv, channel), table), hsv, channel)
    cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=image)


def _between(bounds: tuple[float, float], fraction: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * fraction
