"""Lorries, buses and trams: long bodies with rows of windows, doors, wheels and lights."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from setr.scenes.cars import HEAD, HEAD_LIT, NUMBER_PLATE, RIM, TAIL, TAIL_LIT, TYRE
from setr.scenes.labels import BUS, TRAIN, TRUCK
from setr.scenes.shapes import Colour, Shape, box_faces, disc, generator, paint, panels

GLASS = (30.0, 38.0, 46.0)
DARK = (34.0, 34.0, 36.0)
CAB = 2.1  # metres: the length of a lorry's cab


@dataclass(frozen=True)
class Lorry:
    """A lorry's proportions in metres."""

    length: float
    cargo_height: float
    axles: tuple[float, ...]  # z from the rear
    open_top: bool = False


LORRIES = {
    "box lorry": Lorry(6.6, 3.0, (1.5, 5.4)),
    "lorry": Lorry(8.4, 3.5, (1.8, 7.1)),
    "long lorry": Lorry(10.4, 3.8, (1.4, 2.7, 9.0)),
    "tipper": Lorry(7.4, 2.2, (1.3, 2.6, 6.1), open_top=True),
}
CARGOES: tuple[Colour, ...] = (
    (236, 236, 232),
    (222, 220, 214),
    (70, 114, 168),
    (200, 194, 174),
    (176, 62, 52),
    (92, 124, 96),
)


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


COACHES = {
    "bus": Coach(11.8, 2.52, 3.0, 1.15, 2.45, (4.3, 10.6), BUS),
    "coach": Coach(12.2, 2.54, 3.5, 1.6, 2.9, (10.9,), BUS),
    "minibus": Coach(7.4, 2.2, 2.75, 1.1, 2.2, (6.0,), BUS),
    "tram": Coach(26.0, 2.45, 3.35, 1.2, 2.65, (4.0, 10.0, 16.0, 22.0), TRAIN),
}
LIVERIES: tuple[Colour, ...] = (
    (230, 194, 44), (196, 36, 42), (234, 234, 230), (54, 100, 166), (64, 136, 88), (228, 124, 44), (154, 194, 214),
)  # fmt: skip


@lru_cache(maxsize=64)
def lorry(kind: str, *, lit: bool, oncoming: bool) -> Shape:
    """Returns a lorry standing on its middle, looking along z; first colour the cab's, second the cargo's.

    An oncoming one shows its cab before its cargo.
    """
    plan = LORRIES[kind]
    shape = Shape()
    half, long = 1.22, plan.length / 2
    shape.box((-half + 0.2, 0.5, -long + 0.1), (half - 0.2, 1.1, long - 0.3), (30.0, 30.0, 32.0), TRUCK)
    _wheels(shape, tuple(axle - long for axle in plan.axles), half, 0.46, TRUCK)
    for part in (_cargo, _cab) if oncoming else (_cab, _cargo):
        part(shape, plan, half, long, lit)
    return shape


def _cab(shape: Shape, plan: Lorry, half: float, long: float, lit: bool) -> None:
    front = box_faces((-half + 0.06, 0.42, long - CAB), (half - 0.06, 2.75, long))
    front[:, :, 2] -= np.where((front[:, :, 2] > long - 0.01) & (front[:, :, 1] > 2), 0.3, 0.0)
    shape.face(front, paint(first=1.0), TRUCK)
    glass, head = paint(GLASS, sky=0.3), HEAD_LIT if lit else HEAD
    shape.face(panels(front[1], np.array([[0.08, 0.92, 0.5, 0.9]])), glass, TRUCK)
    shape.face(panels(front[1], np.array([[0.2, 0.8, 0.16, 0.4]])), DARK, TRUCK)
    shape.face(panels(front[1], np.array([[0.0, 1.0, 0.0, 0.08]])), DARK, TRUCK)
    shape.face(panels(front[1], np.array([[0.05, 0.2, 0.1, 0.22], [0.8, 0.95, 0.1, 0.22]])), head, TRUCK, glow=lit)
    shape.face(panels(front[1], np.array([[0.41, 0.59, 0.01, 0.07]])), NUMBER_PLATE, TRUCK)
    shape.face(panels(front[2], np.array([[0.2, 0.75, 0.5, 0.88]])), glass, TRUCK)
    shape.face(panels(front[3], np.array([[0.25, 0.8, 0.5, 0.88]])), glass, TRUCK)
    for side in (-1, 1):
        x = side * (half + 0.14)
        shape.box((x - 0.14, 1.7, long - 0.5), (x + 0.14, 2.3, long - 0.4), DARK, TRUCK)


def _cargo(shape: Shape, plan: Lorry, half: float, long: float, lit: bool) -> None:
    box = box_faces((-half, 1.05, -long), (half, plan.cargo_height, long - CAB - 0.25))
    _underrun_bar(shape, half, long, lit)
    shape.face(box, paint(second=1.0), TRUCK)
    if plan.open_top:
        ribs = np.linspace(0.02, 0.93, 7)
        strips = np.stack([ribs, ribs + 0.05, np.zeros(7), np.ones(7)], axis=1)
        for side in (0, 2, 3):
            shape.face(panels(box[side], strips), paint(second=0.72), TRUCK)
        shape.face(box[4], (92.0, 78.0, 60.0), TRUCK)
        return
    edges = np.array([[0.0, 1.0, 0.0, 0.05], [0.0, 1.0, 0.96, 1.0]])
    for side in (2, 3):
        shape.face(panels(box[side], np.array([[0.14, 0.86, 0.36, 0.6]])), paint(first=0.9), TRUCK)
        shape.face(
            panels(box[side], np.array([[0.2, 0.64, 0.43, 0.53]])), paint((226.0, 226.0, 222.0), second=0.08), TRUCK
        )
        shape.face(panels(box[side], edges), (116.0, 118.0, 122.0), TRUCK)
    frame = [
        [0.0, 1.0, 0.0, 0.04],
        [0.49, 0.51, 0.0, 1.0],
        [0.0, 0.03, 0.0, 1.0],
        [0.97, 1.0, 0.0, 1.0],
        [0.0, 1.0, 0.97, 1.0],
    ]
    shape.face(panels(box[0], np.array(frame)), (104.0, 106.0, 110.0), TRUCK)
    shape.face(panels(box[0], np.array([[0.4, 0.42, 0.1, 0.9], [0.58, 0.6, 0.1, 0.9]])), (150.0, 152.0, 156.0), TRUCK)
    shape.face(panels(box[0], np.array([[0.08, 0.36, 0.5, 0.64]])), paint(first=0.9), TRUCK)


def _underrun_bar(shape: Shape, half: float, long: float, lit: bool) -> None:
    bar = box_faces((-half, 0.5, -long), (half, 0.85, -long + 0.1))[0]
    shape.face(bar, (48.0, 48.0, 50.0), TRUCK)
    tail = TAIL_LIT if lit else TAIL
    shape.face(panels(bar, np.array([[0.02, 0.16, 0.2, 0.85], [0.84, 0.98, 0.2, 0.85]])), tail, TRUCK, glow=lit)
    shape.face(panels(bar, np.array([[0.4, 0.6, 0.15, 0.85]])), NUMBER_PLATE, TRUCK)


@lru_cache(maxsize=64)
def coach(kind: str, *, lit: bool, lamps: bool, variant: int) -> Shape:
    """Returns a bus or tram standing on its middle, looking along z; first colour its paint, second its stripe.

    `lit` are the lights outside, `lamps` those inside.
    """
    plan = COACHES[kind]
    rng = generator(variant)
    label, half, long = plan.label, plan.width / 2, plan.length / 2
    shape = Shape()
    if label == TRAIN:
        axles = [bogie + step for bogie in (-long + 3.0, 0.0, long - 3.0) for step in (-0.8, 0.8)]
    else:
        axles = [-long + 2.4, long - 2.4]
    shape.box((-half + 0.1, 0.12, -long + 0.1), (half - 0.1, 0.5, long - 0.1), (26.0, 26.0, 28.0), label)
    _wheels(shape, tuple(axles), half - 0.03, 0.46 if label == BUS else 0.3, label)
    box = box_faces((-half, 0.3, -long), (half, plan.height, long))
    taper = 0.5 if label == TRAIN else 0.1
    ends = np.abs(box[:, :, 2]) > long - 0.01
    box[:, :, 2] -= np.where(ends & (box[:, :, 1] > 2), np.sign(box[:, :, 2]) * taper, 0.0)
    shape.face(box, paint(first=1.0), label)
    tall = plan.height - 0.3
    low, high = (plan.belt - 0.3) / tall, (plan.head - 0.3) / tall
    number = int(plan.length / 1.5)
    edges = 0.02 + 0.96 * np.arange(number + 1) / number
    panes = np.stack(
        [edges[:-1] + 0.004, edges[1:] - 0.004, np.full(number, low + 0.02), np.full(number, high - 0.02)], 1
    )
    for side in (2, 3):
        shape.face(panels(box[side], np.array([[0.0, 1.0, 0.0, 0.16]])), paint(second=1.0), label)
        shape.face(panels(box[side], np.array([[0.015, 0.985, low, high]])), (24.0, 26.0, 30.0), label)
        glass = np.tile(paint(GLASS, sky=0.24), (number, 1)) * rng.uniform(0.75, 1.25, (number, 1))
        shape.face(panels(box[side], panes), (238.0, 218.0, 166.0) if lamps else glass, label, glow=lamps)
        if side == 3 or label == TRAIN:
            for door in plan.doors:
                at = door / plan.length if side == 3 else 1 - door / plan.length
                wide = 0.62 / plan.length
                leaves = np.array([[at - wide, at - 0.002, 0.02, high], [at + 0.002, at + wide, 0.02, high]])
                shape.face(panels(box[side], leaves), paint(GLASS, sky=0.14), label)
    if label == TRAIN:
        joints = np.array([[0.33, 0.345, 0.0, 1.0], [0.66, 0.675, 0.0, 1.0]])
        shape.face(panels(box[2], joints), (44.0, 44.0, 46.0), label)
        shape.face(panels(box[3], joints), (44.0, 44.0, 46.0), label)
    _coach_ends(shape, plan, box, low, high, lit)
    if label == TRAIN:
        shape.rod((-0.5, plan.height, 0), (0.4, plan.height + 0.9, 0.6), 0.04, (50.0, 50.0, 52.0), label)
        shape.rod((-0.7, plan.height + 0.95, 0.6), (0.7, plan.height + 0.95, 0.6), 0.04, (50.0, 50.0, 52.0), label)
    return shape


def _coach_ends(shape: Shape, plan: Coach, box: np.ndarray, low: float, high: float, lit: bool) -> None:
    label = plan.label
    for end in (0, 1):
        quad = box[end]
        shape.face(panels(quad, np.array([[0.0, 1.0, 0.0, 0.16]])), paint(second=1.0), label)
        screen = end == 1 or label == TRAIN
        wide = [0.05, 0.95, low - 0.08, high] if screen else [0.12, 0.88, low + 0.12, high]
        shape.face(panels(quad, np.array([wide])), paint(GLASS, sky=0.18), label)
        shape.face(
            panels(quad, np.array([[wide[0], wide[1], 0.5 * (wide[2] + high), high]])), paint(GLASS, sky=0.32), label
        )
        sign = [0.2, 0.8, high + 0.03, min(high + 0.13, 0.98)]
        shape.face(panels(quad, np.array([sign])), (22.0, 22.0, 22.0), label)
        letters = np.linspace(0.24, 0.7, 6)
        text = np.stack([letters, letters + 0.05, np.full(6, sign[2] + 0.02), np.full(6, sign[3] - 0.02)], 1)
        shape.face(panels(quad, text), (255.0, 176.0, 40.0), label, glow=True)
    tail, head = (TAIL_LIT, HEAD_LIT) if lit else (TAIL, HEAD)
    lamps = np.array([[0.03, 0.11, 0.17, 0.32], [0.89, 0.97, 0.17, 0.32]])
    shape.face(panels(box[0], lamps), tail, label, glow=lit)
    if label == BUS:
        shape.face(panels(box[0], np.array([[0.25, 0.75, 0.2, 0.36]])), paint(first=0.7), label)
    shape.face(panels(box[0], np.array([[0.41, 0.59, 0.05, 0.11]])), NUMBER_PLATE, label)
    shape.face(panels(box[1], np.array([[0.04, 0.2, 0.1, 0.2], [0.8, 0.96, 0.1, 0.2]])), head, label, glow=lit)
    shape.face(panels(box[1], np.array([[0.41, 0.59, 0.04, 0.1]])), NUMBER_PLATE, label)


def _wheels(shape: Shape, axles: tuple[float, ...], half: float, radius: float, label: int) -> None:
    for axle in axles:
        for side in (-1, 1):
            low = (min(side * (half - 0.3), side * half), 0.0, axle - 0.85 * radius)
            high = (max(side * (half - 0.3), side * half), radius, axle + 0.85 * radius)
            shape.box(low, high, TYRE, label)
            shape.face(disc((side * (half + 0.02), radius, axle), radius, side), TYRE, label)
            shape.face(disc((side * (half + 0.03), radius, axle), 0.5 * radius, side), RIM, label)
            shape.face(disc((side * (half + 0.04), radius, axle), 0.2 * radius, side, 8), (70.0, 71.0, 74.0), label)
