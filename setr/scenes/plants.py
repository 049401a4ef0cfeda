"""Trees, bushes and hedges."""

import math
from typing import NamedTuple

from setr.scenes.labels import VEGETATION
from setr.scenes.shapes import Colour, Dice, Shape, tint


class Species(NamedTuple):
    """A kind of tree; lengths as shares of the tree's height."""

    crown_bottom: float
    crown_half: float
    trunk: float
    pointed: float  # 0 round .. 1 a cone
    balls: int


SPECIES = {
    "lime": Species(0.28, 0.27, 0.02, 0.15, 11),
    "plane": Species(0.36, 0.36, 0.025, 0.0, 12),
    "poplar": Species(0.14, 0.13, 0.02, 0.4, 9),
    "spruce": Species(0.1, 0.2, 0.018, 1.0, 10),
    "birch": Species(0.34, 0.2, 0.012, 0.25, 9),
}
SUMMER = ((78, 112, 48), (92, 126, 54), (64, 100, 48), (106, 128, 60), (72, 104, 66))
AUTUMN = ((172, 130, 52), (190, 110, 46), (142, 122, 54), (112, 116, 52), (164, 86, 48))
BARK = ((94, 82, 70), (108, 100, 90), (80, 70, 62))
NEAR_DETAIL, FAR_DETAIL = 28.0, 60.0  # metres


def tree(species: str, height: float, colour: Colour, *, distance: float, seed: int) -> Shape:
    """Returns a tree `height` metres high, its trunk at the origin; with fewer balls of leaves if it is far away."""
    shape, rng, kind = Shape(VEGETATION), Dice(seed), SPECIES[species]
    bark = (206, 204, 198) if species == "birch" else rng.pick(BARK)
    lean = rng.normal(0.0, 0.02) * height
    fork, radius = height * (kind.crown_bottom + 0.12), height * kind.trunk
    shape.rod((0, 0, 0), (lean, fork, 0), 1.15 * radius, bark, 0.8 * radius)
    middle = 0.5 * (kind.crown_bottom + 1.0) * height
    for share in rng.uniform(-0.6, 0.6, 4 if distance < FAR_DETAIL else 0).tolist():
        tip = (lean + share * kind.crown_half * height, middle, 0.0)
        shape.rod((lean, fork, 0), tip, 0.6 * radius, bark, 0.25 * radius)
    balls = kind.balls if distance < NEAR_DETAIL else kind.balls * 2 // 3 if distance < FAR_DETAIL else 4
    swell = math.sqrt(kind.balls / balls) ** 0.6
    flat = 0.8 if kind.pointed < 0.3 else 1.15
    low, crown = kind.crown_bottom * height, (1.0 - kind.crown_bottom) * height
    placed = []
    for index in range(balls):
        level = (index + rng.uniform(0.2, 0.8)) / balls
        rounded = math.sqrt(max(0.0, 1.0 - (2.0 * level - 1.0) ** 2)) * 0.75 + 0.25
        reach = kind.crown_half * height * ((1 - kind.pointed) * rounded + kind.pointed * (1.05 - level))
        angle = rng.uniform(0.0, 2.0 * math.pi)
        out = reach * rng.uniform(0.2, 0.62) / swell
        size = max(0.62 * reach, 1.1 * crown / balls / flat) * rng.uniform(0.85, 1.15) * swell
        up = min(max(low + crown * level, low + 0.8 * flat * size), height - 0.6 * flat * size)
        placed.append((out * math.cos(angle), up, out * math.sin(angle), size, level))
    for x, up, z, size, level in sorted(placed, key=lambda ball: (-ball[2], ball[1])):
        shade = tint(colour, (0.7 + 0.45 * level) * rng.uniform(0.9, 1.1) * (1.06 if z < 0 else 0.9))
        shape.leaves((lean + x, up, z), (size, flat * size), shade, int(rng.integers(1 << 16)))
    return shape


def bush(width: float, height: float, colour: Colour, *, seed: int) -> Shape:
    """Returns a bush around the origin."""
    shape, rng = Shape(VEGETATION), Dice(seed)
    for index in range(4):
        centre = (rng.uniform(-0.35, 0.35) * width, height * (0.35 + 0.07 * index), -0.1 * index)
        half = (0.38 * width * rng.uniform(0.8, 1.1), 0.45 * height)
        shape.leaves(centre, half, tint(colour, 0.75 + 0.12 * index), int(rng.integers(1 << 16)))
    return shape


def hedge(length: float, height: float, colour: Colour, *, distance: float, seed: int) -> Shape:
    """Returns a clipped hedge along z around the origin."""
    shape, rng = Shape(VEGETATION), Dice(seed)
    shape.box((-0.4, 0.0, -length / 2), (0.4, height - 0.12, length / 2), tint(colour, 0.85))
    step = 0.75 if distance < 20 else 1.5 if distance < 40 else length
    for index in reversed(range(max(1, int(length / step)))):
        for side in (-0.4, 0.4) if distance < 20 else (0.0,):
            shade = tint(colour, rng.uniform(0.88, 1.12))
            centre = (side * 0.8, 0.58 * height, (index + 0.5) * step - length / 2)
            shape.leaves(centre, (0.3 + 0.4 * step, 0.52 * height), shade, int(rng.integers(1 << 16)))
    return shape
