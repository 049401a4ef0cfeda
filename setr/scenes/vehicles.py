"""Cars, lorries, buses and trams: a table of proportions each, bodies, and the panels laid on them.

All stand on their middle and look along z; their paint is the thing's own two colours.
"""

from collections.abc import Iterable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Lorry:
    """A lorry's proportions in metres; height of its cargo."""

    length: float
    height: float
    axles: tuple[float, ...]  # z from the rear
    open_top: bool = False
    width: float = 2.44


@dataclass(frozen=True)
class Coach:
    """A bus's or tram's proportions in metres."""

    length: float
    width: float
    height: float
    belt: float
    head: float  # upper edge of the windows
    doors: tuple[float, ...]  # z of the doors' middles, from the rear
    label: int


VEHICLES: dict[str, Body | Lorry | Coach] = {
    "hatchback": Body(4.1, 1.76, 1.46, 0.94, 0.72, 3.1, 2.3, 0.14, 0.55, 0.93, 0.31),
    "saloon": Body(4.6, 1.8, 1.44, 0.92, 0.72, 3.4, 2.65, 0.75, 1.4, 0.97, 0.32),
    "estate": Body(4.6, 1.8, 1.48, 0.93, 0.72, 3.4, 2.65, 0.12, 0.5, 0.93, 0.32),
    "suv": Body(4.5, 1.88, 1.68, 1.07, 0.92, 3.35, 2.7, 0.12, 0.45, 1.06, 0.36),
    "van": Body(5.0, 1.95, 2.0, 1.14, 0.98, 4.35, 3.65, 0.05, 0.14, 1.12, 0.34),
    "compact": Body(3.5, 1.62, 1.5, 0.95, 0.8, 2.85, 2.2, 0.1, 0.36, 0.93, 0.28),
    "box lorry": Lorry(6.6, 3.0, (1.5, 5.4)),
    "lorry": Lorry(8.4, 3.5, (1.8, 7.1)),
    "long lorry": Lorry(10.4, 3.8, (1.4, 2.7, 9.0)),
    "tipper": Lorry(7.4, 2.2, (1.3, 2.6, 6.1), open_top=True),
    "bus": Coach(11.8, 2.52, 3.0, 1.15, 2.45, (4.3, 10.6), BUS),
    "coach": Coach(12.2, 2.54, 3.5, 1.6, 2.9, (10.9,), BUS),
    "minibus": Coach(7.4, 2.2, 2.75, 1.1, 2.2, (6.0,), BUS),
    "tram": Coach(26.0, 2.45, 3.35, 1.2, 2.65, (4.0, 10.0, 16.0, 22.0), TRAIN),
}
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
BUS_END_PANELS: Panels = (
    ([0], [(0.03, 0.11, 0.17, 0.32), (0.89, 0.97, 0.17, 0.32)], "tail"),
    ([0], [0.25, 0.75, 0.2, 0.36], paint(first=0.7)),
    ([0], [0.41, 0.59, 0.05, 0.11], NUMBER_PLATE),
    ([1], [(0.04, 0.2, 0.1, 0.2), (0.8, 0.96, 0.1, 0.2)], "head"),
    ([1], [0.41, 0.59, 0.04, 0.1], NUMBER_PLATE),
)
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
    plan = VEHICLES[kind]
    tail = paint(TAIL_LIT, glow=1) if lit or braking else TAIL
    looks = {"tail": tail, "head": paint(HEAD_LIT, glow=1) if lit else HEAD}
    match plan:
        case Body():
            return _car(plan, looks, variant)
        case Lorry():
            return _lorry(plan, looks, oncoming)
        case Coach():
            return _coach(plan, looks, lamps, Dice(variant))


def _lay(shape: Shape, quads: np.ndarray, rows: Panels, looks: dict[str, Any]) -> None:
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


def _car(body: Body, looks: dict[str, Any], occupants: int) -> Shape:
    shape = Shape(CAR)
    half, long = body.width / 2, body.length / 2
    wheels = [(side, z) for z in (-0.3 * body.length - 0.02, 0.3 * body.length + 0.1) for side in (-1, 1)]
    shape.box((-half + 0.12, 0.14, -long + 0.25), (half - 0.12, 0.5, long - 0.25), (16, 16, 18))
    for side, axle in wheels:
        _tyre(shape, side, half - 0.24, half - 0.02, axle, body.wheel, 0.9)
    rings = _rings(body)
    after = np.roll(rings, -1, axis=1)
    skirts = np.stack([rings[:-1], after[:-1], after[1:], rings[1:]], axis=2)
    for level, tone in enumerate((0.8, 1.0, 0.94)):
        shape.face(skirts[level], paint(first=tone, sky=0.04 * level))
    shape.face(rings[3][[0, 1, 2, 3, 10, 11]], paint(first=0.84, sky=0.2))
    shape.face(rings[3][[4, 5, 6, 7, 8, 9]], paint(first=0.82, sky=0.24))
    shape.face(rings[3][[3, 4, 9, 10]], paint(first=0.8))
    _lay(shape, np.concatenate(skirts), CAR_PANELS, looks)
    for side, axle in wheels:
        _wheel(shape, side, half + 0.005, axle, body.wheel, CAR_WHEEL)
    for side in (-1, 1):
        x, front = side * (half + 0.09), body.screen_base - long
        low, high = (x - 0.16, body.belt - 0.02, front - 0.5), (x + 0.1, body.belt + 0.14, front - 0.36)
        shape.box(low, high, paint(first=0.8))
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
    tops = np.array([body.deck, body.deck, *right, body.nose, body.nose, *reversed(right)])
    rings = np.empty((4, 12, 3))
    for ring, inset in zip(rings, (0.06, 0.0, 0.02, 0.1), strict=True):
        ring[:, [0, 2]] = np.array(plan) * (1 - inset / half, 1 - 1.3 * inset / long)
    rings[..., 1] = np.stack([0 * tops + 0.24, 0 * tops + 0.52, tops - 0.14, tops])
    return rings


def _greenhouse(shape: Shape, body: Body, occupants: int) -> None:
    half, long = body.width / 2, body.length / 2
    low, high, base, top = half - 0.11, half - 0.28, body.belt - 0.03, body.height - 0.04
    ends = (body.rear_base + 0.06, body.rear_top, body.screen_base, body.screen_top)
    rear0, rear1, front0, front1 = (z - long for z in ends)
    foot = np.array([(-low, base, rear0), (low, base, rear0), (low, base, front0), (-low, base, front0)])
    rim = np.array([(-high, top, rear1), (high, top, rear1), (high, top, front1), (-high, top, front1)])
    crown = rim * (0.78, 1.0, 1.0) + (0.0, 0.04, 0.0)
    crown[:, 2] += (0.22, 0.22, -0.22, -0.22)
    walls, slopes = (
        np.stack([lower, np.roll(lower, -1, 0), np.roll(upper, -1, 0), upper], axis=1)
        for lower, upper in ((foot, rim), (rim, crown))
    )
    shape.face(walls, paint(first=0.9, sky=0.04))
    shape.face(slopes, paint(first=0.86, sky=0.12))
    shape.face(crown, paint(first=0.8, sky=0.2))
    heads = [(0.22, 0.34, 0.08, 0.46), (0.66, 0.78, 0.08, 0.46)]
    _pane(shape, walls[0], 0.07, 0.93, 0.16, 0.9, 0.16)
    _pane(shape, walls[2], 0.05, 0.95, 0.08, 0.94, 0.24)
    shape.panel(walls[0], heads, paint((20, 23, 27), sky=0.08))
    shape.panel(walls[2], heads[:occupants], (58, 50, 47))
    for side in (3, 1):
        _pane(shape, walls[side], 0.07, 0.48, 0.12, 0.9, 0.14)
        _pane(shape, walls[side], 0.53, 0.92, 0.12, 0.9, 0.18)


def _pane(shape: Shape, wall: np.ndarray, left: float, right: float, bottom: float, top: float, sky: float) -> None:
    """Adds a window whose upper part mirrors more of the sky."""
    shape.panel(wall, [left, right, bottom, top], paint(GLASS, sky=sky))
    shape.panel(wall, [left, right, 0.5 * (bottom + top), top], paint(GLASS, sky=1.7 * sky))


def _lorry(plan: Lorry, looks: dict[str, Any], oncoming: bool) -> Shape:
    shape = Shape(TRUCK)
    half, long = plan.width / 2, plan.length / 2
    shape.box((-half + 0.2, 0.5, -long + 0.1), (half - 0.2, 1.1, long - 0.3), (30, 30, 32))
    _coach_wheels(shape, [axle - long for axle in plan.axles], half, 0.46)
    for part in (_cargo, _cab) if oncoming else (_cab, _cargo):
        part(shape, plan, looks)
    return shape


def _cab(shape: Shape, plan: Lorry, looks: dict[str, Any]) -> None:
    half, long = plan.width / 2, plan.length / 2
    box = box_faces((-half + 0.06, 0.42, long - CAB), (half - 0.06, 2.75, long))
    box[:, :, 2] -= np.where((box[:, :, 2] > long - 0.01) & (box[:, :, 1] > 2), 0.3, 0.0)
    shape.face(box, paint(first=1.0))
    _lay(shape, box, CAB_PANELS, looks)
    for x in (-half - 0.14, half + 0.14):
        shape.box((x - 0.14, 1.7, long - 0.5), (x + 0.14, 2.3, long - 0.4), DARK)


def _cargo(shape: Shape, plan: Lorry, looks: dict[str, Any]) -> None:
    half, long = plan.width / 2, plan.length / 2
    bar = box_faces((-half, 0.5, -long), (half, 0.85, -long + 0.1))[:1]
    shape.face(bar, (48, 48, 50))
    _lay(shape, bar, BAR_PANELS, looks)
    box = box_faces((-half, 1.05, -long), (half, plan.height, long - CAB - 0.25))
    shape.face(box, paint(second=1.0))
    _lay(shape, box, OPEN_CARGO_PANELS if plan.open_top else CARGO_PANELS, looks)


def _coach(plan: Coach, looks: dict[str, Any], lamps: bool, rng: Dice) -> Shape:
    half, long, train = plan.width / 2, plan.length / 2, plan.label == TRAIN
    shape = Shape(plan.label)
    axles = [-long + 2.4, long - 2.4]
    if train:
        axles = [bogie + step for bogie in (-long + 3.0, 0.0, long - 3.0) for step in (-0.8, 0.8)]
    shape.box((-half + 0.1, 0.12, -long + 0.1), (half - 0.1, 0.5, long - 0.1), (26, 26, 28))
    _coach_wheels(shape, axles, half - 0.03, 0.3 if train else 0.46)
    box = box_faces((-half, 0.3, -long), (half, plan.height, long))
    ends = np.abs(box[:, :, 2]) > long - 0.01
    box[:, :, 2] -= np.where(ends & (box[:, :, 1] > 2), np.sign(box[:, :, 2]) * (0.5 if train else 0.1), 0.0)
    shape.face(box, paint(first=1.0))
    low, high = ((edge - 0.3) / (plan.height - 0.3) for edge in (plan.belt, plan.head))
    number = int(plan.length / 1.5)
    edges = 0.02 + 0.96 * np.arange(number + 1) / number
    panes = columns(edges[:-1] + 0.004, edges[1:] - 0.004, low + 0.02, high - 0.02)
    wide = 0.62 / plan.length
    for side in (2, 3):
        shape.panel(box[side], [0.0, 1.0, 0.0, 0.16], paint(second=1.0))
        shape.panel(box[side], [0.015, 0.985, low, high], (24, 26, 30))
        glass = np.tile(paint(COACH_GLASS, sky=0.24), (number, 1)) * rng.uniform(0.75, 1.25, (number, 1))
        shape.panel(box[side], panes, paint((238, 218, 166), glow=1) if lamps else glass)
        for door in plan.doors if side == 3 or train else ():
            at = door / plan.length if side == 3 else 1 - door / plan.length
            leaves = [(at - wide, at - 0.002, 0.02, high), (at + 0.002, at + wide, 0.02, high)]
            shape.panel(box[side], leaves, paint(COACH_GLASS, sky=0.14))
    for side in (2, 3) if train else ():
        shape.panel(box[side], [(0.33, 0.345, 0.0, 1.0), (0.66, 0.675, 0.0, 1.0)], (44, 44, 46))
    for end in (0, 1):
        _coach_end(shape, box[end], low, high, screen=end == 1 or train)
    _lay(shape, box, BUS_END_PANELS[:1] + BUS_END_PANELS[2:] if train else BUS_END_PANELS, looks)
    if train:
        shape.rod((-0.5, plan.height, 0), (0.4, plan.height + 0.9, 0.6), 0.04, (50, 50, 52))
        shape.rod((-0.7, plan.height + 0.95, 0.6), (0.7, plan.height + 0.95, 0.6), 0.04, (50, 50, 52))
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


def _coach_wheels(shape: Shape, axles: Iterable[float], half: float, radius: float) -> None:
    for side, axle in ((side, axle) for axle in axles for side in (-1, 1)):
        _tyre(shape, side, half - 0.3, half, axle, radius, 0.85)
        _wheel(shape, side, half, axle, radius, COACH_WHEEL)
