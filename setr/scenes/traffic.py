"""Who is on the street: vehicles, driving and parked, cyclists and people on foot."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from setr.scenes import cars, coaches, people
from setr.scenes.cities import City
from setr.scenes.light import Light
from setr.scenes.shapes import Shape
from setr.scenes.street import Street, Verge
from setr.scenes.strokes import Place
from setr.scenes.thing import Thing, new_seed, pick, vary

CAR_KINDS = ("hatchback", "hatchback", "saloon", "saloon", "estate", "estate", "suv", "suv", "compact", "van")
TRAFFIC_SHARES = (
    ("box lorry", 0.03), ("lorry", 0.025), ("long lorry", 0.02), ("tipper", 0.015), ("bus", 0.05), ("coach", 0.02),
    ("minibus", 0.02), ("motorcycle", 0.06), ("bicycle", 0.05),
)  # fmt: skip


def _vehicle(
    kind: str, light: Light, rng: np.random.Generator, place: tuple[float, float, float], *, parked: bool
) -> Thing:
    """Returns a vehicle whose rear or front end, whichever is nearer, is at place = x, z, heading."""
    x, z, heading = place
    lit = not parked and (light.lamps or light.weather.wetness > 0 or light.fog > 0.009 or rng.random() < 0.15)
    first, second = vary(rng, pick(rng, cars.COLOURS), 6.0), vary(rng, pick(rng, cars.COLOURS), 6.0)
    livery, cargo = vary(rng, pick(rng, coaches.LIVERIES), 6.0), vary(rng, pick(rng, coaches.CARGOES), 6.0)
    variant, braking = int(rng.integers(3)), bool(rng.random() < 0.35 and not parked)
    build: Callable[[], Shape]
    if kind in coaches.COACHES:
        plan = coaches.COACHES[kind]
        width, length, height, first = plan.width, plan.length, plan.height, livery
        build = partial(coaches.coach, kind, lit=lit, lamps=light.lamps, variant=variant)
    elif kind in coaches.LORRIES:
        width, length, height, second = 2.44, coaches.LORRIES[kind].length, coaches.LORRIES[kind].cargo_height, cargo
        build = partial(coaches.lorry, kind, lit=lit, oncoming=math.cos(heading) < 0)
    else:
        body = cars.BODIES[kind]
        width, length, height = body.width, body.length, body.height
        build = partial(cars.car, kind, lit=lit, braking=braking, occupants=variant)
    middle = z + (length / 2) * abs(math.cos(heading))
    return Thing(build, Place(x, middle, heading, first=first, second=second), middle, width / 2, length / 2, height)


def parked(street: Street, verge: Verge, light: Light, rng: np.random.Generator) -> list[Thing]:
    things: list[Thing] = []
    if not verge.parking:
        return things
    share, x = rng.uniform(0.35, 0.95), verge.kerb - verge.side * 1.05
    z = rng.uniform(3.0, 8.0)
    while z < 80:
        kind = pick(rng, CAR_KINDS) if rng.random() < 0.95 else pick(rng, ("box lorry", "lorry"))
        heading = rng.normal(0.0, 0.02) + (math.pi if verge.side < 0 and rng.random() < 0.8 else 0.0)
        thing = _vehicle(kind, light, rng, (x, z, heading), parked=True)
        if rng.random() < share and not street.in_crossing(thing.place.z, 6.0 + thing.half_length) and z > 3.5:
            things.append(thing)
        z += 2 * thing.half_length + rng.uniform(0.7, 1.8)
    return things


def _traffic_kind(rng: np.random.Generator, *, rail: bool) -> str:
    draw = rng.random()
    if rail and rng.random() < 0.3:
        return "tram"
    for kind, share in TRAFFIC_SHARES:
        draw -= share
        if draw < 0:
            return kind
    return pick(rng, CAR_KINDS)


def traffic(city: City, street: Street, light: Light, rng: np.random.Generator) -> list[Thing]:
    things: list[Thing] = []
    inner = min(abs(lane.x) for lane in street.lanes)
    for lane in street.lanes:
        own = lane == street.own_lane
        busy = city.traffic * rng.uniform(0.3, 1.6)
        z = rng.uniform(7.0, 24.0) if own else rng.uniform(4.0, 26.0)
        while z < 110:
            kind = _traffic_kind(rng, rail=street.tram and abs(abs(lane.x) - inner) < 0.1)
            heading = (0.0 if lane.direction > 0 else math.pi) + rng.normal(0.0, 0.02)
            aside = rng.normal(0.0, 0.15)
            if kind in ("bicycle", "motorcycle"):
                aside = lane.direction * rng.uniform(0.5, 1.2) if kind == "bicycle" else aside
                thing = _two_wheeler(kind, lane.x + aside, z + 0.9, heading, light, rng)
            else:
                tall = kind in coaches.COACHES or kind in coaches.LORRIES
                start = (lane.x + (0.0 if kind == "tram" else aside), z + (5.0 if own and tall else 0.0), heading)
                thing = _vehicle(kind, light, rng, start, parked=False)
            things.append(thing)
            z = thing.place.z + thing.half_length + 2.5 + rng.exponential(10.0 / max(busy, 0.05))
    things += [_cyclist(street, light, rng) for _ in range(rng.poisson(city.cyclists))]
    return things


def _two_wheeler(kind: str, x: float, z: float, heading: float, light: Light, rng: np.random.Generator) -> Thing:
    seed = new_seed(rng)
    build: Callable[[], Shape] = partial(people.bicycle, seed, ridden=True)
    if kind == "motorcycle":
        build = partial(people.motorcycle, seed, ridden=True, lit=light.lamps)
    return Thing(build, Place(x, z, heading), z, 0.25, 0.9, 1.7)


def _cyclist(street: Street, light: Light, rng: np.random.Generator) -> Thing:
    verge = street.right if rng.random() < 0.65 else street.left
    side = verge.side
    x = verge.kerb - side * ((2.7 if verge.parking else 0.7) + rng.uniform(0, 0.3))
    if rng.random() < 0.25:
        x = verge.kerb + side * rng.uniform(1.0, 1.6)
    heading = (0.0 if side > 0 else math.pi) + rng.normal(0, 0.06)
    return _two_wheeler("bicycle", x, rng.uniform(6.5, 38), heading, light, rng)


def _walker(x: float, z: float, heading: float, tall: float, child: bool, rng: np.random.Generator) -> Thing:
    build = partial(people.walker, new_seed(rng), child=child)
    return Thing(build, Place(x, z, heading, scale=tall), z, 0.25, 0.22, 1.75 * tall)


def walkers(city: City, verge: Verge, rng: np.random.Generator) -> list[Thing]:
    things = []
    low, high = sorted((verge.walk_inner + 0.4 * verge.side, verge.walk_outer - 0.3 * verge.side))
    for _ in range(rng.poisson(0.5 * city.walkers)):
        z, x = rng.uniform(6.0, 46.0), rng.uniform(low, high)
        heading = (0.0 if rng.random() < 0.5 else math.pi) + rng.normal(0.0, 0.3)
        for companion in range(1 + (rng.random() < 0.3)):
            child = bool(companion and rng.random() < 0.4)
            tall = rng.uniform(0.62, 0.8) if child else rng.normal(0.985, 0.05)
            things.append(_walker(x + 0.6 * companion, z + 0.15 * companion, heading, tall, child, rng))
    return things


def crossers(street: Street, light: Light, rng: np.random.Generator) -> list[Thing]:
    """Returns people who cross the road, and a vehicle that crosses it."""
    crossing = street.crossing
    walk = rng.uniform(10, 30) if crossing is None else crossing.z - crossing.half - 2.6
    number = int(rng.integers(0, 4)) if crossing is not None else int(rng.random() < 0.2)
    things = []
    for _ in range(number):
        heading = math.copysign(math.pi / 2, rng.random() - 0.5) + rng.normal(0.0, 0.15)
        x, z = rng.uniform(street.left.kerb, street.right.kerb), walk + rng.uniform(-1.3, 1.3)
        things.append(_walker(x, z, heading, rng.normal(0.985, 0.05), False, rng))
    if crossing is not None and rng.random() < 0.45:
        kind, sign = pick(rng, (*CAR_KINDS, "lorry", "minibus")), 1 if rng.random() < 0.5 else -1
        place = (rng.uniform(-9, 9), crossing.z + 1.5 * sign, sign * math.pi / 2)
        things.append(_vehicle(kind, light, rng, place, parked=False))
    return things
