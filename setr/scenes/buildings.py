"""Houses along the street: walls with windows, doors and shops, seen in perspective, under a roof."""

from dataclasses import dataclass

import numpy as np

from setr.scenes.labels import BUILDING
from setr.scenes.shapes import (
    Colour,
    Paint,
    Shape,
    Texture,
    box_faces,
    generator,
    paint,
    panels,
    spread,
    tint,
)

GLASS = (44.0, 52.0, 62.0)
LIT = (255.0, 214.0, 140.0)
SHOP_LIT = (255.0, 226.0, 172.0)
SHOP_SIGNS = ((178, 40, 38), (28, 74, 130), (30, 104, 66), (214, 168, 40), (60, 52, 50), (206, 204, 198), (120, 44, 92))
SHOP_FRONTS = ((62, 60, 60), (92, 72, 54), (120, 118, 112), (48, 62, 58), (150, 140, 122))
AWNINGS = ((168, 44, 40), (46, 92, 66), (40, 66, 116), (200, 184, 150), (196, 130, 40))
DOORS = ((96, 62, 42), (52, 70, 58), (60, 66, 92), (120, 40, 40), (70, 66, 62))
TEXTURES = {  # tile pixels per metre, strength
    "brick": (100.0, 0.11),
    "stone": (60.0, 0.055),
    "stain": (14.0, 0.045),
    "panels": (24.0, 0.05),
    "planks": (60.0, 0.06),
}
NEAR_DETAIL, FAR_DETAIL = 45.0, 85.0  # metres: beyond these, small and then medium detail is left out


@dataclass(frozen=True)
class House:
    """One building, in metres: its frontage runs along z from the origin, its depth away from the road."""

    frontage: float
    depth: float
    floors: int
    floor_height: float
    side: int  # -1 left of the road, 1 right of it
    distance: float
    exposed: bool  # whether the wall that faces the camera stands free
    wall: Colour
    trim: Colour
    roof: Colour
    material: str  # a tile
    roof_kind: str  # flat | gable | mansard
    ground_floor: str  # shops | doors | blank
    window: tuple[float, float]  # width, height
    spacing: float  # from window to window
    style: str  # plain | framed | banded | curtain
    lamps: bool
    seed: int

    @property
    def eaves(self) -> float:
        """Returns the height of the walls in metres."""
        return self.floors * self.floor_height + 0.7


class _Wall:
    """Rectangles in metres on one wall, collected and added to the shape in one stroke."""

    def __init__(self, quad: np.ndarray) -> None:
        self.quad = quad
        self.width = float(np.linalg.norm(quad[1] - quad[0]))
        self.height = float(np.linalg.norm(quad[3] - quad[0]))
        self.rectangles: list[np.ndarray | list[list[float]]] = []
        self.paints: list[Colour | Paint | np.ndarray] = []
        self.glow: list[bool | np.ndarray] = []

    def add(
        self,
        rectangles: np.ndarray | list[list[float]],
        colour: Colour | Paint | np.ndarray,
        glow: bool | np.ndarray = False,
    ) -> None:
        """Adds rectangles (N,4) = left, right, bottom, top with one colour, or one each; glow one, or each (N,1)."""
        self.rectangles.append(rectangles)
        self.paints.append(colour)
        self.glow.append(glow)

    def finish(self, shape: Shape) -> None:
        """Adds everything collected to the shape."""
        numbers = [len(rectangles) for rectangles in self.rectangles]
        if sum(numbers):
            metres = np.concatenate([rectangles for rectangles in self.rectangles if len(rectangles)])
            shares = metres / np.array([self.width, self.width, self.height, self.height])
            glow = spread(self.glow, numbers, 1)
            shape.face(panels(self.quad, shares), spread(self.paints, numbers, 6), BUILDING, glow=glow)


def house(plan: House) -> Shape:
    """Returns the shape of a house."""
    rng = generator(plan.seed)
    shape = Shape()
    back = plan.side * plan.depth
    x0, x1 = min(0.0, back), max(0.0, back)
    faces = box_faces((x0, 0.0, 0.0), (x1, plan.eaves, plan.frontage))
    rear, street, top = faces[0], faces[3 if plan.side < 0 else 2], faces[4]
    bare = rng.random() < 0.3
    if plan.roof_kind == "flat":
        shape.face(top, plan.roof, BUILDING)
    else:
        _pitched_roof(shape, plan, rng, x0, x1)
    shape.face(np.stack([rear, street]), plan.wall, BUILDING)
    if plan.distance < FAR_DETAIL:
        pitch, strength = TEXTURES[plan.material]
        walls = (rear, street) if plan.exposed else (street,)
        shape.parts += [Texture(wall, plan.material, pitch, strength, float(plan.seed % 97)) for wall in walls]
    if plan.distance < NEAR_DETAIL and plan.material != "stain":
        shape.parts.append(Texture(street, "stain", 7.0, 0.04, float(plan.seed % 89)))
    if plan.exposed and not bare:
        side_wall = _Wall(rear)
        _upper_floors(side_wall, plan, rng, first=0, door=None)
        side_wall.finish(shape)
    front = _Wall(street)
    door = None
    if plan.ground_floor == "doors":
        door = rng.uniform(0.15, 0.85) * front.width
    _upper_floors(front, plan, rng, first=0 if door is not None else 1, door=door)
    if plan.ground_floor == "shops":
        awnings = _shops(front, plan, rng)
        front.finish(shape)
        for strip in awnings:
            _awning(shape, strip, rng)
        return shape
    if door is not None:
        _door(front, plan, door, rng)
    else:
        front.add([[0.0, front.width, 0.0, 0.9]], tint(plan.wall, 0.8))
        front.add([[0.12 * front.width, 0.88 * front.width, 1.2, 2.5]], paint(GLASS, sky=0.2))
    front.finish(shape)
    return shape


def _upper_floors(wall: _Wall, plan: House, rng: np.random.Generator, *, first: int, door: float | None) -> None:
    """Collects bands and windows from floor `first` upwards, leaving room for a door."""
    columns = max(1, int((wall.width - 0.8) / plan.spacing))
    pitch = wall.width / columns
    half = min(plan.window[0], 0.8 * pitch) / 2
    centres = (np.arange(columns) + 0.5) * pitch
    bottoms = np.arange(first, plan.floors) * plan.floor_height + 0.95
    u, v = (grid.ravel() for grid in np.meshgrid(centres, bottoms))
    if door is not None:
        keep = (v > 1.5) | (np.abs(u - door) > half + 0.9)
        u, v = u[keep], v[keep]
    if plan.style in ("banded", "framed") and plan.distance < FAR_DETAIL:
        levels = np.arange(1, plan.floors + 1) * plan.floor_height
        full = np.full_like(levels, wall.width)
        wall.add(np.stack([0 * levels, full, levels - 0.02, levels + 0.16], axis=1), tint(plan.trim, 0.94))
        wall.add([[0.0, wall.width, plan.eaves - 0.45, plan.eaves]], plan.trim)
    if len(u):
        _windows(wall, plan, np.stack([u - half, u + half, v, v + plan.window[1]], axis=1), rng)


def _windows(wall: _Wall, plan: House, panes: np.ndarray, rng: np.random.Generator) -> None:
    number = len(panes)
    left, right, bottom, top = panes.T
    random = rng.random((number, 5))
    framed = plan.style != "curtain"
    if framed and plan.distance < FAR_DETAIL:
        wall.add(panes + np.array([-0.13, 0.13, -0.13, 0.13]), plan.trim)
    glass = np.zeros((number, 6))
    mirrored = random[:, 0] * (0.85 if plan.style == "curtain" else 0.55)
    glass[:, :3] = np.array(GLASS) * (0.5 + 0.7 * random[:, 1:2]) * (1 - mirrored[:, None])
    glass[:, 5] = mirrored
    lit = (random[:, 2] < 0.42) & plan.lamps
    glass[lit, :3] = np.array(LIT) * (0.6 + 0.4 * random[lit, 1:2])
    glass[lit, 5] = 0.0
    wall.add(panes, glass, lit[:, None])
    if plan.distance > FAR_DETAIL:
        return
    curtained = ~lit & (random[:, 3] < 0.45)
    drop = (0.25 + 0.5 * random[:, 4]) * (top - bottom)
    pale = np.array([198.0, 192.0, 180.0]) * (0.6 + 0.4 * random[:, 1:2])
    wall.add(np.stack([left, right, top - drop, top], 1)[curtained], pale[curtained])
    if plan.distance > NEAR_DETAIL:
        return
    wall.add(np.stack([left, right, top - 0.12, top], 1), (36.0, 38.0, 44.0))
    middle = 0.5 * (left + right)
    wall.add(np.stack([middle - 0.035, middle + 0.035, bottom, top], 1), tint(plan.trim, 0.92))
    if framed:
        sills = np.stack([left - 0.2, right + 0.2, bottom - 0.22, bottom - 0.1], 1)
        wall.add(sills, tint(plan.trim, 1.08))
        wall.add(sills - np.array([0, 0, 0.12, 0.1]), tint(plan.wall, 0.72))
    if plan.style == "framed" and rng.random() < 0.4:
        rails = np.stack([left - 0.3, right + 0.3, bottom - 0.2, bottom + 0.55], 1)
        wall.add(rails[rng.random(number) < 0.5], (66.0, 68.0, 72.0))


def _shops(wall: _Wall, plan: House, rng: np.random.Generator) -> list[np.ndarray]:
    """Collects shop fronts; return the strips (4,3) that awnings hang from."""
    units = max(1, round(wall.width / 6.0))
    pitch = wall.width / units
    strips = []
    for unit in range(units):
        left, right = unit * pitch + 0.25, (unit + 1) * pitch - 0.25
        wall.add([[left - 0.15, right + 0.15, 0.0, 3.3]], SHOP_FRONTS[rng.integers(len(SHOP_FRONTS))])
        number = int(rng.integers(2, 5))
        edges = np.linspace(left, right, number + 1)
        low = np.full(number, 0.4)
        low[rng.integers(number)] = 0.04
        glass = np.stack([edges[:-1] + 0.06, edges[1:] - 0.06, low, np.full(number, 2.5)], 1)
        lit = bool(plan.lamps and rng.random() < 0.7)
        tone = rng.uniform(0.75, 1.0, (number, 1))
        shown = np.tile(paint((58.0, 60.0, 62.0), sky=0.16), (number, 1)) * (2 * tone - 0.75)
        wall.add(glass, np.array(SHOP_LIT) * tone if lit else shown, lit)
        sign = SHOP_SIGNS[rng.integers(len(SHOP_SIGNS))]
        wall.add([[left, right, 2.62, 3.2]], sign, lit)
        if plan.distance > NEAR_DETAIL:
            continue
        goods = glass + np.array([0.1, -0.1, 0.05, 0.0])
        goods[:, 3] = goods[:, 2] + rng.uniform(0.3, 1.1, number)
        wall.add(goods, rng.uniform(50, 150, (number, 1)) + rng.normal(0, 16, (number, 3)).clip(-40, 40))
        start = left + rng.uniform(0.3, 0.9)
        letters = np.arange(start, min(right - 0.4, start + rng.uniform(1.8, 4.0)), 0.38)
        text = np.stack(
            [letters, letters + 0.24, 0 * letters + 2.76, 0 * letters + rng.uniform(2.98, 3.1, len(letters))], 1
        )
        wall.add(text, (240.0, 238.0, 230.0) if sum(sign) < 420 else (50.0, 46.0, 46.0))
        if rng.random() < 0.35:
            share = np.array([[left / wall.width, right / wall.width, 2.2 / wall.height, 2.65 / wall.height]])
            strips.append(panels(wall.quad, share)[0])
    return strips


def _awning(shape: Shape, strip: np.ndarray, rng: np.random.Generator) -> None:
    outward = -np.cross(strip[1] - strip[0], strip[3] - strip[0])
    outward *= 1.3 / np.linalg.norm(outward)
    cloth = np.array([strip[0] + outward, strip[1] + outward, strip[2], strip[3]])
    colour = AWNINGS[rng.integers(len(AWNINGS))]
    shape.face(cloth, colour, BUILDING, two_sided=True)
    edges = np.linspace(0, 1, 13)
    stripes = np.stack([edges[:-1:2], edges[1::2], np.zeros(6), np.ones(6)], 1)
    if rng.random() < 0.5:
        shape.face(panels(cloth, stripes), (226.0, 220.0, 208.0), BUILDING, two_sided=True)
    valance = cloth[[0, 1, 1, 0]]
    valance[:2, 1] -= 0.25
    shape.face(valance, tint(colour, 0.9), BUILDING, two_sided=True)


def _door(wall: _Wall, plan: House, centre: float, rng: np.random.Generator) -> None:
    wall.add([[0.0, wall.width, 0.0, 0.45]], tint(plan.wall, 0.78))
    wall.add([[centre - 0.75, centre + 0.75, 0.0, 2.55]], plan.trim)
    wall.add([[centre - 0.55, centre + 0.55, 0.1, 2.1]], DOORS[rng.integers(len(DOORS))])
    wall.add([[centre - 0.55, centre + 0.55, 2.15, 2.42]], paint(GLASS, sky=0.2))
    wall.add([[centre - 0.3, centre + 0.3, 1.3, 1.9]], paint(GLASS, sky=0.1))


def _pitched_roof(shape: Shape, plan: House, rng: np.random.Generator, x0: float, x1: float) -> None:
    eaves, length = plan.eaves, plan.frontage
    steep = 0.95 if plan.roof_kind == "mansard" else 0.6
    middle, ridge = 0.5 * (x0 + x1), eaves + steep * 0.5 * min(abs(x1 - x0), 11.0)
    out = 0.35
    left = np.array([(x0 - out, eaves, length), (x0 - out, eaves, 0), (middle, ridge, 0), (middle, ridge, length)])
    right = np.array([(x1 + out, eaves, 0), (x1 + out, eaves, length), (middle, ridge, length), (middle, ridge, 0)])
    gable = np.array([(x0, eaves, 0), (x1, eaves, 0), (middle, ridge, 0)])
    for _ in range(int(rng.integers(1, 3))):
        at, wide = rng.uniform(0.1, 0.9) * length, rng.uniform(0.3, 0.5)
        low = (middle - wide, ridge - 0.8, at - wide)
        shape.box(low, (middle + wide, ridge + rng.uniform(0.7, 1.4), at + wide), tint(plan.wall, 0.75), BUILDING)
    shape.face(np.stack([left, right]), plan.roof, BUILDING)
    shape.face(gable, tint(plan.wall, 0.97), BUILDING)
    street = right if plan.side < 0 else left
    if plan.distance < FAR_DETAIL:
        shape.parts.append(Texture(street, "brick", 60.0, 0.06, 3.0))
        shape.face(panels(street, np.array([[0.0, 1.0, 0.0, 0.05]])), tint(plan.trim, 0.75), BUILDING)
    if plan.roof_kind == "mansard" or rng.random() < 0.3:
        number = max(1, int(length / 3.5))
        middles = (np.arange(number) + 0.5) / number
        frames = np.stack(
            [middles - 0.8 / length, middles + 0.8 / length, np.full(number, 0.12), np.full(number, 0.5)], 1
        )
        shape.face(panels(street, frames), plan.trim, BUILDING)
        inset = np.array([0.25 / length, -0.25 / length, 0.05, -0.05])
        shape.face(panels(street, frames + inset), paint(GLASS, sky=0.25), BUILDING)
