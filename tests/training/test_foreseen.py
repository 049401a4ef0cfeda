"""What is known of a training beforehand is compared with its trace: the first difference is named with its step."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from setr.record.files import TRACE
from setr.record.trace import Trace, read_trace
from setr.settings.run import RunSettings
from setr.training.computation import Computation
from setr.training.distributed import Context
from setr.training.foreseen import foreseen_difference
from tests.helpers.tiny_training import TinyShards, run, tiny_experiment, tiny_model


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    folder: Path = tmp_path_factory.mktemp("foreseen")
    run(folder)
    return read_trace(folder / TRACE)


def computation(size: int = 8, **changes: object) -> Computation:
    return Computation(
        tiny_experiment(**changes),
        model=tiny_model(),
        shards=TinyShards(size),  # type: ignore[arg-type]
        context=Context(),
        settings=RunSettings(loader_threads=0),
    )


def test_the_same_training_has_no_difference_in_any_step(trace: Trace) -> None:
    assert foreseen_difference(trace, computation()) == (
        "",
        {"orders": 12, "rates": 12, "draws": 12, "pixels": len(trace.pixels)},
    )


@pytest.mark.parametrize("changes", [{"seed": 1}, {"batch_size": 8}, {"iterations": 13}])
def test_other_terms_are_said_before_anything_is_compared(trace: Trace, changes: dict) -> None:
    assert foreseen_difference(trace, computation(**changes)) == ("seed, batch size or number of steps", {})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": 7}, "sample order at step 1"),
        ({"base_lr": 0.06}, "learning rate at step 1: 0.05 -> 0.06"),
        ({"poly_power": 1.0}, "learning rate at step 2: "),
        ({"head_lr_multiplier": 3.0}, "learning rate of a parameter group at step 1: the encoder's is the same"),
        ({"flip_probability": 1.0}, "windows, ratios or flips at step "),
        ({"ratio_range": (0.8, 1.6)}, "windows, ratios or flips at step 1"),
    ],
)
def test_another_recipe_is_found_in_its_first_step(trace: Trace, changes: dict, said: str) -> None:
    assert foreseen_difference(trace, computation(**changes))[0].startswith(said)


def with_step(trace: Trace, number: int, name: str) -> Trace:
    steps = trace.steps.copy()
    steps[name][number] ^= np.uint64(1)
    return dataclasses.replace(trace, steps=steps)


@pytest.mark.parametrize(("name", "said"), [("order", "sample order"), ("draws", "windows, ratios or flips")])
def test_a_step_in_the_middle_is_named_with_how_many_were_the_same(trace: Trace, name: str, said: str) -> None:
    difference, compared = foreseen_difference(with_step(trace, 7, name), computation())
    assert difference == f"{said} at step 8"
    assert list(compared.values())[-1] == 7


def test_other_pixels_are_named_where_the_same_libraries_made_them(trace: Trace) -> None:
    pixels = trace.pixels.copy()
    pixels["hash"][1] ^= np.uint64(1)
    changed = dataclasses.replace(trace, pixels=pixels)
    difference, compared = foreseen_difference(changed, computation())
    assert difference == f"images or labels of the batch at step {pixels['step'][1]}, after augmentation"
    assert compared["pixels"] == 1

    def made_by(edit: Callable[[dict], None]) -> Trace:
        [(begun, machine)] = trace.machines
        other = {**machine, "versions": dict(machine["versions"])}
        edit(other)
        return dataclasses.replace(changed, machines=((begun, other),))

    for edit in (lambda one: one["versions"].update(opencv="0"), lambda one: one.update(cpu="another")):
        assert foreseen_difference(made_by(edit), computation()) == (
            "",
            {"orders": 12, "rates": 12, "draws": 12, "pixels": 0},
        )
