"""The camera behind the windscreen, the bend of the road that every point goes through, and the light of the scene.

World: x metres to the right of the road's centre line, y metres up, z metres along the road from the camera.
View: x right, y up from the eye, z forward, metres. Pixels: x right, y down, of the (supersampled) canvas.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from setr.scenes.shapes import Dice

FARTHEST = 400.0  # metres: the ground's depth at the horizon
NEAR = 0.7  # metres in front of the eye; anything nearer is cut off


@dataclass(frozen=True)
class Camera:
    """Where the eye is and how it looks; lengths in metres, angles in radians, focal, centre and horizon in pixels."""

    width: int
    height: int
    focal: float
    centre: float
    horizon: float
    eye: float
    offset: float
    yaw: float
    bend: float  # curvature of the road, 1/metre, positive to the right

    @property
    def first_ground_row(self) -> int:
        """Returns the first canvas row whose centre lies below the horizon."""
        return max(0, math.floor(self.horizon + 0.5))

    def view(self, points: np.ndarray) -> np.ndarray:
        """Returns world points (N,3) in view coordinates (N,3)."""
        x, y, along = points.T
        across = x + (0.5 * self.bend) * along * along - self.offset
        cosine, sine = math.cos(self.yaw), math.sin(self.yaw)
        return np.stack([cosine * across - sine * along, y - self.eye, sine * across + cosine * along], axis=1)

    def pixels(self, view: np.ndarray) -> np.ndarray:
        """Returns view points (N,3) in pixels (N,2); points nearer than NEAR are moved to it."""
        scale = self.focal / np.maximum(view[:, 2], NEAR)
        return np.stack([self.centre + view[:, 0] * scale, self.horizon - view[:, 1] * scale], axis=1)

    def homography(self, origin: np.ndarray, along: np.ndarray, up: np.ndarray) -> np.ndarray:
        """Returns the 3x3 map from (u, v, 1) metres on the view plane origin + u along + v up to pixels."""
        intrinsics = np.array([[self.focal, 0.0, self.centre], [0.0, -self.focal, self.horizon], [0.0, 0.0, 1.0]])
        return intrinsics @ np.stack([along, up, origin], axis=1)

    def ground(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns world x (h,W), world z (h,W) and view depth (h,1) of the ground at all rows below the horizon."""
        rows = np.arange(self.first_ground_row, self.height, dtype=np.float32) + np.float32(0.5)
        columns = np.arange(self.width, dtype=np.float32) + np.float32(0.5)
        depth = (self.focal * self.eye / np.maximum(rows - self.horizon, 1e-2)).astype(np.float32)[:, None]
        depth = np.minimum(depth, np.float32(FARTHEST))
        right = (columns - np.float32(self.centre))[None, :] * (depth / np.float32(self.focal))
        cosine, sine = np.float32(math.cos(self.yaw)), np.float32(math.sin(self.yaw))
        along = cosine * depth - sine * right
        across = cosine * right + sine * depth + np.float32(self.offset)
        return across - np.float32(0.5 * self.bend) * along * along, along, depth


def clip_near(view: np.ndarray) -> np.ndarray:
    """Returns the part of a view polygon (n,3) that lies beyond NEAR, possibly with no points."""
    kept: list[np.ndarray] = []
    for here, there in zip(view, np.roll(view, -1, axis=0), strict=True):
        if here[2] >= NEAR:
            kept.append(here)
        if (here[2] >= NEAR) != (there[2] >= NEAR):
            kept.append(here + (there - here) * ((NEAR - here[2]) / (there[2] - here[2])))
    return np.array(kept).reshape(-1, 3)


# Colours are 0..255, strengths factors on colours, pairs of numbers ranges: zenith, horizon, share of the sky that is
# clouded, lit and dark clouds, strength of the sun, its colour, its elevation in degrees, strength of the light from
# everywhere, its colour, fog in 1/metre, exposure.
WEATHERS: dict[str, tuple[Any, ...]] = {
    "clear": (
        (72, 124, 200), (198, 217, 234), (0.05, 0.4), (252, 250, 246), (192, 200, 212), (0.6, 0.76),
        (255, 240, 212), (24, 55), (0.56, 0.64), (222, 230, 248), (0.0006, 0.002), (0.98, 1.08),
    ),
    "fair": (
        (92, 138, 200), (206, 219, 230), (0.4, 0.75), (250, 249, 247), (166, 175, 190), (0.42, 0.62),
        (255, 242, 220), (28, 58), (0.62, 0.72), (228, 234, 246), (0.001, 0.003), (0.96, 1.06),
    ),
    "overcast": (
        (182, 188, 196), (218, 221, 223), (0.95, 1.0), (230, 232, 234), (172, 177, 185), (0.06, 0.14),
        (255, 252, 246), (45, 70), (0.86, 0.96), (240, 243, 248), (0.001, 0.004), (0.92, 1.04),
    ),
    "fog": (
        (202, 206, 209), (212, 215, 217), (0.95, 1.0), (216, 219, 221), (202, 206, 209), (0.02, 0.06),
        (255, 252, 246), (40, 70), (0.84, 0.94), (242, 245, 249), (0.008, 0.02), (0.96, 1.06),
    ),
    "evening": (
        (104, 130, 184), (252, 212, 162), (0.2, 0.65), (255, 220, 182), (164, 146, 160), (0.6, 0.8),
        (255, 194, 126), (9, 18), (0.56, 0.64), (222, 220, 244), (0.0015, 0.004), (0.96, 1.06),
    ),
    "dusk": (
        (44, 64, 116), (214, 158, 134), (0.2, 0.8), (160, 134, 148), (72, 78, 108), (0.0, 0.04),
        (255, 190, 140), (4, 8), (0.4, 0.5), (188, 194, 240), (0.002, 0.006), (0.8, 0.96),
    ),
    "rain": (
        (146, 154, 165), (192, 197, 202), (0.97, 1.0), (194, 199, 205), (132, 140, 152), (0.02, 0.06),
        (255, 252, 246), (45, 70), (0.68, 0.8), (234, 240, 252), (0.004, 0.01), (0.86, 0.98),
    ),
}  # fmt: skip


class Light:
    """The light of one scene, drawn from its weather's ranges; directions in view coordinates."""

    def __init__(self, weather: str, rng: Dice) -> None:
        zenith, horizon, cover, *clouds, sun, sun_colour, height, ambient, colour, fog, exposure = WEATHERS[weather]
        self.lamps, self.wetness = weather == "dusk", 0.6 if weather == "rain" else 0.0
        self.clouds = np.array(clouds, np.float32)  # lit and dark
        azimuth, elevation = rng.uniform(0.0, 2.0 * math.pi), math.radians(rng.uniform(*height))
        flat = math.cos(elevation)
        self.to_sun = np.array([flat * math.sin(azimuth), math.sin(elevation), flat * math.cos(azimuth)])
        tint = rng.normal(0.0, 2.5, 3)
        self.sun = rng.uniform(*sun) * np.array(sun_colour) / 255.0  # factor on colours, as is ambient
        self.ambient = rng.uniform(*ambient) * np.array(colour) / 240.0
        self.zenith = np.clip(np.array(zenith) + 2.0 * tint, 0, 255)
        self.horizon = np.clip(np.array(horizon) + tint, 0, 255)  # also the colour of haze
        self.cover, self.fog, self.exposure = (rng.uniform(*span) for span in (cover, fog, exposure))
        self.temperature = rng.normal(0.0, 0.035)  # above 0 warmer
        # The share of direct light: how dark cast shadows are.
        self.hardness = float(self.sun.mean() / (self.sun.mean() + self.ambient.mean()))

    def shade(self, colours: np.ndarray, outward: np.ndarray, sunlit: np.ndarray | float) -> np.ndarray:
        """Returns colours (N,3) of faces with unit normals (N,3) that the share `sunlit` (N,) of the sun reaches."""
        from_sky = 0.82 + 0.18 * outward[:, 1:2]
        towards = np.einsum("ij,j->i", outward, self.to_sun)  # no BLAS: its threads cost more than they give here
        direct = (np.maximum(towards, 0.0) * sunlit)[:, None]
        return colours * (self.ambient * from_sky + self.sun * direct)

    def haze(self, colours: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Returns colours (N,3) seen through the air at depth (N,) metres."""
        clear = np.exp(-self.fog * np.maximum(depth, 0.0))[:, None]
        return colours * clear + self.horizon * (1.0 - clear)
