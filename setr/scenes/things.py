"""Things in their places: which the camera sees, in what order they are painted, and the shadows that they throw."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from setr.scenes.camera import NEAR, Camera, Light, clip_near
from setr.scenes.shapes import Shape
from setr.scenes.strokes import SHIFT, Place, fixed_point

LONG = 1.2  # metres: half a length from which other things may stand beside a thing instead of before or behind it
LOWEST_SUN = 0.14  # sine of the elevation below which shadows grow no longer


@dataclass(frozen=True)
class Thing:
    """Something in its place, built when it is painted; lengths in metres.

    `far` orders the painting. The half width and half length are of the box it stands in; a house's box starts at its
    place, runs `half_length * 2` along the street and lies behind its frontage on the side of `side`.
    """

    build: Callable[[], Shape]
    place: Place
    far: float
    half_width: float
    half_length: float
    height: float
    side: int = 0  # not 0: a house on that side of the road

    @cached_property
    def footprint(self) -> np.ndarray:
        """Returns the corners (4,3) on the ground in the world."""
        across, along, x, z = self.half_width, self.half_length, self.place.x, self.place.z
        box = [(-across, -along), (across, -along), (across, along), (-across, along)]
        if self.side:
            box = [(0.0, 0.0), (2 * across * self.side, 0.0), (2 * across * self.side, 2 * along), (0.0, 2 * along)]
        cosine, sine = math.cos(self.place.heading), math.sin(self.place.heading)
        return np.array([(x + cosine * u + sine * v, 0.0, z - sine * u + cosine * v) for u, v in box])


def visible(things: list[Thing], camera: Camera) -> list[Thing]:
    """Returns the things whose box is at least partly inside the camera's view to the left and right."""
    corners = camera.view(np.concatenate([thing.footprint for thing in things])).reshape(-1, 4, 3)
    x, z = corners[..., 0], corners[..., 2]
    left = camera.focal * x + camera.centre * z < 0
    right = camera.focal * x > (camera.width - camera.centre) * z
    hidden = np.all([left, right, z < NEAR], axis=2).any(axis=0)
    return [things[index] for index in np.flatnonzero(~hidden)]


def far_to_near(things: list[Thing], camera: Camera) -> list[Thing]:
    """Returns the things in painting order.

    Distance decides, except beside long vehicles: what the vehicle hides from the eye is painted before it, what
    stands between it and the eye after it.
    """
    before: list[set[int]] = [set() for _ in things]  # what has to be painted before a thing
    for first, second in _constraints(things, camera):
        before[second].add(first)
    left = sorted(range(len(things)), key=lambda index: -things[index].far)
    order: dict[int, None] = {}
    while (free := next((index for index in left if before[index] <= order.keys()), None)) is not None:
        order[free] = None
        left.remove(free)
    return [things[index] for index in [*order, *left]]  # where two each want to be first, distance decides after all


def _constraints(things: list[Thing], camera: Camera) -> Iterator[tuple[int, int]]:
    """Yields pairs of indices: the first thing has to be painted before the second."""
    x, z, movable = np.array([(thing.place.x, thing.place.z, thing.side == 0) for thing in things]).T
    for index, thing in enumerate(things):
        if thing.side or max(thing.half_length, thing.half_width) < LONG or not 1.2 < thing.height < 4.5:
            continue
        (left, _, near), (right, _, back) = thing.footprint.min(axis=0), thing.footprint.max(axis=0)
        beside = (movable > 0) & (z > near) & (z < back)
        beside[index] = False
        entering = camera.offset + (x - camera.offset) * max(near, NEAR) / np.maximum(z, NEAR)
        hidden = (np.minimum(entering, x) < right) & (np.maximum(entering, x) > left)
        outward = np.sign(thing.place.x - camera.offset)
        between = ~hidden & (outward * (thing.place.x - x) > 0) & (outward * (x - camera.offset) > 0)
        yield from ((other, index) for other in np.flatnonzero(beside & hidden).tolist())
        yield from ((index, other) for other in np.flatnonzero(beside & between).tolist())


class Shadows:
    """Masks (h,W) float32 in 0..1 on the rows below the horizon: houses' shadows, other things', and those beneath."""

    def __init__(self, camera: Camera, light: Light, things: list[Thing]) -> None:
        self.camera, self.hardness, self.first = camera, light.hardness, camera.first_ground_row
        base = np.array([thing.footprint for thing in things]).reshape(-1, 4, 3)
        height = np.array([thing.height for thing in things])
        house = np.array([thing.side != 0 for thing in things], bool)
        cast = np.concatenate([base, base + _throw(light.to_sun, height)[:, None]], axis=1)
        direct = self.hardness > 0.15
        self.houses = self._mask(cast[house & direct], 0.25)
        self.others = self._mask(cast[~house & direct], 0.25)
        self.beneath = self._mask(base[~house & (height < 4.0)], 0.9)

    def light_left(self) -> np.ndarray:
        """Returns the share (h,W) of the ground's light that is left."""
        cast = np.float32(min(1.0, 2.2 * self.hardness)) * np.maximum(self.houses, np.float32(0.85) * self.others)
        return (1.0 - cast) * (1.0 - np.float32(0.6 - 0.3 * self.hardness) * self.beneath)

    def sunlit(self, things: list[Thing]) -> list[float]:
        """Returns how much of the sun, 0..1, the houses let through to each thing."""
        view = self.camera.view(np.array([[thing.place.x, 0.0, thing.place.z] for thing in things]).reshape(-1, 3))
        columns, rows = self.camera.pixels(view).T
        rows = np.clip(rows - self.first, 0, len(self.houses) - 1).astype(int)
        columns = np.clip(columns, 0, self.camera.width - 1).astype(int)
        free = (view[:, 2] < NEAR) | np.array([thing.side != 0 for thing in things], bool)
        return np.where(free, 1.0, 1.0 - self.houses[rows, columns]).tolist()

    def _mask(self, polygons: np.ndarray, softness: float) -> np.ndarray:
        """Returns the soft mask of the hulls of polygons (N,n,3) on the ground."""
        # Shadows are soft: half the canvas's resolution is enough.
        camera, height = self.camera, self.camera.height - self.first
        mask: np.ndarray = np.zeros(((height + 1) // 2, (camera.width + 1) // 2), np.uint8)
        view = camera.view(polygons.reshape(-1, 3))
        corners, view = self._on_mask(view).reshape(*polygons.shape[:2], 2), view.reshape(polygons.shape)
        nearest, farthest = view[..., 2].min(axis=1), view[..., 2].max(axis=1)
        for index in np.flatnonzero(farthest > NEAR).tolist():
            hull = corners[index]
            if nearest[index] < NEAR:
                around = cv2.convexHull(polygons[index][:, ::2].astype(np.float32), returnPoints=False)[:, 0]
                hull = self._on_mask(clip_near(view[index][around]))
            if len(hull) >= 3:
                cv2.fillConvexPoly(mask, cv2.convexHull(hull), 255, cv2.LINE_8, SHIFT)
        sigma = max(0.5, softness * camera.height / 200.0)
        mask = cv2.GaussianBlur(mask, (0, 0), sigmaX=1.6 * sigma, sigmaY=0.7 * sigma)
        size = (camera.width, height)
        return cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR).astype(np.float32) / np.float32(255.0)

    def _on_mask(self, view: np.ndarray) -> np.ndarray:
        """Returns view points (N,3) on a mask of half the resolution, as OpenCV's fixed-point integers (N,2)."""
        return fixed_point((self.camera.pixels(view) - (0.0, self.first)) / 2)


def _throw(to_sun: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Returns where (N,3) in metres, from their feet, the tops of things `height` (N,) metres high throw shadows."""
    flat = math.hypot(to_sun[0], to_sun[2])
    length = np.minimum(height * flat / max(float(to_sun[1]), LOWEST_SUN), 60.0)
    return length[:, None] * np.array([-to_sun[0] / flat, 0.0, -to_sun[2] / flat])
