"""Random numbers as a pure function of what they are for: Philox, a counter-based generator, keyed and positioned.

Only the generator's raw words are used: they are fixed by the algorithm, while numpy may change how it makes
distributions of them.
"""

import threading
from typing import Any

import numpy as np

ORDER_STREAM, AUGMENTATION_STREAM, OWN_TRANSFORM_STREAM = 1, 2, 3  # what the numbers are for: no two uses share numbers


def words(count: int, *, key: tuple[int, int], position: tuple[int, int], stream: int) -> np.ndarray:
    """Returns uint64 (count,), a function of key (0 <= each < 2**64), position (two numbers likewise) and stream."""
    return _generator.at(key, position, stream).random_raw(count)


def uniforms(count: int, *, key: tuple[int, int], position: tuple[int, int], stream: int) -> np.ndarray:
    """Returns float64 (count,) in [0, 1), with 53 random bits each."""
    return (words(count, key=key, position=position, stream=stream) >> np.uint64(11)) * 2.0**-53


def generator(*, key: tuple[int, int], position: tuple[int, int], stream: int) -> np.random.Generator:
    """Returns a generator for code that is not ours; its distributions are numpy's and may change with numpy."""
    return np.random.Generator(_Positioned().at(key, position, stream))


class _Positioned(threading.local):
    """A thread's own Philox that is set to a key and a position: making a new one asks the system for entropy."""

    def __init__(self) -> None:
        self._philox = np.random.Philox(key=0)
        self._state: Any = dict(self._philox.state)  # nothing buffered
        self._key, self._counter = np.zeros(2, np.uint64), np.zeros(4, np.uint64)
        self._state["state"] = {"key": self._key, "counter": self._counter}

    def at(self, key: tuple[int, int], position: tuple[int, int], stream: int) -> np.random.Philox:
        """Returns the generator, about to give the first number for these."""
        self._key[:] = key
        self._counter[1:] = (*position, stream)
        self._philox.state = self._state
        return self._philox


_generator = _Positioned()
