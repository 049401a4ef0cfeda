"""Everything that stands in one scene: houses, gardens, trees, street furniture, vehicles and people."""

import math
from collections.abc import Callable
from functools import partial

from setr.scenes import furniture, houses, people
from setr.scenes.camera import Light
from setr.scenes.cities import City, Street, Verge
from setr.scenes.shapes import Colour, Dice, Shape
from setr.scenes.strokes import Place
from setr.scenes.things import Thing
from setr.scenes.vehicles import CAR_COLOURS, CARGOES, CARS, COACHES, LIVERIES, LORRIES, SIZES, vehicle

END = 130.0  # metres: how far the street is built
CAR_KINDS = ("hatchback", "hatchback", "saloon", "saloon", "estate", "estate", "suv", "suv", "compact", "van")
TRAFFIC_SHARES = (
    ("box lorry", 0.03), ("lorry", 0.025), ("long lorry", 0.02), ("tipper", 0.015), ("bus", 0.05), ("coach", 0.02),
    ("minibus", 0.02), ("motorcycle", 0.06), ("bicycle", 0.05),
)  # fmt: skip
POSTS, BOLLARDS = ((96, 100, 104), (62, 66, 66), (136, 138, 140)), ((54, 56, 58), (130, 66, 54), (116, 118, 120))
BINS = ((50, 92, 66), (66, 68, 72), (56, 78, 118), (118, 88, 58))


def furnish(city: City, street: Street, light: Light, rng: Dice) -> list[Thing]:
    """Returns everything that stands in the street, in no particular order."""
    layout = Layout(city, street, light, rng)
    for verge in (street.left, street.right):
        layout.houses(verge)
        layout.trees(verge)
        layout.lamps(verge)
        layout.signs(verge)
        if verge.parking:
            layout.parked(verge)
        layout.clutter(verge)
        layout.walkers(verge)
    layout.traffic_lights()
    layout.traffic()
    layout.crossers()
    return layout.things


class Layout:
    """The things of a scene while they are chosen, one kind after the other, from one stream of random numbers."""

    def __init__(self, city: City, street: Street, light: Light, rng: Dice) -> None:
        self.city, self.street, self.light, self.rng = city, street, light, rng
        self.foliage: tuple[Colour, ...] = furniture.AUTUMN if rng.chance(city.autumn) else furniture.SUMMER
        self.things: list[Thing] = []

    def _add(
        self, build: Callable[[], Shape], place: Place, wide: float, long: float, high: float, far: float | None = None
    ) -> None:
        """Adds a thing with half its width, half its length and its height; `far` is its own distance if not given."""
        self.things.append(Thing(build, place, place.z if far is None else far, wide, long, high))

    def houses(self, verge: Verge) -> None:
        """Adds the row of houses, open plots and boundaries, with the side street's houses where the crossing opens."""
        city, rng, crossing = self.city, self.rng, self.street.crossing
        start, stop = math.inf, -math.inf
        if crossing is not None and (crossing.left if verge.side < 0 else crossing.right):
            start, stop = crossing.z - crossing.half - 3.2, crossing.z + crossing.half + 3.2
        z, exposed = -rng.uniform(0, 10), True
        while z < END:
            length = rng.uniform(*city.frontage)
            if z < stop and z + length > start:
                if start - z <= 5.0:
                    for step in range(5, 0, -1):
                        self._house(verge, stop, 11.0, 12.0 * step, exposed=True)
                    z, exposed = stop, True
                    continue
                length = start - z
            if rng.chance(city.gap):
                self._plot(verge, z, length)
                exposed = True
            else:
                self._house(verge, z, length, 0.0, exposed=exposed)
                exposed = city.gap >= 0.2
                if abs(verge.facade - verge.walk_outer) > 1.5 and rng.chance(0.85):
                    self._boundary(verge, z, length)
            z += length + (0.0 if city.gap < 0.2 else rng.uniform(0, 3.0))

    def _house(self, verge: Verge, z: float, length: float, back: float, *, exposed: bool) -> None:
        """Adds a house, `back` metres behind the frontage if it stands in a side street."""
        side, lamps = verge.side, self.light.lamps
        plan = houses.House(self.city, self.rng, side, z, length, corner=back > 0, exposed=exposed, lamps=lamps)
        place, far = Place(verge.facade + side * back, z), z + length + 0.05 * back
        build = partial(houses.house, plan)
        self.things.append(Thing(build, place, far, plan.depth / 2, length / 2, plan.eaves + 1.5, side))

    def _boundary(self, verge: Verge, z: float, length: float) -> None:
        """Adds a hedge, fence or wall along the pavement's outer edge, in pieces short enough to order by depth."""
        rng = self.rng
        kind, x, height = rng.pick(self.city.boundaries), verge.walk_outer + 0.3 * verge.side, rng.uniform(0.9, 2.1)
        colour = rng.vary(self.foliage[:3] if kind == "hedge" else furniture.BOUNDARY_COLOURS[kind], 6.0)
        material, seed = rng.pick(("stone", "brick", "stain")), rng.seed()
        at, end = max(z, 1.0), min(z + length, 90.0)
        while at < end:
            run = min(3.0 if at < 40 else 8.0, end - at)
            build = partial(furniture.fence, kind, run, height, colour, distance=at)
            if kind == "hedge":
                build = partial(furniture.hedge, run, height, colour, distance=at, seed=seed)
            elif kind == "wall":
                build = partial(furniture.wall, run, height, colour, material, verge.side)
            self._add(build, Place(x, at + run / 2), 0.2, run / 2, height, far=at + run)
            at, seed = at + run, seed + 1

    def _plot(self, verge: Verge, z: float, length: float) -> None:
        """Adds an open plot: trees and bushes behind a boundary."""
        rng = self.rng
        self._boundary(verge, z, length)
        for _ in range(int(rng.integers(2, 6))):
            x, at = verge.facade + verge.side * rng.uniform(1.0, 14.0), z + rng.uniform(0, length)
            height, colour = rng.uniform(5, 13), rng.vary(self.foliage, 8.0)
            species = rng.pick((*self.city.species, "spruce"))
            if at > 3.0:
                self._tree(species, Place(x, at), z + length + 0.01 * at, height, colour, rng.seed())
        for _ in range(int(rng.integers(1, 5))):
            x, at = verge.facade + verge.side * rng.uniform(0.5, 5.0), z + rng.uniform(0, length)
            wide, colour = rng.uniform(1.2, 3.0), rng.vary(self.foliage, 8.0)
            if at > 3.0:
                build = partial(furniture.bush, wide, 0.7 * wide, colour, seed=rng.seed())
                self._add(build, Place(x, at), wide / 2, wide / 2, 0.7 * wide, far=at + 0.5)

    def _tree(self, species: str, place: Place, far: float, height: float, colour: Colour, seed: int) -> None:
        build = partial(furniture.tree, species, height, colour, distance=place.z, seed=seed)
        half = 0.9 * height * furniture.SPECIES[species][1]
        self._add(build, place, half, half, height, far)

    def trees(self, verge: Verge) -> None:
        """Adds the trees along the kerb, and those of the median."""
        rng = self.rng
        rows = [(verge.kerb + verge.side * (0.5 * verge.strip if verge.strip else 0.9), rng.uniform(6.5, 12.0), 4.0)]
        if self.street.median and verge.side > 0:
            rows.append((0.0, rng.uniform(4.5, 8.0), 6.0))
        for x, height, margin in rows:
            species, density = rng.pick(self.city.species), self.city.trees if rng.chance(0.75) else 0.05
            z = rng.uniform(6, 14)
            while z < 110:
                tall, colour = height * rng.uniform(0.8, 1.15), rng.vary(self.foliage, 7.0)
                seed, step = rng.seed(), rng.uniform(7.0, 13.0)
                if rng.chance(density) and not self.street.in_crossing(z, margin):
                    self._tree(species, Place(x, z), z, tall, colour, seed)
                z += step

    def lamps(self, verge: Verge) -> None:
        """Adds lamp posts along the kerb."""
        rng = self.rng
        height, colour = rng.uniform(4.2, 8.5), rng.vary(POSTS, 5.0)
        reach = -verge.side * rng.uniform(0.8, 1.8) if height > 5.0 else 0.0
        build = partial(furniture.lamp_post, height, reach, colour, lit=self.light.lamps)
        z = rng.uniform(7, 30)
        while z < 120:
            if not self.street.in_crossing(z, 0.5):
                self._add(build, Place(verge.kerb + verge.side * 0.55, z), 0.09, 0.09, height)
            z += rng.uniform(22, 34)

    def signs(self, verge: Verge) -> None:
        """Adds traffic signs along the kerb."""
        rng = self.rng
        for _ in range(int(rng.integers(2, 6))):
            z, kind = rng.uniform(8, 55), rng.pick(furniture.SIGN_KINDS)
            facing, height = verge.side > 0 or rng.chance(0.45), rng.uniform(2.0, 2.6)
            place = Place(verge.kerb + verge.side * rng.uniform(0.4, 0.8), z, rng.normal(0.0, 0.16))
            if not self.street.in_crossing(z, 0.0):
                build = partial(furniture.sign, kind, facing=facing, height=height)
                self._add(build, place, 0.3, 0.06, height + 0.4)

    def traffic_lights(self) -> None:
        """Adds the crossing's four traffic lights, which most crossings have."""
        rng, crossing = self.rng, self.street.crossing
        state = int(rng.integers(3))
        there, arm, reach = rng.random(), rng.chance(0.45), rng.uniform(2.5, 4.5)
        if crossing is None or there > 0.8:
            return
        near, far = crossing.z - crossing.half - 1.2, crossing.z + crossing.half + 1.2
        right, left = self.street.right.kerb + 0.55, self.street.left.kerb - 0.55
        for x, z, length, facing in (
            (right, near, -reach if arm else 0.0, True),
            (left, far, 0.0, True),
            (left, near, 0.0, False),
            (right, far, 0.0, rng.chance(0.5)),
        ):
            self._add(partial(furniture.traffic_light, state, length, facing=facing), Place(x, z), 0.1, 0.1, 3.4)

    def clutter(self, verge: Verge) -> None:
        """Adds parked bicycles and motorcycles, bins and bollards on the pavement."""
        rng, inner, side = self.rng, verge.walk_inner, verge.side
        build: Callable[[], Shape]
        bicycle = partial(people.bicycle, ridden=False)
        motorcycle = partial(people.motorcycle, ridden=False, lit=False)
        for build, share, most, aside, turn, spread, wide, high, gaps in (
            (bicycle, 0.4, 7, 0.9, math.pi / 2, 0.25, 0.25, 1.0, (0.5, 0.9)),
            (motorcycle, 0.3, 4, 0.8, 0.5 * side, 0.2, 0.3, 1.2, (1.0, 1.6)),
        ):
            z = rng.uniform(7, 32) if (there := rng.chance(share)) else 0.0
            for _ in range(int(rng.integers(1, most)) if there else 0):
                place = Place(inner + side * aside, z, turn + rng.normal(0, spread))
                self._add(partial(build, rng.seed()), place, wide, 0.9, high)
                z += rng.uniform(*gaps)
        if rng.chance(0.35):
            z, gap = rng.uniform(6, 20), rng.uniform(1.4, 2.6)
            build = partial(furniture.bollard, rng.vary(BOLLARDS, 5.0))
            for step in range(int(rng.integers(3, 10))):
                place = Place(verge.kerb + side * 0.4, z + step * gap)
                if not self.street.in_crossing(place.z, 0.0):
                    self._add(build, place, 0.07, 0.07, 0.9)
        for _ in range(int(rng.integers(0, 3))):
            z, wheeled = rng.uniform(6, 40), rng.chance(0.5)
            build = partial(furniture.litter_bin, rng.vary(BINS, 5.0), wheeled=wheeled)
            self._add(build, Place(verge.walk_outer - side * 0.5, z, rng.normal(0, 0.2)), 0.3, 0.3, 1.0)

    def _vehicle(self, kind: str, x: float, z: float, heading: float, *, parked: bool) -> Thing:
        """Returns a vehicle whose rear or front end, whichever is nearer, is at x, z."""
        rng, light, (length, width, height) = self.rng, self.light, SIZES[kind]
        lit = not parked and (light.lamps or light.wetness > 0 or light.fog > 0.009 or rng.chance(0.15))
        first, second = rng.vary(CAR_COLOURS, 6.0), rng.vary(CAR_COLOURS, 6.0)
        livery, cargo = rng.vary(LIVERIES, 6.0), rng.vary(CARGOES, 6.0)
        variant, braking = int(rng.integers(3)), rng.chance(0.35) and not parked
        first = livery if kind in COACHES else first
        second = cargo if kind in LORRIES else second
        build = partial(
            vehicle,
            kind,
            lit=lit,
            braking=braking and kind in CARS,
            oncoming=math.cos(heading) < 0,
            lamps=light.lamps,
            variant=variant,
        )
        middle = z + (length / 2) * abs(math.cos(heading))
        place = Place(x, middle, heading, first=first, second=second)
        return Thing(build, place, middle, width / 2, length / 2, height)

    def parked(self, verge: Verge) -> None:
        """Adds the vehicles parked along the kerb."""
        rng = self.rng
        share, z = rng.uniform(0.35, 0.95), rng.uniform(3.0, 8.0)
        while z < 80:
            kind = rng.pick(CAR_KINDS) if rng.chance(0.95) else rng.pick(("box lorry", "lorry"))
            heading = rng.normal(0.0, 0.02) + (math.pi if verge.side < 0 and rng.chance(0.8) else 0.0)
            thing = self._vehicle(kind, verge.kerb - verge.side * 1.05, z, heading, parked=True)
            if rng.chance(share) and not self.street.in_crossing(thing.place.z, 6.0 + thing.half_length) and z > 3.5:
                self.things.append(thing)
            z += 2 * thing.half_length + rng.uniform(0.7, 1.8)

    def traffic(self) -> None:
        """Adds what drives in the lanes, and cyclists along the kerb."""
        rng, street = self.rng, self.street
        inner = min(abs(middle) for middle, _ in street.lanes)
        for middle, direction in street.lanes:
            own = (middle, direction) == street.own_lane
            busy = self.city.traffic * rng.uniform(0.3, 1.6)
            z = rng.uniform(7.0, 24.0) if own else rng.uniform(4.0, 26.0)
            while z < 110:
                kind = self._traffic_kind(rail=street.tram and abs(abs(middle) - inner) < 0.1)
                heading = (0.0 if direction > 0 else math.pi) + rng.normal(0.0, 0.02)
                aside = rng.normal(0.0, 0.15)
                if kind in ("bicycle", "motorcycle"):
                    aside = direction * rng.uniform(0.5, 1.2) if kind == "bicycle" else aside
                    thing = self._two_wheeler(kind, middle + aside, z + 0.9, heading)
                else:
                    x = middle + (0.0 if kind == "tram" else aside)
                    ahead = 0.0 if kind in CARS or not own else 5.0
                    thing = self._vehicle(kind, x, z + ahead, heading, parked=False)
                self.things.append(thing)
                z = thing.place.z + thing.half_length + 2.5 + rng.exponential(10.0 / max(busy, 0.05))
        for _ in range(rng.poisson(self.city.cyclists)):
            self._cyclist()

    def _traffic_kind(self, *, rail: bool) -> str:
        draw = self.rng.random()
        if rail and self.rng.chance(0.3):
            return "tram"
        for kind, share in TRAFFIC_SHARES:
            draw -= share
            if draw < 0:
                return kind
        return self.rng.pick(CAR_KINDS)

    def _two_wheeler(self, kind: str, x: float, z: float, heading: float) -> Thing:
        seed = self.rng.seed()
        build = partial(people.bicycle, seed, ridden=True)
        if kind == "motorcycle":
            build = partial(people.motorcycle, seed, ridden=True, lit=self.light.lamps)
        return Thing(build, Place(x, z, heading), z, 0.25, 0.9, 1.7)

    def _cyclist(self) -> None:
        rng = self.rng
        verge = self.street.right if rng.chance(0.65) else self.street.left
        x = verge.kerb - verge.side * ((2.7 if verge.parking else 0.7) + rng.uniform(0, 0.3))
        if rng.chance(0.25):
            x = verge.kerb + verge.side * rng.uniform(1.0, 1.6)
        heading = (0.0 if verge.side > 0 else math.pi) + rng.normal(0, 0.06)
        self.things.append(self._two_wheeler("bicycle", x, rng.uniform(6.5, 38), heading))

    def _walker(self, x: float, z: float, heading: float, tall: float, *, child: bool = False) -> None:
        build = partial(people.walker, self.rng.seed(), child=child)
        self._add(build, Place(x, z, heading, scale=tall), 0.25, 0.22, 1.75 * tall)

    def walkers(self, verge: Verge) -> None:
        """Adds people on the pavement, some with company."""
        rng = self.rng
        low, high = sorted((verge.walk_inner + 0.4 * verge.side, verge.walk_outer - 0.3 * verge.side))
        for _ in range(rng.poisson(0.5 * self.city.walkers)):
            z, x = rng.uniform(6.0, 46.0), rng.uniform(low, high)
            heading = (0.0 if rng.chance(0.5) else math.pi) + rng.normal(0.0, 0.3)
            for companion in range(1 + rng.chance(0.3)):
                child = companion > 0 and rng.chance(0.4)
                tall = rng.uniform(0.62, 0.8) if child else rng.normal(0.985, 0.05)
                self._walker(x + 0.6 * companion, z + 0.15 * companion, heading, tall, child=child)

    def crossers(self) -> None:
        """Adds people who cross the road, and a vehicle that crosses it."""
        rng, street, crossing = self.rng, self.street, self.street.crossing
        walk = rng.uniform(10, 30) if crossing is None else crossing.z - crossing.half - 2.6
        for _ in range(int(rng.chance(0.2) if crossing is None else rng.integers(0, 4))):
            heading = math.copysign(math.pi / 2, rng.random() - 0.5) + rng.normal(0.0, 0.15)
            x, z = rng.uniform(street.left.kerb, street.right.kerb), walk + rng.uniform(-1.3, 1.3)
            self._walker(x, z, heading, rng.normal(0.985, 0.05))
        if crossing is not None and rng.chance(0.45):
            kind, sign = rng.pick((*CAR_KINDS, "lorry", "minibus")), 1 if rng.chance(0.5) else -1
            x, z = rng.uniform(-9, 9), crossing.z + 1.5 * sign
            self.things.append(self._vehicle(kind, x, z, sign * math.pi / 2, parked=False))
