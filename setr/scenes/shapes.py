"""What the canvas can paint: faces, rods, leaves, textures and veils in metres, in painting order.

Faces are wound counter-clockwise as seen from outside, in coordinates x right, y up, z forward.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

Colour = tuple[float, float, float]  # red, green, blue, 0..255
Point = tuple[float, float, float]  # x, y, z in metres
# Red, green, blue; shares of the thing's two own colours and of the mirrored sky, so that one car body, built once,
# stands in the street in many colours; and whether it keeps its colour whatever the light.
Paint = tuple[float, float, float, float, float, float, float]
Choice = TypeVar("Choice")
Kind = TypeVar("Kind", "Faces", "Rods", "Leaves")


class Dice(np.random.Generator):
    """Random numbers, and the choices that things are made from."""

    def __init__(self, seed: int | np.random.SeedSequence) -> None:
        super().__init__(np.random.PCG64(seed))

    def pick(self, choices: Sequence[Choice]) -> Choice:
        """Returns one of the choices; one that is listed twice comes twice as often."""
        return choices[int(self.integers(len(choices)))]

    def chance(self, probability: float) -> bool:
        """Returns whether something of this probability happens."""
        return self.random() < probability

    def seed(self) -> int:
        """Returns a seed for the details of one thing."""
        return int(self.integers(1 << 31))

    def vary(self, colours: Sequence[Colour], spread: float) -> Colour:
        """Returns one of the colours, a little lighter or darker, and a little different in hue."""
        colour = self.pick(colours)
        common, *each = self.normal(0.0, spread, 4).tolist()
        red, green, blue = (min(max(c + common + 0.35 * own, 4.0), 250.0) for c, own in zip(colour, each, strict=True))
        return red, green, blue


def paint(colour: Colour = (0, 0, 0), *, first: float = 0, second: float = 0, sky: float = 0, glow: float = 0) -> Paint:
    """Returns a painted colour from its fixed part, its shares and its glow."""
    return (*colour, first, second, sky, glow)


class Faces:
    """Flat convex polygons: their corners, and rows of paint (7), label, and whether they show from both sides."""

    def __init__(self) -> None:
        self.polygons: list[np.ndarray] = []  # (N,n,3) each
        self.rows: list[np.ndarray] = []  # (N,9) each

    @cached_property
    def packed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns corners (V,3), corners by polygon (F,) and rows (F,9); nothing may be added afterwards."""
        counts = np.repeat([points.shape[1] for points in self.polygons], [len(points) for points in self.polygons])
        return np.concatenate([points.reshape(-1, 3) for points in self.polygons]), counts, np.concatenate(self.rows)


class Rods(list[tuple[float, ...]]):
    """Round-ended rods (limbs, poles, branches): x y z radius of both ends, red, green, blue, label."""


class Leaves(list[tuple[float, ...]]):
    """Ragged balls of foliage that face the camera: x y z, half width and height, red, green, blue, seed, label."""


@dataclass
class Texture:
    """A tile laid over what was painted inside a quad (4,3); `pitch` tile pixels per metre, `strength` of contrast."""

    quad: np.ndarray
    tile: str
    pitch: float
    strength: float
    shift: float


@dataclass
class Veil:
    """A quad (4,3) through which the background shows by 1 - alpha, and which is labelled as a whole."""

    quad: np.ndarray
    colour: Colour
    label: int
    alpha: float


Part = Faces | Rods | Leaves | Texture | Veil


class Shape:
    """A thing in its own coordinates, built up part by part; what is added gets the label of that moment."""

    def __init__(self, label: int) -> None:
        self.label = label
        self.parts: list[Part] = []

    def _last(self, kind: type[Kind]) -> Kind:
        if not (self.parts and isinstance(self.parts[-1], kind)):
            self.parts.append(kind())
        last = self.parts[-1]
        assert isinstance(last, kind)
        return last

    def face(self, points: np.ndarray, paints: ArrayLike, *, two_sided: bool = False) -> None:
        """Adds polygons (n,3) or (N,n,3) with one colour or paint, or one each (N,3 or 7)."""
        points = points if points.ndim == 3 else points[None]
        rows = np.zeros((len(points), 9))
        rows[:, : np.shape(paints)[-1]] = paints
        rows[:, 7:] = self.label, two_sided
        faces = self._last(Faces)
        faces.polygons.append(points)
        faces.rows.append(rows)

    def panel(self, quad: np.ndarray, rectangles: ArrayLike, paints: ArrayLike, *, two_sided: bool = False) -> None:
        """Adds rectangles (N,4) or (4,) = left, right, bottom, top in 0..1 of a quad (4,3)."""
        self.face(panels(quad, rectangles), paints, two_sided=two_sided)

    def box(self, low: Point, high: Point, paints: ArrayLike) -> None:
        """Adds a box without a bottom, from its lowest to its highest corner."""
        self.face(box_faces(low, high), paints)

    def rod(self, start: Point, end: Point, radius: float, colour: Colour, end_radius: float | None = None) -> None:
        """Adds a rod with round ends."""
        last = radius if end_radius is None else end_radius
        self._last(Rods).append((*start, radius, *end, last, *colour, self.label))

    def leaves(self, centre: Point, half: tuple[float, float], colour: Colour, seed: int) -> None:
        """Adds a ragged ball of foliage with half width and half height in metres."""
        self._last(Leaves).append((*centre, *half, *colour, seed, self.label))


def box_faces(low: Point, high: Point) -> np.ndarray:
    """Returns the rear (low z), front, left, right and top quads (5,4,3) of a box."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    return np.array(
        [
            [(x0, y0, z0), (x1, y0, z0), (x1, y1, z0), (x0, y1, z0)],
            [(x1, y0, z1), (x0, y0, z1), (x0, y1, z1), (x1, y1, z1)],
            [(x0, y0, z1), (x0, y0, z0), (x0, y1, z0), (x0, y1, z1)],
            [(x1, y0, z0), (x1, y0, z1), (x1, y1, z1), (x1, y1, z0)],
            [(x0, y1, z0), (x1, y1, z0), (x1, y1, z1), (x0, y1, z1)],
        ]
    )


def panels(quad: np.ndarray, rectangles: ArrayLike) -> np.ndarray:
    """Returns rectangles (N,4) or (4,) = left, right, bottom, top in 0..1 of a quad (4,3), as quads (N,4,3)."""
    rectangles = np.asarray(rectangles, np.float64).reshape(-1, 4)
    u, v = rectangles[:, [0, 1, 1, 0], None], rectangles[:, [2, 2, 3, 3], None]
    along, up = quad[1] - quad[0], quad[3] - quad[0]
    return quad[0] + u * along + v * up + (u * v) * (quad[2] - quad[3] - along)


def columns(left: ArrayLike, right: ArrayLike, bottom: ArrayLike, top: ArrayLike) -> np.ndarray:
    """Returns rectangles (N,4) = left, right, bottom, top; each side one number or N."""
    return np.stack(np.broadcast_arrays(left, right, bottom, top), axis=1)


def disc(centre: Point, radius: float, side: int, corners: int = 14) -> np.ndarray:
    """Returns a disc (corners,3) in the plane x = const that faces to the right (side 1) or to the left (-1)."""
    x, y, z = centre
    angles = np.arange(corners) * (2.0 * math.pi / corners) * side
    return np.stack([np.full(corners, x), y + radius * np.sin(angles), z + radius * np.cos(angles)], axis=1)


def plate(centre: Point, radius: float, corners: int, turn: float = 0.0) -> np.ndarray:
    """Returns a regular polygon (corners,3) in the plane z = const that faces the camera (low z)."""
    x, y, z = centre
    angles = turn + np.arange(corners) * (2.0 * math.pi / corners)
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles), np.full(corners, z)], axis=1)


def tint(colour: Colour, factor: float) -> Colour:
    """Returns a colour made darker or lighter."""
    red, green, blue = (min(value * factor, 255.0) for value in colour)
    return red, green, blue
