"""From shapes in their places to strokes: polygons on the canvas with colour and label, for a whole scene at once.

Thousands of small polygons make a scene; numpy's cost per call would dwarf the work if each thing were projected alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from setr.scenes.camera import NEAR, Camera, clip_near
from setr.scenes.light import Light
from setr.scenes.shapes import Colour, Faces, Leaves, Rods, generator

SHIFT = 4  # fractional bits of the corners given to OpenCV
FAR = 1.0e5  # pixels: corners are cut off here, far outside any canvas
SMOOTH_BALL = 13.0  # pixels: smaller balls of leaves are made of polygons, larger ones leaf by leaf
FACING = np.array([[0.0, 0.2, -0.98]])  # the normal given to what has no faces
_HALF_CIRCLE = np.linspace(math.pi / 2, 3 * math.pi / 2, 7)

Stroke = tuple[np.ndarray, list[int]]  # corners (n,2) int32 in fixed point; red, green, blue, label


@dataclass(frozen=True)
class Place:
    """Where a shape stands: x and z in metres, heading in radians (0 looks along the road, away from the camera)."""

    x: float = 0.0
    z: float = 0.0
    heading: float = 0.0
    scale: float = 1.0
    first: Colour = (128.0, 128.0, 128.0)  # the thing's own two colours
    second: Colour = (128.0, 128.0, 128.0)

    def world(self, points: np.ndarray) -> np.ndarray:
        """Returns a shape's own points (N,3) in the world."""
        return to_world(points, [self], [len(points)])


@dataclass(frozen=True)
class Ball:
    """A ball of leaves on the canvas, to be drawn leaf by leaf; lengths in pixels."""

    centre: np.ndarray
    half: np.ndarray
    colour: np.ndarray
    seed: int
    label: int
    clear: float  # share of its contrast that the air leaves


def to_world(points: np.ndarray, places: Sequence[Place], numbers: Sequence[int]) -> np.ndarray:
    """Returns points (N,3) in the world: the first numbers[0] of them stand at places[0], and so on."""
    turns = [
        (place.x, place.z, math.cos(place.heading) * place.scale, math.sin(place.heading) * place.scale, place.scale)
        for place in places
    ]
    x, z, cosine, sine, scale = np.repeat(np.array(turns).reshape(-1, 5), numbers, axis=0).T
    world = np.empty((len(points), 3))
    world[:, 0] = x + cosine * points[:, 0] + sine * points[:, 2]
    world[:, 1] = scale * points[:, 1]
    world[:, 2] = z - sine * points[:, 0] + cosine * points[:, 2]
    return world


def fixed_point(pixels: np.ndarray) -> np.ndarray:
    """Returns pixel positions (...,2), whole numbers at pixel corners, as OpenCV's fixed-point integers (...,2)."""
    return np.rint((np.minimum(np.maximum(pixels, -FAR), FAR) - 0.5) * (1 << SHIFT)).astype(np.int32)


class Easel:
    """Turns parts with their places and shares of the sun into strokes, part by part."""

    def __init__(self, camera: Camera, light: Light) -> None:
        self.camera = camera
        self.light = light
        self.sky = 0.5 * (light.zenith + light.horizon)

    def faces(self, parts: Sequence[tuple[Faces, Place, float]]) -> list[list[Stroke]]:
        """Returns the strokes of each part's faces that the camera sees."""
        if not parts:
            return []
        packs = [part.packed for part, _, _ in parts]
        counts = np.concatenate([pack.counts for pack in packs])
        starts = np.cumsum(counts) - counts
        places = [place for _, place, _ in parts]
        points = np.concatenate([pack.points for pack in packs])
        view = self.camera.view(to_world(points, places, [len(pack.points) for pack in packs]))
        pixels = self.camera.pixels(view)
        a = view[starts]
        outward = _cross(view[starts + 2] - a, view[starts + 1] - a)
        towards = -(outward * a).sum(axis=1)
        nearest, farthest = np.minimum.reduceat(view[:, 2], starts), np.maximum.reduceat(view[:, 2], starts)
        low, high = np.minimum.reduceat(pixels, starts), np.maximum.reduceat(pixels, starts)
        inside = (high[:, 0] > 0) & (high[:, 1] > 0)
        inside &= (low[:, 0] < self.camera.width) & (low[:, 1] < self.camera.height)
        two_sided = np.concatenate([pack.two_sided for pack in packs])
        shown = np.flatnonzero((two_sided | (towards > 0)) & (farthest > NEAR) & (inside | (nearest < NEAR)))

        numbers = [len(pack.counts) for pack in packs]
        part_of = np.repeat(np.arange(len(parts)), numbers)[shown]
        own = np.array([(place.first, place.second) for place in places])[part_of]
        paints = np.concatenate([pack.paints for pack in packs])[shown]
        colours = paints[:, :3] + paints[:, 3:4] * own[:, 0] + paints[:, 4:5] * own[:, 1] + paints[:, 5:] * self.sky
        outward = outward[shown]
        outward *= (np.where(towards[shown] < 0, -1.0, 1.0) / np.sqrt((outward**2).sum(axis=1) + 1e-18))[:, None]
        sunlit = np.array([sunlit for _, _, sunlit in parts])[part_of]
        lit = self.light.shade(np.minimum(colours, 255.0), outward, sunlit)
        glow = np.concatenate([pack.glow for pack in packs])[shown]
        depth = 0.5 * (np.maximum(nearest, NEAR) + farthest)[shown]
        label_ids = np.concatenate([pack.labels for pack in packs])[shown]
        inks = self._inks(np.where(glow, colours, lit), depth, label_ids)

        corners = fixed_point(pixels)
        spans = zip(starts[shown].tolist(), (starts + counts)[shown].tolist(), strict=True)
        cut = (nearest[shown] < NEAR).tolist()
        strokes: list[list[Stroke]] = [[] for _ in parts]
        for order, (start, stop) in enumerate(spans):
            polygon = corners[start:stop]
            if cut[order]:
                clipped = clip_near(view[start:stop])
                if len(clipped) < 3:
                    continue
                polygon = fixed_point(self.camera.pixels(clipped))
            strokes[part_of[order]].append((polygon, inks[order]))
        return strokes

    def rods(self, parts: Sequence[tuple[Rods, Place, float]]) -> list[list[Stroke]]:
        """Returns the strokes of each part's rods, its farthest rods first."""
        if not parts:
            return []
        numbers = [len(part.ends) for part, _, _ in parts]
        places = [place for _, place, _ in parts]
        ends = np.array([end for part, _, _ in parts for end in part.ends])
        number = len(ends)
        part_of = np.repeat(np.arange(len(parts)), numbers)
        scale = np.array([place.scale for place in places])[part_of] * self.camera.focal
        sunlit = np.array([sunlit for _, _, sunlit in parts])[part_of]
        world = [to_world(ends[:, columns], places, numbers) for columns in (slice(0, 3), slice(4, 7))]
        view = self.camera.view(np.concatenate(world))
        pixels = self.camera.pixels(view)
        reach = np.concatenate([ends[:, 3] * scale, ends[:, 7] * scale])
        radius = np.maximum(reach / np.maximum(view[:, 2], NEAR), 0.3)
        depth = np.minimum(view[:number, 2], view[number:, 2])
        label_ids = np.array([label for part, _, _ in parts for label in part.labels])[:, None]
        colours = np.array([colour for part, _, _ in parts for colour in part.colours])
        lit = self.light.shade(colours, FACING, sunlit)
        inks = self._inks(lit, depth, label_ids)
        whole = _outlines(pixels, radius)
        # A narrower, brighter rod on the side of the sun makes it look round.
        thick = np.minimum(radius[:number], radius[number:]) > 1.5
        bright = self._inks(lit * (1.22 + 0.5 * float(self.light.sun.mean()) * sunlit[:, None]), depth, label_ids)
        lean = np.array([math.copysign(0.35, self.light.to_sun[0]), -0.25])
        inner = _outlines(pixels + lean * radius[:, None], 0.55 * radius)
        strokes: list[list[Stroke]] = [[] for _ in parts]
        order = np.lexsort((-(view[:number, 2] + view[number:, 2]), part_of))
        for index in order[depth[order] > NEAR].tolist():
            into = strokes[part_of[index]]
            into.append((whole[index], inks[index]))
            if thick[index]:
                into.append((inner[index], bright[index]))
        return strokes

    def leaves(self, parts: Sequence[tuple[Leaves, Place, float]]) -> list[list[Ball | list[Stroke]]]:
        """Returns each part's balls of leaves in order: strokes for a small one, the ball itself for a large one."""
        if not parts:
            return []
        numbers = [len(part.balls) for part, _, _ in parts]
        places = [place for _, place, _ in parts]
        balls = np.array([ball for part, _, _ in parts for ball in part.balls])
        part_of = np.repeat(np.arange(len(parts)), numbers)
        view = self.camera.view(to_world(balls[:, :3], places, numbers))
        centres = self.camera.pixels(view)
        scale = np.array([place.scale for place in places])[part_of] * self.camera.focal
        halves = np.maximum(balls[:, 3:5] * (scale / np.maximum(view[:, 2], NEAR))[:, None], 0.8)
        sunlit = np.array([sunlit for _, _, sunlit in parts])[part_of]
        lit = self.light.shade(np.array([colour for part, _, _ in parts for colour in part.colours]), FACING, sunlit)
        colours = self.light.haze(lit, view[:, 2])
        clear = np.exp(-self.light.fog * view[:, 2])
        seeds = [seed for part, _, _ in parts for seed in part.seeds]
        label_ids = [label for part, _, _ in parts for label in part.labels]
        edge = np.array([self.camera.width, self.camera.height])
        seen = (view[:, 2] > NEAR) & ((centres + 1.3 * halves > 0) & (centres - 1.3 * halves < edge)).all(axis=1)
        small = np.flatnonzero(seen & (halves.max(axis=1) < SMOOTH_BALL))
        tufts = iter(
            self._tufts(
                centres[small],
                halves[small],
                colours[small],
                clear[small],
                np.array(seeds)[small],
                np.array(label_ids)[small],
            )
        )
        shown: list[list[Ball | list[Stroke]]] = [[] for _ in parts]
        is_small = halves.max(axis=1) < SMOOTH_BALL
        for index in np.flatnonzero(seen).tolist():
            if is_small[index]:
                shown[part_of[index]].append(next(tufts))
            else:
                ball = Ball(
                    centres[index], halves[index], colours[index], seeds[index], label_ids[index], float(clear[index])
                )
                shown[part_of[index]].append(ball)
        return shown

    def _tufts(
        self,
        centres: np.ndarray,
        halves: np.ndarray,
        colours: np.ndarray,
        clear: np.ndarray,
        seeds: np.ndarray,
        label_ids: np.ndarray,
    ) -> list[list[Stroke]]:
        """Returns small balls of leaves as a ragged outline and lighter and darker tufts on it."""
        kind = seeds % len(_OUTLINES)
        outlines = fixed_point(centres[:, None] + halves[:, None] * _OUTLINES[kind])
        tufts = fixed_point(centres[:, None, None] + halves[:, None, None] * _TUFTS[kind])
        middles = _TUFTS[kind].mean(axis=2)
        sunward = math.copysign(0.13 * (1.0 + self.light.hardness), self.light.to_sun[0])
        tone = _TUFT_TONES[kind] - 0.34 * middles[..., 1] + sunward * middles[..., 0]
        tone = 1.0 + clear[:, None] * tone
        base = self._pack(colours, label_ids[:, None]).tolist()
        shades = np.maximum(colours[:, None] * tone[..., None], 0.0)
        inks = self._pack(shades, np.broadcast_to(label_ids[:, None, None], (*tone.shape, 1))).tolist()
        number = np.where(halves.max(axis=1) > 4.0, _TUFTS.shape[1], 4).tolist()
        return [
            [(outlines[index], base[index]), *zip(tufts[index, : number[index]], inks[index], strict=False)]
            for index in range(len(centres))
        ]

    def _inks(self, colours: np.ndarray, depth: np.ndarray, label_ids: np.ndarray) -> list[list[int]]:
        return self._pack(self.light.haze(colours, depth), label_ids).tolist()

    @staticmethod
    def _pack(colours: np.ndarray, label_ids: np.ndarray) -> np.ndarray:
        return np.concatenate([np.minimum(colours, 255.0).astype(np.int64), label_ids], axis=-1)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the cross products (N,3) of vectors (N,3); np.cross spends most of its time on checks."""
    product = np.empty_like(a)
    product[:, 0] = a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1]
    product[:, 1] = a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2]
    product[:, 2] = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    return product


def _outlines(ends: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Returns fixed-point outlines (N,14,2) of rods whose first and second ends (2N,2) have radii (2N,), in pixels."""
    number = len(ends) // 2
    span = ends[number:] - ends[:number]
    along = np.arctan2(span[:, 1], span[:, 0])
    angles = np.concatenate([along[:, None] + _HALF_CIRCLE, along[:, None] + (_HALF_CIRCLE + math.pi)])
    arcs = np.empty((2 * number, len(_HALF_CIRCLE), 2))
    arcs[..., 0] = ends[:, None, 0] + radius[:, None] * np.cos(angles)
    arcs[..., 1] = ends[:, None, 1] + radius[:, None] * np.sin(angles)
    return fixed_point(np.concatenate([arcs[:number], arcs[number:]], axis=1))


def _make_tufts(kinds: int, tufts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns ragged outlines (kinds,22,2), tufts on them (kinds,tufts,6,2), both about the unit circle, and tones."""
    rng = generator(61)
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
