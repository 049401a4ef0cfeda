"""Random numbers as a pure function of what they are for: Philox, a counter-based generator, keyed and positioned.

Only the generator's raw words are used: they are fixed by the algorithm, while numpy may change how it makes
distributions of them.
"""

import numpy as np

ORDER_STREAM, AUGMENTATION_STREAM, OWN_TRANSFORM_STREAM = 1, 2, 3  # what the numbers are for: no two uses share numbers


def words(count: int, *, key: tuple[int, int], position: tuple[int, int], stream: int) -> np.ndarray:
    """Returns uint64 (count,), a function of key (0 <= each < 2**64), position (two numbers likewise) and stream."""
    return _philox(key, position, stream).random_raw(count)


def uniforms(count: int, *, key: tuple[int, int], position: tuple[int, int], stream: int) -> np.ndarray:
    """Returns float64 (count,) in [0, 1), with 53 random bits each."""
    return (words(count, key=key, position=position, stream=stream) >> np.uint64(11)) * 2.0**-53


def generator(*, key: tuple[int, int], position: tuple[int, int], stream: int) -> np.random.Generator:
    """Returns a generator for code that is not ours; its distributions are numpy's and may change with numpy."""
    return np.random.Generator(_philox(key, position, stream))


def _philox(key: tuple[int, int], position: tuple[int, int], stream: int) -> np.random.Philox:
    counter = np.array([0, position[0], position[1], stream], dtype=np.uint64)
    return np.random.Philox(key=np.array(key, dtype=np.uint64), counter=counter)
