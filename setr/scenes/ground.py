"""The ground below the horizon, pixel by pixel: road, markings, kerbs, pavement and grass."""

import math

import cv2
import numpy as np

from setr.scenes.canvas import Canvas
from setr.scenes.labels import ROAD, SIDEWALK, TERRAIN
from setr.scenes.street import Street
from setr.scenes.tiles import TILE, tile

KERB = 0.16  # metres


def paint_ground(canvas: Canvas, street: Street, shade: np.ndarray) -> None:
    """Paints all rows below the horizon; `shade` (h,W) in 0..1 is the share of light that shadows leave."""
    camera, light = canvas.camera, canvas.light
    x, z, depth = camera.ground()
    footprint = depth / np.float32(camera.focal)  # metres across one pixel
    outside = _outside_road(street, x, z)
    label, colour, grassy = _cover(street, x, z, outside)
    road = label == ROAD
    fine, medium, coarse = (
        _noise(kind, x, z, pitch, footprint, street.seed + step)
        for kind, pitch, step in (("grain", 40.0, 0), ("grain", 9.0, 3), ("stain", 2.2, 7))
    )
    tone = 1.0 + street.roughness * (0.05 * fine + 0.03 * medium + 0.05 * coarse)
    tone += grassy * (0.12 * fine + 0.12 * medium + 0.1 * coarse)
    _wear(street, tone, x, z, road)
    paved = np.nonzero((label == SIDEWALK) & (outside > KERB) & (depth < 45.0))
    length = depth * footprint / np.float32(camera.eye)  # metres along one pixel
    tone[paved] -= 0.22 * _joints(street.slab, x[paved], z[paved], footprint[paved[0], 0], length[paved[0], 0])
    kerb = (outside > 0) & (outside <= KERB)
    tone = np.where(kerb, 1.12 - 0.2 * _covered(outside, 0.0, 0.05, footprint), tone)
    colour *= tone[..., None]
    for rail in street.rails:
        near = np.nonzero(road & (np.abs(x - np.float32(rail)) < 0.09 + 0.5 * footprint))
        at_x, at_footprint = x[near], footprint[near[0], 0]
        colour[near] *= 1.0 - 0.5 * _covered(at_x, rail - 0.09, rail + 0.09, at_footprint)[:, None]
        colour[near] += 60.0 * _covered(at_x, rail - 0.03, rail + 0.03, at_footprint)[:, None]
    markings = _markings(street, x, z, footprint)
    marked = np.nonzero(road & (markings > 0))
    worn = markings[marked] * np.clip(0.86 + 0.1 * medium[marked] + 0.12 * coarse[marked], 0, 1)
    colour[marked] += worn[:, None] * (np.array(street.paint, np.float32) - colour[marked])

    lit, shaded = (
        light.shade(np.ones((1, 3)), np.array([[0.0, 1.0, 0.0]]), sunlit)[0].astype(np.float32) for sunlit in (1.0, 0.0)
    )
    shaded *= np.float32(0.93)
    colour *= shaded + shade[..., None] * (lit - shaded)
    clear = np.exp(-light.fog * depth)[..., None].astype(np.float32)
    colour *= clear
    colour += light.horizon.astype(np.float32) * (1 - clear)
    window = canvas.pixels[camera.first_ground_row :]
    window[..., :3] = np.minimum(np.maximum(colour, 0.0), 255.0)
    window[..., 3] = label


def _outside_road(street: Street, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Returns the distance (h,W) from the road's edge in metres, below 0 on the road."""
    across = np.maximum(x - street.right.kerb, street.left.kerb - x)
    crossing = street.crossing
    if crossing is None:
        return across
    along = np.abs(z - crossing.z) - crossing.half
    if not crossing.left:
        along = np.where(x < street.left.kerb, 1.0e3, along)
    if not crossing.right:
        along = np.where(x > street.right.kerb, 1.0e3, along)
    radius = np.float32(4.0)
    corner = radius - np.hypot(across - radius, along - radius)
    in_corner = (across > 0) & (along > 0) & (across < radius) & (along < radius)
    return np.where(in_corner, corner, np.minimum(across, along))


def _cover(
    street: Street, x: np.ndarray, z: np.ndarray, outside: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns label (h,W), colour (h,W,3) and how grassy (h,W) the ground is, before texture."""
    looks = {
        "asphalt": (ROAD, street.asphalt, 0.0),
        "paving": (SIDEWALK, street.paving, 0.0),
        "grass": (TERRAIN, street.grass, 1.0),
        "bicycle": (SIDEWALK, (150, 92, 82), 0.0),
    }
    covers = [*(cover for _, cover in street.bands), "asphalt", "paving", "grass"]
    asphalt, paving, grass = range(len(street.bands), len(covers))
    index = np.zeros(x.shape, np.uint8)
    for right, _ in street.bands[:-1]:
        index += x > right
    index[outside <= 0] = asphalt
    index[(outside > 0) & (outside <= KERB)] = paving
    index[(outside > KERB) & ~_open_road(street, z, 2.5)] = paving
    if street.median:
        inside = (street.median - np.abs(x)) * _open_road(street, z, 3.0)
        index[inside > 0] = paving
        index[inside > KERB] = grass
    labels, colours, grassy = zip(*(looks[cover] for cover in covers), strict=True)
    return np.array(labels, np.uint8)[index], np.array(colours, np.float32)[index], np.array(grassy, np.float32)[index]


def _open_road(street: Street, z: np.ndarray, margin: float) -> np.ndarray:
    """Returns where (h,W) the road is not part of a crossing."""
    if street.crossing is None:
        return np.ones(z.shape, bool)
    return np.abs(z - street.crossing.z) >= street.crossing.half + margin


def _noise(kind: str, x: np.ndarray, z: np.ndarray, pitch: float, footprint: np.ndarray, seed: int) -> np.ndarray:
    """Returns a tile laid on the ground, `pitch` tile pixels a metre, fading where a pixel covers more than one."""
    shift, scale = np.float32(seed * 37 % TILE), np.float32(pitch)
    pattern = cv2.remap(tile(kind), x * scale + shift, z * scale + shift, cv2.INTER_LINEAR, None, cv2.BORDER_WRAP)
    return pattern * np.minimum(1.5 / (pitch * footprint), 1.0)


def _wear(street: Street, tone: np.ndarray, x: np.ndarray, z: np.ndarray, road: np.ndarray) -> None:
    """Darkens tyre tracks, patches and manhole covers in place."""
    phase = np.float32(2.0 * math.pi / street.lane)
    tone -= np.float32(0.035) * road * np.cos(2.0 * phase * (x - np.float32(street.lane / 4)))
    for at_x, at_z, half_width, half_length, change in street.patches:
        tone[road & (np.abs(x - at_x) < half_width) & (np.abs(z - at_z) < half_length)] += change
    for at_x, at_z in street.covers:
        tone[road & ((x - at_x) ** 2 + (z - at_z) ** 2 < 0.13)] -= 0.3


def _joints(slab: float, x: np.ndarray, z: np.ndarray, footprint: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Returns how much (N,) of each pixel is a joint between paving slabs."""
    joint = 0.035
    across, along = (np.abs((place / slab) % 1.0 - 0.5) * slab for place in (x, z))
    lines = np.clip((joint + 0.5 * footprint - across) / footprint, 0, 1) * np.clip(joint / footprint, 0, 1)
    rungs = np.clip((joint + 0.5 * length - along) / length, 0, 1) * np.clip(2 * joint / length, 0, 1)
    return np.maximum(lines, rungs * (length < 0.5 * slab))


def _covered(x: np.ndarray, left: float, right: float, footprint: np.ndarray) -> np.ndarray:
    """Returns the share (h,W) of each pixel's width that lies between left and right."""
    overlap = np.minimum(x + 0.5 * footprint, right) - np.maximum(x - 0.5 * footprint, left)
    return np.clip(overlap / footprint, 0, 1)


def _markings(street: Street, x: np.ndarray, z: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    """Returns how much (h,W) of each pixel is painted."""
    painted = np.zeros(x.shape, np.float32)
    crossing, stop = street.crossing, math.inf
    if crossing is not None:
        stop = crossing.z - crossing.half - (5.4 if crossing.zebra else 1.2)
    for line in street.lines:
        near = np.nonzero(np.abs(x - np.float32(line.x)) < 0.5 * (line.width + footprint))
        at_z = z[near]
        covered = _covered(x[near], line.x - line.width / 2, line.x + line.width / 2, footprint[near[0], 0])
        if line.gap > 0:
            # Lines between lanes are whole for the last metres before a stop line.
            whole = (at_z > stop - 14.0) & (at_z < stop)
            covered = covered * (whole | (at_z % (line.dash + line.gap) < line.dash))
        painted[near] = np.maximum(painted[near], covered)
    if crossing is None:
        return painted
    painted *= _open_road(street, z, 5.5 if crossing.zebra else 1.5)
    edge, right = crossing.z - crossing.half, street.right.kerb
    if crossing.zebra:
        walk = (z > edge - 4.2) & (z < edge - 1.0) & (x > street.left.kerb + 0.3) & (x < right - 0.3)
        painted = np.maximum(painted, walk & (np.abs(x % 1.0 - 0.5) < 0.25))
    return np.maximum(painted, (z > stop - 0.45) & (z < stop) & (x > street.median) & (x < right - 0.2))
