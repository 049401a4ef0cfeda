"""The street of a scene: its cross-section, markings and crossing, drawn from the city's style."""

from dataclasses import dataclass

import numpy as np

from setr.scenes.cities import City
from setr.scenes.ground import Band, Crossing, Ground, Line

LANE = 3.2  # metres
PARKING = 2.15  # metres


@dataclass(frozen=True)
class Lane:
    """A lane for traffic: its middle in metres from the centre line; direction 1 away from the camera, -1 to it."""

    x: float
    direction: int


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
    grassy_yard: bool


@dataclass(frozen=True)
class Street:
    """A street: what paints its ground, where traffic runs and what lies on either side."""

    ground: Ground
    lanes: tuple[Lane, ...]
    left: Verge
    right: Verge
    own_lane: Lane
    tram: bool

    @property
    def crossing(self) -> Crossing | None:
        """Returns the crossing, if there is one."""
        return self.ground.crossing

    def in_crossing(self, z: float, margin: float) -> bool:
        """Returns whether z metres ahead is on the crossing or within a margin of it."""
        crossing = self.crossing
        return crossing is not None and abs(z - crossing.z) < crossing.half + margin


def lay_out_street(city: City, rng: np.random.Generator) -> Street:
    """Returns a street in the style of a city."""
    kind = city.streets[rng.integers(len(city.streets))]
    lane = LANE * rng.uniform(0.94, 1.08)
    tram = kind in ("four", "avenue", "two") and rng.random() < city.tram
    median = rng.uniform(1.6, 3.6) if kind == "avenue" else 0.0
    number = {"oneway": 0, "two": 1, "four": 2, "avenue": 2}[kind]
    if number == 0:
        core = lane / 2 + 0.2
        lanes = [Lane(0.0, 1)]
    else:
        core = median / 2 + number * lane
        lanes = [Lane(sign * (median / 2 + (step + 0.5) * lane), sign) for sign in (1, -1) for step in range(number)]
    crossing = _crossing(rng)
    verges = [_verge(city, rng, side, core) for side in (-1, 1)]
    left, right = verges
    ground = Ground(
        road_left=left.kerb,
        road_right=right.kerb,
        bands=_bands(left, right, rng.random() < city.cycle_path),
        lines=_lines(lane, median, number, core, left, right),
        crossing=crossing,
        median=(-median / 2, median / 2) if median else None,
        rails=_rails(lanes, number) if tram else (),
        asphalt=_jitter(rng, (city.asphalt, city.asphalt, city.asphalt * 1.02), 7.0, 2.0),
        paving=_jitter(rng, city.paving, 8.0, 3.0),
        grass=_jitter(rng, (88, 112, 52) if rng.random() > city.autumn else (124, 118, 62), 8.0, 6.0),
        paint=(226.0, 226.0, 220.0) if rng.random() < 0.85 else (228.0, 196.0, 96.0),
        slab=city.slab,
        lane=lane,
        roughness=rng.uniform(0.8, 1.6),
        patches=_patches(rng, left.kerb, right.kerb),
        covers=tuple(
            (rng.uniform(left.kerb + 1, right.kerb - 1), rng.uniform(5, 40)) for _ in range(rng.integers(0, 4))
        ),
        seed=int(rng.integers(1 << 16)),
    )
    ahead = [each for each in lanes if each.direction > 0]
    own = ahead[rng.integers(len(ahead))]
    return Street(ground, tuple(lanes), left, right, own, tram)


def _crossing(rng: np.random.Generator) -> Crossing | None:
    there, opens = rng.random(), rng.random()
    z, half, zebra = rng.uniform(15, 52), rng.uniform(3.2, 5.5), rng.random() < 0.7
    if there > 0.5:
        return None
    return Crossing(z, half, zebra, left=opens < 0.75, right=opens > 0.25)


def _verge(city: City, rng: np.random.Generator, side: int, core: float) -> Verge:
    parking, has_strip = rng.random() < city.parking, rng.random() < city.strip
    kerb = core + (PARKING if parking else 0.35)
    strip = rng.uniform(1.2, 2.4) * has_strip
    walk = rng.uniform(1.8, 4.2)
    garden = rng.uniform(*city.garden)
    return Verge(
        side=side,
        kerb=side * kerb,
        strip=strip,
        walk_inner=side * (kerb + strip),
        walk_outer=side * (kerb + strip + walk),
        facade=side * (kerb + strip + walk + garden),
        parking=parking,
        grassy_yard=city.garden[1] > 2.0 or rng.random() < 0.15,
    )


def _bands(left: Verge, right: Verge, cycle_path: bool) -> tuple[Band, ...]:
    bands = [
        Band(left.walk_outer, "grass" if left.grassy_yard else "paving"),
        Band(left.walk_inner, "paving"),
        Band(left.kerb, "grass"),
        Band(right.kerb, "asphalt"),
        Band(right.walk_inner, "grass"),
    ]
    if cycle_path:
        bands.append(Band(right.walk_inner + 1.3, "bicycle"))
    return (*bands, Band(right.walk_outer, "paving"), Band(1.0e3, "grass" if right.grassy_yard else "paving"))


def _lines(lane: float, median: float, number: int, core: float, left: Verge, right: Verge) -> tuple[Line, ...]:
    lines = []
    if number == 1:
        lines.append(Line(0.0, 0.13, 3.0, 4.5))
    elif number == 2 and not median:
        lines += [Line(-0.14, 0.12), Line(0.14, 0.12)]
    for sign in (-1, 1):
        for step in range(1, number):
            lines.append(Line(sign * (median / 2 + step * lane), 0.13, 3.0, 5.0))
    for verge in (left, right):
        inner = verge.side * core
        lines.append(Line(inner, 0.1, 2.0, 3.0) if verge.parking else Line(verge.kerb - verge.side * 0.3, 0.12))
    return tuple(lines)


def _rails(lanes: list[Lane], number: int) -> tuple[float, ...]:
    inner = min(abs(lane.x) for lane in lanes)
    return tuple(sign * inner + offset for sign in (-1, 1) for offset in (-0.72, 0.72)) if number else ()


def _patches(
    rng: np.random.Generator, left: float, right: float
) -> tuple[tuple[float, float, float, float, float], ...]:
    return tuple(
        (
            rng.uniform(left, right),
            rng.uniform(4, 50),
            rng.uniform(0.4, 1.6),
            rng.uniform(0.8, 5.0),
            rng.uniform(-0.16, 0.1),
        )
        for _ in range(rng.integers(0, 6))
    )


def _jitter(
    rng: np.random.Generator, colour: tuple[float, ...], common: float, each: float
) -> tuple[float, float, float]:
    shift = rng.normal(0.0, common)
    red, green, blue = (float(np.clip(value + shift + rng.normal(0.0, each), 0, 255)) for value in colour)
    return red, green, blue
