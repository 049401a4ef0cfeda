"""The street of a scene: its cross-section, markings and crossing, drawn from the city's style."""

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


class Verge:
    """One side of the street, outwards from the kerb; x in metres from the centre line."""

    def __init__(self, city: City, rng: Dice, side: int, core: float) -> None:
        self.side = side  # -1 left, 1 right
        self.parking, has_strip = rng.chance(city.parking), rng.chance(city.strip)
        kerb = core + (PARKING if self.parking else 0.35)
        self.strip = rng.uniform(1.2, 2.4) * has_strip  # width of the grass
        walk, garden = rng.uniform(1.8, 4.2), rng.uniform(*city.garden)
        self.kerb, self.walk_inner = side * kerb, side * (kerb + self.strip)
        self.walk_outer, self.facade = side * (kerb + self.strip + walk), side * (kerb + self.strip + walk + garden)
        self.yard = "grass" if city.garden[1] > 2.0 or rng.chance(0.15) else "paving"


class Street:
    """A street in the style of a city, and its ground; lengths in metres, x from the centre line."""

    def __init__(self, city: City, rng: Dice) -> None:
        kind, self.lane = rng.pick(city.streets), LANE * rng.uniform(0.94, 1.08)
        self.tram = kind in ("four", "avenue", "two") and rng.chance(city.tram)
        self.median = rng.uniform(1.6, 3.6) / 2 if kind == "avenue" else 0.0  # half its width
        number = {"oneway": 0, "two": 1, "four": 2, "avenue": 2}[kind]
        core = self.median + number * self.lane if number else self.lane / 2 + 0.2
        self.lanes = [
            Lane(sign * (self.median + (step + 0.5) * self.lane), sign) for sign in (1, -1) for step in range(number)
        ] or [Lane(0.0, 1)]
        self.crossing = _crossing(rng)
        self.left, self.right = left, right = Verge(city, rng, -1, core), Verge(city, rng, 1, core)
        self.bands = _bands(left, right, cycle_path=rng.chance(city.cycle_path))
        self.lines = _lines(self, number, core)
        rails = [sign * self.lanes[0].x + aside for sign in (-1, 1) for aside in (-0.72, 0.72)]
        self.rails = rails if self.tram else []
        self.asphalt = _jitter(rng, (city.asphalt, city.asphalt, city.asphalt * 1.02), 7.0, 2.0)
        self.paving = _jitter(rng, city.paving, 8.0, 3.0)
        self.grass = _jitter(rng, (124, 118, 62) if rng.chance(city.autumn) else (88, 112, 52), 8.0, 6.0)
        self.paint = (226, 226, 220) if rng.chance(0.85) else (228, 196, 96)
        self.slab, self.roughness = city.slab, rng.uniform(0.8, 1.6)
        low, high = (left.kerb, 4, 0.4, 0.8, -0.16), (right.kerb, 50, 1.6, 5.0, 0.1)
        self.patches = [rng.uniform(low, high) for _ in range(rng.integers(0, 6))]  # x, z, half width and length, tone
        # Manholes: x, z.
        self.covers = [rng.uniform((left.kerb + 1, 5), (right.kerb - 1, 40)) for _ in range(rng.integers(0, 4))]
        self.seed = int(rng.integers(1 << 16))
        self.own_lane = rng.pick([lane for lane in self.lanes if lane.direction > 0])

    def in_crossing(self, z: float, margin: float) -> bool:
        """Returns whether z metres ahead is on the crossing or within a margin of it."""
        crossing = self.crossing
        return crossing is not None and abs(z - crossing.z) < crossing.half + margin


def _crossing(rng: Dice) -> Crossing | None:
    there, opens = rng.random(), rng.random()
    z, half, zebra = rng.uniform(15, 52), rng.uniform(3.2, 5.5), rng.chance(0.7)
    return Crossing(z, half, zebra, left=opens < 0.75, right=opens > 0.25) if there <= 0.5 else None


def _bands(left: Verge, right: Verge, *, cycle_path: bool) -> list[tuple[float, str]]:
    """Returns strips along the street: right edge, and what covers it: asphalt | paving | grass | bicycle."""
    bands = [(left.walk_outer, left.yard), (left.walk_inner, "paving"), (left.kerb, "grass"), (right.kerb, "asphalt")]
    bands.append((right.walk_inner, "grass"))
    if cycle_path:
        bands.append((right.walk_inner + 1.3, "bicycle"))
    return [*bands, (right.walk_outer, "paving"), (1.0e3, right.yard)]


def _lines(street: Street, number: int, core: float) -> list[Line]:
    lines = [Line(0.0, 0.13, 3.0, 4.5)] if number == 1 else []
    if number == 2:
        lines += [] if street.median else [Line(-0.14, 0.12), Line(0.14, 0.12)]
        lines += [Line(sign * (street.median + street.lane), 0.13, 3.0, 5.0) for sign in (-1, 1)]
    for verge in (street.left, street.right):
        edge = Line(verge.side * core, 0.1, 2.0, 3.0)
        lines.append(edge if verge.parking else Line(verge.kerb - verge.side * 0.3, 0.12))
    return lines


def _jitter(rng: Dice, colour: Colour, common: float, each: float) -> Colour:
    shift = rng.normal(0.0, common)
    red, green, blue = (float(np.clip(value + shift + rng.normal(0.0, each), 0, 255)) for value in colour)
    return red, green, blue
