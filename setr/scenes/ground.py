"""The ground below the horizon, pixel by pixel: road, markings, kerbs, pavement and grass."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from setr.scenes import labels
from setr.scenes.canvas import Canvas
from setr.scenes.noise import TILE, tile
from setr.scenes.shapes import Colour

KERB = 0.16  # metres


@dataclass(frozen=True)
class Band:
    """A strip of ground along the street: its right edge in metres from the centre line, and what covers it."""

    right: float
    cover: str  # asphalt | paving | grass | bicycle


@dataclass(frozen=True)
class Line:
    """A painted line along the road; dash and gap in metres, gap 0 for a whole line."""

    x: float
    width: float
    dash: float = 0.0
    gap: float = 0.0


@dataclass(frozen=True)
class Crossing:
    """A street that crosses: its middle and half its width along z in metres; zebra, and on which sides it opens."""

    z: float
    half: float
    zebra: bool
    left: bool
    right: bool


@dataclass(frozen=True)
class Ground:
    """Everything that decides the ground of a scene; x in metres from the centre line."""

    road_left: float
    road_right: float
    bands: tuple[Band, ...]
    lines: tuple[Line, ...]
    crossing: Crossing | None
    median: tuple[float, float] | None
    rails: tuple[float, ...]
    asphalt: Colour
    paving: Colour
    grass: Colour
    paint: Colour
    slab: float  # metres
    lane: float  # metres between tyre tracks' lanes
    roughness: float
    patches: tuple[tuple[float, float, float, float, float], ...]  # x, z, half width, half length, tone
    covers: tuple[tuple[float, float], ...]  # manholes: x, z
    seed: int


def paint_ground(canvas: Canvas, ground: Ground, shade: np.ndarray) -> None:
    """Paints all rows below the horizon; `shade` (h,W) in 0..1 is the share of light that shadows leave."""
    camera, light = canvas.camera, canvas.light
    x, z, depth = camera.ground()
    footprint = depth / np.float32(camera.focal)  # metres across one pixel
    length = depth * footprint / np.float32(camera.eye)  # metres along one pixel
    outside = _outside_road(ground, x, z)
    label, colour, grassy = _cover(ground, x, z, outside)
    road = label == labels.ROAD

    fine = _noise("grain", x, z, 40.0, footprint, ground.seed)
    medium = _noise("grain", x, z, 9.0, footprint, ground.seed + 3)
    coarse = _noise("stain", x, z, 2.2, footprint, ground.seed + 7)
    tone = 1.0 + ground.roughness * (0.05 * fine + 0.03 * medium + 0.05 * coarse)
    tone += grassy * (0.12 * fine + 0.12 * medium + 0.1 * coarse)
    _wear(ground, tone, x, z, road)
    paved = np.nonzero((label == labels.SIDEWALK) & (outside > KERB) & (depth < 45.0))
    tone[paved] -= 0.22 * _joints(ground.slab, x[paved], z[paved], footprint[paved[0], 0], length[paved[0], 0])
    kerb = (outside > 0) & (outside <= KERB)
    tone = np.where(kerb, 1.12 - 0.2 * _covered(outside, 0.0, 0.05, footprint), tone)
    colour *= tone[..., None]
    for rail in ground.rails:
        near = np.nonzero(road & (np.abs(x - np.float32(rail)) < 0.09 + 0.5 * footprint))
        at_x, at_footprint = x[near], footprint[near[0], 0]
        colour[near] *= 1.0 - 0.5 * _covered(at_x, rail - 0.09, rail + 0.09, at_footprint)[:, None]
        colour[near] += 60.0 * _covered(at_x, rail - 0.03, rail + 0.03, at_footprint)[:, None]
    markings = _markings(ground, x, z, footprint)
    marked = np.nonzero(road & (markings > 0))
    worn = markings[marked] * np.clip(0.86 + 0.1 * medium[marked] + 0.12 * coarse[marked], 0, 1)
    colour[marked] += worn[:, None] * (np.array(ground.paint, np.float32) - colour[marked])

    facing = np.array([[0.0, 1.0, 0.0]])
    lit = light.shade(np.ones((1, 3)), facing, 1.0)[0].astype(np.float32)
    shaded = light.shade(np.ones((1, 3)), facing, 0.0)[0].astype(np.float32) * np.float32(0.93)
    colour *= shaded + shade[..., None] * (lit - shaded)
    clear = np.exp(-light.fog * depth)[..., None].astype(np.float32)
    colour *= clear
    colour += light.horizon.astype(np.float32) * (1 - clear)
    window = canvas.pixels[camera.first_ground_row() :]
    window[..., :3] = np.minimum(np.maximum(colour, 0.0), 255.0)
    window[..., 3] = label


def _outside_road(ground: Ground, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Returns the distance (h,W) from the road's edge in metres, below 0 on the road."""
    across = np.maximum(x - ground.road_right, ground.road_left - x)
    crossing = ground.crossing
    if crossing is None:
        return across
    along = np.abs(z - crossing.z) - crossing.half
    if not crossing.left:
        along = np.where(x < ground.road_left, 1.0e3, along)
    if not crossing.right:
        along = np.where(x > ground.road_right, 1.0e3, along)
    radius = np.float32(4.0)
    corner = radius - np.hypot(across - radius, along - radius)
    in_corner = (across > 0) & (along > 0) & (across < radius) & (along < radius)
    return np.where(in_corner, corner, np.minimum(across, along))


def _cover(
    ground: Ground, x: np.ndarray, z: np.ndarray, outside: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns label (h,W), colour (h,W,3) and how grassy (h,W) the ground is, before texture."""
    looks = {
        "asphalt": (labels.ROAD, ground.asphalt, 0.0),
        "paving": (labels.SIDEWALK, ground.paving, 0.0),
        "grass": (labels.TERRAIN, ground.grass, 1.0),
        "bicycle": (labels.SIDEWALK, (150.0, 92.0, 82.0), 0.0),
    }
    covers = [*(band.cover for band in ground.bands), "asphalt", "paving", "grass"]
    index = np.zeros(x.shape, np.uint8)
    for band in ground.bands[:-1]:
        index += x > band.right
    asphalt = len(ground.bands)
    index = np.where(outside <= 0, asphalt, index)
    index = np.where((outside > 0) & (outside <= KERB), asphalt + 1, index)
    if ground.crossing is not None:
        index = np.where(
            (outside > KERB) & (np.abs(z - ground.crossing.z) < ground.crossing.half + 2.5), asphalt + 1, index
        )
    if ground.median is not None:
        left, right = ground.median
        within = (x > left) & (x < right) & _open_road(ground, z, 3.0)
        index = np.where(within, asphalt + 1, index)
        index = np.where(within & (x > left + KERB) & (x < right - KERB), asphalt + 2, index)
    label = np.array([looks[cover][0] for cover in covers], np.uint8)[index]
    colour = np.array([looks[cover][1] for cover in covers], np.float32)[index]
    grassy = np.array([looks[cover][2] for cover in covers], np.float32)[index]
    return label, colour, grassy


def _open_road(ground: Ground, z: np.ndarray, margin: float) -> np.ndarray:
    """Returns where (h,W) the road is not part of a crossing."""
    if ground.crossing is None:
        return np.ones(z.shape, bool)
    return np.abs(z - ground.crossing.z) > ground.crossing.half + margin


def _noise(kind: str, x: np.ndarray, z: np.ndarray, pitch: float, footprint: np.ndarray, seed: int) -> np.ndarray:
    """Returns a tile laid on the ground, `pitch` tile pixels a metre, fading where a pixel covers more than one."""
    shift = np.float32(seed * 37 % TILE)
    scale = np.float32(pitch)
    pattern = cv2.remap(tile(kind), x * scale + shift, z * scale + shift, cv2.INTER_LINEAR, None, cv2.BORDER_WRAP)
    return pattern * np.minimum(1.5 / (pitch * footprint), 1.0)


def _wear(ground: Ground, tone: np.ndarray, x: np.ndarray, z: np.ndarray, road: np.ndarray) -> None:
    """Darkens tyre tracks, patches and manhole covers in place."""
    phase = np.float32(2.0 * math.pi / ground.lane)
    tone -= np.float32(0.035) * road * np.cos(2.0 * phase * (x - np.float32(ground.lane / 4)))
    for at_x, at_z, half_width, half_length, change in ground.patches:
        tone[road & (np.abs(x - at_x) < half_width) & (np.abs(z - at_z) < half_length)] += change
    for at_x, at_z in ground.covers:
        tone[road & ((x - at_x) ** 2 + (z - at_z) ** 2 < 0.13)] -= 0.3


def _joints(slab: float, x: np.ndarray, z: np.ndarray, footprint: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Returns how much (N,) of each pixel is a joint between paving slabs."""
    joint = 0.035
    across = np.abs((x / slab) % 1.0 - 0.5) * slab
    along = np.abs((z / slab) % 1.0 - 0.5) * slab
    lines = np.clip((joint + 0.5 * footprint - across) / footprint, 0, 1) * np.clip(joint / footprint, 0, 1)
    rungs = np.clip((joint + 0.5 * length - along) / length, 0, 1) * np.clip(2 * joint / length, 0, 1)
    return np.maximum(lines, rungs * (length < 0.5 * slab))


def _covered(x: np.ndarray, left: float, right: float, footprint: np.ndarray) -> np.ndarray:
    """Returns the share (h,W) of each pixel's width that lies between left and right."""
    overlap = np.minimum(x + 0.5 * footprint, right) - np.maximum(x - 0.5 * footprint, left)
    return np.clip(overlap / footprint, 0, 1)


def _markings(ground: Ground, x: np.ndarray, z: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    """Returns how much (h,W) of each pixel is painted."""
    painted = np.zeros(x.shape, np.float32)
    crossing = ground.crossing
    centre = 0.0 if ground.median is None else ground.median[1]
    stop = math.inf
    if crossing is not None:
        stop = crossing.z - crossing.half - (5.4 if crossing.zebra else 1.2)
    for line in ground.lines:
        near = np.nonzero(np.abs(x - np.float32(line.x)) < 0.5 * (line.width + footprint))
        at_z, at_footprint = z[near], footprint[near[0], 0]
        covered = _covered(x[near], line.x - line.width / 2, line.x + line.width / 2, at_footprint)
        if line.gap > 0:
            # Lines between lanes are whole for the last metres before a stop line.
            whole = (at_z > stop - 14.0) & (at_z < stop)
            covered = covered * (whole | (at_z % (line.dash + line.gap) < line.dash))
        painted[near] = np.maximum(painted[near], covered)
    if crossing is None:
        return painted
    painted *= _open_road(ground, z, 5.5 if crossing.zebra else 1.5)
    near_edge = crossing.z - crossing.half
    if crossing.zebra:
        walk = (z > near_edge - 4.2) & (z < near_edge - 1.0)
        stripes = np.abs(x % 1.0 - 0.5) < 0.25
        painted = np.maximum(painted, stripes & walk & (x > ground.road_left + 0.3) & (x < ground.road_right - 0.3))
    bar = (z > stop - 0.45) & (z < stop) & (x > centre) & (x < ground.road_right - 0.2)
    return np.maximum(painted, bar)
