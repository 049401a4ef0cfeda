"""Random numbers are a pure function of what they are for, in any thread and any order, and no two uses share them."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from setr.data.loading.random_streams import (
    AUGMENTATION_STREAM,
    ORDER_STREAM,
    OWN_TRANSFORM_STREAM,
    generator,
    uniforms,
    words,
)

PLACE = {"key": (7, 3), "position": (11, 5), "stream": ORDER_STREAM}


def test_the_numbers_are_those_of_philox_at_the_position() -> None:
    philox = np.random.Philox(key=np.array((7, 3), np.uint64), counter=np.array((0, 11, 5, ORDER_STREAM), np.uint64))
    assert words(9, **PLACE).tolist() == philox.random_raw(9).tolist()


def test_asking_for_other_numbers_in_between_changes_nothing() -> None:
    first = words(5, **PLACE).tolist()
    words(3, key=(1, 1), position=(0, 0), stream=AUGMENTATION_STREAM)
    assert words(5, **PLACE).tolist() == first
    assert words(2, **PLACE).tolist() == first[:2], "what is left of an earlier draw is not given"


@pytest.mark.parametrize(
    "other",
    [
        *({"key": (8, 3)}, {"key": (7, 4)}, {"position": (12, 5)}, {"position": (11, 6)}),
        *({"stream": AUGMENTATION_STREAM}, {"stream": OWN_TRANSFORM_STREAM}),
    ],
)
def test_everything_that_they_are_for_makes_others(other: dict) -> None:
    assert not set(words(64, **PLACE).tolist()) & set(words(64, **{**PLACE, **other}).tolist())


def test_uniforms_have_53_bits_and_stay_below_one() -> None:
    raw = words(1000, **PLACE)
    found = uniforms(1000, **PLACE)
    assert found.tolist() == [(word >> 11) / 2**53 for word in raw.tolist()]
    assert found.min() >= 0
    assert found.max() < 1
    assert abs(found.mean() - 0.5) < 0.05


def test_threads_do_not_disturb_one_another() -> None:
    expected = {place: words(50, key=(place, 0), position=(0, place), stream=1).tolist() for place in range(8)}

    def draw(place: int) -> bool:
        return all(
            words(50, key=(place, 0), position=(0, place), stream=1).tolist() == expected[place] for _ in range(50)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(draw, range(8)))


def test_a_generator_of_ones_own_is_not_moved_by_other_draws() -> None:
    place = {"key": (1, 2), "position": (3, 4), "stream": OWN_TRANSFORM_STREAM}
    whole = generator(**place).random(6).tolist()
    mine = generator(**place)
    begun = mine.random(3).tolist()
    words(5, **PLACE)
    generator(**{**place, "position": (9, 9)}).random(3)
    assert begun + mine.random(3).tolist() == whole
