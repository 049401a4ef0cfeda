"""What lies behind all things: the sky with clouds and sun, the skyline, and the ground, pixel by pixel."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from setr.scenes.canvas import TILE, Canvas, tile
from setr.scenes.cities import Street
from setr.scenes.labels import BUILDING, ROAD, SIDEWALK, SKY, TERRAIN, VEGETATION
from setr.scenes.shapes import Dice
from setr.scenes.strokes import FACING

KERB = 0.16  # metres
WOODS_DISTANCE = 260.0  # metres
WAVES = np.array([(5.0, 0.28), (17.0, 0.16), (61.0, 0.09), (160.0, 0.06)])  # frequency and weight, of the tree line


class Backdrop:
    """What lies behind the street; `towers` about 1 gives far houses of ordinary height."""

    def __init__(self, rng: Dice, *, towers: float) -> None:
        tallest = rng.uniform(0, 16) * towers
        self.blocks = []  # far houses: bearing, half width, height, distance, red, green, blue
        for _ in range(14):
            tone, warmth = rng.uniform(120, 195), rng.uniform(-14, 14)
            bearing, half, share, distance = rng.uniform((-0.8, 0.012, 0.3, 150), (0.8, 0.05, 1.2, 240)).tolist()
            self.blocks.append((bearing, half, tallest * share, distance, tone + warmth, tone, tone - warmth))
        self.clouds = int(rng.integers(1 << 16))  # where on the cloud tile the sky begins
        self.woods = rng.uniform(4, 13)  # metres high
        self.green = (78.0 + rng.normal(0, 6), 100.0 + rng.normal(0, 6), 66.0)
        self.phases = rng.uniform(0.0, 6.3, len(WAVES))  # of the tree line's waves


def paint_sky(canvas: Canvas, backdrop: Backdrop) -> None:
    """Paints every row down to a little below the horizon."""
    camera = canvas.camera
    last = min(camera.height, camera.first_ground_row + 2)
    # The sky is smooth: a quarter of the canvas's resolution is enough.
    rows = np.arange(0.0, last + 3, 4.0, dtype=np.float32)[:, None] + 2.0
    columns = np.arange(0.0, camera.width + 3, 4.0, dtype=np.float32)[None, :] + 2.0
    rise = np.maximum((camera.horizon - rows) / camera.focal, 0.0).astype(np.float32)  # tangent of the elevation
    aside = ((columns - camera.centre) / camera.focal).astype(np.float32)
    small = np.clip(_sky_colour(canvas, backdrop, rise, aside), 0, 255).astype(np.uint8)
    full = cv2.resize(small, (4 * small.shape[1], 4 * small.shape[0]), interpolation=cv2.INTER_LINEAR)
    canvas.pixels[:last, :, :3] = full[:last, : camera.width]
    canvas.pixels[:last, :, 3] = SKY


def _sky_colour(canvas: Canvas, backdrop: Backdrop, rise: np.ndarray, aside: np.ndarray) -> np.ndarray:
    """Returns the colour (h,w,3) float32 at rise (h,1) and aside (1,w), tangents of elevation and bearing."""
    light = canvas.light
    horizon, zenith, sun = (each.astype(np.float32) for each in (light.horizon, light.zenith, light.to_sun))
    height = np.clip(rise / 0.42, 0, 1) ** np.float32(0.75)
    gradient = horizon + height[..., None] * (zenith - horizon)
    length = np.sqrt(aside * aside + rise * rise + 1.0)
    towards = np.clip((aside * sun[0] + rise * sun[1] + sun[2]) / length, 0, 1)
    glow = 0.35 * towards**6 + 0.5 * towards**60 + 1.5 * towards**900
    glow = np.clip(glow * np.float32(min(1.0, float(light.sun.mean()) + 0.1)), 0, 1)[..., None]
    colour = gradient + (np.array([255.0, 236.0, 200.0], np.float32) - gradient) * glow

    # Clouds lie on a plane overhead, so that they flatten and crowd towards the horizon.
    distance = 1.0 / (rise + np.float32(0.09))
    shift = np.float32(backdrop.clouds % TILE)
    along = np.broadcast_to(distance * 13.0 + shift, glow.shape[:2])
    across = (aside * distance * np.float32(16.0) + shift * np.float32(1.7)) % TILE
    body, behind = (
        cv2.remap(tile("cloud"), across, ((along + np.float32(step)) % TILE).astype(np.float32), cv2.INTER_LINEAR, None,
                  cv2.BORDER_WRAP)
        for step in (0.0, 3.0)
    )  # fmt: skip
    threshold = np.float32(1.9 - 3.6 * light.cover)
    opacity = np.clip((body - threshold) / np.float32(0.9), 0, 1)
    opacity = opacity * opacity * (3 - 2 * opacity) * np.clip(rise / np.float32(0.05), 0.0, 1) * np.float32(0.95)
    bright, dark = light.clouds
    thickness = np.clip(0.42 + 0.15 * (body - threshold) - 0.35 * (body - behind), 0, 1)[..., None]
    return colour + (bright + thickness * (dark - bright) - colour) * opacity[..., None]


def paint_skyline(canvas: Canvas, backdrop: Backdrop) -> None:
    """Paints far woods and, in front of them, far houses, along the whole horizon."""
    camera = canvas.camera
    bottom = camera.first_ground_row + 2
    bearing = (np.arange(camera.width) + 0.5 - camera.centre) / camera.focal
    waves = sum(w * np.sin(f * bearing + phase) for (f, w), phase in zip(WAVES, backdrop.phases, strict=True))
    top = camera.horizon - camera.focal * backdrop.woods * (1.0 + waves) / WOODS_DISTANCE
    first = max(0, int(np.floor(top.min())))
    rows = np.arange(first, bottom)[:, None] + 0.5
    canvas.pixels[first:bottom][rows >= top] = _far_ink(canvas, backdrop.green, WOODS_DISTANCE, VEGETATION)
    for centre, half, height, distance, *colour in backdrop.blocks:
        roof = int(max(0, np.rint(camera.horizon - camera.focal * height / distance)))
        left, right = (int(np.rint(camera.centre + camera.focal * edge)) for edge in (centre - half, centre + half))
        if height > 1.0 and right > 0:
            block = canvas.pixels[roof:bottom, max(left, 0) : right]
            block[:] = _far_ink(canvas, colour, distance, BUILDING)
            pane = camera.focal / distance  # pixels per metre
            across = (np.arange(max(left, 0), min(right, camera.width)) - left) / pane % 3.4 < 1.6
            down = (np.arange(roof, bottom) - roof) / pane % 3.2 > 1.6
            block[down[:, None] & across] = _far_ink(canvas, [0.8 * value for value in colour], distance, BUILDING)


def _far_ink(canvas: Canvas, colour: Sequence[float], distance: float, label: int) -> np.ndarray:
    lit = canvas.light.shade(np.array([colour]), FACING, 0.5)
    seen = np.clip(canvas.light.haze(lit, np.array([1.5 * distance]))[0], 0, 255)
    return np.array([*seen, label]).astype(np.uint8)


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
    for middle, width, dash, gap in street.lines:
        near = np.nonzero(np.abs(x - np.float32(middle)) < 0.5 * (width + footprint))
        at_z = z[near]
        covered = _covered(x[near], middle - width / 2, middle + width / 2, footprint[near[0], 0])
        if gap > 0:
            # Lines between lanes are whole for the last metres before a stop line.
            whole = (at_z > stop - 14.0) & (at_z < stop)
            covered = covered * (whole | (at_z % (dash + gap) < dash))
        painted[near] = np.maximum(painted[near], covered)
    if crossing is None:
        return painted
    painted *= _open_road(street, z, 5.5 if crossing.zebra else 1.5)
    edge, right = crossing.z - crossing.half, street.right.kerb
    if crossing.zebra:
        walk = (z > edge - 4.2) & (z < edge - 1.0) & (x > street.left.kerb + 0.3) & (x < right - 0.3)
        painted = np.maximum(painted, walk & (np.abs(x % 1.0 - 0.5) < 0.25))
    return np.maximum(painted, (z > stop - 0.45) & (z < stop) & (x > street.median) & (x < right - 0.2))
