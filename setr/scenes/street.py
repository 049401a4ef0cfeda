"""The street of a scene: its cross-section, markings and crossing, drawn from the city's style."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from setr.scenes.cities import City
from setr.scenes.shapes import Colour, Dice

LANE = 3.2  # metres
PARKING = 2.15  # metres


class Lane(NamedTuple):
    """A lane for traffic: its middle in metres from the centre line; direction 1 away from the camera, -1 to it."""

    x: float
    direction: int


class Line(NamedTuple):
    """A painted line along the road; dash and gap in metres, gap 0 for a whole line."""

    x: float
    width: float
    dash: float = 0.0
    gap: float = 0.0


class Crossing(NamedTuple):
    """A street that crosses: where it begins and ends along z in metres; zebra, and on which sides it opens."""

    z: float
    half: float
    zebra: bool
    left: bool
    right: bool


@dataclass(frozen=True)
class Verge:
    """One side of the street, outwards from the kerb; x in metres from the centre line."""

    side: int  # -1 left, 1 right
    kerb: float
    strip: float  # width of the grass strip in metres
    walk_inner: float  # pavement's edge nearer the road
    walk_outer: float
    facade: float
    parking: bool
    yard: str  # grass | paving


@dataclass(frozen=True)
class Street:
    """A street and its ground; x in metres from the centre line."""

    lanes: tuple[Lane, ...]
    own_lane: Lane
    left: Verge
    right: Verge
    tram: bool
    bands: tuple[tuple[float, str], ...]  # right edge, and what covers it: asphalt | paving | grass | bicycle
    lines: tuple[Line, ...]
    crossing: Crossing | None
    median: float  # half its width, 0 for none
    rails: tuple[float, ...]
    asphalt: Colour
    paving: Colour
    grass: Colour
    paint: Colour
    slab: float  # metres
    lane: float  # metres between tyre tracks' lanes
    roughness: float
    patches: tuple[tuple[float, ...], ...]  # x, z, half width, half length, tone
    covers: tuple[tuple[float, float], ...]  # manholes: x, z
    seed: int

    def in_crossing(self, z: float, margin: float) -> bool:
        """Returns whether z metres ahead is on the crossing or within a margin of it."""
        crossing = self.crossing
        return crossing is not None and abs(z - crossing.z) < crossing.half + margin


def lay_out_street(city: City, rng: Dice) -> Street:
    """Returns a street in the style of a city."""
    kind, lane = rng.pick(city.streets), LANE * rng.uniform(0.94, 1.08)
    tram = kind in ("four", "avenue", "two") and rng.chance(city.tram)
    median = rng.uniform(1.6, 3.6) / 2 if kind == "avenue" else 0.0
    number = {"oneway": 0, "two": 1, "four": 2, "avenue": 2}[kind]
    core = median + number * lane if number else lane / 2 + 0.2
    lanes = [Lane(sign * (median + (step + 0.5) * lane), sign) for sign in (1, -1) for step in range(number)]
    lanes = lanes or [Lane(0.0, 1)]
    crossing = _crossing(rng)
    left, right = (_verge(city, rng, side, core) for side in (-1, 1))
    return Street(
        left=left,
        right=right,
        tram=tram,
        lanes=tuple(lanes),
        bands=_bands(left, right, cycle_path=rng.chance(city.cycle_path)),
        lines=_lines(lane, median, number, core, left, right),
        crossing=crossing,
        median=median,
        rails=tuple(sign * lanes[0].x + aside for sign in (-1, 1) for aside in (-0.72, 0.72)) if tram else (),
        asphalt=_jitter(rng, (city.asphalt, city.asphalt, city.asphalt * 1.02), 7.0, 2.0),
        paving=_jitter(rng, city.paving, 8.0, 3.0),
        grass=_jitter(rng, (124, 118, 62) if rng.chance(city.autumn) else (88, 112, 52), 8.0, 6.0),
        paint=(226, 226, 220) if rng.chance(0.85) else (228, 196, 96),
        slab=city.slab,
        lane=lane,
        roughness=rng.uniform(0.8, 1.6),
        patches=tuple(
            tuple(rng.uniform((left.kerb, 4, 0.4, 0.8, -0.16), (right.kerb, 50, 1.6, 5.0, 0.1)).tolist())
            for _ in range(rng.integers(0, 6))
        ),
        covers=tuple(
            (rng.uniform(left.kerb + 1, right.kerb - 1), rng.uniform(5, 40)) for _ in range(rng.integers(0, 4))
        ),
        seed=int(rng.integers(1 << 16)),
        own_lane=rng.pick([each for each in lanes if each.direction > 0]),
    )


def _crossing(rng: Dice) -> Crossing | None:
    there, opens = rng.random(), rng.random()
    crossing = Crossing(
        rng.uniform(15, 52), rng.uniform(3.2, 5.5), rng.chance(0.7), left=opens < 0.75, right=opens > 0.25
    )
    return crossing if there <= 0.5 else None


def _verge(city: City, rng: Dice, side: int, core: float) -> Verge:
    parking, has_strip = rng.chance(city.parking), rng.chance(city.strip)
    kerb = core + (PARKING if parking else 0.35)
    strip = rng.uniform(1.2, 2.4) * has_strip
    walk, garden = rng.uniform(1.8, 4.2), rng.uniform(*city.garden)
    return Verge(
        side=side,
        kerb=side * kerb,
        strip=strip,
        walk_inner=side * (kerb + strip),
        walk_outer=side * (kerb + strip + walk),
        facade=side * (kerb + strip + walk + garden),
        parking=parking,
        yard="grass" if city.garden[1] > 2.0 or rng.chance(0.15) else "paving",
    )


def _bands(left: Verge, right: Verge, *, cycle_path: bool) -> tuple[tuple[float, str], ...]:
    return (
        (left.walk_outer, left.yard),
        (left.walk_inner, "paving"),
        (left.kerb, "grass"),
        (right.kerb, "asphalt"),
        (right.walk_inner, "grass"),
        *(((right.walk_inner + 1.3, "bicycle"),) if cycle_path else ()),
        (right.walk_outer, "paving"),
        (1.0e3, right.yard),
    )


def _lines(lane: float, median: float, number: int, core: float, left: Verge, right: Verge) -> tuple[Line, ...]:
    lines = []
    if number == 1:
        lines.append(Line(0.0, 0.13, 3.0, 4.5))
    elif number == 2 and not median:
        lines += [Line(-0.14, 0.12), Line(0.14, 0.12)]
    for sign in (-1, 1) if number == 2 else ():
        lines.append(Line(sign * (median + lane), 0.13, 3.0, 5.0))
    for verge in (left, right):
        edge = Line(verge.side * core, 0.1, 2.0, 3.0)
        lines.append(edge if verge.parking else Line(verge.kerb - verge.side * 0.3, 0.12))
    return tuple(lines)


def _jitter(rng: Dice, colour: Colour, common: float, each: float) -> Colour:
    shift = rng.normal(0.0, common)
    red, green, blue = (float(np.clip(value + shift + rng.normal(0.0, each), 0, 255)) for value in colour)
    return red, green, blue
