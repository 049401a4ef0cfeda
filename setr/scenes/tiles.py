"""Tiles of noise and masonry that repeat without a seam, made once per process from fixed seeds."""

from functools import cache

import cv2
import numpy as np

from setr.scenes.shapes import Dice

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
