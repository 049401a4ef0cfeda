"""People on foot and on two wheels, made of rods: limbs, frames and rims."""

import math

import numpy as np

from setr.scenes.labels import BICYCLE, MOTORCYCLE, PERSON, RIDER
from setr.scenes.shapes import Colour, Shape, generator, tint

SKIN = ((232, 190, 160), (214, 164, 130), (176, 122, 88), (122, 82, 58), (90, 60, 44), (240, 204, 178))
HAIR = ((40, 30, 24), (86, 58, 36), (160, 120, 70), (28, 26, 28), (150, 146, 142), (104, 52, 30))
TOPS = (
    (36, 40, 52), (28, 28, 30), (150, 34, 36), (52, 84, 140), (212, 208, 200), (92, 108, 72), (196, 150, 60),
    (120, 60, 96), (94, 94, 98), (204, 92, 60), (58, 120, 124), (226, 226, 224), (70, 52, 44),
)  # fmt: skip
TROUSERS = ((40, 48, 70), (30, 30, 34), (92, 86, 78), (58, 66, 92), (120, 108, 90), (64, 60, 58), (160, 152, 138))
FRAMES = ((30, 30, 32), (150, 30, 34), (40, 80, 150), (200, 200, 198), (40, 110, 70), (220, 150, 40))
RUBBER = (26.0, 26.0, 28.0)


def walker(seed: int, *, child: bool = False) -> Shape:
    """Returns a person of 1.75 metres (a child's proportions if asked) who walks or stands, looking along z."""
    shape, rng = Shape(), generator(seed)
    top, trousers = TOPS[rng.integers(len(TOPS))], TROUSERS[rng.integers(len(TROUSERS))]
    skin, hair = SKIN[rng.integers(len(SKIN))], HAIR[rng.integers(len(HAIR))]
    stride = 0.0 if rng.random() < 0.3 else rng.uniform(0.12, 0.34)
    stride *= 1.0 if rng.random() < 0.5 else -1.0
    skirt, long_hair, bag, coat = rng.random(4) < (0.14, 0.35, 0.4, 0.25)
    for side in (-1.0, 1.0):
        swing = side * stride
        hip, knee = (0.09 * side, 0.9, 0.0), (0.1 * side, 0.49, 0.55 * swing + 0.03)
        foot = (0.1 * side, 0.07, swing - 0.05 * (swing < 0))
        shape.rod(hip, knee, 0.09, trousers if not skirt else skin, PERSON, 0.068)
        shape.rod(knee, foot, 0.066, trousers if not skirt else skin, PERSON, 0.05)
        shape.rod(foot, (foot[0], 0.05, foot[2] + 0.15), 0.045, (34.0, 30.0, 30.0), PERSON)
        shoulder, elbow = (0.19 * side, 1.4, 0.0), (0.25 * side, 1.12, -0.45 * swing)
        hand = (0.24 * side, 0.88, -0.7 * swing + 0.08)
        shape.rod(shoulder, elbow, 0.062, tint(top, 0.88), PERSON, 0.052)
        shape.rod(elbow, hand, 0.05, tint(top, 0.88), PERSON, 0.04)
        shape.rod(hand, (hand[0], hand[1] - 0.06, hand[2]), 0.042, skin, PERSON)
    shape.rod((0, 0.94, 0), (0, 1.3, 0), 0.15, top, PERSON, 0.18)
    shape.rod((-0.1, 1.37, 0), (0.1, 1.37, 0), 0.095, top, PERSON)
    if skirt or coat:
        shape.rod((0, 1.0, 0), (0, 0.66, 0), 0.15, top if coat else trousers, PERSON, 0.21)
    _head(shape, (0.0, 1.62, 0.02), skin, hair, long_hair, PERSON)
    if bag:
        colour = FRAMES[rng.integers(len(FRAMES))]
        if rng.random() < 0.5:
            shape.rod((0, 1.06, -0.19), (0, 1.34, -0.19), 0.13, colour, PERSON)
        else:
            shape.rod((0.3, 0.78, 0.05), (0.3, 0.62, 0.05), 0.1, colour, PERSON, 0.12)
    if child:
        _head(shape, (0.0, 1.64, 0.02), skin, hair, long_hair, PERSON, 1.25)
    return shape


def _head(
    shape: Shape,
    at: tuple[float, float, float],
    skin: Colour,
    hair: Colour,
    long_hair: bool,
    label: int,
    scale: float = 1.0,
) -> None:
    x, y, z = at
    shape.rod((x, y - 0.16, z), (x, y - 0.05, z), 0.055, skin, label)
    shape.rod((x, y - 0.04, z + 0.01), (x, y + 0.03, z + 0.01), 0.098 * scale, skin, label)
    shape.rod((x, y + 0.0, z - 0.05), (x, y + 0.05, z - 0.03), 0.1 * scale, hair, label)
    shape.rod((x, y + 0.07, z + 0.02), (x, y + 0.075, z - 0.02), 0.085 * scale, hair, label)
    if long_hair:
        shape.rod((x, y, z - 0.07), (x, y - 0.2, z - 0.1), 0.09, hair, label, 0.07)


def _wheel(shape: Shape, z: float, radius: float, thickness: float, label: int) -> None:
    corners = 14
    for index in range(corners):
        a, b = (2 * math.pi * (index + step) / corners for step in (0, 1))
        start = (0.0, radius + (radius - thickness) * math.sin(a), z + (radius - thickness) * math.cos(a))
        stop = (0.0, radius + (radius - thickness) * math.sin(b), z + (radius - thickness) * math.cos(b))
        shape.rod(start, stop, thickness, RUBBER, label)
    for angle in (0.3, 1.35, 2.4):
        y, along = 0.9 * radius * math.sin(angle), 0.9 * radius * math.cos(angle)
        shape.rod((0, radius - y, z - along), (0, radius + y, z + along), 0.006, (150.0, 150.0, 152.0), label)


def bicycle(seed: int, *, ridden: bool) -> Shape:
    """Returns a bicycle looking along z, with its rider if it is ridden."""
    shape, rng = Shape(), generator(seed)
    colour = FRAMES[rng.integers(len(FRAMES))]
    radius = 0.34
    for z in (-0.52, 0.55):
        _wheel(shape, z, radius, 0.028, BICYCLE)
    crank, seat, head, bar = (0, 0.3, -0.08), (0, 0.86, -0.26), (0, 0.82, 0.36), (0, 1.02, 0.33)
    tube = 0.026
    for start, stop in (
        (crank, seat), (crank, head), ((0, 0.76, -0.22), head), (crank, (0, radius, -0.52)),
        ((0, 0.76, -0.22), (0, radius, -0.52)), (head, (0, radius, 0.55)), (head, bar),
    ):  # fmt: skip
        shape.rod(start, stop, tube, colour, BICYCLE)
    shape.rod((-0.26, 1.04, 0.28), (0.26, 1.04, 0.28), 0.022, (40.0, 40.0, 42.0), BICYCLE)
    shape.rod((0, 0.9, -0.36), (0, 0.9, -0.16), 0.055, (30.0, 28.0, 28.0), BICYCLE)
    if rng.random() < 0.35:
        shape.rod((0, 0.78, 0.56), (0, 0.92, 0.56), 0.13, (92.0, 70.0, 50.0), BICYCLE)
    if ridden:
        _rider(shape, rng, seat=0.96, reach=(1.06, 0.26), pedals=0.2, helmet=rng.random() < 0.6)
    return shape


def motorcycle(seed: int, *, ridden: bool, lit: bool) -> Shape:
    """Returns a motorcycle or scooter looking along z, with its rider if it is ridden."""
    shape, rng = Shape(), generator(seed)
    colour = FRAMES[rng.integers(len(FRAMES))]
    dark = (34.0, 34.0, 36.0)
    for z in (-0.66, 0.7):
        _wheel(shape, z, 0.3, 0.07, MOTORCYCLE)
        shape.rod((0, 0.3, z), (0.0, 0.31, z), 0.16, (96.0, 96.0, 100.0), MOTORCYCLE)
    shape.rod((0, 0.42, -0.25), (0, 0.46, 0.22), 0.2, dark, MOTORCYCLE)
    shape.rod((0, 0.72, -0.05), (0, 0.8, 0.24), 0.17, colour, MOTORCYCLE)
    shape.rod((0, 0.76, -0.12), (0, 0.78, -0.6), 0.12, (30.0, 28.0, 28.0), MOTORCYCLE, 0.1)
    shape.rod((0, 0.72, -0.55), (0, 0.66, -0.86), 0.1, colour, MOTORCYCLE, 0.07)
    shape.rod((0, 0.9, 0.42), (0, 0.3, 0.7), 0.06, (140.0, 140.0, 144.0), MOTORCYCLE)
    shape.rod((0, 0.78, 0.42), (0, 0.94, 0.46), 0.17, colour, MOTORCYCLE)
    shape.rod((0, 0.84, 0.58), (0, 0.86, 0.6), 0.1, (250.0, 246.0, 226.0) if lit else (206.0, 208.0, 208.0), MOTORCYCLE)
    shape.rod((0, 0.68, -0.93), (0, 0.7, -0.95), 0.06, (220.0, 36.0, 30.0), MOTORCYCLE)
    shape.rod((-0.36, 1.0, 0.32), (0.36, 1.0, 0.32), 0.025, dark, MOTORCYCLE)
    for side in (-1.0, 1.0):
        shape.rod((0.36 * side, 1.02, 0.32), (0.4 * side, 1.2, 0.34), 0.03, dark, MOTORCYCLE)
    if ridden:
        _rider(shape, rng, seat=0.92, reach=(1.02, 0.3), pedals=0.0, helmet=True)
    return shape


def _rider(
    shape: Shape,
    rng: np.random.Generator,
    *,
    seat: float,
    reach: tuple[float, float],
    pedals: float,
    helmet: bool,
) -> None:
    top, trousers = TOPS[rng.integers(len(TOPS))], TROUSERS[rng.integers(len(TROUSERS))]
    skin, hair = SKIN[rng.integers(len(SKIN))], HAIR[rng.integers(len(HAIR))]
    lean = rng.uniform(0.08, 0.24)
    chest = (0.0, seat + 0.46, -0.24 + lean)
    for side in (-1.0, 1.0):
        foot = (0.13 * side, 0.3 + side * pedals * 0.8, -0.05 + 0.12 * side)
        knee = (0.15 * side, 0.5 * (seat + foot[1]) + 0.14, 0.16)
        shape.rod((0.1 * side, seat, -0.24), knee, 0.095, trousers, RIDER, 0.072)
        shape.rod(knee, foot, 0.068, trousers, RIDER, 0.05)
        shape.rod(foot, (foot[0], foot[1] - 0.02, foot[2] + 0.15), 0.045, (40.0, 36.0, 36.0), RIDER)
        elbow = (0.27 * side, seat + 0.24, 0.02 + 0.4 * lean)
        shape.rod((0.18 * side, chest[1] + 0.03, chest[2]), elbow, 0.06, tint(top, 0.88), RIDER, 0.05)
        shape.rod(elbow, (0.24 * side, *reach), 0.048, tint(top, 0.88), RIDER, 0.04)
    shape.rod((0, seat + 0.04, -0.25), chest, 0.155, top, RIDER, 0.175)
    shape.rod((-0.1, chest[1] + 0.04, chest[2]), (0.1, chest[1] + 0.04, chest[2]), 0.09, top, RIDER)
    head = (0.0, chest[1] + 0.27, chest[2] + 0.06)
    _head(shape, head, skin, hair, False, RIDER)
    if helmet:
        colour = FRAMES[rng.integers(len(FRAMES))]
        shape.rod((0, head[1] + 0.06, head[2] + 0.03), (0, head[1] + 0.07, head[2] - 0.05), 0.115, colour, RIDER)
    if rng.random() < 0.3:
        bag = FRAMES[rng.integers(len(FRAMES))]
        shape.rod((0, seat + 0.2, -0.42), (0, seat + 0.42, -0.36), 0.12, bag, RIDER)
