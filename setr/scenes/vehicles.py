"""Cars, lorries, buses and trams: a table of proportions each, bodies, and the panels laid on them.

All stand on their middle and look along z; their paint is the thing's own two colours.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np

from setr.scenes.labels import BUS, CAR, TRAIN, TRUCK
from setr.scenes.shapes import Colour, Dice, Shape, box_faces, columns, disc, paint

TYRE, RIM, NUMBER_PLATE = (24.0, 24.0, 26.0), (138.0, 140.0, 144.0), (226.0, 226.0, 220.0)
TAIL, TAIL_LIT = (158.0, 20.0, 22.0), (255.0, 56.0, 44.0)
HEAD, HEAD_LIT = (214.0, 218.0, 220.0), (255.0, 252.0, 236.0)
GLASS, COACH_GLASS, DARK = (26.0, 32.0, 38.0), (30.0, 38.0, 46.0), (34.0, 34.0, 36.0)
CAB = 2.1  # metres: the length of a lorry's cab
Axles = tuple[float, ...]
Looks = dict[str, Any]


# Proportions in metres, z from the rear. A car: length, width, height; lower edge of the side windows, bonnet's front
# edge, tail; z of the windscreen's foot and head, of the rear window's foot and head; radius of the wheels.
CARS = {
    "hatchback": (4.1, 1.76, 1.46, 0.94, 0.72, 0.93, 3.1, 2.3, 0.14, 0.55, 0.31),
    "saloon": (4.6, 1.8, 1.44, 0.92, 0.72, 0.97, 3.4, 2.65, 0.75, 1.4, 0.32),
    "estate": (4.6, 1.8, 1.48, 0.93, 0.72, 0.93, 3.4, 2.65, 0.12, 0.5, 0.32),
    "suv": (4.5, 1.88, 1.68, 1.07, 0.92, 1.06, 3.35, 2.7, 0.12, 0.45, 0.36),
    "van": (5.0, 1.95, 2.0, 1.14, 0.98, 1.12, 4.35, 3.65, 0.05, 0.14, 0.34),
    "compact": (3.5, 1.62, 1.5, 0.95, 0.8, 0.93, 2.85, 2.2, 0.1, 0.36, 0.28),
}
# A lorry: length, width, height of its cargo; axles.
LORRIES = {
    "box lorry": (6.6, 2.44, 3.0, (1.5, 5.4)),
    "lorry": (8.4, 2.44, 3.5, (1.8, 7.1)),
    "long lorry": (10.4, 2.44, 3.8, (1.4, 2.7, 9.0)),
    "tipper": (7.4, 2.44, 2.2, (1.3, 2.6, 6.1)),
}
# A bus or tram: length, width, height; lower and upper edge of its windows; middles of its doors; axles.
COACHES = {
    "bus": (11.8, 2.52, 3.0, 1.15, 2.45, (4.3, 10.6), (2.4, 9.4)),
    "coach": (12.2, 2.54, 3.5, 1.6, 2.9, (10.9,), (2.4, 9.8)),
    "minibus": (7.4, 2.2, 2.75, 1.1, 2.2, (6.0,), (2.4, 5.0)),
    "tram": (26.0, 2.45, 3.35, 1.2, 2.65, (4.0, 10.0, 16.0, 22.0), (2.2, 3.8, 12.2, 13.8, 22.2, 23.8)),
}
SIZES = {kind: plan[:3] for table in (CARS, LORRIES, COACHES) for kind, plan in table.items()}
CAR_COLOURS: tuple[Colour, ...] = (
    (28, 29, 32), (42, 44, 48), (222, 223, 222), (238, 238, 236), (170, 174, 178), (126, 130, 134), (88, 92, 98),
    (30, 48, 96), (46, 90, 160), (156, 26, 30), (192, 38, 34), (36, 76, 58), (200, 190, 164), (98, 66, 46),
    (218, 152, 38), (94, 122, 146), (208, 94, 32), (80, 34, 48),
)  # fmt: skip
CARGOES: tuple[Colour, ...] = (
    (236, 236, 232), (222, 220, 214), (70, 114, 168), (200, 194, 174), (176, 62, 52), (92, 124, 96),
)  # fmt: skip
LIVERIES: tuple[Colour, ...] = (
    (230, 194, 44), (196, 36, 42), (234, 234, 230), (54, 100, 166), (64, 136, 88), (228, 124, 44), (154, 194, 214),
)  # fmt: skip

# Panels: which quads of the body, rectangles on each, and their paint; "tail" and "head" are lamps, lit or not. A car's
# quads are those of its lower skirt (0..11, from the rear to the right) and of its upper skirt (12..23).
Panels = tuple[tuple[list[int], Any, Any], ...]
CAR_PANELS: Panels = (
    ([0], [0.0, 1.0, 0.0, 0.5], (30, 30, 32)),
    ([12], [(-0.02, 0.16, 0.42, 0.98), (0.84, 1.02, 0.42, 0.98)], "tail"),
    ([12], [(0.02, 0.13, 0.42, 0.56), (0.87, 0.98, 0.42, 0.56)], (236, 200, 170)),
    ([13], [0.0, 0.75, 0.42, 0.98], "tail"),
    ([23], [0.25, 1.0, 0.42, 0.98], "tail"),
    ([12], [0.2, 0.8, 0.1, 0.16], paint(first=0.55)),
    ([12], [0.33, 0.67, 0.3, 0.66], NUMBER_PLATE),
    ([6], [0.06, 0.94, 0.1, 0.75], (28, 29, 31)),
    ([18], [0.2, 0.8, 0.25, 0.95], (24, 25, 28)),
    ([18], [0.22, 0.78, 0.5, 0.58], (120, 122, 126)),
    ([18], [(-0.02, 0.17, 0.3, 0.98), (0.83, 1.02, 0.3, 0.98)], "head"),
    ([17], [0.45, 1.0, 0.3, 0.98], "head"),
    ([19], [0.0, 0.55, 0.3, 0.98], "head"),
    ([6], [0.33, 0.67, 0.55, 0.98], NUMBER_PLATE),
)
# On the rear (0), right, front and left walls of a car's cabin: panes, whose upper parts mirror more, and headrests.
SCREEN_PANELS: Panels = (
    ([0], [0.07, 0.93, 0.16, 0.9], paint(GLASS, sky=0.16)),
    ([0], [0.07, 0.93, 0.53, 0.9], paint(GLASS, sky=0.272)),
    ([2], [0.05, 0.95, 0.08, 0.94], paint(GLASS, sky=0.24)),
    ([2], [0.05, 0.95, 0.51, 0.94], paint(GLASS, sky=0.408)),
    ([0], [(0.22, 0.34, 0.08, 0.46), (0.66, 0.78, 0.08, 0.46)], paint((20, 23, 27), sky=0.08)),
)
SIDE_PANELS: Panels = (
    ([3, 1], [0.07, 0.48, 0.12, 0.9], paint(GLASS, sky=0.14)),
    ([3, 1], [0.07, 0.48, 0.51, 0.9], paint(GLASS, sky=0.238)),
    ([3, 1], [0.53, 0.92, 0.12, 0.9], paint(GLASS, sky=0.18)),
    ([3, 1], [0.53, 0.92, 0.51, 0.9], paint(GLASS, sky=0.306)),
)
CAB_PANELS: Panels = (
    ([1], [0.08, 0.92, 0.5, 0.9], paint(COACH_GLASS, sky=0.3)),
    ([1], [(0.2, 0.8, 0.16, 0.4), (0.0, 1.0, 0.0, 0.08)], DARK),
    ([1], [(0.05, 0.2, 0.1, 0.22), (0.8, 0.95, 0.1, 0.22)], "head"),
    ([1], [0.41, 0.59, 0.01, 0.07], NUMBER_PLATE),
    ([2], [0.2, 0.75, 0.5, 0.88], paint(COACH_GLASS, sky=0.3)),
    ([3], [0.25, 0.8, 0.5, 0.88], paint(COACH_GLASS, sky=0.3)),
)
BAR_PANELS: Panels = (
    ([0], [(0.02, 0.16, 0.2, 0.85), (0.84, 0.98, 0.2, 0.85)], "tail"),
    ([0], [0.4, 0.6, 0.15, 0.85], NUMBER_PLATE),
)
CARGO_PANELS: Panels = (
    ([2, 3], [0.14, 0.86, 0.36, 0.6], paint(first=0.9)),
    ([2, 3], [0.2, 0.64, 0.43, 0.53], paint((226, 226, 222), second=0.08)),
    ([2, 3], [(0, 1, 0, 0.05), (0, 1, 0.96, 1)], (116, 118, 122)),
    ([0], [(0, 1, 0, 0.04), (0.49, 0.51, 0, 1), (0, 0.03, 0, 1), (0.97, 1, 0, 1), (0, 1, 0.97, 1)], (104, 106, 110)),
    ([0], [(0.4, 0.42, 0.1, 0.9), (0.58, 0.6, 0.1, 0.9)], (150, 152, 156)),
    ([0], [0.08, 0.36, 0.5, 0.64], paint(first=0.9)),
)
_RIBS = np.linspace(0.02, 0.93, 7)
OPEN_CARGO_PANELS: Panels = (([0, 2, 3], columns(_RIBS, _RIBS + 0.05, 0, 1), paint(second=0.72)),)
COACH_END_PANELS: Panels = (
    ([0], [(0.03, 0.11, 0.17, 0.32), (0.89, 0.97, 0.17, 0.32)], "tail"),
    ([0], [0.41, 0.59, 0.05, 0.11], NUMBER_PLATE),
    ([1], [(0.04, 0.2, 0.1, 0.2), (0.8, 0.96, 0.1, 0.2)], "head"),
    ([1], [0.41, 0.59, 0.04, 0.1], NUMBER_PLATE),
)
BUS_END_PANELS = (COACH_END_PANELS[0], ([0], [0.25, 0.75, 0.2, 0.36], paint(first=0.7)), *COACH_END_PANELS[1:])
# Wheels: how far out, radius as a share of the wheel's, metres added to radius and height, corners, colour.
CAR_WHEEL = (
    (0.0, 1.0, 0.06, 0.03, 14, (14, 14, 16)),
    (0.01, 1.0, 0, 0, 14, TYRE),
    (0.02, 0.6, 0, 0, 14, RIM),
    (0.03, 0.46, 0, 0, 5, (74, 75, 78)),
    (0.04, 0.16, 0, 0, 8, RIM),
)
COACH_WHEEL = ((0.02, 1.0, 0, 0, 14, TYRE), (0.03, 0.5, 0, 0, 14, RIM), (0.04, 0.2, 0, 0, 8, (70, 71, 74)))


@lru_cache(maxsize=512)
def vehicle(kind: str, *, lit: bool, braking: bool, oncoming: bool, lamps: bool, variant: int) -> Shape:
    """Returns a vehicle. `lit` are its lights, `lamps` those inside a coach; a variant is a car's occupants.

    An oncoming lorry shows its cab before its cargo.
    """
    tail = paint(TAIL_LIT, glow=1) if lit or braking else TAIL
    looks = {"tail": tail, "head": paint(HEAD_LIT, glow=1) if lit else HEAD}
    if kind in CARS:
        return _car(CARS[kind], looks, occupants=variant)
    if kind in LORRIES:
        return _lorry(*LORRIES[kind], looks, oncoming=oncoming, open_top=kind == "tipper")
    return _coach(COACHES[kind], looks, Dice(variant), lamps=lamps, tram=kind == "tram")


def _lay(shape: Shape, quads: np.ndarray, rows: Panels, looks: Looks) -> None:
    for chosen, rectangles, look in rows:
        for quad in quads[chosen]:
            shape.panel(quad, rectangles, looks[look] if isinstance(look, str) else look)


def _tyre(shape: Shape, side: int, inner: float, outer: float, axle: float, radius: float, reach: float) -> None:
    left, right = sorted((side * inner, side * outer))
    shape.box((left, 0.0, axle - reach * radius), (right, radius, axle + reach * radius), TYRE)


def _wheel(shape: Shape, side: int, half: float, axle: float, radius: float, rows: Iterable[tuple]) -> None:
    for out, share, wider, higher, corners, colour in rows:
        centre = (side * (half + out), radius + higher, axle)
        shape.face(disc(centre, share * radius + wider, side, corners), colour)


def _skirts(rings: np.ndarray) -> np.ndarray:
    """Returns the quads (R-1,n,4,3) between each ring of corners (R,n,3) and the next one above it."""
    after = np.roll(rings, -1, axis=1)
    return np.stack([rings[:-1], after[:-1], after[1:], rings[1:]], axis=2)


def _car(plan: tuple[float, ...], looks: Looks, *, occupants: int) -> Shape:
    shape, (length, width, height, belt, nose, deck, screen, screen_top, rear, rear_top, radius) = Shape(CAR), plan
    half, long = width / 2, length / 2
    wheels = [(side, z) for z in (-0.3 * length - 0.02, 0.3 * length + 0.1) for side in (-1, 1)]
    shape.box((-half + 0.12, 0.14, -long + 0.25), (half - 0.12, 0.5, long - 0.25), (16, 16, 18))
    for side, axle in wheels:
        _tyre(shape, side, half - 0.24, half - 0.02, axle, radius, 0.9)
    # Four rings of twelve corners, sill, waist, shoulder and top, counter-clockwise from above.
    along, narrow = [-long + 0.24, rear - long + 0.08, screen - long, long - 0.24], half - 0.26
    right = [(narrow, -long), *((half, z) for z in along), (narrow, long)]
    around = np.array([(-narrow, -long), *right, *((-x, z) for x, z in right[:0:-1])])
    tops = np.array([deck, deck, deck, belt, belt, nose + 0.05, nose, nose, nose + 0.05, belt, belt, deck])
    rings = np.empty((4, 12, 3))
    for ring, inset in zip(rings, (0.06, 0.0, 0.02, 0.1), strict=True):
        ring[:, [0, 2]] = around * (1 - inset / half, 1 - 1.3 * inset / long)
    rings[..., 1] = np.stack([0 * tops + 0.24, 0 * tops + 0.52, tops - 0.14, tops])
    skirts = _skirts(rings)
    for level, tone in enumerate((0.8, 1.0, 0.94)):
        shape.face(skirts[level], paint(first=tone, sky=0.04 * level))
    shape.face(rings[3][[0, 1, 2, 3, 10, 11]], paint(first=0.84, sky=0.2))
    shape.face(rings[3][[4, 5, 6, 7, 8, 9]], paint(first=0.82, sky=0.24))
    shape.face(rings[3][[3, 4, 9, 10]], paint(first=0.8))
    _lay(shape, np.concatenate(skirts), CAR_PANELS, looks)
    for side, axle in wheels:
        _wheel(shape, side, half + 0.005, axle, radius, CAR_WHEEL)
    for x in (-half - 0.09, half + 0.09):
        low, high = (x - 0.16, belt - 0.02, screen - long - 0.5), (x + 0.1, belt + 0.14, screen - long - 0.36)
        shape.box(low, high, paint(first=0.8))
    foot = _level(half - 0.11, belt - 0.03, rear + 0.06 - long, screen - long)
    rim = _level(half - 0.28, height - 0.04, rear_top - long, screen_top - long)
    _cabin(shape, foot, rim, looks, occupants)
    return shape


def _level(half: float, y: float, rear: float, front: float) -> np.ndarray:
    """Returns four corners (4,3) at height y, counter-clockwise from above, from the rear left."""
    return np.array([(-half, y, rear), (half, y, rear), (half, y, front), (-half, y, front)])


def _cabin(shape: Shape, foot: np.ndarray, rim: np.ndarray, looks: Looks, occupants: int) -> None:
    crown = rim * (0.78, 1.0, 1.0) + np.array([(0, 0.04, 0.22), (0, 0.04, 0.22), (0, 0.04, -0.22), (0, 0.04, -0.22)])
    walls, slopes = _skirts(np.stack([foot, rim, crown]))
    shape.face(walls, paint(first=0.9, sky=0.04))
    shape.face(slopes, paint(first=0.86, sky=0.12))
    shape.face(crown, paint(first=0.8, sky=0.2))
    _lay(shape, walls, SCREEN_PANELS, looks)
    shape.panel(walls[2], [(0.22, 0.34, 0.08, 0.46), (0.66, 0.78, 0.08, 0.46)][:occupants], (58, 50, 47))
    _lay(shape, walls, SIDE_PANELS, looks)


def _lorry(
    length: float, width: float, height: float, axles: Axles, looks: Looks, *, oncoming: bool, open_top: bool
) -> Shape:
    shape, half, long = Shape(TRUCK), width / 2, length / 2
    shape.box((-half + 0.2, 0.5, -long + 0.1), (half - 0.2, 1.1, long - 0.3), (30, 30, 32))
    _coach_wheels(shape, axles, half, long, 0.46)
    bar = box_faces((-half, 0.5, -long), (half, 0.85, -long + 0.1))[:1]
    cargo = box_faces((-half, 1.05, -long), (half, height, long - CAB - 0.25))
    if oncoming:
        _cargo(shape, bar, cargo, looks, open_top=open_top)
    cab = box_faces((-half + 0.06, 0.42, long - CAB), (half - 0.06, 2.75, long))
    cab[1, 2:, 2] = cab[2, 3, 2] = cab[3, 2, 2] = cab[4, 2:, 2] = long - 0.3  # the front's upper edge
    shape.face(cab, paint(first=1.0))
    _lay(shape, cab, CAB_PANELS, looks)
    for x in (-half - 0.14, half + 0.14):
        shape.box((x - 0.14, 1.7, long - 0.5), (x + 0.14, 2.3, long - 0.4), DARK)
    if not oncoming:
        _cargo(shape, bar, cargo, looks, open_top=open_top)
    return shape


def _cargo(shape: Shape, bar: np.ndarray, box: np.ndarray, looks: Looks, *, open_top: bool) -> None:
    shape.face(bar, (48, 48, 50))
    _lay(shape, bar, BAR_PANELS, looks)
    shape.face(box, paint(second=1.0))
    _lay(shape, box, OPEN_CARGO_PANELS if open_top else CARGO_PANELS, looks)


def _coach(plan: tuple, looks: Looks, rng: Dice, *, lamps: bool, tram: bool) -> Shape:
    length, width, height, belt, head, doors, axles = plan
    shape, half, long = Shape(TRAIN if tram else BUS), width / 2, length / 2
    shape.box((-half + 0.1, 0.12, -long + 0.1), (half - 0.1, 0.5, long - 0.1), (26, 26, 28))
    _coach_wheels(shape, axles, half - 0.03, long, 0.3 if tram else 0.46)
    box = box_faces((-half, 0.3, -long), (half, height, long))
    ends = np.abs(box[:, :, 2]) > long - 0.01
    box[:, :, 2] -= np.where(ends & (box[:, :, 1] > 2), np.sign(box[:, :, 2]) * (0.5 if tram else 0.1), 0.0)
    shape.face(box, paint(first=1.0))
    low, high, number = (belt - 0.3) / (height - 0.3), (head - 0.3) / (height - 0.3), int(length / 1.5)
    edges = 0.02 + 0.96 * np.arange(number + 1) / number
    panes = columns(edges[:-1] + 0.004, edges[1:] - 0.004, low + 0.02, high - 0.02)
    for side in (2, 3):
        shape.panel(box[side], [0.0, 1.0, 0.0, 0.16], paint(second=1.0))
        shape.panel(box[side], [0.015, 0.985, low, high], (24, 26, 30))
        glass = np.tile(paint(COACH_GLASS, sky=0.24), (number, 1)) * rng.uniform(0.75, 1.25, (number, 1))
        shape.panel(box[side], panes, paint((238, 218, 166), glow=1) if lamps else glass)
        for door in doors if side == 3 or tram else ():
            at, wide = door / length if side == 3 else 1 - door / length, 0.62 / length
            leaves = [(at - wide, at - 0.002, 0.02, high), (at + 0.002, at + wide, 0.02, high)]
            shape.panel(box[side], leaves, paint(COACH_GLASS, sky=0.14))
        if tram:
            shape.panel(box[side], [(0.33, 0.345, 0.0, 1.0), (0.66, 0.675, 0.0, 1.0)], (44, 44, 46))
    for end in (0, 1):
        _coach_end(shape, box[end], low, high, screen=end == 1 or tram)
    _lay(shape, box, COACH_END_PANELS if tram else BUS_END_PANELS, looks)
    if tram:
        shape.rod((-0.5, height, 0), (0.4, height + 0.9, 0.6), 0.04, (50, 50, 52))
        shape.rod((-0.7, height + 0.95, 0.6), (0.7, height + 0.95, 0.6), 0.04, (50, 50, 52))
    return shape


def _coach_end(shape: Shape, quad: np.ndarray, low: float, high: float, *, screen: bool) -> None:
    """Adds the stripe, the window and the lit sign above it."""
    left, right, bottom = (0.05, 0.95, low - 0.08) if screen else (0.12, 0.88, low + 0.12)
    sign, letters = (high + 0.03, min(high + 0.13, 0.98)), np.linspace(0.24, 0.7, 6)
    shape.panel(quad, [0.0, 1.0, 0.0, 0.16], paint(second=1.0))
    shape.panel(quad, [left, right, bottom, high], paint(COACH_GLASS, sky=0.18))
    shape.panel(quad, [left, right, 0.5 * (bottom + high), high], paint(COACH_GLASS, sky=0.32))
    shape.panel(quad, [0.2, 0.8, *sign], (22, 22, 22))
    shape.panel(quad, columns(letters, letters + 0.05, sign[0] + 0.02, sign[1] - 0.02), paint((255, 176, 40), glow=1))


def _coach_wheels(shape: Shape, axles: Axles, half: float, long: float, radius: float) -> None:
    for side, axle in ((side, axle - long) for axle in axles for side in (-1, 1)):
        _tyre(shape, side, half - 0.3, half, axle, radius, 0.85)
        _wheel(shape, side, half, axle, radius, COACH_WHEEL)
