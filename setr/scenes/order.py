"""Which things the camera can see, and the order in which to paint them."""

import heapq
from collections.abc import Iterator

import numpy as np

from setr.scenes.camera import NEAR, Camera
from setr.scenes.thing import Thing

LONG = 1.2  # metres: half a length from which other things may stand beside a thing instead of before or behind it


def visible(things: list[Thing], camera: Camera) -> list[Thing]:
    """Returns the things whose box is at least partly inside the camera's view to the left and right."""
    corners = camera.view(np.concatenate([thing.footprint for thing in things])).reshape(-1, 4, 3)
    x, z = corners[..., 0], corners[..., 2]
    beyond_left = (camera.focal * x + camera.centre * z < 0).all(axis=1)
    beyond_right = (camera.focal * x > (camera.width - camera.centre) * z).all(axis=1)
    behind = (z < NEAR).all(axis=1)
    hidden: list[bool] = np.any([beyond_left, beyond_right, behind], axis=0).tolist()
    return [thing for thing, unseen in zip(things, hidden, strict=True) if not unseen]


def far_to_near(things: list[Thing], camera: Camera) -> list[Thing]:
    """Returns the things in painting order.

    Distance decides, except beside long vehicles: what the vehicle hides from the eye is painted before it, what
    stands between it and the eye after it.
    """
    later: list[list[int]] = [[] for _ in things]  # what may only be painted after a thing
    waits = [0] * len(things)
    for first, second in _constraints(things, camera):
        later[first].append(second)
        waits[second] += 1
    ready = [(-thing.far, index) for index, thing in enumerate(things) if waits[index] == 0]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        _, index = heapq.heappop(ready)
        order.append(index)
        for other in later[index]:
            waits[other] -= 1
            if waits[other] == 0:
                heapq.heappush(ready, (-things[other].far, other))
    if len(order) < len(things):  # two things that each want to be first: distance decides after all
        painted = set(order)
        order += sorted(set(range(len(things))) - painted, key=lambda index: -things[index].far)
    return [things[index] for index in order]


def _constraints(things: list[Thing], camera: Camera) -> Iterator[tuple[int, int]]:
    """Yields pairs of indices: the first thing has to be painted before the second."""
    x = np.array([thing.place.x for thing in things])
    z = np.array([thing.place.z for thing in things])
    movable = np.array([thing.side == 0 for thing in things])
    for index, thing in enumerate(things):
        if thing.side or max(thing.half_length, thing.half_width) < LONG or not 1.2 < thing.height < 4.5:
            continue
        (left, _, near), (right, _, back) = thing.footprint.min(axis=0), thing.footprint.max(axis=0)
        beside = movable & (z > near) & (z < back)
        beside[index] = False
        entering = camera.offset + (x - camera.offset) * max(near, NEAR) / np.maximum(z, NEAR)
        hidden = (np.minimum(entering, x) < right) & (np.maximum(entering, x) > left)
        outward = np.sign(thing.place.x - camera.offset)
        between = ~hidden & (outward * (thing.place.x - x) > 0) & (outward * (x - camera.offset) > 0)
        yield from ((other, index) for other in np.flatnonzero(beside & hidden).tolist())
        yield from ((index, other) for other in np.flatnonzero(beside & between).tolist())
