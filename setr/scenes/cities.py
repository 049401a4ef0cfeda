"""The invented cities, a row each: what their streets, houses, plants, traffic and weather are like; and a street."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from setr.scenes.shapes import Colour, Dice

LANE, PARKING = 3.2, 2.15  # metres


@dataclass(frozen=True)
class City:
    """A city's style; pairs are ranges, plain numbers are probabilities or densities, tuples of names are choices."""

    name: str
    floors: tuple[int, int]
    frontage: tuple[float, float]  # metres
    walls: tuple[Colour, ...]
    trims: tuple[Colour, ...]
    roofs: tuple[Colour, ...]
    materials: tuple[str, ...]
    roof_kinds: tuple[str, ...]
    ground_floors: tuple[str, ...]
    styles: tuple[str, ...]
    window: tuple[float, float]  # width, height in metres
    spacing: float  # metres between windows
    gap: float  # probability of an open plot between two houses
    garden: tuple[float, float]  # metres between pavement and house
    boundaries: tuple[str, ...]  # along gardens and open plots
    streets: tuple[str, ...]  # oneway | two | four | avenue
    parking: float
    strip: float  # grass strip along the kerb
    cycle_path: float
    tram: float
    trees: float  # share of the places for trees that have one
    species: tuple[str, ...]
    autumn: float
    traffic: float  # vehicles in 10 m of lane
    walkers: float  # mean number
    cyclists: float  # mean number
    asphalt: float
    paving: Colour
    slab: float  # metres
    weathers: tuple[str, ...]


BRICKS = ((150, 78, 60), (134, 66, 54), (166, 98, 72), (120, 72, 62), (176, 116, 88))
PLASTERS = (
    (222, 206, 170), (214, 190, 150), (226, 218, 204), (196, 172, 142), (206, 160, 130), (186, 196, 186),
    (232, 226, 214),
)  # fmt: skip
PASTELS = (
    (226, 182, 120), (210, 140, 112), (168, 186, 200), (236, 214, 150), (190, 206, 170), (222, 178, 170),
    (240, 232, 216),
)  # fmt: skip
CONCRETES = ((164, 164, 160), (148, 150, 152), (182, 178, 170), (128, 132, 138), (196, 194, 190))
TIMBERS = ((188, 196, 200), (150, 60, 50), (226, 222, 210), (96, 112, 120), (206, 186, 120), (120, 136, 112))
STONES = ((186, 174, 150), (170, 162, 148), (200, 186, 160), (150, 144, 136))
LIGHT_TRIMS = ((232, 228, 218), (240, 238, 232), (214, 206, 190))
MIXED_TRIMS = ((232, 228, 218), (96, 100, 104), (70, 60, 54), (206, 196, 176))
RED_ROOFS = ((142, 70, 52), (126, 62, 50), (158, 88, 62), (104, 60, 52))
GREY_ROOFS = ((78, 80, 86), (92, 92, 96), (64, 68, 76), (104, 100, 98))

TRAIN_CITIES = (
    City(
        name="adlerau", floors=(3, 5), frontage=(9, 18), walls=PLASTERS, trims=LIGHT_TRIMS, roofs=RED_ROOFS,
        materials=("stain", "stain", "stone"), roof_kinds=("gable", "gable", "mansard"),
        ground_floors=("shops", "shops", "doors"), styles=("framed", "banded", "plain"), window=(1.1, 1.7),
        spacing=2.5, gap=0.08, garden=(0, 0), boundaries=("wall", "palings"), streets=("two", "two", "oneway"),
        parking=0.75, strip=0.1, cycle_path=0.1, tram=0.0, trees=0.4, species=("lime", "plane"), autumn=0.1,
        traffic=0.34, walkers=6.0, cyclists=1.6, asphalt=92, paving=(164, 160, 154), slab=0.6,
        weathers=("clear", "fair", "overcast", "overcast", "evening", "rain"),
    ),
    City(
        name="birkmoor", floors=(1, 2), frontage=(9, 14), walls=BRICKS + PLASTERS[:3], trims=LIGHT_TRIMS,
        roofs=RED_ROOFS + GREY_ROOFS[:1], materials=("brick", "stain"), roof_kinds=("gable",),
        ground_floors=("doors",), styles=("plain", "framed"), window=(1.3, 1.3), spacing=3.1, gap=0.3, garden=(3, 7),
        boundaries=("hedge", "hedge", "palings", "palings", "wall"), streets=("two", "two", "oneway"), parking=0.4,
        strip=0.55, cycle_path=0.0, tram=0.0, trees=0.6, species=("birch", "lime", "lime"), autumn=0.35, traffic=0.2,
        walkers=2.2, cyclists=1.4, asphalt=100, paving=(172, 166, 158), slab=0.5,
        weathers=("clear", "fair", "overcast", "fog", "evening"),
    ),
    City(
        name="castrel", floors=(6, 14), frontage=(16, 30), walls=CONCRETES + STONES[:2], trims=MIXED_TRIMS,
        roofs=GREY_ROOFS, materials=("panels", "panels", "stone"), roof_kinds=("flat",),
        ground_floors=("shops", "shops", "blank"), styles=("curtain", "curtain", "banded"), window=(2.0, 1.8),
        spacing=2.6, gap=0.12, garden=(0, 2), boundaries=("wall", "mesh", "railings"),
        streets=("four", "avenue", "avenue", "two"), parking=0.2, strip=0.25, cycle_path=0.3, tram=0.45, trees=0.45,
        species=("plane", "lime"), autumn=0.1, traffic=0.46, walkers=5.5, cyclists=2.0, asphalt=78,
        paving=(150, 150, 150), slab=0.9, weathers=("clear", "fair", "overcast", "dusk", "rain", "evening"),
    ),
    City(
        name="dornhaven", floors=(2, 4), frontage=(5, 9), walls=BRICKS, trims=LIGHT_TRIMS,
        roofs=GREY_ROOFS + RED_ROOFS[:2], materials=("brick",), roof_kinds=("gable", "mansard", "flat"),
        ground_floors=("doors", "doors", "shops"), styles=("framed", "plain"), window=(1.0, 1.8), spacing=2.0,
        gap=0.08, garden=(0, 2.5), boundaries=("railings", "wall", "hedge"), streets=("oneway", "two"), parking=0.9,
        strip=0.1, cycle_path=0.25, tram=0.0, trees=0.5, species=("lime", "birch"), autumn=0.15, traffic=0.24,
        walkers=4.0, cyclists=3.4, asphalt=86, paving=(158, 120, 104), slab=0.4,
        weathers=("fair", "overcast", "overcast", "rain", "fog", "clear"),
    ),
    City(
        name="ellsund", floors=(1, 3), frontage=(8, 16), walls=TIMBERS, trims=LIGHT_TRIMS,
        roofs=GREY_ROOFS + RED_ROOFS[1:3], materials=("planks", "planks", "stain"),
        roof_kinds=("gable", "gable", "flat"), ground_floors=("doors", "shops", "blank"), styles=("framed", "plain"),
        window=(1.1, 1.4), spacing=2.6, gap=0.35, garden=(1, 5), boundaries=("palings", "palings", "hedge", "mesh"),
        streets=("two", "two", "four"), parking=0.3, strip=0.6, cycle_path=0.15, tram=0.0, trees=0.65,
        species=("birch", "birch", "lime"), autumn=0.4, traffic=0.26, walkers=3.0, cyclists=1.8, asphalt=106,
        paving=(150, 148, 144), slab=0.7, weathers=("clear", "fair", "fog", "overcast", "dusk"),
    ),
    City(
        name="fermonte", floors=(3, 6), frontage=(8, 15), walls=PASTELS, trims=LIGHT_TRIMS + MIXED_TRIMS[1:2],
        roofs=RED_ROOFS, materials=("stain", "stain", "stone"), roof_kinds=("gable", "flat"),
        ground_floors=("shops", "shops", "doors"), styles=("framed", "banded"), window=(1.1, 1.9), spacing=2.6,
        gap=0.12, garden=(0, 1), boundaries=("wall", "wall", "railings"), streets=("oneway", "two", "avenue"),
        parking=0.7, strip=0.1, cycle_path=0.1, tram=0.3, trees=0.55, species=("plane", "poplar", "lime"),
        autumn=0.05, traffic=0.36, walkers=6.5, cyclists=2.2, asphalt=112, paving=(190, 178, 158), slab=0.5,
        weathers=("clear", "clear", "clear", "fair", "evening", "dusk"),
    ),
)  # fmt: skip

VAL_CITIES = (
    City(
        name="grauwik", floors=(3, 6), frontage=(8, 16), walls=BRICKS[:3] + PLASTERS[2:6],
        trims=LIGHT_TRIMS + MIXED_TRIMS[1:3], roofs=GREY_ROOFS + RED_ROOFS, materials=("brick", "stain", "stone"),
        roof_kinds=("gable", "mansard", "flat"), ground_floors=("shops", "doors"),
        styles=("framed", "plain", "banded"), window=(1.1, 1.7), spacing=2.4, gap=0.12, garden=(0, 1),
        boundaries=("wall", "railings", "hedge"), streets=("two", "oneway", "four"), parking=0.7, strip=0.15,
        cycle_path=0.2, tram=0.0, trees=0.45, species=("lime", "plane"), autumn=0.15, traffic=0.34, walkers=5.5,
        cyclists=2.4, asphalt=94, paving=(160, 156, 152), slab=0.5,
        weathers=("fair", "clear", "overcast", "rain", "evening", "fog"),
    ),
    City(
        name="hollin", floors=(1, 3), frontage=(8, 15), walls=TIMBERS[2:] + PLASTERS[:4], trims=LIGHT_TRIMS,
        roofs=RED_ROOFS + GREY_ROOFS[:2], materials=("planks", "stain", "brick"),
        roof_kinds=("gable", "gable", "flat"), ground_floors=("doors", "doors", "shops"), styles=("plain", "framed"),
        window=(1.2, 1.4), spacing=2.8, gap=0.3, garden=(2, 6), boundaries=("hedge", "palings", "mesh", "wall"),
        streets=("two", "two", "four"), parking=0.4, strip=0.55, cycle_path=0.15, tram=0.0, trees=0.6,
        species=("birch", "lime"), autumn=0.25, traffic=0.26, walkers=3.0, cyclists=2.0, asphalt=98,
        paving=(168, 160, 150), slab=0.6, weathers=("clear", "fair", "overcast", "fog", "dusk"),
    ),
    City(
        name="isarand", floors=(4, 11), frontage=(12, 26), walls=CONCRETES[:3] + PASTELS[:2] + STONES,
        trims=MIXED_TRIMS, roofs=GREY_ROOFS, materials=("panels", "stone", "stain"),
        roof_kinds=("flat", "flat", "mansard"), ground_floors=("shops", "blank"),
        styles=("curtain", "banded", "framed"), window=(1.7, 1.8), spacing=2.6, gap=0.14, garden=(0, 2),
        boundaries=("wall", "mesh", "railings"), streets=("four", "avenue", "two"), parking=0.35, strip=0.3,
        cycle_path=0.3, tram=0.45, trees=0.5, species=("plane", "lime", "poplar"), autumn=0.1, traffic=0.44,
        walkers=5.5, cyclists=2.2, asphalt=84, paving=(160, 158, 156), slab=0.8,
        weathers=("clear", "fair", "overcast", "dusk", "rain", "evening"),
    ),
)  # fmt: skip


Line = tuple[float, float, float, float]  # along the road: x, width, dash, gap in metres; gap 0 for a whole line


class Crossing(NamedTuple):
    """A street that crosses: its middle and half its width along z in metres; zebra, and on which sides it opens."""

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
        # Lanes for traffic: their middles, and 1 away from the camera, -1 towards it.
        self.lanes = [
            (sign * (self.median + (step + 0.5) * self.lane), sign) for sign in (1, -1) for step in range(number)
        ] or [(0.0, 1)]
        self.crossing = _crossing(rng)
        self.left, self.right = left, right = Verge(city, rng, -1, core), Verge(city, rng, 1, core)
        self.bands = _bands(left, right, cycle_path=rng.chance(city.cycle_path))
        self.lines = _lines(self, number, core)
        rails = [sign * self.lanes[0][0] + aside for sign in (-1, 1) for aside in (-0.72, 0.72)]
        self.rails = rails if self.tram else []
        self.asphalt = _jitter(rng, (city.asphalt, city.asphalt, city.asphalt * 1.02), 7.0, 2.0)
        self.paving = _jitter(rng, city.paving, 8.0, 3.0)
        self.grass = _jitter(rng, (124, 118, 62) if rng.chance(city.autumn) else (88, 112, 52), 8.0, 6.0)
        self.paint = (226, 226, 220) if rng.chance(0.85) else (228, 196, 96)
        self.slab, self.roughness = city.slab, rng.uniform(0.8, 1.6)
        low, high = (left.kerb, 4, 0.4, 0.8, -0.16), (right.kerb, 50, 1.6, 5.0, 0.1)
        # Patches: x, z, half width and length, tone. Manholes: x, z.
        self.patches = [rng.uniform(low, high).tolist() for _ in range(rng.integers(0, 6))]
        inner, outer = (left.kerb + 1, 5), (right.kerb - 1, 40)
        self.covers = [rng.uniform(inner, outer).tolist() for _ in range(rng.integers(0, 4))]
        self.seed = int(rng.integers(1 << 16))
        self.own_lane = rng.pick([lane for lane in self.lanes if lane[1] > 0])

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
    lines = [(0.0, 0.13, 3.0, 4.5)] if number == 1 else []
    if number == 2:
        lines += [] if street.median else [(-0.14, 0.12, 0.0, 0.0), (0.14, 0.12, 0.0, 0.0)]
        lines += [(sign * (street.median + street.lane), 0.13, 3.0, 5.0) for sign in (-1, 1)]
    for verge in (street.left, street.right):
        edge = (verge.side * core, 0.1, 2.0, 3.0)
        lines.append(edge if verge.parking else (verge.kerb - verge.side * 0.3, 0.12, 0.0, 0.0))
    return lines


def _jitter(rng: Dice, colour: Colour, common: float, each: float) -> Colour:
    shift = rng.normal(0.0, common)
    red, green, blue = (float(np.clip(value + shift + rng.normal(0.0, each), 0, 255)) for value in colour)
    return red, green, blue
