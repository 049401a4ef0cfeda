"""What stands along the street: lamp posts, traffic lights, signs, bins, fences and walls; trees, bushes and hedges."""

import math
from typing import Any

import numpy as np

from setr.scenes.labels import FENCE, POLE, STATIC, TRAFFIC_LIGHT, TRAFFIC_SIGN, VEGETATION, WALL
from setr.scenes.shapes import Colour, Dice, Shape, Texture, Veil, box_faces, columns, paint, panels, plate, tint

STEEL, WHITE, BLACK = (122.0, 126.0, 130.0), (238.0, 238.0, 234.0), (28.0, 28.0, 30.0)
RED, BLUE, YELLOW, GREEN = (204.0, 32.0, 36.0), (26.0, 84.0, 168.0), (246.0, 196.0, 30.0), (30.0, 122.0, 72.0)
LIGHTS = ((255.0, 46.0, 36.0), (255.0, 190.0, 40.0), (60.0, 240.0, 150.0))  # red, yellow, green
SIGN_KINDS = (
    "limit", "limit", "limit", "ban", "duty", "duty", "yield", "stop", "warning", "warning", "priority", "priority",
    "parking", "parking", "noparking", "noparking", "noparking", "direction", "name", "name",
)  # fmt: skip
BOUNDARY_COLOURS: dict[str, tuple[Colour, ...]] = {
    "wall": ((182, 174, 160), (156, 94, 76), (200, 194, 184), (148, 142, 134)),
    "palings": ((140, 112, 84), (108, 90, 72), (226, 224, 218), (94, 108, 98)),
    "mesh": ((76, 102, 86), (124, 128, 130), (66, 68, 70)),
    "railings": ((46, 48, 50), (58, 70, 64), (94, 96, 100)),
}
# As shares of a tree's height: bottom and half width of the crown, radius of the trunk; 0 round .. 1 a cone; balls.
SPECIES = {
    "lime": (0.28, 0.27, 0.02, 0.15, 11),
    "plane": (0.36, 0.36, 0.025, 0.0, 12),
    "poplar": (0.14, 0.13, 0.02, 0.4, 9),
    "spruce": (0.1, 0.2, 0.018, 1.0, 10),
    "birch": (0.34, 0.2, 0.012, 0.25, 9),
}
SUMMER = ((78, 112, 48), (92, 126, 54), (64, 100, 48), (106, 128, 60), (72, 104, 66))
AUTUMN = ((172, 130, 52), (190, 110, 46), (142, 122, 54), (112, 116, 52), (164, 86, 48))
BARK = ((94, 82, 70), (108, 100, 90), (80, 70, 62))
NEAR_DETAIL, FAR_DETAIL = 28.0, 60.0  # metres
_UP, _DOWN = math.pi / 2, -math.pi / 2
# A sign: radius of its outline in metres, corners, turn; colour of its rim; share of the outline that the inside fills,
# colour of that; bars on it in metres from its middle: left, right, bottom, top, colour.
SIGNS: dict[str, tuple[Any, ...]] = {
    "limit": (0.36, 16, 0, RED, 0.74, WHITE, (
        (-0.16, -0.03, -0.13, 0.13, BLACK), (0.03, 0.16, -0.13, 0.13, BLACK),
        (-0.12, -0.07, -0.08, 0.08, WHITE), (0.07, 0.12, -0.08, 0.08, WHITE),
    )),
    "ban": (0.36, 16, 0, RED, 0.88, RED, ((-0.24, 0.24, -0.06, 0.06, WHITE),)),
    "duty": (0.36, 16, 0, WHITE, 0.88, BLUE, ((-0.04, 0.04, -0.2, 0.1, WHITE),)),
    "yield": (0.5, 3, _DOWN, RED, 0.66, WHITE, ()),
    "stop": (0.42, 8, math.pi / 8, WHITE, 0.88, RED, (
        (-0.28, 0.28, -0.09, 0.09, WHITE), (-0.17, -0.13, -0.07, 0.07, RED), (-0.02, 0.02, -0.07, 0.07, RED),
        (0.13, 0.17, -0.07, 0.07, RED),
    )),
    "warning": (0.5, 3, _UP, RED, 0.66, WHITE, (
        (-0.035, 0.035, -0.02, 0.18, BLACK), (-0.035, 0.035, -0.13, -0.07, BLACK),
    )),
    "priority": (0.45, 4, 0, WHITE, 0.88, YELLOW, ()),
    "parking": (0.46, 4, math.pi / 4, WHITE, 0.88, BLUE, (
        (-0.14, -0.05, -0.2, 0.2, WHITE), (-0.05, 0.14, -0.02, 0.2, WHITE), (-0.04, 0.05, 0.05, 0.13, BLUE),
    )),
    "noparking": (0.36, 16, 0, RED, 0.8, BLUE, ()),
}  # fmt: skip


def lamp_post(height: float, reach: float, colour: Colour, *, lit: bool) -> Shape:
    """Returns a lamp post whose arm reaches `reach` metres to the right (to the left below 0)."""
    shape = Shape(POLE)
    shape.rod((0, 0, 0), (0, 1.1, 0), 0.12, colour)
    shape.rod((0, 1.0, 0), (0, height, 0), 0.095, colour, 0.06)
    bulb = (255.0, 236.0, 190.0) if lit else (214.0, 216.0, 214.0)
    if abs(reach) < 0.2:
        shape.rod((0, height, 0), (0, height + 0.35, 0), 0.22, bulb, 0.12)
        return shape
    shape.rod((0, height, 0), (0.9 * reach, height + 0.5, 0), 0.05, colour)
    shape.rod((0.85 * reach, height + 0.48, 0), (1.25 * reach, height + 0.52, 0), 0.09, tint(colour, 0.9), 0.06)
    shape.rod((0.95 * reach, height + 0.41, 0), (1.2 * reach, height + 0.44, 0), 0.05, bulb)
    return shape


def traffic_light(state: int, reach: float, *, facing: bool) -> Shape:
    """Returns a traffic light; state 0 red, 1 yellow, 2 green; with a second head on an arm `reach` metres long."""
    shape, height, heads = Shape(POLE), 3.1 if reach == 0 else 5.6, [(0.0, 2.25)]
    shape.rod((0, 0, 0), (0, height, 0), 0.085, STEEL, 0.075)
    if reach:
        shape.rod((0, height, 0), (reach, height + 0.25, 0), 0.065, STEEL)
        heads.append((reach, height - 0.45))
    shape.label = TRAFFIC_LIGHT
    for x, y in heads:
        shape.box((x - 0.26, y - 0.1, -0.14), (x + 0.26, y + 1.12, -0.12), (24, 26, 26))
        shape.box((x - 0.18, y, -0.3), (x + 0.18, y + 1.02, -0.1), (38, 44, 42))
        for index, colour in enumerate(LIGHTS if facing else ()):
            bulb = plate((x, y + 0.84 - 0.33 * index, -0.32), 0.155, 12)
            shape.face(bulb, paint(colour, glow=1) if index == state else tint(colour, 0.2))
    return shape


def sign(kind: str, *, facing: bool, height: float) -> Shape:
    """Returns a traffic sign on its post; seen from behind it is grey."""
    shape = Shape(POLE)
    top = height + (1.0 if kind == "direction" else 0.3)
    for x in (0, 1.6) if kind == "direction" else (0,):
        shape.rod((x, 0, 0), (x, top, 0), 0.045, STEEL)
    shape.label = TRAFFIC_SIGN
    if kind == "direction":
        _board(shape, height, facing=facing)
    elif kind == "name":
        box = box_faces((-0.1, height - 0.1, -0.1), (0.85, height + 0.18, -0.06))
        letters = 0.16 * np.arange(5)
        shape.face(box, BLUE if facing else tint(BLUE, 0.9))
        shape.panel(box[0], columns(0.1 + letters, 0.2 + letters, 0.3, 0.7), WHITE)
    else:
        _plate(shape, kind, height, facing=facing)
    return shape


def _plate(shape: Shape, kind: str, y: float, *, facing: bool) -> None:
    """Adds a plate `y` metres up, with the picture that its kind has on the front."""
    z, (radius, corners, turn, rim, share, fill, bars) = -0.08, SIGNS[kind]
    outline = plate((0.0, y, z), radius, corners, turn)
    if not facing:
        shape.face(outline, (132, 134, 136), two_sided=True)
        return
    centre = outline.mean(axis=0)
    shape.face(outline, rim)
    shape.face(centre + share * (outline - centre) - (0, 0, 0.01), fill)
    for left, right, bottom, top, colour in bars:
        quad = np.array([(left, y + bottom, z), (right, y + bottom, z), (right, y + top, z), (left, y + top, z)])
        shape.face(quad - (0, 0, 0.02), colour)
    if kind == "duty":
        shape.face(plate((0, y + 0.12, z - 0.02), 0.13, 3, _UP), WHITE)
    elif kind == "noparking":
        stroke = np.array([(-0.24, y + 0.17, z), (-0.17, y + 0.24, z), (0.24, y - 0.17, z), (0.17, y - 0.24, z)])
        shape.face(stroke - (0, 0, 0.02), RED, two_sided=True)


def _board(shape: Shape, height: float, *, facing: bool) -> None:
    """Adds a direction board: lines of text, each beside an arrow."""
    faces = box_faces((-0.3, height - 0.2, -0.12), (1.9, height + 1.1, -0.08))
    shape.face(faces, WHITE if facing else (128, 130, 132))
    if not facing:
        return
    ground, ink = ((BLUE, WHITE), (YELLOW, BLACK), (GREEN, WHITE))[int(height * 100) % 3]
    shape.panel(faces[0], [0.015, 0.985, 0.03, 0.97], ground)
    for row, words in (
        (0.7, ((0.28, 0.2), (0.56, 0.16))),
        (0.42, ((0.28, 0.34),)),
        (0.14, ((0.28, 0.12), (0.48, 0.24))),
    ):
        for left, word in words:
            letters = left + np.arange(0.0, word, 0.045)
            shape.panel(faces[0], columns(letters, letters + 0.03, row, row + 0.14), ink)
        arrow = panels(faces[0], [0.07, 0.2, row - 0.02, row + 0.18])[0]
        shape.face(np.array([arrow[0], arrow[1], 0.5 * (arrow[2] + arrow[3])]), ink)


def bollard(colour: Colour) -> Shape:
    """Returns a bollard."""
    shape = Shape(POLE)
    shape.rod((0, 0, 0), (0, 0.9, 0), 0.07, colour)
    shape.rod((0, 0.72, 0), (0, 0.78, 0), 0.075, WHITE)
    return shape


def litter_bin(colour: Colour, *, wheeled: bool) -> Shape:
    """Returns a litter bin, or a wheeled refuse bin."""
    shape = Shape(STATIC)
    if wheeled:
        shape.box((-0.3, 0.05, -0.35), (0.3, 1.0, 0.35), colour)
        shape.box((-0.33, 1.0, -0.4), (0.33, 1.08, 0.38), tint(colour, 0.75))
    else:
        shape.rod((0, 0.25, 0), (0, 0.8, 0), 0.2, colour)
        shape.rod((0, 0.86, 0), (0, 0.9, 0), 0.2, tint(colour, 0.6))
    return shape


def fence(kind: str, length: float, height: float, colour: Colour, *, distance: float) -> Shape:
    """Returns a fence along z around the origin: palings, iron railings or wire mesh."""
    shape, start, stop = Shape(FENCE), -length / 2, length / 2
    quad = np.array([(0, 0.06, start), (0, 0.06, stop), (0, height, stop), (0, height, start)])
    if kind == "palings":
        shape.face(quad, colour, two_sided=True)
        shape.parts.append(Texture(quad, "planks", 120.0, 0.16, 5.0))
        if distance < 25:
            gaps = np.arange(0.0, 1.0, 0.2 / length)
            shape.panel(quad, columns(gaps, gaps + 0.035 / length, 0, 1), tint(colour, 0.5), two_sided=True)
        for post in (start, stop):
            shape.rod((0, 0, post), (0, height + 0.08, post), 0.05, tint(colour, 0.8))
        return shape
    shape.parts.append(Veil(quad, tint(colour, 0.8), FENCE, 0.34 if kind == "mesh" else 0.24))
    step = 0.14 if kind == "railings" and distance < 20 else 0.5 if distance < 40 else 1.5
    for index in range(int(length / step) + 1):
        z = min(start + index * step, stop)
        top, radius = (height, 0.014) if step < 0.2 and index % 12 else (height + 0.08, 0.03)
        shape.rod((0, 0.0, z), (0, top, z), radius, colour)
    for level in (0.12, 0.5 * height, height - 0.05) if kind == "mesh" else (0.15, height - 0.12):
        shape.rod((0, level, start), (0, level, stop), 0.022, colour)
    return shape


def wall(length: float, height: float, colour: Colour, material: str, side: int) -> Shape:
    """Returns a free-standing wall along z around the origin, with a coping."""
    shape = Shape(WALL)
    faces = box_faces((-0.15, 0.0, -length / 2), (0.15, height, length / 2))
    shape.face(faces, colour)
    street = faces[3 if side < 0 else 2]
    shape.parts.append(Texture(street, material, 64.0 if material == "stone" else 100.0, 0.12, 9.0))
    shape.parts.append(Texture(street, "stain", 12.0, 0.06, 4.0))
    shape.box((-0.2, height, -length / 2), (0.2, height + 0.1, length / 2), tint(colour, 1.12))
    return shape


def tree(species: str, height: float, colour: Colour, *, distance: float, seed: int) -> Shape:
    """Returns a tree `height` metres high, its trunk at the origin; with fewer balls of leaves if it is far away."""
    shape, rng, (bottom, crown_half, trunk, pointed, most) = Shape(VEGETATION), Dice(seed), SPECIES[species]
    bark = (206, 204, 198) if species == "birch" else rng.pick(BARK)
    lean = rng.normal(0.0, 0.02) * height
    fork, radius = height * (bottom + 0.12), height * trunk
    shape.rod((0, 0, 0), (lean, fork, 0), 1.15 * radius, bark, 0.8 * radius)
    middle = 0.5 * (bottom + 1.0) * height
    for share in rng.uniform(-0.6, 0.6, 4 if distance < FAR_DETAIL else 0).tolist():
        tip = (lean + share * crown_half * height, middle, 0.0)
        shape.rod((lean, fork, 0), tip, 0.6 * radius, bark, 0.25 * radius)
    balls = most if distance < NEAR_DETAIL else most * 2 // 3 if distance < FAR_DETAIL else 4
    swell = math.sqrt(most / balls) ** 0.6
    flat = 0.8 if pointed < 0.3 else 1.15
    low, crown = bottom * height, (1.0 - bottom) * height
    placed = []
    for index in range(balls):
        level = (index + rng.uniform(0.2, 0.8)) / balls
        rounded = math.sqrt(max(0.0, 1.0 - (2.0 * level - 1.0) ** 2)) * 0.75 + 0.25
        reach = crown_half * height * ((1 - pointed) * rounded + pointed * (1.05 - level))
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
