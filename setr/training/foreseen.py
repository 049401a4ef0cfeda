"""What is known of a training's steps without training, compared with a trace: order, learning rates, draws, pixels."""

import copy

import numpy as np

from setr.data.loading.loader import Loader, sample_order
from setr.record.trace import Trace, hash_choice, hash_order, hash_pixels, hash_rates
from setr.training.computation import Computation
from setr.training.machine import describe_machine

DRAWN_STEPS = 4096  # at most, spread over the training: drawing for all of 160,000 steps would take a minute
_LOADING = ("cpu", "cpu_capability", "cpu_flags")  # of a machine: what the pixels depend on, with numpy and OpenCV


def foreseen_difference(trace: Trace, computation: Computation) -> tuple[str, dict[str, int]]:
    """Returns what differs first, and how many steps were compared in what; on one rank alone.

    Order and rates of all steps, then draws and pixels of rank 0 in steps that are spread over the training.
    """
    compared: dict[str, int] = {}
    recipe = computation.recipe
    terms = (trace.seed, trace.batch_size, trace.iterations, len(trace.steps))
    if terms != (computation.experiment.seed, recipe.batch_size, recipe.iterations, recipe.iterations):
        return "seed, batch size or number of steps", compared
    for name, compare in (("orders", _orders), ("rates", _rates), ("draws", _draws), ("pixels", _pixels)):
        difference, compared[name] = compare(trace, computation)
        if difference:
            return difference, compared
    return "", compared


def _orders(trace: Trace, computation: Computation) -> tuple[str, int]:
    loader = computation.loader
    for number, stored in enumerate(trace.steps["order"].tolist()):
        order = sample_order(seed=loader.seed, step=number, batch_size=loader.batch_size, size=len(loader.shards))
        if hash_order(order) != stored:
            return f"sample order at step {number + 1}", number
    return "", len(trace.steps)


def _rates(trace: Trace, computation: Computation) -> tuple[str, int]:
    for number, stored in enumerate(trace.steps["rates"].tolist()):
        rates = computation.set_rates(number)
        if hash_rates(rates) != stored:
            before = float(trace.steps["learning_rate"][number])
            whose = "" if rates[0] != before else " of a parameter group"
            change = f"{before!r} -> {rates[0]!r}" if not whose else "the encoder's is the same"
            return f"learning rate{whose} at step {number + 1}: {change}", number
    return "", len(trace.steps)


def _draws(trace: Trace, computation: Computation) -> tuple[str, int]:
    count = min(DRAWN_STEPS, len(trace.steps))
    steps = np.unique(np.linspace(0, len(trace.steps) - 1, count).round().astype(int)).tolist()
    for number in steps:
        chosen = _loader_at(trace, computation, number).choose(number)
        if hash_choice(chosen)[1] != trace.steps["draws"][number]:
            return f"windows, ratios or flips at step {number + 1}", steps.index(number)
    return "", len(steps)


def _pixels(trace: Trace, computation: Computation) -> tuple[str, int]:
    """Compares images and labels as they come from the loader, where the libraries that made them are the same."""
    now, compared = describe_machine(computation), 0
    for number, stored in trace.pixels.tolist():
        then = trace.machine_at(number - 1)
        versions = [(machine["versions"]["numpy"], machine["versions"]["opencv"]) for machine in (then, now)]
        if versions[0] != versions[1] or any(then[name] != now[name] for name in _LOADING):
            continue
        (batch,) = _loader_at(trace, computation, number - 1).batches_of([number - 1])
        if hash_pixels(batch) != stored:
            return f"images or labels of the batch at step {number}, after augmentation", compared
        compared += 1
    return "", compared


def _loader_at(trace: Trace, computation: Computation, step: int) -> Loader:
    """Returns rank 0's loader as it was in the training: its share depends on the number of ranks."""
    machine = trace.machine_at(step)
    loader = copy.copy(computation.loader)
    loader.rank, loader.world_size, loader.distort_later = 0, machine["world_size"], machine["distort_later"]
    return loader
