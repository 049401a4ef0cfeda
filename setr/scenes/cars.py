"""Cars: bodies lofted over rings of corners, with a greenhouse of glass, wheels, lights and plates."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from setr.scenes.labels import CAR
from setr.scenes.shapes import Colour, Paint, Shape, disc, paint, panels

TYRE = (24.0, 24.0, 26.0)
RIM = (138.0, 140.0, 144.0)
GLASS = (26.0, 32.0, 38.0)
TAIL, TAIL_LIT = (158.0, 20.0, 22.0), (255.0, 56.0, 44.0)
HEAD, HEAD_LIT = (214.0, 218.0, 220.0), (255.0, 252.0, 236.0)
NUMBER_PLATE = (226.0, 226.0, 220.0)


@dataclass(frozen=True)
class Body:
    """A car's proportions in metres; z of the windows from the rear (0) to the front (length)."""

    length: float
    width: float
    height: float
    belt: float  # lower edge of the side windows
    nose: float  # height of the bonnet's front edge
    screen_base: float
    screen_top: float
    rear_base: float
    rear_top: float
    deck: float  # height of the tail
    wheel: float  # radius


BODIES = {
    "hatchback": Body(4.1, 1.76, 1.46, 0.94, 0.72, 3.1, 2.3, 0.14, 0.55, 0.93, 0.31),
    "saloon": Body(4.6, 1.8, 1.44, 0.92, 0.72, 3.4, 2.65, 0.75, 1.4, 0.97, 0.32),
    "estate": Body(4.6, 1.8, 1.48, 0.93, 0.72, 3.4, 2.65, 0.12, 0.5, 0.93, 0.32),
    "suv": Body(4.5, 1.88, 1.68, 1.07, 0.92, 3.35, 2.7, 0.12, 0.45, 1.06, 0.36),
    "van": Body(5.0, 1.95, 2.0, 1.14, 0.98, 4.35, 3.65, 0.05, 0.14, 1.12, 0.34),
    "compact": Body(3.5, 1.62, 1.5, 0.95, 0.8, 2.85, 2.2, 0.1, 0.36, 0.93, 0.28),
}
COLOURS: tuple[Colour, ...] = (
    (28, 29, 32), (42, 44, 48), (222, 223, 222), (238, 238, 236), (170, 174, 178), (126, 130, 134), (88, 92, 98),
    (30, 48, 96), (46, 90, 160), (156, 26, 30), (192, 38, 34), (36, 76, 58), (200, 190, 164), (98, 66, 46),
    (218, 152, 38), (94, 122, 146), (208, 94, 32), (80, 34, 48),
)  # fmt: skip


@lru_cache(maxsize=256)
def car(kind: str, *, lit: bool, braking: bool, occupants: int) -> Shape:
    """Returns a car standing on its middle, looking along z; its paint is the thing's first colour."""
    body = BODIES[kind]
    shape = Shape()
    half, long = body.width / 2, body.length / 2
    axles = (-0.3 * body.length - 0.02, 0.3 * body.length + 0.1)
    shape.box((-half + 0.12, 0.14, -long + 0.25), (half - 0.12, 0.5, long - 0.25), (16.0, 16.0, 18.0), CAR)
    for axle in axles:
        for side in (-1, 1):
            low = (min(side * (half - 0.24), side * (half - 0.02)), 0.0, axle - 0.9 * body.wheel)
            high = (max(side * (half - 0.24), side * (half - 0.02)), body.wheel, axle + 0.9 * body.wheel)
            shape.box(low, high, TYRE, CAR)
    rings = _rings(body)
    for level, tone in enumerate((0.8, 1.0, 0.94)):
        low_ring, high_ring = rings[level], rings[level + 1]
        skirt = np.stack([low_ring, np.roll(low_ring, -1, 0), np.roll(high_ring, -1, 0), high_ring], axis=1)
        shape.face(skirt, paint(first=tone, sky=0.04 * level), CAR)
    top = rings[3]
    shape.face(top[[0, 1, 2, 3, 10, 11]], paint(first=0.84, sky=0.2), CAR)
    shape.face(top[[4, 5, 6, 7, 8, 9]], paint(first=0.82, sky=0.24), CAR)
    shape.face(top[[3, 4, 9, 10]], paint(first=0.8), CAR)
    _tail(shape, rings, lit or braking)
    _nose(shape, rings, lit)
    for axle in axles:
        for side in (-1, 1):
            _wheel(shape, side * (half + 0.005), side, axle, body.wheel)
    for side in (-1, 1):
        x, front = side * (half + 0.09), body.screen_base - long
        shape.box(
            (x - 0.16, body.belt - 0.02, front - 0.5), (x + 0.1, body.belt + 0.14, front - 0.36), paint(first=0.8), CAR
        )
    _greenhouse(shape, body, occupants)
    return shape


def _rings(body: Body) -> np.ndarray:
    """Returns four rings of twelve corners (4,12,3), sill, waist, shoulder and top, counter-clockwise from above."""
    half, long, cut = body.width / 2, body.length / 2, 0.24
    along = [-long + cut, body.rear_base - long + 0.08, body.screen_base - long, long - cut]
    narrow = half - 0.26
    plan = [(-narrow, -long), (narrow, -long), *((half, z) for z in along)]
    plan += [(narrow, long), (-narrow, long), *((-half, z) for z in reversed(along))]
    right = [body.deck, body.belt, body.belt, body.nose + 0.05]
    heights = np.array([body.deck, body.deck, *right, body.nose, body.nose, *reversed(right)])
    corners = np.array(plan)
    rings = np.empty((4, 12, 3))
    for level, inset in enumerate((0.06, 0.0, 0.02, 0.1)):
        shrunk = corners * np.array([1 - inset / half, 1 - 1.3 * inset / long])
        rings[level, :, 0], rings[level, :, 2] = shrunk[:, 0], shrunk[:, 1]
    rings[0, :, 1], rings[1, :, 1] = 0.24, 0.52
    rings[2, :, 1] = heights - 0.14
    rings[3, :, 1] = heights
    return rings


def _skirt(rings: np.ndarray, level: int, index: int) -> np.ndarray:
    after = (index + 1) % rings.shape[1]
    return np.array([rings[level, index], rings[level, after], rings[level + 1, after], rings[level + 1, index]])


def _tail(shape: Shape, rings: np.ndarray, lit: bool) -> None:
    low, high = _skirt(rings, 0, 0), _skirt(rings, 1, 0)
    lamp = TAIL_LIT if lit else TAIL
    shape.face(panels(low, np.array([[0.0, 1.0, 0.0, 0.5]])), (30.0, 30.0, 32.0), CAR)
    shape.face(panels(high, np.array([[-0.02, 0.16, 0.42, 0.98], [0.84, 1.02, 0.42, 0.98]])), lamp, CAR, glow=lit)
    shape.face(panels(high, np.array([[0.02, 0.13, 0.42, 0.56], [0.87, 0.98, 0.42, 0.56]])), (236.0, 200.0, 170.0), CAR)
    shape.face(panels(_skirt(rings, 1, 1), np.array([[0.0, 0.75, 0.42, 0.98]])), lamp, CAR, glow=lit)
    shape.face(panels(_skirt(rings, 1, 11), np.array([[0.25, 1.0, 0.42, 0.98]])), lamp, CAR, glow=lit)
    shape.face(panels(high, np.array([[0.2, 0.8, 0.1, 0.16]])), paint(first=0.55), CAR)
    shape.face(panels(high, np.array([[0.33, 0.67, 0.3, 0.66]])), NUMBER_PLATE, CAR)


def _nose(shape: Shape, rings: np.ndarray, lit: bool) -> None:
    low, high = _skirt(rings, 0, 6), _skirt(rings, 1, 6)
    lamp = HEAD_LIT if lit else HEAD
    shape.face(panels(low, np.array([[0.06, 0.94, 0.1, 0.75]])), (28.0, 29.0, 31.0), CAR)
    shape.face(panels(high, np.array([[0.2, 0.8, 0.25, 0.95]])), (24.0, 25.0, 28.0), CAR)
    shape.face(panels(high, np.array([[0.22, 0.78, 0.5, 0.58]])), (120.0, 122.0, 126.0), CAR)
    shape.face(panels(high, np.array([[-0.02, 0.17, 0.3, 0.98], [0.83, 1.02, 0.3, 0.98]])), lamp, CAR, glow=lit)
    shape.face(panels(_skirt(rings, 1, 5), np.array([[0.45, 1.0, 0.3, 0.98]])), lamp, CAR, glow=lit)
    shape.face(panels(_skirt(rings, 1, 7), np.array([[0.0, 0.55, 0.3, 0.98]])), lamp, CAR, glow=lit)
    shape.face(panels(low, np.array([[0.33, 0.67, 0.55, 0.98]])), NUMBER_PLATE, CAR)


def _wheel(shape: Shape, x: float, side: int, axle: float, radius: float) -> None:
    shape.face(disc((x, radius + 0.03, axle), radius + 0.06, side), (14.0, 14.0, 16.0), CAR)
    shape.face(disc((x + side * 0.01, radius, axle), radius, side), TYRE, CAR)
    shape.face(disc((x + side * 0.02, radius, axle), 0.6 * radius, side), RIM, CAR)
    shape.face(disc((x + side * 0.03, radius, axle), 0.46 * radius, side, 5), (74.0, 75.0, 78.0), CAR)
    shape.face(disc((x + side * 0.04, radius, axle), 0.16 * radius, side, 8), RIM, CAR)


def _greenhouse(shape: Shape, body: Body, occupants: int) -> None:
    half, long = body.width / 2, body.length / 2
    low, high, base, top = half - 0.11, half - 0.28, body.belt - 0.03, body.height - 0.04
    rear0, rear1, front0, front1 = (
        z - long for z in (body.rear_base + 0.06, body.rear_top, body.screen_base, body.screen_top)
    )
    foot = np.array([(-low, base, rear0), (low, base, rear0), (low, base, front0), (-low, base, front0)])
    rim = np.array([(-high, top, rear1), (high, top, rear1), (high, top, front1), (-high, top, front1)])
    walls = np.stack([foot, np.roll(foot, -1, 0), np.roll(rim, -1, 0), rim], axis=1)
    rear, right, front, left = walls
    shape.face(walls, paint(first=0.9, sky=0.04), CAR)
    crown = rim * np.array([0.78, 1.0, 1.0]) + np.array([0.0, 0.04, 0.0])
    crown[:, 2] += np.array([0.22, 0.22, -0.22, -0.22])
    shape.face(
        np.stack([rim, np.roll(rim, -1, 0), np.roll(crown, -1, 0), crown], axis=1), paint(first=0.86, sky=0.12), CAR
    )
    shape.face(crown, paint(first=0.8, sky=0.2), CAR)
    _pane(shape, rear, (0.07, 0.93, 0.16, 0.9), 0.16)
    _pane(shape, front, (0.05, 0.95, 0.08, 0.94), 0.24)
    heads = np.array([[0.22, 0.34, 0.08, 0.46], [0.66, 0.78, 0.08, 0.46]])
    shape.face(panels(rear, heads), paint((20.0, 23.0, 27.0), sky=0.08), CAR)
    shape.face(panels(front, heads[:occupants]), (58.0, 50.0, 47.0), CAR)
    for side in (left, right):
        _pane(shape, side, (0.07, 0.48, 0.12, 0.9), 0.14)
        _pane(shape, side, (0.53, 0.92, 0.12, 0.9), 0.18)


def _pane(shape: Shape, wall: np.ndarray, rectangle: tuple[float, float, float, float], mirrored: float) -> None:
    """Adds a window whose upper part mirrors more of the sky."""
    left, right, bottom, top = rectangle
    middle = 0.5 * (bottom + top)
    glass: Paint = paint(GLASS, sky=mirrored)
    shape.face(panels(wall, np.array([rectangle])), glass, CAR)
    shape.face(panels(wall, np.array([[left, right, middle, top]])), paint(GLASS, sky=1.7 * mirrored), CAR)
