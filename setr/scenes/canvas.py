"""The canvas: paints strokes, leaves and textures, colour and label in one go, so that the two never disagree."""

import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from setr.scenes.camera import NEAR, Camera, clip_near
from setr.scenes.light import Light
from setr.scenes.noise import TILE, tile
from setr.scenes.shapes import Faces, Leaves, Rods, Shape, Texture, Veil
from setr.scenes.strokes import FACING, SHIFT, Ball, Easel, Place, Stroke, fixed_point

COARSEST_TEXTURE = 3  # tile level; what is farther away than that shows no texture


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
        faces = iter(easel.faces([(part, place, sun) for part, place, sun in parts if isinstance(part, Faces)]))
        rods = iter(easel.rods([(part, place, sun) for part, place, sun in parts if isinstance(part, Rods)]))
        leaves = iter(easel.leaves([(part, place, sun) for part, place, sun in parts if isinstance(part, Leaves)]))
        for part, place, sunlit in parts:
            match part:
                case Faces():
                    self._paint_strokes(next(faces))
                case Rods():
                    self._paint_strokes(next(rods))
                case Leaves():
                    for ball in next(leaves):
                        if isinstance(ball, Ball):
                            self._paint_ball(ball)
                        else:
                            self._paint_tufts(ball)
                case Texture():
                    self._paint_texture(part, place)
                case Veil():
                    self._paint_veil(part, place, sunlit)

    def _paint_strokes(self, strokes: list[Stroke]) -> None:
        for corners, ink in strokes:
            cv2.fillConvexPoly(self.pixels, corners, ink, cv2.LINE_8, SHIFT)

    def _paint_tufts(self, strokes: list[Stroke]) -> None:
        outline, ink = strokes[0]
        cv2.fillPoly(self.pixels, [outline], ink, cv2.LINE_8, SHIFT)
        self._paint_strokes(strokes[1:])

    def _paint_ball(self, ball: Ball) -> None:
        centre, half = ball.centre, ball.half
        box = self._window(centre - 1.25 * half, centre + 1.25 * half)
        if box is None:
            return
        left, top, right, bottom = box
        x = ((np.arange(left, right, dtype=np.float32) + np.float32(0.5 - centre[0])) / np.float32(half[0]))[None, :]
        y = ((np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - centre[1])) / np.float32(half[1]))[:, None]
        # The outline's noise is fixed to the ball, the fine grain to the canvas: sharp at every size.
        step = 34.0 / float(half.max())
        coarse = _sample("leaf", (right - left, bottom - top), left - centre[0], top - centre[1], step, ball.seed)
        fine = self.grain[top:bottom, left:right]
        mask = x * x + y * y + np.float32(0.32) * coarse + np.float32(0.07) * fine < 0.86
        sunward = math.copysign(0.11 * (1.0 + self.light.hardness), self.light.to_sun[0])
        tone = np.float32(0.16) * coarse + np.float32(0.1) * fine
        pockets = np.where(tone < -0.2, np.float32(1.0 - 0.4 * ball.clear), np.float32(1.0))
        tone += np.float32(sunward) * x - np.float32(0.3) * y
        tone = (np.float32(1.0) + np.float32(ball.clear) * tone) * pockets
        painted = np.empty((bottom - top, right - left, 4), np.uint8)
        colour = ball.colour.astype(np.float32)
        painted[..., :3] = np.minimum(np.maximum(tone, 0.0)[..., None] * colour, 255.0)
        painted[..., 3] = ball.label
        cv2.copyTo(painted, mask.view(np.uint8), self.pixels[top:bottom, left:right])

    def _paint_texture(self, texture: Texture, place: Place) -> None:
        for box, mask, view in self._quad_masks(texture.quad, place):
            along, up = view[1] - view[0], view[3] - view[0]
            depth = float(np.maximum(view[:, 2], NEAR).mean())
            # The level whose pixels are about as large as the canvas's, so that far walls do not sparkle.
            level = int(math.log2(max(texture.pitch * depth / self.camera.focal, 1.0)) + 0.5)
            metres = self.camera.homography(
                view[0], along / max(math.hypot(*along), 1e-6), up / max(math.hypot(*up), 1e-6)
            )
            edge_on = abs(np.linalg.det(metres)) < 1e-3 * self.camera.focal**2
            if level > COARSEST_TEXTURE or edge_on:
                continue
            pitch = texture.pitch / 2**level
            to_tile = np.array([[pitch, 0, texture.shift], [0, -pitch, texture.shift], [0, 0, 1.0]])
            left, top, right, bottom = box
            corner = np.array([[1, 0, left + 0.5], [0, 1, top + 0.5], [0, 0, 1.0]])
            pattern = cv2.warpPerspective(
                tile(texture.tile, level),
                to_tile @ np.linalg.inv(metres) @ corner,
                (right - left, bottom - top),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_WRAP,
            )
            strength = texture.strength * math.exp(-self.light.fog * depth)
            factor = np.float32(1.0) + np.float32(strength) * (pattern * mask)
            window = self.pixels[top:bottom, left:right, :3]
            window[:] = np.minimum(window * factor[..., None], np.float32(255.0))

    def _paint_veil(self, veil: Veil, place: Place, sunlit: float) -> None:
        for (left, top, right, bottom), mask, view in self._quad_masks(veil.quad, place):
            lit = self.light.shade(np.array([veil.colour]), FACING, np.array([sunlit]))
            colour = self.light.haze(lit, view[:, 2].mean(keepdims=True))[0].astype(np.float32)
            window = self.pixels[top:bottom, left:right]
            mixed = window[..., :3] * np.float32(1 - veil.alpha) + np.float32(veil.alpha) * np.minimum(colour, 255.0)
            window[..., :3] = np.where(mask[..., None], mixed, window[..., :3]).astype(np.uint8)
            window[..., 3] = np.where(mask, veil.label, window[..., 3])

    def _quad_masks(
        self, quad: np.ndarray, place: Place
    ) -> Iterator[tuple[tuple[int, int, int, int], np.ndarray, np.ndarray]]:
        """Yields at most once: the quad's window on the canvas, its mask there, and its corners in view coordinates."""
        view = self.camera.view(place.world(quad))
        clipped = view if view[:, 2].min() >= NEAR else clip_near(view)
        if len(clipped) < 3:
            return
        pixels = self.camera.pixels(clipped)
        box = self._window(pixels.min(axis=0), pixels.max(axis=0))
        if box is None:
            return
        left, top, right, bottom = box
        mask = np.zeros((bottom - top, right - left), np.uint8)
        cv2.fillConvexPoly(mask, fixed_point(pixels - (left, top)), 1, cv2.LINE_8, SHIFT)
        yield box, mask.astype(bool), view

    def _window(self, low: np.ndarray, high: np.ndarray) -> tuple[int, int, int, int] | None:
        left, top = max(0, math.floor(low[0])), max(0, math.floor(low[1]))
        right = min(self.camera.width, math.ceil(high[0]) + 1)
        bottom = min(self.camera.height, math.ceil(high[1]) + 1)
        return (left, top, right, bottom) if left < right and top < bottom else None


def _sample(kind: str, size: tuple[int, int], left: float, top: float, step: float, seed: int) -> np.ndarray:
    """Returns a tile sampled on a window: `step` tile pixels per canvas pixel, shifted by the seed."""
    level = int(min(max(math.log2(max(step, 1.0)), 0), 5))
    step /= 2**level
    side = TILE >> level
    matrix = np.array([[step, 0, (left * step + seed % 251) % side], [0, step, (top * step + seed // 251) % side]])
    return cv2.warpAffine(
        tile(kind, level), matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_WRAP
    )
