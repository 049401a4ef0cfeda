"""The canvas: paints strokes, leaves and textures, colour and label in one go, so that the two never disagree.

Its tiles of noise and masonry repeat without a seam; they are made once per process from fixed seeds.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np

from setr.scenes.camera import NEAR, Camera, Light, clip_near
from setr.scenes.shapes import Dice, Faces, Leaves, Rods, Shape, Texture, Veil
from setr.scenes.strokes import FACING, SHIFT, Ball, Easel, Mark, Place, fixed_point, to_world

TILE = 256  # pixels, side of every tile
COARSEST_TEXTURE = 3  # tile level; what is farther away than that shows no texture
Cutout = tuple[slice, slice]


class Canvas:
    """Pixels (H,W,4): red, green, blue and the label id, painted over from far to near."""

    def __init__(self, camera: Camera, light: Light) -> None:
        self.camera = camera
        self.light = light
        self.pixels = np.zeros((camera.height, camera.width, 4), np.uint8)
        self.grain = np.tile(tile("grain"), (camera.height // TILE + 1, camera.width // TILE + 1))

    def paint(self, placed: Sequence[tuple[Shape, Place, float]]) -> None:
        """Paints shapes one over the other; each with its place and how much of the sun, 0..1, reaches it."""
        easel = Easel(self.camera, self.light)
        parts = [(part, place, sunlit) for shape, place, sunlit in placed for part in shape.parts]
        marks: dict[type, Iterator[list[Mark]]] = {}
        makers: tuple[tuple[type, Any], ...] = ((Faces, easel.faces), (Rods, easel.rods), (Leaves, easel.leaves))
        for kind, make in makers:
            chosen = [entry for entry in parts if isinstance(entry[0], kind)]
            marks[kind] = iter(make(chosen) if chosen else ())
        for part, place, sunlit in parts:
            match part:
                case Texture():
                    self._paint_texture(part, place)
                case Veil():
                    self._paint_veil(part, place, sunlit)
                case _:
                    for mark in next(marks[type(part)]):
                        self._paint_mark(mark)

    def _paint_mark(self, mark: Mark) -> None:
        if isinstance(mark, Ball):
            self._paint_ball(mark)
        elif mark.convex:
            cv2.fillConvexPoly(self.pixels, mark.corners, mark.ink, cv2.LINE_8, SHIFT)
        else:
            cv2.fillPoly(self.pixels, [mark.corners], mark.ink, cv2.LINE_8, SHIFT)

    def _paint_ball(self, ball: Ball) -> None:
        centre, half = ball.centre, ball.half
        window = self._window(centre - 1.25 * half, centre + 1.25 * half)
        if window is None:
            return
        rows, columns = (np.arange(span.start, span.stop, dtype=np.float32) for span in window)
        x = ((columns + np.float32(0.5 - centre[0])) / np.float32(half[0]))[None, :]
        y = ((rows + np.float32(0.5 - centre[1])) / np.float32(half[1]))[:, None]
        # The outline's noise is fixed to the ball, the fine grain to the canvas: sharp at every size.
        coarse, fine = _leaf_noise(ball, window), self.grain[window]
        mask = x * x + y * y + np.float32(0.32) * coarse + np.float32(0.07) * fine < 0.86
        sunward = math.copysign(0.11 * (1.0 + self.light.hardness), self.light.to_sun[0])
        tone = np.float32(0.16) * coarse + np.float32(0.1) * fine
        pockets = np.where(tone < -0.2, np.float32(1.0 - 0.4 * ball.clear), np.float32(1.0))
        tone += np.float32(sunward) * x - np.float32(0.3) * y
        tone = (np.float32(1.0) + np.float32(ball.clear) * tone) * pockets
        painted = np.empty((*tone.shape, 4), np.uint8)
        painted[..., :3] = np.minimum(np.maximum(tone, 0.0)[..., None] * ball.colour.astype(np.float32), 255.0)
        painted[..., 3] = ball.label
        cv2.copyTo(painted, mask.view(np.uint8), self.pixels[window])

    def _paint_texture(self, texture: Texture, place: Place) -> None:
        for window, mask, view in self._quad_masks(texture.quad, place):
            along, up = view[1] - view[0], view[3] - view[0]
            depth = float(np.maximum(view[:, 2], NEAR).mean())
            # The level whose pixels are about as large as the canvas's, so that far walls do not sparkle.
            level = int(math.log2(max(texture.pitch * depth / self.camera.focal, 1.0)) + 0.5)
            along, up = along / max(math.hypot(*along), 1e-6), up / max(math.hypot(*up), 1e-6)
            metres = self.camera.homography(view[0], along, up)
            edge_on = abs(np.linalg.det(metres)) < 1e-3 * self.camera.focal**2
            if level > COARSEST_TEXTURE or edge_on:
                continue
            pitch = texture.pitch / 2**level
            to_tile = np.array([[pitch, 0, texture.shift], [0, -pitch, texture.shift], [0, 0, 1.0]])
            corner = np.array([[1, 0, window[1].start + 0.5], [0, 1, window[0].start + 0.5], [0, 0, 1.0]])
            pattern = cv2.warpPerspective(
                tile(texture.tile, level),
                to_tile @ np.linalg.inv(metres) @ corner,
                mask.shape[::-1],
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_WRAP,
            )
            strength = texture.strength * math.exp(-self.light.fog * depth)
            factor = np.float32(1.0) + np.float32(strength) * (pattern * mask)
            pixels = self.pixels[window][..., :3]
            pixels[:] = np.minimum(pixels * factor[..., None], np.float32(255.0))

    def _paint_veil(self, veil: Veil, place: Place, sunlit: float) -> None:
        for window, mask, view in self._quad_masks(veil.quad, place):
            lit = self.light.shade(np.array([veil.colour]), FACING, np.array([sunlit]))
            colour = self.light.haze(lit, view[:, 2].mean(keepdims=True))[0].astype(np.float32)
            pixels = self.pixels[window]
            mixed = pixels[..., :3] * np.float32(1 - veil.alpha) + np.float32(veil.alpha) * np.minimum(colour, 255.0)
            pixels[mask, :3] = mixed.astype(np.uint8)[mask]
            pixels[mask, 3] = veil.label

    def _quad_masks(self, quad: np.ndarray, place: Place) -> Iterator[tuple[Cutout, np.ndarray, np.ndarray]]:
        """Yields at most once: the quad's window on the canvas, its mask there, and its corners in view coordinates."""
        view = self.camera.view(to_world(quad, [place], np.zeros(len(quad), int)))
        clipped = view if view[:, 2].min() >= NEAR else clip_near(view)
        if len(clipped) < 3:
            return
        pixels = self.camera.pixels(clipped)
        window = self._window(pixels.min(axis=0), pixels.max(axis=0))
        if window is None:
            return
        top, left = (span.start for span in window)
        mask: np.ndarray = np.zeros(self.pixels[window].shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, fixed_point(pixels - (left, top)), 1, cv2.LINE_8, SHIFT)
        yield window, mask.astype(bool), view

    def _window(self, low: np.ndarray, high: np.ndarray) -> Cutout | None:
        """Returns rows and columns from low to high (2,), x and y in pixels; None if they lie outside the canvas."""
        left, top = max(0, math.floor(low[0])), max(0, math.floor(low[1]))
        right = min(self.camera.width, math.ceil(high[0]) + 1)
        bottom = min(self.camera.height, math.ceil(high[1]) + 1)
        return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def _leaf_noise(ball: Ball, window: Cutout) -> np.ndarray:
    """Returns the tile of leaves on a window of the canvas, as large as the ball, shifted by its seed."""
    (rows, columns), step = window, 34.0 / float(ball.half.max())  # tile pixels per canvas pixel
    level = int(min(max(math.log2(max(step, 1.0)), 0), 5))
    step /= 2**level
    side = TILE >> level
    across = ((columns.start - ball.centre[0]) * step + ball.seed % 251) % side
    down = ((rows.start - ball.centre[1]) * step + ball.seed // 251) % side
    return cv2.warpAffine(
        tile("leaf", level),
        np.array([[step, 0, across], [0, step, down]]),
        (columns.stop - columns.start, rows.stop - rows.start),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_WRAP,
    )


@cache
def tile(kind: str, level: int = 0) -> np.ndarray:
    """Returns tile `kind` as float32 (side,side), about zero and within 3, reduced 2**level times."""
    if level > 0:
        finer = tile(kind, level - 1)
        return cv2.resize(finer, (finer.shape[1] // 2, finer.shape[0] // 2), interpolation=cv2.INTER_AREA)
    made = np.clip(_MAKERS[kind](), -3.0, 3.0).astype(np.float32)
    made.setflags(write=False)
    return made


def _fractal(seed: int, coarsest: int, persistence: float) -> np.ndarray:
    rng = Dice(seed)
    total = np.zeros((TILE, TILE), np.float32)
    cells, weight = coarsest, 1.0
    while cells <= TILE:
        lattice = np.pad(rng.standard_normal((cells, cells)).astype(np.float32), 2, mode="wrap")
        size = TILE // cells
        enlarged = cv2.resize(lattice, None, fx=size, fy=size, interpolation=cv2.INTER_CUBIC)
        total += np.float32(weight) * enlarged[2 * size : 2 * size + TILE, 2 * size : 2 * size + TILE]
        cells, weight = cells * 2, weight * persistence
    total -= total.mean()
    return total / total.std()


def _masonry(seed: int, rows: int, columns: int, joint: int) -> np.ndarray:
    height, width = TILE // rows, TILE // columns
    tones = Dice(seed).normal(0.0, 0.55, (rows, columns)).astype(np.float32)
    made = np.kron(tones, np.ones((height, width), np.float32))
    place = np.arange(TILE)
    made[place % height < joint] = 1.1
    made[:, place % width < joint] = 1.1
    odd = place // height % 2 == 1
    made[odd] = np.roll(made[odd], width // 2, axis=1)
    made += 0.25 * _fractal(seed + 1, 16, 0.8)
    return made - made.mean()


def _panels() -> np.ndarray:
    made = 0.2 * _fractal(41, 8, 0.8)
    seams = np.arange(TILE) % (TILE // 2) < 3
    made[seams] -= 1.6
    made[:, seams] -= 1.6
    return made - made.mean()


def _planks() -> np.ndarray:
    made = 0.3 * _fractal(51, 8, 0.8)
    made += np.repeat(Dice(52).normal(0.0, 0.5, TILE // 16), 16).astype(np.float32)
    made[:, np.arange(TILE) % 16 < 2] -= 1.5
    return made - made.mean()


_MAKERS = {
    "cloud": lambda: _fractal(11, 4, 0.55),
    "grain": lambda: _fractal(12, 16, 0.9),
    "stain": lambda: _fractal(13, 4, 0.7),
    "leaf": lambda: _fractal(14, 8, 0.75),
    "brick": lambda: _masonry(21, 16, 8, 2),
    "stone": lambda: _masonry(31, 8, 4, 3),
    "panels": _panels,
    "planks": _planks,
}
