"""What the canvas can paint: faces, rods, leaves, textures and veils in metres, in painting order.

Faces are wound counter-clockwise as seen from outside, in coordinates x right, y up, z forward.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

Colour = tuple[float, float, float]  # red, green, blue, 0..255


# A painted colour is (red, green, blue, first, second, sky): what is fixed, plus shares of the thing's two own colours
# and of the mirrored sky. So one car body, built once, stands in the street in many colours.
Paint = tuple[float, float, float, float, float, float]


def paint(colour: Colour = (0.0, 0.0, 0.0), *, first: float = 0.0, second: float = 0.0, sky: float = 0.0) -> Paint:
    """Returns a painted colour from its fixed part and its shares."""
    return (colour[0], colour[1], colour[2], first, second, sky)


@dataclass
class Faces:
    """Flat convex polygons; `glow` faces keep their colour whatever the light, two-sided ones are never culled.

    One entry holds one or more polygons (N,n,3) that share the rest.
    """

    points: list[np.ndarray] = field(default_factory=list)
    paints: list[Colour | Paint | np.ndarray] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    glow: list[bool | np.ndarray] = field(default_factory=list)
    two_sided: list[bool] = field(default_factory=list)

    @cached_property
    def packed(self) -> "PackedFaces":
        """Returns all polygons as arrays; nothing may be added afterwards."""
        numbers = [points.shape[0] for points in self.points]
        counts = np.repeat([points.shape[1] for points in self.points], numbers)
        return PackedFaces(
            np.concatenate([points.reshape(-1, 3) for points in self.points]),
            counts,
            np.cumsum(counts) - counts,
            spread(self.paints, numbers, 6),
            np.repeat(self.labels, numbers)[:, None],
            spread(self.glow, numbers, 1).astype(bool),
            np.repeat(self.two_sided, numbers),
        )


def spread(values: Sequence[ArrayLike], numbers: Sequence[int], width: int) -> np.ndarray:
    """Returns rows (sum of numbers, width): each value as often as its number says, with zeros where it is short."""
    rows = np.zeros((sum(numbers), width))
    start = 0
    for value, number in zip(values, numbers, strict=True):
        length = np.shape(value)[-1] if np.ndim(value) else width
        rows[start : start + number, :length] = value
        start += number
    return rows


@dataclass(frozen=True)
class PackedFaces:
    """F polygons as arrays: corners (V,3), and by polygon count, start, paint (F,6), label (F,1) and the two flags."""

    points: np.ndarray
    counts: np.ndarray
    starts: np.ndarray
    paints: np.ndarray
    labels: np.ndarray
    glow: np.ndarray
    two_sided: np.ndarray


@dataclass
class Rods:
    """Round-ended rods from one point to another, each end with its radius (people, poles, branches, frames)."""

    ends: list[tuple[float, ...]] = field(default_factory=list)  # x y z radius, x y z radius
    colours: list[Colour] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)


@dataclass
class Leaves:
    """Ragged balls of foliage that always face the camera."""

    balls: list[tuple[float, ...]] = field(default_factory=list)  # x y z, half width, half height
    colours: list[Colour] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)


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
    """A thing in its own coordinates, built up part by part."""

    def __init__(self) -> None:
        self.parts: list[Part] = []

    def face(
        self,
        points: np.ndarray,
        colour: Colour | Paint | np.ndarray,
        label: int,
        *,
        glow: bool | np.ndarray = False,
        two_sided: bool = False,
    ) -> None:
        """Adds polygons (n,3) or (N,n,3) with one colour or paint, or one each (N,3 or 6); glow one, or each (N,1)."""
        if not (self.parts and isinstance(self.parts[-1], Faces)):
            self.parts.append(Faces())
        faces = self.parts[-1]
        assert isinstance(faces, Faces)
        faces.points.append(points if points.ndim == 3 else points[None])
        faces.paints.append(colour)
        faces.labels.append(label)
        faces.glow.append(glow)
        faces.two_sided.append(two_sided)

    def rod(
        self,
        start: tuple[float, float, float],
        end: tuple[float, float, float],
        radius: float,
        colour: Colour,
        label: int,
        end_radius: float | None = None,
    ) -> None:
        """Adds a rod with round ends."""
        if not (self.parts and isinstance(self.parts[-1], Rods)):
            self.parts.append(Rods())
        rods = self.parts[-1]
        assert isinstance(rods, Rods)
        rods.ends.append((*start, radius, *end, radius if end_radius is None else end_radius))
        rods.colours.append(colour)
        rods.labels.append(label)

    def leaves(
        self,
        centre: tuple[float, float, float],
        half: tuple[float, float],
        colour: Colour,
        seed: int,
        label: int,
    ) -> None:
        """Adds a ragged ball of foliage with half width and half height in metres."""
        if not (self.parts and isinstance(self.parts[-1], Leaves)):
            self.parts.append(Leaves())
        leaves = self.parts[-1]
        assert isinstance(leaves, Leaves)
        leaves.balls.append((*centre, *half))
        leaves.colours.append(colour)
        leaves.seeds.append(seed)
        leaves.labels.append(label)

    def box(
        self,
        low: tuple[float, float, float],
        high: tuple[float, float, float],
        colour: Colour | Paint,
        label: int,
    ) -> None:
        """Adds a box without a bottom, from its lowest to its highest corner."""
        self.face(box_faces(low, high), colour, label)


_ACROSS, _UPWARDS = [0, 1, 1, 0], [2, 2, 3, 3]


def box_faces(low: tuple[float, float, float], high: tuple[float, float, float]) -> np.ndarray:
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


def panels(quad: np.ndarray, rectangles: np.ndarray, lift: float = 0.0) -> np.ndarray:
    """Returns rectangles (N,4) = left, right, bottom, top in 0..1 of a quad (4,3), as quads (N,4,3) lifted outwards."""
    rectangles = np.asarray(rectangles, np.float64).reshape(-1, 4)
    u, v = rectangles[:, _ACROSS, None], rectangles[:, _UPWARDS, None]
    along, up = quad[1] - quad[0], quad[3] - quad[0]
    points = quad[0] + u * along + v * up + (u * v) * (quad[2] - quad[3] - along)
    if lift:
        outward = -np.cross(along, up)
        points += outward * (lift / max(float(np.linalg.norm(outward)), 1e-9))
    return points


def disc(centre: tuple[float, float, float], radius: float, side: int, corners: int = 14) -> np.ndarray:
    """Returns a disc (corners,3) in the plane x = const that faces to the right (side 1) or to the left (-1)."""
    angles = np.arange(corners) * (2.0 * math.pi / corners) * side
    return np.stack(
        [
            np.full(corners, centre[0]),
            centre[1] + radius * np.sin(angles),
            centre[2] + radius * np.cos(angles),
        ],
        axis=1,
    )


def plate(centre: tuple[float, float, float], radius: float, corners: int, turn: float = 0.0) -> np.ndarray:
    """Returns a regular polygon (corners,3) in the plane z = const that faces the camera (low z)."""
    angles = turn + np.arange(corners) * (2.0 * math.pi / corners)
    return np.stack(
        [centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles), np.full(corners, centre[2])],
        axis=1,
    )


def tint(colour: Colour, factor: float) -> Colour:
    """Returns a colour made darker or lighter."""
    return (min(colour[0] * factor, 255.0), min(colour[1] * factor, 255.0), min(colour[2] * factor, 255.0))


def generator(seed: int) -> np.random.Generator:
    """Returns the generator of random numbers for the details of one thing."""
    return np.random.Generator(np.random.PCG64(seed))
