"""Writes the trace while a training runs: on rank 0, in memory from step to step, on disk before each checkpoint.

So the file is never behind a checkpoint, and one that is ahead is cut to the checkpoint that a training goes on from.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
from torch import Tensor

from setr.data.loading.loader import Batch
from setr.files.atomic import Owner
from setr.record.checkpoint import manifest_hash
from setr.record.checkpoint_names import step_name
from setr.record.files import TRACE
from setr.record.trace import (
    PARAMETERS_AFTER,
    PIXELS,
    STEP,
    STEPS_BEYOND,
    Trace,
    hash_parameters,
    hash_pixels,
    pixel_steps,
    read_trace,
    step_row,
    write_trace,
)
from setr.study.experiment import Experiment
from setr.training.computation import Computation
from setr.training.machine import describe_machine
from setr.training.step import StepResult


class TraceWriter:
    """The trace of one training, from its start or from a checkpoint on."""

    def __init__(self, folder: Path, trace: Trace, owner: Owner | None) -> None:
        """Go on after the steps of `trace`; writes as long as the folder is `owner`'s (None: unasked)."""
        self._folder, self._owner = folder, owner
        self._trace = trace
        self._steps = np.zeros(trace.iterations, STEP)
        self._steps[: len(trace.steps)] = trace.steps
        self._count = len(trace.steps)
        self._pixel_steps = set(pixel_steps(trace.iterations))
        self._pixels = [tuple(row) for row in trace.pixels.tolist()]
        self._parameters = dict(trace.parameters)
        self._machines = list(trace.machines)
        self._saves = set(trace.saves)
        self._kept = dict(trace.kept)
        self._checked = False  # whether the present machine is written down

    @classmethod
    def begin(cls, folder: Path, computation: Computation, *, owner: Owner | None = None) -> "TraceWriter":
        """Returns the trace of a training that has made no step."""
        experiment = computation.experiment
        tensors = traced_tensors(computation)
        trace = Trace(
            identity=experiment.identity,
            seed=experiment.seed,
            batch_size=experiment.recipe.batch_size,
            iterations=experiment.recipe.iterations,
            machines=(),
            tensors=tuple(tensors),
            saves=(),
            kept={},
            steps=np.zeros(0, STEP),
            pixels=np.zeros(0, PIXELS),
            parameters={0: hash_parameters(tensors, tensors)},
        )
        return cls(folder, trace, owner)

    @classmethod
    def resume(cls, folder: Path, experiment: Experiment, step: int, *, owner: Owner | None = None) -> "TraceWriter":
        """Returns the trace on disk, cut to `step` finished steps.

        Raises IntegrityError (E_TRACE) if it is not this experiment's, damaged, or does not reach so far.
        """
        trace = read_trace(folder / TRACE, identity=experiment.identity)
        return cls(folder, trace.until(folder / TRACE, step), owner)

    def add(self, batch: Batch, result: StepResult, computation: Computation) -> None:
        """Writes down a step that was just made."""
        step = batch.step + 1
        assert step == self._count + 1, f"step {step} after {self._count}"
        if not self._checked:
            self._note_machine(computation)
        self._steps[self._count] = step_row(
            step,
            batch,
            loss=result.loss,
            gradient_norm=result.gradient_norm,
            replaced=result.replaced,
            rates=computation.rates,
        )
        self._count = step
        if step in self._pixel_steps:
            self._pixels.append((step, hash_pixels(batch)))
        if step in PARAMETERS_AFTER or any(step - beyond in self._saves for beyond in STEPS_BEYOND):
            self._parameters[step] = hash_parameters(traced_tensors(computation), self._trace.tensors)

    def save(self, step: int) -> None:
        """Puts the trace on disk; the checkpoint of `step` is about to be written."""
        self._saves.add(step)
        write_trace(self._folder / TRACE, self._now(), owner=self._owner)

    def forget(self, steps: Collection[int]) -> None:
        """Leaves out what belongs to checkpoints that were removed."""
        self._saves.difference_update(steps)
        self._kept = {step: digest for step, digest in self._kept.items() if step not in steps}
        wanted = {*PARAMETERS_AFTER, *(step + beyond for step in self._saves for beyond in STEPS_BEYOND)}
        self._parameters = {step: hashes for step, hashes in self._parameters.items() if step in wanted}

    def finish(self) -> str:
        """Puts the finished trace on disk, with the checkpoints that are kept, and returns the file's SHA-256."""
        if not self._kept:
            folders = {step: self._folder / step_name(step) for step in sorted(self._saves)}
            self.forget([step for step, folder in folders.items() if not folder.is_dir()])
            self._kept = {step: manifest_hash(folders[step]) for step in sorted(self._saves)}
        return write_trace(self._folder / TRACE, self._now(), owner=self._owner)

    def _note_machine(self, computation: Computation) -> None:
        machine = describe_machine(computation)
        if not self._machines or self._machines[-1][1] != machine:
            self._machines.append((self._count, machine))
        self._checked = True

    def _now(self) -> Trace:
        before = self._trace
        return Trace(
            identity=before.identity,
            seed=before.seed,
            batch_size=before.batch_size,
            iterations=before.iterations,
            machines=tuple(self._machines),
            tensors=before.tensors,
            saves=tuple(sorted(self._saves)),
            kept=self._kept,
            steps=self._steps[: self._count],
            pixels=np.array(self._pixels, PIXELS),
            parameters=self._parameters,
        )


def traced_tensors(computation: Computation) -> dict[str, Tensor]:
    """Returns the parameters, buffers and averages by name, as the computation has them now."""
    tensors = dict(computation.model.state_dict())
    if computation.average is not None:
        tensors |= {f"ema/{name}": tensor for name, tensor in computation.average.averages.items()}
    return tensors
