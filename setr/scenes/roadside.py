"""What lines the street: houses, gardens, trees and street furniture."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from setr.scenes import buildings, furniture, people, plants
from setr.scenes.cities import City
from setr.scenes.light import Light
from setr.scenes.shapes import Colour, Shape
from setr.scenes.street import Street, Verge
from setr.scenes.strokes import Place
from setr.scenes.thing import Thing, new_seed, pick, vary

END = 130.0  # metres: how far the street is built


def houses(
    city: City, street: Street, verge: Verge, light: Light, foliage: tuple[Colour, ...], rng: np.random.Generator
) -> list[Thing]:
    things: list[Thing] = []
    crossing, side = street.crossing, verge.side
    opens = crossing is not None and (crossing.left if side < 0 else crossing.right)
    z, exposed = -rng.uniform(0, 10), True
    while z < END:
        length = rng.uniform(*city.frontage)
        if opens and crossing is not None:
            start, stop = crossing.z - crossing.half - 3.2, crossing.z + crossing.half + 3.2
            if z < stop and z + length > start:
                if start - z <= 5.0:
                    things += [
                        _house(city, verge, stop, 11.0, 12.0 * step, True, light, rng) for step in range(5, 0, -1)
                    ]
                    z, exposed = stop, True
                    continue
                length = start - z
        if rng.random() < city.gap:
            things += _plot(city, verge, z, length, foliage, rng)
            exposed = True
        else:
            things.append(_house(city, verge, z, length, 0.0, exposed, light, rng))
            exposed = city.gap >= 0.2
            if abs(verge.facade - verge.walk_outer) > 1.5 and rng.random() < 0.85:
                things += _boundary(city, verge, z, length, foliage, rng)
        z += length + (0.0 if city.gap < 0.2 else rng.uniform(0, 3.0))
    return things


def _house(
    city: City,
    verge: Verge,
    z: float,
    length: float,
    back: float,
    exposed: bool,
    light: Light,
    rng: np.random.Generator,
) -> Thing:
    """Returns a house, `back` metres behind the frontage if it stands in a side street.

    An exposed house has no neighbour against the wall that faces the camera.
    """
    plan = buildings.House(
        frontage=length,
        depth=12.0 if back else rng.uniform(9.0, 14.0),
        floors=int(rng.integers(city.floors[0], city.floors[1] + 1)),
        floor_height=rng.uniform(2.8, 3.5),
        side=verge.side,
        distance=z,
        exposed=exposed,
        wall=vary(rng, pick(rng, city.walls), 9.0),
        trim=vary(rng, pick(rng, city.trims), 5.0),
        roof=vary(rng, pick(rng, city.roofs), 7.0),
        material=pick(rng, city.materials),
        roof_kind=pick(rng, city.roof_kinds),
        ground_floor=pick(rng, city.ground_floors),
        window=(city.window[0] * rng.uniform(0.85, 1.2), city.window[1] * rng.uniform(0.88, 1.08)),
        spacing=city.spacing * rng.uniform(0.85, 1.25),
        style=pick(rng, city.styles),
        lamps=light.lamps,
        seed=new_seed(rng),
    )
    place = Place(verge.facade + verge.side * back, z)
    far = z + length + 0.05 * back
    return Thing(
        partial(buildings.house, plan), place, far, plan.depth / 2, length / 2, plan.eaves + 1.5, side=verge.side
    )


def _boundary(
    city: City, verge: Verge, z: float, length: float, foliage: tuple[Colour, ...], rng: np.random.Generator
) -> list[Thing]:
    """Returns a hedge, fence or wall along the pavement's outer edge, in pieces short enough to order by depth."""
    kind, x = pick(rng, city.boundaries), verge.walk_outer + 0.3 * verge.side
    height = rng.uniform(0.9, 2.1)
    colour = vary(rng, pick(rng, foliage[:3] if kind == "hedge" else furniture.BOUNDARY_COLOURS[kind]), 6.0)
    material, seed = pick(rng, ("stone", "brick", "stain")), new_seed(rng)
    things: list[Thing] = []
    at, end = max(z, 1.0), min(z + length, 90.0)
    while at < end:
        run = min(3.0 if at < 40 else 8.0, end - at)
        build: Callable[[], Shape]
        if kind == "hedge":
            build = partial(plants.hedge, run, height, colour, distance=at, seed=seed + len(things))
        elif kind == "wall":
            build = partial(furniture.wall, run, height, colour, material, verge.side)
        else:
            build = partial(furniture.fence, kind, run, height, colour, distance=at)
        place = Place(x, at + run / 2)
        things.append(Thing(build, place, at + run, 0.2, run / 2, height))
        at += run
    return things


def _tree(species: str, x: float, z: float, far: float, height: float, colour: Colour, seed: int) -> Thing:
    build = partial(plants.tree, species, height, colour, distance=z, seed=seed)
    half = 0.9 * height * plants.SPECIES[species].crown_half
    return Thing(build, Place(x, z), far, half, half, height)


def _plot(
    city: City, verge: Verge, z: float, length: float, foliage: tuple[Colour, ...], rng: np.random.Generator
) -> list[Thing]:
    """Returns an open plot: trees and bushes behind a boundary."""
    things = _boundary(city, verge, z, length, foliage, rng)
    for _ in range(int(rng.integers(2, 6))):
        x, at = verge.facade + verge.side * rng.uniform(1.0, 14.0), z + rng.uniform(0, length)
        height, colour, species = (
            rng.uniform(5, 13),
            vary(rng, pick(rng, foliage), 8.0),
            pick(rng, (*city.species, "spruce")),
        )
        if at > 3.0:
            things.append(_tree(species, x, at, z + length + 0.01 * at, height, colour, new_seed(rng)))
    for _ in range(int(rng.integers(1, 5))):
        x, at = verge.facade + verge.side * rng.uniform(0.5, 5.0), z + rng.uniform(0, length)
        wide, colour = rng.uniform(1.2, 3.0), vary(rng, pick(rng, foliage), 8.0)
        if at > 3.0:
            build = partial(plants.bush, wide, 0.7 * wide, colour, seed=new_seed(rng))
            things.append(Thing(build, Place(x, at), at + 0.5, wide / 2, wide / 2, 0.7 * wide))
    return things


def trees(
    city: City, street: Street, verge: Verge, foliage: tuple[Colour, ...], rng: np.random.Generator
) -> list[Thing]:
    """Returns the trees along the kerb, and those of the median."""
    things = []
    rows = [(verge.kerb + verge.side * (0.5 * verge.strip if verge.strip else 0.9), rng.uniform(6.5, 12.0), 4.0)]
    if street.ground.median is not None and verge.side > 0:
        rows.append((0.0, rng.uniform(4.5, 8.0), 6.0))
    for x, height, margin in rows:
        species = pick(rng, city.species)
        density = city.trees if rng.random() < 0.75 else 0.05
        z = rng.uniform(6, 14)
        while z < 110:
            tall, colour = height * rng.uniform(0.8, 1.15), vary(rng, pick(rng, foliage), 7.0)
            seed, step = new_seed(rng), rng.uniform(7.0, 13.0)
            if rng.random() < density and not street.in_crossing(z, margin):
                things.append(_tree(species, x, z, z, tall, colour, seed))
            z += step
    return things


def lamps(street: Street, verge: Verge, light: Light, rng: np.random.Generator) -> list[Thing]:
    things = []
    height, colour = rng.uniform(4.2, 8.5), vary(rng, pick(rng, ((96, 100, 104), (62, 66, 66), (136, 138, 140))), 5.0)
    reach = -verge.side * rng.uniform(0.8, 1.8) if height > 5.0 else 0.0
    z = rng.uniform(7, 30)
    while z < 120:
        if not street.in_crossing(z, 0.5):
            build = partial(furniture.lamp_post, height, reach, colour, lit=light.lamps)
            things.append(Thing(build, Place(verge.kerb + verge.side * 0.55, z), z, 0.09, 0.09, height))
        z += rng.uniform(22, 34)
    return things


def signs(street: Street, verge: Verge, rng: np.random.Generator) -> list[Thing]:
    things = []
    for _ in range(int(rng.integers(2, 6))):
        z, kind = rng.uniform(8, 55), pick(rng, furniture.SIGNS)
        facing, height = (verge.side > 0) or rng.random() < 0.45, rng.uniform(2.0, 2.6)
        place = Place(verge.kerb + verge.side * rng.uniform(0.4, 0.8), z, rng.normal(0.0, 0.16))
        if not street.in_crossing(z, 0.0):
            build = partial(furniture.sign, kind, facing=facing, height=height)
            things.append(Thing(build, place, z, 0.3, 0.06, height + 0.4))
    return things


def traffic_lights(street: Street, rng: np.random.Generator) -> list[Thing]:
    state = int(rng.integers(3))
    there, arm, reach = rng.random(), rng.random() < 0.45, rng.uniform(2.5, 4.5)
    crossing = street.crossing
    if crossing is None or there > 0.8:
        return []
    near, far = crossing.z - crossing.half - 1.2, crossing.z + crossing.half + 1.2
    right, left = street.right.kerb + 0.55, street.left.kerb - 0.55
    heads = [(right, near, -reach if arm else 0.0, True), (left, far, 0.0, True), (left, near, 0.0, False)]
    heads.append((right, far, 0.0, bool(rng.random() < 0.5)))
    return [
        Thing(partial(furniture.traffic_light, state, length, facing=facing), Place(x, z), z, 0.1, 0.1, 3.4)
        for x, z, length, facing in heads
    ]


def clutter(street: Street, verge: Verge, rng: np.random.Generator) -> list[Thing]:
    """Returns parked bicycles and motorcycles, bins and bollards on the pavement."""
    things: list[Thing] = []
    inner, side = verge.walk_inner, verge.side
    if rng.random() < 0.4:
        z = rng.uniform(7, 32)
        for _ in range(int(rng.integers(1, 7))):
            place = Place(inner + side * 0.9, z, math.pi / 2 + rng.normal(0, 0.25))
            things.append(Thing(partial(people.bicycle, new_seed(rng), ridden=False), place, z, 0.25, 0.9, 1.0))
            z += rng.uniform(0.5, 0.9)
    if rng.random() < 0.3:
        z = rng.uniform(7, 32)
        for _ in range(int(rng.integers(1, 4))):
            place = Place(inner + side * 0.8, z, rng.normal(0.5 * side, 0.2))
            build = partial(people.motorcycle, new_seed(rng), ridden=False, lit=False)
            things.append(Thing(build, place, z, 0.3, 0.9, 1.2))
            z += rng.uniform(1.0, 1.6)
    if rng.random() < 0.35:
        z, gap = rng.uniform(6, 20), rng.uniform(1.4, 2.6)
        colour = vary(rng, pick(rng, ((54, 56, 58), (130, 66, 54), (116, 118, 120))), 5.0)
        for step in range(int(rng.integers(3, 10))):
            place = Place(verge.kerb + side * 0.4, z + step * gap)
            if not street.in_crossing(place.z, 0.0):
                things.append(Thing(partial(furniture.bollard, colour), place, place.z, 0.07, 0.07, 0.9))
    for _ in range(int(rng.integers(0, 3))):
        z, wheeled = rng.uniform(6, 40), bool(rng.random() < 0.5)
        colour = vary(rng, pick(rng, ((50, 92, 66), (66, 68, 72), (56, 78, 118), (118, 88, 58))), 5.0)
        place = Place(verge.walk_outer - side * 0.5, z, rng.normal(0, 0.2))
        things.append(Thing(partial(furniture.litter_bin, colour, wheeled=wheeled), place, z, 0.3, 0.3, 1.0))
    return things
