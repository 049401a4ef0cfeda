"""The sky with its clouds and sun, and the woods and roofs on the skyline."""

from collections.abc import Sequence

import cv2
import numpy as np

from setr.scenes.canvas import Canvas
from setr.scenes.labels import BUILDING, SKY, VEGETATION
from setr.scenes.shapes import Dice
from setr.scenes.strokes import FACING
from setr.scenes.tiles import TILE, tile

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
    bright, dark = (np.array(each, np.float32) for each in (light.weather.cloud_light, light.weather.cloud_dark))
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
