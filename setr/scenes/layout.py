"""Everything that stands in one scene."""

import numpy as np

from setr.scenes import plants, roadside, traffic
from setr.scenes.cities import City
from setr.scenes.light import Light
from setr.scenes.street import Street
from setr.scenes.thing import Thing


def furnish(city: City, street: Street, light: Light, rng: np.random.Generator) -> list[Thing]:
    """Returns everything that stands in the street, in no particular order."""
    things: list[Thing] = []
    foliage = plants.AUTUMN if rng.random() < city.autumn else plants.SUMMER
    for verge in (street.left, street.right):
        things += roadside.houses(city, street, verge, light, foliage, rng)
        things += roadside.trees(city, street, verge, foliage, rng)
        things += roadside.lamps(street, verge, light, rng)
        things += roadside.signs(street, verge, rng)
        things += traffic.parked(street, verge, light, rng)
        things += roadside.clutter(street, verge, rng)
        things += traffic.walkers(city, verge, rng)
    things += roadside.traffic_lights(street, rng)
    things += traffic.traffic(city, street, light, rng)
    things += traffic.crossers(street, light, rng)
    return things
