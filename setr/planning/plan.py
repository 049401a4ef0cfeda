"""The plan of one experiment: memory, GPUs, time and disk, and what would make one fit that does not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from setr.planning.footprint import Footprint, footprint
from setr.planning.memory import CONTEXT, state_bytes, training_memory
from setr.planning.throughput import Clock, evaluations_of, kind_of, views_per_image
from setr.study.experiment import Experiment, model_of
from setr.study.protocols import Protocol
from setr.study.recipes import Recipe


@dataclass(frozen=True)
class Ways:
    """How an experiment is trained: none of it belongs to the recipe."""

    workers: int = 1  # GPUs that share the batch
    micro_batch: int = 0  # images per forward on one of them; 0: its whole share
    checkpointing: bool = False  # of activations
    keep_checkpoints: int = 2

    def images(self, recipe: Recipe) -> int:
        """Returns how many images one GPU takes through the model at once."""
        share = self._share(recipe)
        return min(self.micro_batch or share, share)

    def accumulation(self, recipe: Recipe) -> int:
        """Returns the forward passes of one step."""
        return math.ceil(self._share(recipe) / self.images(recipe))

    def _share(self, recipe: Recipe) -> int:
        return math.ceil(recipe.batch_size / self.workers)


@dataclass(frozen=True)
class Estimate:
    """What one experiment will take."""

    ways: Ways
    images: int  # through the model at once
    accumulation: int
    memory: int  # bytes at the peak, of one GPU
    memory_source: str  # measured | model
    seconds: float  # left
    seconds_source: str  # measured | scaled | model
    step_seconds: float
    checkpoint_seconds: float  # of training between two checkpoints
    checkpoint_bytes: int  # of one checkpoint
    disk: int  # bytes at the end
    evaluation_seconds: float = 0.0  # of one evaluation

    @property
    def gpu_hours(self) -> float:
        """Returns GPUs times hours."""
        return self.ways.workers * self.seconds / 3600


def estimate(
    experiment: Experiment,
    protocols: Sequence[Protocol],
    ways: Ways,
    clock: Clock,
    *,
    images: int,
    step: int = 0,
) -> Estimate:
    """Returns what is left of an experiment at `step`; `images` validate, by the first protocol during training."""
    recipe, machine = experiment.recipe, clock.machine
    counted = _footprint(experiment, protocols, machine.device)
    forward = ways.images(recipe)
    key = _key(experiment, ways, machine.device)
    measured = clock.memory(key)
    memory = measured + CONTEXT[machine.device] if measured else peak(counted, recipe, ways, machine.device)
    views = views_per_image(protocols[0], experiment.dataset)
    each = modelled_seconds(experiment, protocols, ways, clock, images)
    duration = clock.duration(key, *each)
    single = duration.evaluation
    more = sum(single * views_per_image(one, experiment.dataset) / views for one in protocols[1:])
    left = max(0, recipe.iterations - step)
    evaluations = evaluations_of(recipe) - step // recipe.evaluate_every
    checkpoint = state_bytes(counted, recipe)
    return Estimate(
        ways=ways,
        images=forward,
        accumulation=ways.accumulation(recipe),
        memory=memory,
        memory_source="measured" if measured else "model",
        seconds=left * duration.step + evaluations * single + more + duration.other,
        seconds_source=duration.source,
        step_seconds=duration.step,
        checkpoint_seconds=duration.step * min(recipe.checkpoint_every, recipe.iterations),
        checkpoint_bytes=checkpoint,
        disk=checkpoint * (ways.keep_checkpoints + 1),  # the newest and the best
        evaluation_seconds=single,
    )


def checkpoint_bytes(experiment: Experiment, protocols: Sequence[Protocol]) -> int:
    """Returns the size of one of the experiment's checkpoints."""
    return state_bytes(_footprint(experiment, protocols, "cpu"), experiment.recipe)


def modelled_seconds(
    experiment: Experiment, protocols: Sequence[Protocol], ways: Ways, clock: Clock, images: int
) -> tuple[float, float]:
    """Returns the model's seconds of one step and one evaluation; `clock` learns from them what was measured."""
    step, evaluation = clock.modelled(
        _footprint(experiment, protocols, clock.machine.device),
        experiment.recipe,
        workers=ways.workers,
        checkpointing=ways.checkpointing,
        views=views_per_image(protocols[0], experiment.dataset),
        images=images,
    )
    clock.learn(_key(experiment, ways, clock.machine.device), step, evaluation)
    return step, evaluation


def peak(counted: Footprint, recipe: Recipe, ways: Ways, device: str = "cuda") -> int:
    """Returns the model's peak memory in bytes of one GPU."""
    images = ways.images(recipe)
    return training_memory(counted, recipe, images, checkpointing=ways.checkpointing, device=device).peak


def remedies(experiment: Experiment, protocols: Sequence[Protocol], ways: Ways, clock: Clock) -> list[str]:
    """Returns what would make an experiment fit that does not: settings, the least change first."""
    recipe, machine = experiment.recipe, clock.machine
    counted = _footprint(experiment, protocols, machine.device)

    def fits(changed: Ways) -> bool:
        return peak(counted, recipe, changed, machine.device) <= machine.memory

    found = []
    if counted.saved_checkpointed < counted.saved and fits(replace(ways, checkpointing=True)):
        found.append("training.activation_checkpointing=true")
    for workers in range(ways.workers + 1, recipe.batch_size + 1):
        if recipe.batch_size % workers == 0 and fits(replace(ways, workers=workers)):
            found.append(f"training.workers={workers}")
            break
    for micro in range(ways.images(recipe) - 1, 0, -1):
        if fits(replace(ways, micro_batch=micro)):
            found.append(f"training.micro_batch={micro} (BatchNorm then sees {micro} images)")
            break
    if not found and fits(replace(ways, micro_batch=1, checkpointing=True)):
        found.append("training.micro_batch=1 with training.activation_checkpointing=true")
    if not found:
        least = peak(counted, recipe, replace(ways, micro_batch=1, checkpointing=True), machine.device)
        found.append(f"a GPU of {least / 1e9:.0f} GB")
    return found


def _footprint(experiment: Experiment, protocols: Sequence[Protocol], device: str) -> Footprint:
    recipe = experiment.recipe
    spec = model_of(experiment, protocols[0].num_classes)
    return footprint(spec, recipe.crop_size, recipe.precision, device)


def _key(experiment: Experiment, ways: Ways, device: str) -> tuple[object, ...]:
    return kind_of(
        variant=experiment.variant,
        scale=experiment.scale,
        recipe=experiment.recipe,
        workers=ways.workers,
        images=ways.images(experiment.recipe),
        checkpointing=ways.checkpointing,
        device=device,
    )
