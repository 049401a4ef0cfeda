"""The pinhole camera behind the windscreen, and the bend of the road that every point goes through.

World: x metres to the right of the road's centre line, y metres up, z metres along the road from the camera.
View: x right, y up from the eye, z forward, metres. Pixels: x right, y down, of the (supersampled) canvas.
"""

import math
from dataclasses import dataclass

import numpy as np

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
