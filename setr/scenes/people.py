"""People on foot and on two wheels, made of rods: limbs, frames and rims."""

import math
from itertools import pairwise

from setr.scenes.labels import BICYCLE, MOTORCYCLE, PERSON, RIDER
from setr.scenes.shapes import Colour, Dice, Point, Shape, tint

SKIN = ((232, 190, 160), (214, 164, 130), (176, 122, 88), (122, 82, 58), (90, 60, 44), (240, 204, 178))
HAIR = ((40, 30, 24), (86, 58, 36), (160, 120, 70), (28, 26, 28), (150, 146, 142), (104, 52, 30))
TOPS = (
    (36, 40, 52), (28, 28, 30), (150, 34, 36), (52, 84, 140), (212, 208, 200), (92, 108, 72), (196, 150, 60),
    (120, 60, 96), (94, 94, 98), (204, 92, 60), (58, 120, 124), (226, 226, 224), (70, 52, 44),
)  # fmt: skip
TROUSERS = ((40, 48, 70), (30, 30, 34), (92, 86, 78), (58, 66, 92), (120, 108, 90), (64, 60, 58), (160, 152, 138))
FRAMES = ((30, 30, 32), (150, 30, 34), (40, 80, 150), (200, 200, 198), (40, 110, 70), (220, 150, 40))
LEATHER, DARK = (30, 28, 28), (34, 34, 36)


def walker(seed: int, *, child: bool = False) -> Shape:
    """Returns a person of 1.75 metres (a child's proportions if asked) who walks or stands, looking along z."""
    shape, rng = Shape(PERSON), Dice(seed)
    top, trousers, skin, hair = (rng.pick(colours) for colours in (TOPS, TROUSERS, SKIN, HAIR))
    stride = 0.0 if rng.chance(0.3) else rng.uniform(0.12, 0.34)
    stride *= 1.0 if rng.chance(0.5) else -1.0
    skirt, long_hair, bag, coat = rng.random(4) < (0.14, 0.35, 0.4, 0.25)
    legs, sleeves = skin if skirt else trousers, tint(top, 0.88)
    for side in (-1.0, 1.0):
        swing = side * stride
        knee, foot = (0.1 * side, 0.49, 0.55 * swing + 0.03), (0.1 * side, 0.07, swing - 0.05 * (swing < 0))
        shape.rod((0.09 * side, 0.9, 0.0), knee, 0.09, legs, 0.068)
        shape.rod(knee, foot, 0.066, legs, 0.05)
        shape.rod(foot, (foot[0], 0.05, foot[2] + 0.15), 0.045, (34, 30, 30))
        elbow, hand = (0.25 * side, 1.12, -0.45 * swing), (0.24 * side, 0.88, -0.7 * swing + 0.08)
        shape.rod((0.19 * side, 1.4, 0.0), elbow, 0.062, sleeves, 0.052)
        shape.rod(elbow, hand, 0.05, sleeves, 0.04)
        shape.rod(hand, (hand[0], hand[1] - 0.06, hand[2]), 0.042, skin)
    shape.rod((0, 0.94, 0), (0, 1.3, 0), 0.15, top, 0.18)
    shape.rod((-0.1, 1.37, 0), (0.1, 1.37, 0), 0.095, top)
    if skirt or coat:
        shape.rod((0, 1.0, 0), (0, 0.66, 0), 0.15, top if coat else trousers, 0.21)
    _head(shape, (0.0, 1.62, 0.02), skin, hair, long_hair=long_hair)
    if bag:
        colour = rng.pick(FRAMES)
        if rng.chance(0.5):
            shape.rod((0, 1.06, -0.19), (0, 1.34, -0.19), 0.13, colour)
        else:
            shape.rod((0.3, 0.78, 0.05), (0.3, 0.62, 0.05), 0.1, colour, 0.12)
    if child:
        _head(shape, (0.0, 1.64, 0.02), skin, hair, long_hair=long_hair, scale=1.25)
    return shape


def _head(shape: Shape, at: Point, skin: Colour, hair: Colour, *, long_hair: bool, scale: float = 1.0) -> None:
    x, y, z = at
    shape.rod((x, y - 0.16, z), (x, y - 0.05, z), 0.055, skin)
    shape.rod((x, y - 0.04, z + 0.01), (x, y + 0.03, z + 0.01), 0.098 * scale, skin)
    shape.rod((x, y + 0.0, z - 0.05), (x, y + 0.05, z - 0.03), 0.1 * scale, hair)
    shape.rod((x, y + 0.07, z + 0.02), (x, y + 0.075, z - 0.02), 0.085 * scale, hair)
    if long_hair:
        shape.rod((x, y, z - 0.07), (x, y - 0.2, z - 0.1), 0.09, hair, 0.07)


def bicycle(seed: int, *, ridden: bool) -> Shape:
    """Returns a bicycle looking along z, with its rider if it is ridden."""
    shape, rng = Shape(BICYCLE), Dice(seed)
    colour, rear, front = rng.pick(FRAMES), (0, 0.34, -0.52), (0, 0.34, 0.55)
    _wheel(shape, rear, 0.028)
    _wheel(shape, front, 0.028)
    crank, seat, post, head = (0, 0.3, -0.08), (0, 0.86, -0.26), (0, 0.76, -0.22), (0, 0.82, 0.36)
    for start, stop in (
        (crank, seat), (crank, head), (post, head), (crank, rear), (post, rear), (head, front), (head, (0, 1.02, 0.33)),
    ):  # fmt: skip
        shape.rod(start, stop, 0.026, colour)
    shape.rod((-0.26, 1.04, 0.28), (0.26, 1.04, 0.28), 0.022, (40, 40, 42))
    shape.rod((0, 0.9, -0.36), (0, 0.9, -0.16), 0.055, LEATHER)
    if rng.chance(0.35):
        shape.rod((0, 0.78, 0.56), (0, 0.92, 0.56), 0.13, (92, 70, 50))
    if ridden:
        _rider(shape, rng, seat=0.96, hands=(1.06, 0.26), pedals=0.2, helmet=rng.chance(0.6))
    return shape


def motorcycle(seed: int, *, ridden: bool, lit: bool) -> Shape:
    """Returns a motorcycle or scooter looking along z, with its rider if it is ridden."""
    shape, rng = Shape(MOTORCYCLE), Dice(seed)
    colour = rng.pick(FRAMES)
    for z in (-0.66, 0.7):
        _wheel(shape, (0, 0.3, z), 0.07)
        shape.rod((0, 0.3, z), (0.0, 0.31, z), 0.16, (96, 96, 100))
    shape.rod((0, 0.42, -0.25), (0, 0.46, 0.22), 0.2, DARK)
    shape.rod((0, 0.72, -0.05), (0, 0.8, 0.24), 0.17, colour)
    shape.rod((0, 0.76, -0.12), (0, 0.78, -0.6), 0.12, LEATHER, 0.1)
    shape.rod((0, 0.72, -0.55), (0, 0.66, -0.86), 0.1, colour, 0.07)
    shape.rod((0, 0.9, 0.42), (0, 0.3, 0.7), 0.06, (140, 140, 144))
    shape.rod((0, 0.78, 0.42), (0, 0.94, 0.46), 0.17, colour)
    shape.rod((0, 0.84, 0.58), (0, 0.86, 0.6), 0.1, (250, 246, 226) if lit else (206, 208, 208))
    shape.rod((0, 0.68, -0.93), (0, 0.7, -0.95), 0.06, (220, 36, 30))
    shape.rod((-0.36, 1.0, 0.32), (0.36, 1.0, 0.32), 0.025, DARK)
    for side in (-1.0, 1.0):
        shape.rod((0.36 * side, 1.02, 0.32), (0.4 * side, 1.2, 0.34), 0.03, DARK)
    if ridden:
        _rider(shape, rng, seat=0.92, hands=(1.02, 0.3), pedals=0.0, helmet=True)
    return shape


def _wheel(shape: Shape, hub: Point, thickness: float) -> None:
    _, radius, z = hub
    rim, corners = radius - thickness, [2 * math.pi * index / 14 for index in range(15)]
    points = [(0.0, radius + rim * math.sin(angle), z + rim * math.cos(angle)) for angle in corners]
    for start, stop in pairwise(points):
        shape.rod(start, stop, thickness, (26, 26, 28))
    for angle in (0.3, 1.35, 2.4):
        y, along = 0.9 * radius * math.sin(angle), 0.9 * radius * math.cos(angle)
        shape.rod((0, radius - y, z - along), (0, radius + y, z + along), 0.006, (150, 150, 152))


def _rider(shape: Shape, rng: Dice, *, seat: float, hands: tuple[float, float], pedals: float, helmet: bool) -> None:
    shape.label = RIDER
    top, trousers, skin, hair = (rng.pick(colours) for colours in (TOPS, TROUSERS, SKIN, HAIR))
    lean = rng.uniform(0.08, 0.24)
    _, y, z = chest = (0.0, seat + 0.46, -0.24 + lean)
    for side in (-1.0, 1.0):
        foot = (0.13 * side, 0.3 + side * pedals * 0.8, -0.05 + 0.12 * side)
        knee = (0.15 * side, 0.5 * (seat + foot[1]) + 0.14, 0.16)
        shape.rod((0.1 * side, seat, -0.24), knee, 0.095, trousers, 0.072)
        shape.rod(knee, foot, 0.068, trousers, 0.05)
        shape.rod(foot, (foot[0], foot[1] - 0.02, foot[2] + 0.15), 0.045, (40, 36, 36))
        elbow = (0.27 * side, seat + 0.24, 0.02 + 0.4 * lean)
        shape.rod((0.18 * side, y + 0.03, z), elbow, 0.06, tint(top, 0.88), 0.05)
        shape.rod(elbow, (0.24 * side, *hands), 0.048, tint(top, 0.88), 0.04)
    shape.rod((0, seat + 0.04, -0.25), chest, 0.155, top, 0.175)
    shape.rod((-0.1, y + 0.04, z), (0.1, y + 0.04, z), 0.09, top)
    _, y, z = head = (0.0, y + 0.27, z + 0.06)
    _head(shape, head, skin, hair, long_hair=False)
    if helmet:
        shape.rod((0, y + 0.06, z + 0.03), (0, y + 0.07, z - 0.05), 0.115, rng.pick(FRAMES))
    if rng.chance(0.3):
        shape.rod((0, seat + 0.2, -0.42), (0, seat + 0.42, -0.36), 0.12, rng.pick(FRAMES))
