"""The light that shadows leave on the ground, and how much of the sun reaches each thing."""

import math

import cv2
import numpy as np

from setr.scenes.camera import NEAR, clip_near
from setr.scenes.canvas import Canvas
from setr.scenes.strokes import SHIFT, fixed_point
from setr.scenes.thing import Thing

LOWEST_SUN = 0.14  # sine of the elevation below which shadows grow no longer


class Shadows:
    """Masks (h,W) float32 in 0..1 on the rows below the horizon: houses' shadows, other things', and those beneath."""

    def __init__(self, canvas: Canvas, things: list[Thing]) -> None:
        self.camera = canvas.camera
        self.hardness = canvas.light.hardness
        self.first = self.camera.first_ground_row()
        base = np.array([thing.footprint for thing in things]).reshape(-1, 4, 3)
        height = np.array([thing.height for thing in things])
        house = np.array([thing.side != 0 for thing in things], bool)
        cast = np.concatenate([base, base + _throw(canvas.light.to_sun, height)[:, None]], axis=1)
        direct = self.hardness > 0.15
        self.houses = self._mask(cast[house & direct], 0.25)
        self.others = self._mask(cast[~house & direct], 0.25)
        self.beneath = self._mask(base[~house & (height < 4.0)], 0.9)

    def light_left(self) -> np.ndarray:
        """Returns the share (h,W) of the ground's light that is left."""
        cast = np.float32(min(1.0, 2.2 * self.hardness)) * np.maximum(self.houses, np.float32(0.85) * self.others)
        contact = np.float32(0.6 - 0.3 * self.hardness) * self.beneath
        return (1.0 - cast) * (1.0 - contact)

    def sunlit(self, things: list[Thing]) -> list[float]:
        """Returns how much of the sun, 0..1, the houses let through to each thing."""
        view = self.camera.view(np.array([[thing.place.x, 0.0, thing.place.z] for thing in things]).reshape(-1, 3))
        pixels = self.camera.pixels(view)
        rows = np.clip(pixels[:, 1] - self.first, 0, len(self.houses) - 1).astype(int)
        columns = np.clip(pixels[:, 0], 0, self.camera.width - 1).astype(int)
        free = (view[:, 2] < NEAR) | np.array([thing.side != 0 for thing in things], bool)
        return np.where(free, 1.0, 1.0 - self.houses[rows, columns]).tolist()

    def _mask(self, polygons: np.ndarray, softness: float) -> np.ndarray:
        """Returns the soft mask of the hulls of polygons (N,n,3) on the ground."""
        # Shadows are soft: half the canvas's resolution is enough.
        shape = ((self.camera.height - self.first + 1) // 2, (self.camera.width + 1) // 2)
        mask: np.ndarray = np.zeros(shape, np.uint8)
        view = self.camera.view(polygons.reshape(-1, 3))
        corners = fixed_point((self.camera.pixels(view) - np.array([0.0, self.first])) / 2)
        view, corners = view.reshape(polygons.shape), corners.reshape(*polygons.shape[:2], 2)
        nearest, farthest = view[..., 2].min(axis=1), view[..., 2].max(axis=1)
        for index in np.flatnonzero(farthest > NEAR).tolist():
            hull = corners[index]
            if nearest[index] < NEAR:
                clipped = clip_near(
                    view[index][cv2.convexHull(polygons[index][:, ::2].astype(np.float32), returnPoints=False)[:, 0]]
                )
                if len(clipped) < 3:
                    continue
                hull = fixed_point((self.camera.pixels(clipped) - np.array([0.0, self.first])) / 2)
            cv2.fillConvexPoly(mask, cv2.convexHull(hull), 255, cv2.LINE_8, SHIFT)
        sigma = max(0.5, softness * self.camera.height / 200.0)
        mask = cv2.GaussianBlur(mask, (0, 0), sigmaX=1.6 * sigma, sigmaY=0.7 * sigma)
        size = (self.camera.width, self.camera.height - self.first)
        return cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR).astype(np.float32) / np.float32(255.0)


def _throw(to_sun: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Returns where (N,3) in metres, from their feet, the tops of things `height` (N,) metres high throw shadows."""
    flat = math.hypot(to_sun[0], to_sun[2])
    length = np.minimum(height * flat / max(float(to_sun[1]), LOWEST_SUN), 60.0)
    return length[:, None] * np.array([-to_sun[0] / flat, 0.0, -to_sun[2] / flat])
