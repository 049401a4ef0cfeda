"""From shapes in their places to strokes: polygons on the canvas with colour and label, for a whole scene at once.

Thousands of small polygons make a scene; numpy's cost per call would dwarf the work if each thing were projected alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from setr.scenes.camera import NEAR, Camera, Light, clip_near
from setr.scenes.shapes import Colour, Dice, Faces, Leaves, Rods

SHIFT = 4  # fractional bits of the corners given to OpenCV
FAR = 1.0e5  # pixels: corners are cut off here, far outside any canvas
SMOOTH_BALL = 13.0  # pixels: smaller balls of leaves are made of polygons, larger ones leaf by leaf
FACING = np.array([[0.0, 0.2, -0.98]])  # the normal given to what has no faces
_HALF_CIRCLE = np.linspace(math.pi / 2, 3 * math.pi / 2, 7)


class Stroke(NamedTuple):
    """A polygon on the canvas."""

    corners: np.ndarray  # (n,2) int32 in fixed point
    ink: list[int]  # red, green, blue, label
    convex: bool = True


class Ball(NamedTuple):
    """A ball of leaves on the canvas, to be drawn leaf by leaf; lengths in pixels."""

    centre: np.ndarray
    half: np.ndarray
    colour: np.ndarray
    seed: int
    label: int
    clear: float  # share of its contrast that the air leaves


Mark = Stroke | Ball


@dataclass(frozen=True)
class Place:
    """Where a shape stands: x and z in metres, heading in radians (0 looks along the road, away from the camera)."""

    x: float = 0.0
    z: float = 0.0
    heading: float = 0.0
    scale: float = 1.0
    first: Colour = (128.0, 128.0, 128.0)  # the thing's own two colours
    second: Colour = (128.0, 128.0, 128.0)


def to_world(points: np.ndarray, places: Sequence[Place], place_of: np.ndarray) -> np.ndarray:
    """Returns shapes' own points (N,3) in the world; point i stands at places[place_of[i]]."""
    turns = [(p.x, p.z, math.cos(p.heading) * p.scale, math.sin(p.heading) * p.scale, p.scale) for p in places]
    x, z, cosine, sine, scale = np.array(turns)[place_of].T
    across, up, along = points.T
    return np.stack([x + cosine * across + sine * along, scale * up, z - sine * across + cosine * along], axis=1)


def fixed_point(pixels: np.ndarray) -> np.ndarray:
    """Returns pixel positions (...,2), whole numbers at pixel corners, as OpenCV's fixed-point integers (...,2)."""
    return np.rint((np.minimum(np.maximum(pixels, -FAR), FAR) - 0.5) * (1 << SHIFT)).astype(np.int32)


class Easel:
    """Turns parts with their places and shares of the sun into marks on the canvas, part by part."""

    def __init__(self, camera: Camera, light: Light) -> None:
        self.camera = camera
        self.light = light

    def faces(self, placed: Sequence[tuple[Faces, Place, float]]) -> list[list[Mark]]:
        """Returns the strokes of each part's faces that the camera sees."""
        packs = [part.packed for part, _, _ in placed]
        points, counts, rows = (np.concatenate(arrays) for arrays in zip(*packs, strict=True))
        places = [place for _, place, _ in placed]
        part_of = np.repeat(np.arange(len(placed)), [len(pack[1]) for pack in packs])
        starts = np.cumsum(counts) - counts
        view = self.camera.view(to_world(points, places, np.repeat(part_of, counts)))
        pixels = self.camera.pixels(view)
        a = view[starts]
        outward = np.cross(view[starts + 2] - a, view[starts + 1] - a)
        towards = -(outward * a).sum(axis=1)
        nearest, farthest = np.minimum.reduceat(view[:, 2], starts), np.maximum.reduceat(view[:, 2], starts)
        low, high = np.minimum.reduceat(pixels, starts), np.maximum.reduceat(pixels, starts)
        inside = (high > 0).all(axis=1) & (low < (self.camera.width, self.camera.height)).all(axis=1)
        facing = (rows[:, 8] > 0) | (towards > 0)
        shown = np.flatnonzero(facing & (farthest > NEAR) & (inside | (nearest < NEAR)))

        part_of, rows, outward = part_of[shown], rows[shown], outward[shown]
        own = np.array([(place.first, place.second) for place in places])[part_of]
        sky = 0.5 * (self.light.zenith + self.light.horizon)
        colours = rows[:, :3] + rows[:, 3:4] * own[:, 0] + rows[:, 4:5] * own[:, 1] + rows[:, 5:6] * sky
        outward *= (np.where(towards[shown] < 0, -1.0, 1.0) / np.sqrt((outward**2).sum(axis=1) + 1e-18))[:, None]
        lit = self.light.shade(np.minimum(colours, 255.0), outward, _suns(placed)[part_of])
        depth = 0.5 * (np.maximum(nearest, NEAR) + farthest)[shown]
        inks = self._inks(np.where(rows[:, 6:7] > 0, colours, lit), depth, rows[:, 7:8])

        corners, cut = fixed_point(pixels), (nearest[shown] < NEAR).tolist()
        spans = zip(starts[shown].tolist(), (starts + counts)[shown].tolist(), strict=True)
        strokes: list[list[Mark]] = [[] for _ in placed]
        for order, (start, stop) in enumerate(spans):
            polygon = corners[start:stop]
            if cut[order]:
                polygon = fixed_point(self.camera.pixels(clip_near(view[start:stop])))
            if len(polygon) >= 3:
                strokes[part_of[order]].append(Stroke(polygon, inks[order]))
        return strokes

    def rods(self, placed: Sequence[tuple[Rods, Place, float]]) -> list[list[Mark]]:
        """Returns the strokes of each part's rods, its farthest rods first."""
        rows, part_of, focal, sunlit = self._rows(placed)
        number, places = len(rows), [place for _, place, _ in placed]
        world = [to_world(rows[:, first : first + 3], places, part_of) for first in (0, 4)]
        view = self.camera.view(np.concatenate(world))
        pixels = self.camera.pixels(view)
        reach = np.concatenate([rows[:, 3] * focal, rows[:, 7] * focal])
        radius = np.maximum(reach / np.maximum(view[:, 2], NEAR), 0.3)
        depth = np.minimum(view[:number, 2], view[number:, 2])
        lit = self.light.shade(rows[:, 8:11], FACING, sunlit)
        inks = self._inks(lit, depth, rows[:, 11:])
        whole = _outlines(pixels, radius)
        # A narrower, brighter rod on the side of the sun makes it look round.
        thick = np.minimum(radius[:number], radius[number:]) > 1.5
        bright = self._inks(lit * (1.22 + 0.5 * float(self.light.sun.mean()) * sunlit[:, None]), depth, rows[:, 11:])
        lean = np.array([math.copysign(0.35, self.light.to_sun[0]), -0.25])
        inner = _outlines(pixels + lean * radius[:, None], 0.55 * radius)
        strokes: list[list[Mark]] = [[] for _ in placed]
        order = np.lexsort((-(view[:number, 2] + view[number:, 2]), part_of))
        for index in order[depth[order] > NEAR].tolist():
            strokes[part_of[index]].append(Stroke(whole[index], inks[index]))
            if thick[index]:
                strokes[part_of[index]].append(Stroke(inner[index], bright[index]))
        return strokes

    def leaves(self, placed: Sequence[tuple[Leaves, Place, float]]) -> list[list[Mark]]:
        """Returns each part's balls of leaves in order: strokes for a small one, the ball itself for a large one."""
        rows, part_of, focal, sunlit = self._rows(placed)
        view = self.camera.view(to_world(rows[:, :3], [place for _, place, _ in placed], part_of))
        centres, depth = self.camera.pixels(view), view[:, 2]
        halves = np.maximum(rows[:, 3:5] * (focal / np.maximum(depth, NEAR))[:, None], 0.8)
        colours = self.light.haze(self.light.shade(rows[:, 5:8], FACING, sunlit), depth)
        clear = np.exp(-self.light.fog * depth)
        edge = np.array([self.camera.width, self.camera.height])
        seen = (depth > NEAR) & ((centres + 1.3 * halves > 0) & (centres - 1.3 * halves < edge)).all(axis=1)
        small = halves.max(axis=1) < SMOOTH_BALL
        tufts = iter(self._tufts(*(values[seen & small] for values in (centres, halves, colours, clear, rows))))
        marks: list[list[Mark]] = [[] for _ in placed]
        for index in np.flatnonzero(seen).tolist():
            if small[index]:
                marks[part_of[index]] += next(tufts)
            else:
                seed, label = rows[index, 8:].astype(int).tolist()
                marks[part_of[index]].append(
                    Ball(centres[index], halves[index], colours[index], seed, label, float(clear[index]))
                )
        return marks

    def _tufts(
        self, centres: np.ndarray, halves: np.ndarray, colours: np.ndarray, clear: np.ndarray, rows: np.ndarray
    ) -> list[list[Stroke]]:
        """Returns small balls of leaves as a ragged outline and lighter and darker tufts on it."""
        kind = rows[:, 8].astype(int) % len(_OUTLINES)
        outlines = fixed_point(centres[:, None] + halves[:, None] * _OUTLINES[kind])
        tufts = fixed_point(centres[:, None, None] + halves[:, None, None] * _TUFTS[kind])
        middles = _TUFTS[kind].mean(axis=2)
        sunward = math.copysign(0.13 * (1.0 + self.light.hardness), self.light.to_sun[0])
        tone = _TUFT_TONES[kind] - 0.34 * middles[..., 1] + sunward * middles[..., 0]
        shades = np.maximum(colours[:, None] * (1.0 + clear[:, None] * tone)[..., None], 0.0)
        base, inks = _pack(colours, rows[:, 9:]), _pack(shades, np.repeat(rows[:, None, 9:], tone.shape[1], axis=1))
        number = np.where(halves.max(axis=1) > 4.0, _TUFTS.shape[1], 4).tolist()
        return [
            [
                Stroke(outlines[index], base[index], convex=False),
                *map(Stroke, tufts[index, : number[index]], inks[index]),
            ]
            for index in range(len(rows))
        ]

    def _rows(
        self, placed: Sequence[tuple[Rods | Leaves, Place, float]]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Returns all rows, and for each: its part, its pixels to a metre one metre away, its share of the sun."""
        rows = np.array([row for part, _, _ in placed for row in part])
        part_of = np.repeat(np.arange(len(placed)), [len(part) for part, _, _ in placed])
        scale = np.array([place.scale for _, place, _ in placed])[part_of]
        return rows, part_of, scale * self.camera.focal, _suns(placed)[part_of]

    def _inks(self, colours: np.ndarray, depth: np.ndarray, labels: np.ndarray) -> list[list[int]]:
        return _pack(self.light.haze(colours, depth), labels)


def _suns(placed: Sequence[tuple[object, Place, float]]) -> np.ndarray:
    return np.array([sunlit for _, _, sunlit in placed])


def _pack(colours: np.ndarray, labels: np.ndarray) -> list:
    return np.concatenate([np.minimum(colours, 255.0), labels], axis=-1).astype(np.int64).tolist()


def _outlines(ends: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Returns fixed-point outlines (N,14,2) of rods whose first and second ends (2N,2) have radii (2N,), in pixels."""
    number = len(ends) // 2
    span = ends[number:] - ends[:number]
    along = np.arctan2(span[:, 1], span[:, 0])[:, None]
    angles = np.concatenate([along + _HALF_CIRCLE, along + (_HALF_CIRCLE + math.pi)])
    arcs = ends[:, None] + radius[:, None, None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    return fixed_point(np.concatenate([arcs[:number], arcs[number:]], axis=1))


def _make_tufts(kinds: int, tufts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns ragged outlines (kinds,22,2), tufts on them (kinds,tufts,6,2), both about the unit circle, and tones."""
    rng = Dice(61)
    angles = np.arange(22) * (2 * math.pi / 22) + rng.uniform(-0.08, 0.08, (kinds, 22))
    radii = 0.93 + rng.uniform(-0.17, 0.14, (kinds, 22))
    outlines = radii[..., None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    turn, out = rng.uniform(0, 2 * math.pi, (kinds, tufts)), 0.72 * np.sqrt(rng.uniform(0, 1, (kinds, tufts)))
    middles = out[..., None] * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    corners = np.arange(6) * (2 * math.pi / 6) + rng.uniform(-0.3, 0.3, (kinds, tufts, 6))
    size = rng.uniform(0.14, 0.34, (kinds, tufts, 1)) * rng.uniform(0.75, 1.25, (kinds, tufts, 6))
    blots = middles[:, :, None] + size[..., None] * np.stack([np.cos(corners), 0.8 * np.sin(corners)], axis=-1)
    return outlines, blots, rng.normal(0.0, 0.14, (kinds, tufts))


_OUTLINES, _TUFTS, _TUFT_TONES = _make_tufts(kinds=24, tufts=11)
