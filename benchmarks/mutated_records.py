"""Seeded damage to records, for tests: what a cut, a flipped byte, another program or a stranger makes of one."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

DEEP = "[" * 100_000
WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    0.5,
    10**400,
    2**70,
    float("nan"),
    float("inf"),
    "",
    "..",
    "../../../etc/passwd",
    "/dev/zero",
    "\x1b[31mred\x07",
    "half of a pair: \ud800",
    "<script>alert(1)</script>",
    "x" * 50_000,
    [],
    [1],
    [None, "a", {}],
    {},
    {"a": 1},
    [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]],
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the path of every value in a record; of long lists the first entries."""
    yield path
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from places(entry, (*path, name))
    elif isinstance(value, list):
        for index, entry in enumerate(value[:3]):
            yield from places(entry, (*path, index))


def changed(record: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Returns a copy of a record with another value at one place."""
    if not path:
        return value
    made = copy.deepcopy(record)
    target = made
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    return made


def mutated(record: Any, chance: random.Random) -> tuple[bytes, str]:
    """Returns the bytes of a record's file with one fault in it, and what the fault is, in words."""
    data = json.dumps(record).encode()
    kind = chance.choice(("cut", "flip", "empty", "deep", *("value",) * 12, *("gone",) * 4))
    if kind == "cut":
        place = chance.randrange(len(data))
        return data[:place], f"cut at {place}"
    if kind == "flip":
        place = chance.randrange(len(data))
        return data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :], f"flip at {place}"
    if kind in ("empty", "deep"):
        return b"" if kind == "empty" else DEEP.encode(), kind
    path = chance.choice(list(places(record)))
    if kind == "gone" and path and isinstance(path[-1], str):
        made = copy.deepcopy(record)
        target = made
        for step in path[:-1]:
            target = target[step]
        del target[path[-1]]
        return json.dumps(made).encode(), f"no {path}"
    value = chance.choice(WRONG)
    return json.dumps(changed(record, path, value)).encode(), f"{path} = {value!r:.60}"
