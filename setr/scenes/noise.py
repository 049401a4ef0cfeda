"""Tiles of noise and masonry that repeat without a seam, made once per process from fixed seeds."""

from functools import cache

import cv2
import numpy as np

TILE = 256  # pixels, side of every tile


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
    generator = np.random.Generator(np.random.PCG64(seed))
    total = np.zeros((TILE, TILE), np.float32)
    cells, weight = coarsest, 1.0
    while cells <= TILE:
        lattice = generator.standard_normal((cells, cells)).astype(np.float32)
        repeated = np.pad(lattice, 2, mode="wrap")
        size = TILE // cells
        enlarged = cv2.resize(repeated, None, fx=size, fy=size, interpolation=cv2.INTER_CUBIC)
        total += np.float32(weight) * enlarged[2 * size : 2 * size + TILE, 2 * size : 2 * size + TILE]
        cells, weight = cells * 2, weight * persistence
    total -= total.mean()
    return total / total.std()


def _masonry(seed: int, rows: int, columns: int, joint: int) -> np.ndarray:
    generator = np.random.Generator(np.random.PCG64(seed))
    height, width = TILE // rows, TILE // columns
    tones = generator.normal(0.0, 0.55, (rows, columns)).astype(np.float32)
    made = np.kron(tones, np.ones((height, width), np.float32))
    for row in range(rows):
        band = made[row * height : (row + 1) * height]
        band[:joint] = 1.1
        for column in range(columns):
            band[:, column * width : column * width + joint] = 1.1
        if row % 2:
            band[:] = np.roll(band, width // 2, axis=1)
    made += 0.25 * _fractal(seed + 1, 16, 0.8)
    return made - made.mean()


def _panels() -> np.ndarray:
    made = 0.2 * _fractal(41, 8, 0.8)
    for start in (0, TILE // 2):
        made[start : start + 3] -= 1.6
        made[:, start : start + 3] -= 1.6
    return made - made.mean()


def _planks() -> np.ndarray:
    made = 0.3 * _fractal(51, 8, 0.8)
    generator = np.random.Generator(np.random.PCG64(52))
    for start in range(0, TILE, 16):
        made[:, start : start + 16] += np.float32(generator.normal(0.0, 0.5))
        made[:, start : start + 2] -= 1.5
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
