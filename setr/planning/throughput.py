"""How long trainings and evaluations take: operations over an assumed rate, or what earlier runs measured."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from setr.data.reading.datasets import published_of
from setr.evaluation.windows import multi_scale_sizes, windows
from setr.planning.footprint import Footprint
from setr.study.protocols import Protocol
from setr.study.recipes import Recipe

BACKWARD = 2  # times the forward pass
# A worker more costs this share of a step (collectives, smaller matrices); on paper, for one node.
SHARING_COST = 0.05


@dataclass(frozen=True)
class Machine:
    """What is assumed of the hardware."""

    device: str = "cuda"  # cuda | cpu
    slots: int = 1  # GPUs, or processes side by side on CPUs
    memory: float = 80e9  # bytes of a GPU; 0: not checked
    tflops: Mapping[str, float] = field(default_factory=lambda: {"float32": 67.0, "bfloat16": 989.0})
    utilisation: float = 0.4

    def seconds(self, flops: float, precision: str) -> float:
        """Returns how long one GPU computes."""
        return flops / (self.tflops[precision] * 1e12 * self.utilisation)


@dataclass(frozen=True)
class Measurement:
    """What one finished training took; `key` says of what kind it was."""

    key: tuple[Any, ...]  # see `kind_of`
    step: float = 0.0  # seconds of one optimiser step, data included; 0: not measured
    evaluation: float = 0.0  # seconds of one evaluation; 0: not measured
    other: float = 0.0  # seconds of set-up and checkpoints
    memory: int = 0  # bytes at the peak; 0: not measured


@dataclass(frozen=True)
class Duration:
    """Seconds by what they are spent on, and where the number comes from."""

    step: float
    evaluation: float  # of one
    other: float
    source: str  # measured | scaled (the model, times what other trainings measured) | model


def kind_of(
    *, variant: str, scale: str, recipe: Recipe, workers: int, images: int, checkpointing: bool, device: str
) -> tuple[Any, ...]:
    """Returns what decides speed and memory of a training: trainings of one kind take the same."""
    shape = (recipe.crop_size, recipe.batch_size, recipe.precision, recipe.optimizer, bool(recipe.ema_decay))
    return (device.split(":")[0], scale, variant, *shape, workers, images, checkpointing)


def views_per_image(protocol: Protocol, dataset: str) -> float:
    """Returns the model's passes over windows for one validation image, flips included."""
    published = published_of(dataset)
    # Images of other data sets are taken as one window each.
    size = (published and published.image_size) or protocol.window
    if protocol.mode != "slide":
        return float((1 + protocol.flip) * len(protocol.ratios))
    sizes = multi_scale_sizes(size, protocol)
    return float((1 + protocol.flip) * sum(len(windows(*view, protocol.window, protocol.stride)) for view in sizes))


def evaluations_of(recipe: Recipe) -> int:
    """Returns how often a training is scored, the last step included."""
    return -(-recipe.iterations // recipe.evaluate_every)


class Clock:
    """Tells durations, by the best source there is."""

    def __init__(self, machine: Machine, measured: Iterable[Measurement] = ()) -> None:
        """Take the measurements of earlier runs."""
        self.machine = machine
        self._found: dict[tuple[Any, ...], list[Measurement]] = {}
        self._model: dict[tuple[Any, ...], tuple[float, float]] = {}
        for entry in measured:
            self._found.setdefault(entry.key, []).append(entry)

    def memory(self, key: tuple[Any, ...]) -> int:
        """Returns the largest peak that was measured for trainings of this kind, in bytes; 0: none."""
        return max((entry.memory for entry in self._found.get(key, [])), default=0)

    def learn(self, key: tuple[Any, ...], step: float, evaluation: float) -> None:
        """Tells what the model says of a kind that was measured: others are scaled by the ratio."""
        if key in self._found:
            self._model[key] = (step, evaluation)

    def modelled(
        self, footprint: Footprint, recipe: Recipe, *, workers: int, checkpointing: bool, views: float, images: int
    ) -> tuple[float, float]:
        """Returns the model's seconds of one step and of one evaluation of `images` with `views` passes each."""
        forward = footprint.flops * (1 + BACKWARD) - footprint.flops_frozen * BACKWARD
        forward += footprint.flops_layers if checkpointing else 0
        share = (1 + SHARING_COST * (workers - 1)) / workers
        step = self.machine.seconds(forward * recipe.batch_size * share, recipe.precision)
        return step, self.machine.seconds(footprint.flops_inference * views * images / workers, recipe.precision)

    def duration(self, key: tuple[Any, ...], step: float, evaluation: float) -> Duration:
        """Returns what a training of this kind takes; `step` and `evaluation` are what the model says."""
        own = self._found.get(key, [])
        steps, evaluations = [one.step for one in own if one.step], [one.evaluation for one in own if one.evaluation]
        factors = self._factors(key)
        other = _median([one.other for one in own]) or factors[2]
        if steps and evaluations:
            return Duration(_median(steps), _median(evaluations), other, "measured")
        if factors[0]:
            return Duration(step * factors[0], evaluation * (factors[1] or factors[0]), other, "scaled")
        return Duration(step, evaluation, other, "model")

    def _factors(self, key: tuple[Any, ...]) -> tuple[float, float, float]:
        """Returns measured over modelled of a step and an evaluation, 0 without any, and the median of the rest."""
        steps, evaluations, others = [], [], []
        for other_key, (step, evaluation) in self._model.items():
            if other_key[:2] != key[:2] or other_key[5] != key[5]:  # device, scale; precision
                continue
            for entry in self._found[other_key]:
                if entry.step and step:
                    steps.append(entry.step / step)
                if entry.evaluation and evaluation:
                    evaluations.append(entry.evaluation / evaluation)
                others.append(entry.other)
        return _median(steps), _median(evaluations), _median(others)


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0
