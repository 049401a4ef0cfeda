"""Something in its place, and the random choices that things are made from."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from setr.scenes.shapes import Colour, Shape
from setr.scenes.strokes import Place

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Thing:
    """Something in its place, built when it is painted; lengths in metres.

    `far` orders the painting. The half width and half length are of the box it stands in; a house's box starts at its
    place, runs `half_length * 2` along the street and lies behind its frontage on the side of `side`.
    """

    build: Callable[[], Shape]
    place: Place
    far: float
    half_width: float
    half_length: float
    height: float
    side: int = 0  # not 0: a house on that side of the road

    @cached_property
    def footprint(self) -> np.ndarray:
        """Returns the corners (4,3) on the ground in the world."""
        across, along = self.half_width, self.half_length
        if self.side:
            box = [(0.0, 0.0), (2 * across * self.side, 0.0), (2 * across * self.side, 2 * along), (0.0, 2 * along)]
        else:
            box = [(-across, -along), (across, -along), (across, along), (-across, along)]
        x, z = self.place.x, self.place.z
        cosine, sine = math.cos(self.place.heading), math.sin(self.place.heading)
        corners = [(x + cosine * u + sine * v, 0.0, z - sine * u + cosine * v) for u, v in box]
        return np.array(corners)


def pick(rng: np.random.Generator, choices: Sequence[Choice]) -> Choice:
    """Returns one of the choices; one that is listed twice comes twice as often."""
    return choices[int(rng.integers(len(choices)))]


def new_seed(rng: np.random.Generator) -> int:
    """Returns a seed for the details of one thing."""
    return int(rng.integers(1 << 31))


def vary(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    """Returns a colour made a little lighter or darker, and a little different in hue."""
    common, *each = rng.normal(0.0, spread, 4).tolist()
    red, green, blue = (min(max(c + common + 0.35 * own, 4.0), 250.0) for c, own in zip(colour, each, strict=True))
    return red, green, blue
