"""Street furniture: lamp posts, traffic lights, signs, bollards, bins, fences and walls."""

import math

import numpy as np

from setr.scenes.labels import FENCE, POLE, STATIC, TRAFFIC_LIGHT, TRAFFIC_SIGN, WALL
from setr.scenes.shapes import Colour, Shape, Texture, Veil, box_faces, panels, plate, tint

STEEL = (122.0, 126.0, 130.0)
WHITE, BLACK = (238.0, 238.0, 234.0), (28.0, 28.0, 30.0)
RED, BLUE, YELLOW, GREEN = (204.0, 32.0, 36.0), (26.0, 84.0, 168.0), (246.0, 196.0, 30.0), (30.0, 122.0, 72.0)
SIGNS = (
    "limit", "limit", "limit", "ban", "duty", "duty", "yield", "stop", "warning", "warning", "priority", "priority",
    "parking", "parking", "noparking", "noparking", "noparking", "direction", "name", "name",
)  # fmt: skip


def lamp_post(height: float, reach: float, colour: Colour, *, lit: bool) -> Shape:
    """Returns a lamp post whose arm reaches `reach` metres to the right (to the left below 0)."""
    shape = Shape()
    shape.rod((0, 0, 0), (0, 1.1, 0), 0.12, colour, POLE)
    shape.rod((0, 1.0, 0), (0, height, 0), 0.095, colour, POLE, 0.06)
    bulb = (255.0, 236.0, 190.0) if lit else (214.0, 216.0, 214.0)
    if abs(reach) < 0.2:
        shape.rod((0, height, 0), (0, height + 0.35, 0), 0.22, bulb, POLE, 0.12)
        return shape
    shape.rod((0, height, 0), (0.9 * reach, height + 0.5, 0), 0.05, colour, POLE)
    shape.rod((0.85 * reach, height + 0.48, 0), (1.25 * reach, height + 0.52, 0), 0.09, tint(colour, 0.9), POLE, 0.06)
    shape.rod((0.95 * reach, height + 0.41, 0), (1.2 * reach, height + 0.44, 0), 0.05, bulb, POLE)
    return shape


def traffic_light(state: int, reach: float, *, facing: bool) -> Shape:
    """Returns a traffic light; state 0 red, 1 yellow, 2 green; with a second head on an arm `reach` metres long."""
    shape = Shape()
    height = 3.1 if abs(reach) < 0.5 else 5.6
    shape.rod((0, 0, 0), (0, height, 0), 0.085, STEEL, POLE, 0.075)
    heads = [(0.0, 2.25)]
    if abs(reach) >= 0.5:
        shape.rod((0, height, 0), (reach, height + 0.25, 0), 0.065, STEEL, POLE)
        heads.append((reach, height - 0.45))
    for x, y in heads:
        _light_head(shape, x, y, state, facing=facing)
    return shape


def _light_head(shape: Shape, x: float, y: float, state: int, *, facing: bool) -> None:
    back = box_faces((x - 0.26, y - 0.1, -0.14), (x + 0.26, y + 1.12, -0.12))
    box = box_faces((x - 0.18, y, -0.3), (x + 0.18, y + 1.02, -0.1))
    shape.face(back, (24.0, 26.0, 26.0), TRAFFIC_LIGHT)
    shape.face(box, (38.0, 44.0, 42.0), TRAFFIC_LIGHT)
    if not facing:
        return
    colours = ((255.0, 46.0, 36.0), (255.0, 190.0, 40.0), (60.0, 240.0, 150.0))
    for index, colour in enumerate(colours):
        centre = (x, y + 0.84 - 0.33 * index, -0.32)
        on = index == state
        shape.face(plate(centre, 0.155, 12), colour if on else tint(colour, 0.2), TRAFFIC_LIGHT, glow=on)


def sign(kind: str, *, facing: bool, height: float = 2.3, post: bool = True) -> Shape:
    """Returns a traffic sign on its post; seen from behind it is grey."""
    shape = Shape()
    big = kind in ("direction",)
    if post:
        shape.rod((0, 0, 0), (0, height + (1.0 if big else 0.3), 0), 0.045, STEEL, POLE)
        if big:
            shape.rod((1.6, 0, 0), (1.6, height + 1.0, 0), 0.045, STEEL, POLE)
    at = (0.0, height, -0.08)
    if big:
        _board(shape, height, facing=facing)
        return shape
    if kind == "name":
        low, high = (-0.1, height - 0.1, -0.1), (0.85, height + 0.18, -0.06)
        shape.face(box_faces(low, high), BLUE if facing else tint(BLUE, 0.9), TRAFFIC_SIGN)
        text = np.array([[0.1 + 0.16 * i, 0.2 + 0.16 * i, 0.3, 0.7] for i in range(5)])
        shape.face(panels(box_faces(low, high)[0], text), WHITE, TRAFFIC_SIGN)
        return shape
    outline = _outline(kind, at)
    if not facing:
        shape.face(outline, (132.0, 134.0, 136.0), TRAFFIC_SIGN, two_sided=True)
        return shape
    _face_of_sign(shape, kind, at, outline)
    return shape


def _outline(kind: str, at: tuple[float, float, float]) -> np.ndarray:
    if kind == "yield":
        return plate(at, 0.5, 3, -math.pi / 2)
    if kind == "warning":
        return plate(at, 0.5, 3, math.pi / 2)
    if kind == "stop":
        return plate(at, 0.42, 8, math.pi / 8)
    if kind == "priority":
        return plate(at, 0.45, 4)
    if kind == "parking":
        return plate(at, 0.46, 4, math.pi / 4)
    return plate(at, 0.36, 16)


def _face_of_sign(shape: Shape, kind: str, at: tuple[float, float, float], outline: np.ndarray) -> None:
    x, y, z = at
    centre = outline.mean(axis=0)

    def inner(share: float, colour: Colour) -> None:
        points = centre + share * (outline - centre)
        shape.face(points - np.array([0, 0, 0.01]), colour, TRAFFIC_SIGN)

    def bar(x0: float, x1: float, y0: float, y1: float, colour: Colour) -> None:
        quad = np.array([(x + x0, y + y0, z), (x + x1, y + y0, z), (x + x1, y + y1, z), (x + x0, y + y1, z)])
        shape.face(quad - np.array([0, 0, 0.02]), colour, TRAFFIC_SIGN)

    rim = {"duty": WHITE, "stop": WHITE, "priority": WHITE, "parking": WHITE}.get(kind, RED)
    shape.face(outline, rim, TRAFFIC_SIGN)
    fill = {"ban": RED, "duty": BLUE, "stop": RED, "priority": YELLOW, "parking": BLUE, "noparking": BLUE}.get(
        kind, WHITE
    )
    inner({"yield": 0.66, "warning": 0.66, "limit": 0.74, "noparking": 0.8}.get(kind, 0.88), fill)
    if kind == "limit":
        bar(-0.16, -0.03, -0.13, 0.13, BLACK)
        bar(0.03, 0.16, -0.13, 0.13, BLACK)
        bar(-0.12, -0.07, -0.08, 0.08, WHITE)
        bar(0.07, 0.12, -0.08, 0.08, WHITE)
    elif kind == "ban":
        bar(-0.24, 0.24, -0.06, 0.06, WHITE)
    elif kind == "duty":
        bar(-0.04, 0.04, -0.2, 0.1, WHITE)
        shape.face(plate((x, y + 0.12, z - 0.02), 0.13, 3, math.pi / 2), WHITE, TRAFFIC_SIGN)
    elif kind == "stop":
        bar(-0.28, 0.28, -0.09, 0.09, WHITE)
        for at_x in (-0.15, 0.0, 0.15):
            bar(at_x - 0.02, at_x + 0.02, -0.07, 0.07, RED)
    elif kind == "warning":
        bar(-0.035, 0.035, -0.02, 0.18, BLACK)
        bar(-0.035, 0.035, -0.13, -0.07, BLACK)
    elif kind == "parking":
        bar(-0.14, -0.05, -0.2, 0.2, WHITE)
        bar(-0.05, 0.14, -0.02, 0.2, WHITE)
        bar(-0.04, 0.05, 0.05, 0.13, BLUE)
    elif kind == "noparking":
        stroke = np.array(
            [(x - 0.24, y + 0.17, z), (x - 0.17, y + 0.24, z), (x + 0.24, y - 0.17, z), (x + 0.17, y - 0.24, z)]
        )
        shape.face(stroke - np.array([0, 0, 0.02]), RED, TRAFFIC_SIGN, two_sided=True)


def _board(shape: Shape, height: float, *, facing: bool) -> None:
    """Adds a direction board: lines of text, each beside an arrow."""
    faces = box_faces((-0.3, height - 0.2, -0.12), (1.9, height + 1.1, -0.08))
    if not facing:
        shape.face(faces, (128.0, 130.0, 132.0), TRAFFIC_SIGN)
        return
    ground, ink = ((BLUE, WHITE), (YELLOW, BLACK), (GREEN, WHITE))[int(height * 100) % 3]
    shape.face(faces, WHITE, TRAFFIC_SIGN)
    shape.face(panels(faces[0], np.array([[0.015, 0.985, 0.03, 0.97]])), ground, TRAFFIC_SIGN)
    for row, words in ((0.7, (0.2, 0.16)), (0.42, (0.34,)), (0.14, (0.12, 0.24))):
        left = 0.28
        for word in words:
            letters = left + np.arange(0.0, word, 0.045)
            text = np.stack([letters, letters + 0.03, 0 * letters + row, 0 * letters + row + 0.14], axis=1)
            shape.face(panels(faces[0], text), ink, TRAFFIC_SIGN)
            left += word + 0.08
        arrow = panels(faces[0], np.array([[0.07, 0.2, row - 0.02, row + 0.18]]))[0]
        tip = 0.5 * (arrow[2] + arrow[3])
        shape.face(np.array([arrow[0], arrow[1], tip]), ink, TRAFFIC_SIGN)


def bollard(colour: Colour) -> Shape:
    """Returns a bollard."""
    shape = Shape()
    shape.rod((0, 0, 0), (0, 0.9, 0), 0.07, colour, POLE)
    shape.rod((0, 0.72, 0), (0, 0.78, 0), 0.075, WHITE, POLE)
    return shape


def litter_bin(colour: Colour, *, wheeled: bool) -> Shape:
    """Returns a litter bin, or a wheeled refuse bin."""
    shape = Shape()
    if wheeled:
        shape.box((-0.3, 0.05, -0.35), (0.3, 1.0, 0.35), colour, STATIC)
        shape.box((-0.33, 1.0, -0.4), (0.33, 1.08, 0.38), tint(colour, 0.75), STATIC)
    else:
        shape.rod((0, 0.25, 0), (0, 0.8, 0), 0.2, colour, STATIC)
        shape.rod((0, 0.86, 0), (0, 0.9, 0), 0.2, tint(colour, 0.6), STATIC)
    return shape


BOUNDARY_COLOURS: dict[str, tuple[Colour, ...]] = {
    "wall": ((182, 174, 160), (156, 94, 76), (200, 194, 184), (148, 142, 134)),
    "palings": ((140, 112, 84), (108, 90, 72), (226, 224, 218), (94, 108, 98)),
    "mesh": ((76, 102, 86), (124, 128, 130), (66, 68, 70)),
    "railings": ((46, 48, 50), (58, 70, 64), (94, 96, 100)),
}


def fence(kind: str, length: float, height: float, colour: Colour, *, distance: float) -> Shape:
    """Returns a fence along z around the origin: palings, iron railings or wire mesh."""
    shape = Shape()
    start, stop = -length / 2, length / 2
    quad = np.array([(0, 0.06, start), (0, 0.06, stop), (0, height, stop), (0, height, start)])
    if kind == "palings":
        shape.face(quad, colour, FENCE, two_sided=True)
        shape.parts.append(Texture(quad, "planks", 120.0, 0.16, 5.0))
        if distance < 25:
            gaps = np.arange(0.0, 1.0, 0.2 / length)
            slits = np.stack([gaps, gaps + 0.035 / length, 0 * gaps, 0 * gaps + 1], axis=1)
            shape.face(panels(quad, slits), tint(colour, 0.5), FENCE, two_sided=True)
        for post in (start, stop):
            shape.rod((0, 0, post), (0, height + 0.08, post), 0.05, tint(colour, 0.8), FENCE)
        return shape
    shape.parts.append(Veil(quad, tint(colour, 0.8), FENCE, 0.34 if kind == "mesh" else 0.24))
    step = 0.14 if kind == "railings" and distance < 20 else 0.5 if distance < 40 else 1.5
    number = int(length / step) + 1
    for index in range(number):
        thin = step < 0.2 and index % 12 != 0
        z = min(start + index * step, stop)
        shape.rod((0, 0.0, z), (0, height - (0.0 if thin else -0.08), z), 0.014 if thin else 0.03, colour, FENCE)
    for level in (0.12, 0.5 * height, height - 0.05) if kind == "mesh" else (0.15, height - 0.12):
        shape.rod((0, level, start), (0, level, stop), 0.022, colour, FENCE)
    return shape


def wall(length: float, height: float, colour: Colour, material: str, side: int) -> Shape:
    """Returns a free-standing wall along z around the origin, with a coping."""
    shape = Shape()
    faces = box_faces((-0.15, 0.0, -length / 2), (0.15, height, length / 2))
    shape.face(faces, colour, WALL)
    street = faces[3 if side < 0 else 2]
    shape.parts.append(Texture(street, material, 64.0 if material == "stone" else 100.0, 0.12, 9.0))
    shape.parts.append(Texture(street, "stain", 12.0, 0.06, 4.0))
    shape.box((-0.2, height, -length / 2), (0.2, height + 0.1, length / 2), tint(colour, 1.12), WALL)
    return shape
