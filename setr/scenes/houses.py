"""Houses along the street: walls with windows, doors and shops, seen in perspective, under a roof."""

import numpy as np
from numpy.typing import ArrayLike

from setr.scenes.cities import City
from setr.scenes.labels import BUILDING
from setr.scenes.shapes import Dice, Shape, Texture, box_faces, columns, paint, panels, tint

GLASS, LIT, SHOP_LIT = (44.0, 52.0, 62.0), (255.0, 214.0, 140.0), (255.0, 226.0, 172.0)
SHOP_SIGNS = ((178, 40, 38), (28, 74, 130), (30, 104, 66), (214, 168, 40), (60, 52, 50), (206, 204, 198), (120, 44, 92))
SHOP_FRONTS = ((62, 60, 60), (92, 72, 54), (120, 118, 112), (48, 62, 58), (150, 140, 122))
AWNINGS = ((168, 44, 40), (46, 92, 66), (40, 66, 116), (200, 184, 150), (196, 130, 40))
DOORS = ((96, 62, 42), (52, 70, 58), (60, 66, 92), (120, 40, 40), (70, 66, 62))
TEXTURES = {  # tile pixels per metre, strength
    "brick": (100.0, 0.11), "stone": (60.0, 0.055), "stain": (14.0, 0.045), "panels": (24.0, 0.05),
    "planks": (60.0, 0.06),
}  # fmt: skip
NEAR_DETAIL, FAR_DETAIL = 45.0, 85.0  # metres: beyond these, small and then medium detail is left out


class House:
    """One building in a city's style, in metres: its frontage runs along z from the origin, its depth from the road.

    An exposed house has no neighbour against the wall that faces the camera.
    """

    def __init__(
        self, city: City, rng: Dice, side: int, z: float, frontage: float, *, corner: bool, exposed: bool, lamps: bool
    ) -> None:
        self.side, self.distance, self.frontage = side, z, frontage
        self.exposed, self.lamps = exposed, lamps
        self.depth = 12.0 if corner else rng.uniform(9.0, 14.0)
        self.floors = int(rng.integers(city.floors[0], city.floors[1] + 1))
        self.floor_height = rng.uniform(2.8, 3.5)
        self.wall, self.trim, self.roof = (
            rng.vary(city.walls, 9.0),
            rng.vary(city.trims, 5.0),
            rng.vary(city.roofs, 7.0),
        )
        self.material, self.roof_kind = rng.pick(city.materials), rng.pick(city.roof_kinds)
        self.ground_floor = rng.pick(city.ground_floors)
        self.window = city.window[0] * rng.uniform(0.85, 1.2), city.window[1] * rng.uniform(0.88, 1.08)
        self.spacing, self.style = city.spacing * rng.uniform(0.85, 1.25), rng.pick(city.styles)
        self.seed = rng.seed()
        self.eaves = self.floors * self.floor_height + 0.7  # height of the walls


class _Wall:
    """One wall of a house, to which rectangles in metres are added."""

    def __init__(self, shape: Shape, plan: House, quad: np.ndarray) -> None:
        self.shape, self.plan, self.quad = shape, plan, quad
        self.width, height = (float(np.linalg.norm(quad[corner] - quad[0])) for corner in (1, 3))
        self.metres = np.array([self.width, self.width, height, height])

    def add(self, rectangles: ArrayLike, paints: ArrayLike) -> None:
        """Adds rectangles (N,4) or (4,) = left, right, bottom, top with one paint, or one each."""
        self.shape.panel(self.quad, rectangles / self.metres, paints)


def house(plan: House) -> Shape:
    """Returns the shape of a house."""
    shape, rng = Shape(BUILDING), Dice(plan.seed)
    x0, x1 = sorted((0.0, plan.side * plan.depth))
    faces = box_faces((x0, 0.0, 0.0), (x1, plan.eaves, plan.frontage))
    rear, street = faces[0], faces[3 if plan.side < 0 else 2]
    bare = rng.chance(0.3)
    if plan.roof_kind != "flat":
        _pitched_roof(shape, plan, rng, x0, x1)
    shape.face(np.stack([rear, street]), plan.wall)
    if plan.distance < FAR_DETAIL:
        walls = (rear, street) if plan.exposed else (street,)
        shape.parts += [Texture(wall, plan.material, *TEXTURES[plan.material], plan.seed % 97) for wall in walls]
    if plan.distance < NEAR_DETAIL and plan.material != "stain":
        shape.parts.append(Texture(street, "stain", 7.0, 0.04, plan.seed % 89))
    if plan.exposed and not bare:
        _upper_floors(_Wall(shape, plan, rear), rng, first=0, door=None)
    front = _Wall(shape, plan, street)
    door = rng.uniform(0.15, 0.85) * front.width if plan.ground_floor == "doors" else None
    _upper_floors(front, rng, first=1 if door is None else 0, door=door)
    if plan.ground_floor == "shops":
        _shops(front, rng)
    elif door is not None:
        _door(front, door, rng)
    else:
        front.add([0.0, front.width, 0.0, 0.9], tint(plan.wall, 0.8))
        front.add([0.12 * front.width, 0.88 * front.width, 1.2, 2.5], paint(GLASS, sky=0.2))
    return shape


def _upper_floors(wall: _Wall, rng: Dice, *, first: int, door: float | None) -> None:
    """Adds bands and windows from floor `first` upwards, leaving room for a door."""
    plan = wall.plan
    number = max(1, int((wall.width - 0.8) / plan.spacing))
    pitch = wall.width / number
    half = min(plan.window[0], 0.8 * pitch) / 2
    bottoms = np.arange(first, plan.floors) * plan.floor_height + 0.95
    u, v = (grid.ravel() for grid in np.meshgrid((np.arange(number) + 0.5) * pitch, bottoms))
    if door is not None:
        keep = (v > 1.5) | (np.abs(u - door) > half + 0.9)
        u, v = u[keep], v[keep]
    if plan.style in ("banded", "framed") and plan.distance < FAR_DETAIL:
        levels = np.arange(1, plan.floors + 1) * plan.floor_height
        wall.add(columns(0, wall.width, levels - 0.02, levels + 0.16), tint(plan.trim, 0.94))
        wall.add([0.0, wall.width, plan.eaves - 0.45, plan.eaves], plan.trim)
    if len(u):
        _windows(wall, columns(u - half, u + half, v, v + plan.window[1]), rng)


def _windows(wall: _Wall, panes: np.ndarray, rng: Dice) -> None:
    plan, number = wall.plan, len(panes)
    left, right, bottom, top = panes.T
    random = rng.random((number, 5))
    framed = plan.style != "curtain"
    if framed and plan.distance < FAR_DETAIL:
        wall.add(panes + np.array([-0.13, 0.13, -0.13, 0.13]), plan.trim)
    mirrored = random[:, 0] * (0.55 if framed else 0.85)
    lit = (random[:, 2] < 0.42) & plan.lamps
    glass = np.zeros((number, 7))
    glass[:, :3] = np.array(GLASS) * (0.5 + 0.7 * random[:, 1:2]) * (1 - mirrored[:, None])
    glass[lit, :3] = np.array(LIT) * (0.6 + 0.4 * random[lit, 1:2])
    glass[:, 5], glass[:, 6] = np.where(lit, 0.0, mirrored), lit
    wall.add(panes, glass)
    if plan.distance > FAR_DETAIL:
        return
    curtained = ~lit & (random[:, 3] < 0.45)
    drop = (0.25 + 0.5 * random[:, 4]) * (top - bottom)
    pale = np.array([198.0, 192.0, 180.0]) * (0.6 + 0.4 * random[:, 1:2])
    wall.add(columns(left, right, top - drop, top)[curtained], pale[curtained])
    if plan.distance > NEAR_DETAIL:
        return
    middle = 0.5 * (left + right)
    wall.add(columns(left, right, top - 0.12, top), (36, 38, 44))
    wall.add(columns(middle - 0.035, middle + 0.035, bottom, top), tint(plan.trim, 0.92))
    if framed:
        wall.add(columns(left - 0.2, right + 0.2, bottom - 0.22, bottom - 0.1), tint(plan.trim, 1.08))
        wall.add(columns(left - 0.2, right + 0.2, bottom - 0.34, bottom - 0.2), tint(plan.wall, 0.72))
    if plan.style == "framed" and rng.chance(0.4):
        rails = columns(left - 0.3, right + 0.3, bottom - 0.2, bottom + 0.55)
        wall.add(rails[rng.random(number) < 0.5], (66, 68, 72))


def _shops(wall: _Wall, rng: Dice) -> None:
    """Adds shop fronts, then the awnings that hang over some."""
    plan, units, awnings = wall.plan, max(1, round(wall.width / 6.0)), []
    pitch = wall.width / units
    for unit in range(units):
        left, right = unit * pitch + 0.25, (unit + 1) * pitch - 0.25
        wall.add([left - 0.15, right + 0.15, 0.0, 3.3], rng.pick(SHOP_FRONTS))
        number = int(rng.integers(2, 5))
        edges, low = np.linspace(left, right, number + 1), np.full(number, 0.4)
        low[rng.integers(number)] = 0.04
        glass = columns(edges[:-1] + 0.06, edges[1:] - 0.06, low, 2.5)
        lit = plan.lamps and rng.chance(0.7)
        tone = rng.uniform(0.75, 1.0, (number, 1))
        panes = np.tile(paint(SHOP_LIT) if lit else paint((58, 60, 62), sky=0.16), (number, 1))
        panes *= tone if lit else 2 * tone - 0.75
        panes[:, 6] = lit
        wall.add(glass, panes)
        name = rng.pick(SHOP_SIGNS)
        wall.add([left, right, 2.62, 3.2], paint(name, glow=lit))
        if plan.distance > NEAR_DETAIL:
            continue
        goods = glass + np.array([0.1, -0.1, 0.05, 0.0])
        goods[:, 3] = goods[:, 2] + rng.uniform(0.3, 1.1, number)
        wall.add(goods, rng.uniform(50, 150, (number, 1)) + rng.normal(0, 16, (number, 3)).clip(-40, 40))
        start = left + rng.uniform(0.3, 0.9)
        letters = np.arange(start, min(right - 0.4, start + rng.uniform(1.8, 4.0)), 0.38)
        text = columns(letters, letters + 0.24, 2.76, rng.uniform(2.98, 3.1, len(letters)))
        wall.add(text, (240, 238, 230) if sum(name) < 420 else (50, 46, 46))
        if rng.chance(0.35):
            awnings.append((left, right))
    for left, right in awnings:
        _awning(wall, left, right, rng)


def _awning(wall: _Wall, left: float, right: float, rng: Dice) -> None:
    shape, colour, edges = wall.shape, rng.pick(AWNINGS), np.linspace(0, 1, 13)
    cloth = panels(wall.quad, np.array([left, right, 2.2, 2.65]) / wall.metres)[0]
    cloth[:2, 0] -= 1.3 * wall.plan.side
    shape.face(cloth, colour, two_sided=True)
    if rng.chance(0.5):
        shape.panel(cloth, columns(edges[:-1:2], edges[1::2], 0, 1), (226, 220, 208), two_sided=True)
    valance = cloth[[0, 1, 1, 0]]
    valance[:2, 1] -= 0.25
    shape.face(valance, tint(colour, 0.9), two_sided=True)


def _door(wall: _Wall, centre: float, rng: Dice) -> None:
    wall.add([0.0, wall.width, 0.0, 0.45], tint(wall.plan.wall, 0.78))
    wall.add([centre - 0.75, centre + 0.75, 0.0, 2.55], wall.plan.trim)
    wall.add([centre - 0.55, centre + 0.55, 0.1, 2.1], rng.pick(DOORS))
    wall.add([centre - 0.55, centre + 0.55, 2.15, 2.42], paint(GLASS, sky=0.2))
    wall.add([centre - 0.3, centre + 0.3, 1.3, 1.9], paint(GLASS, sky=0.1))


def _pitched_roof(shape: Shape, plan: House, rng: Dice, x0: float, x1: float) -> None:
    eaves, length, out = plan.eaves, plan.frontage, 0.35
    steep = 0.95 if plan.roof_kind == "mansard" else 0.6
    middle, ridge = 0.5 * (x0 + x1), eaves + steep * 0.5 * min(abs(x1 - x0), 11.0)
    left = np.array([(x0 - out, eaves, length), (x0 - out, eaves, 0), (middle, ridge, 0), (middle, ridge, length)])
    right = np.array([(x1 + out, eaves, 0), (x1 + out, eaves, length), (middle, ridge, length), (middle, ridge, 0)])
    for _ in range(int(rng.integers(1, 3))):
        at, wide = rng.uniform(0.1, 0.9) * length, rng.uniform(0.3, 0.5)
        top = (middle + wide, ridge + rng.uniform(0.7, 1.4), at + wide)
        shape.box((middle - wide, ridge - 0.8, at - wide), top, tint(plan.wall, 0.75))
    shape.face(np.stack([left, right]), plan.roof)
    shape.face(np.array([(x0, eaves, 0), (x1, eaves, 0), (middle, ridge, 0)]), tint(plan.wall, 0.97))
    street = right if plan.side < 0 else left
    if plan.distance < FAR_DETAIL:
        shape.parts.append(Texture(street, "brick", 60.0, 0.06, 3.0))
        shape.panel(street, [0.0, 1.0, 0.0, 0.05], tint(plan.trim, 0.75))
    if plan.roof_kind == "mansard" or rng.chance(0.3):
        number = max(1, int(length / 3.5))
        middles = (np.arange(number) + 0.5) / number
        frames = columns(middles - 0.8 / length, middles + 0.8 / length, 0.12, 0.5)
        shape.panel(street, frames, plan.trim)
        shape.panel(street, frames + np.array([0.25 / length, -0.25 / length, 0.05, -0.05]), paint(GLASS, sky=0.25))
