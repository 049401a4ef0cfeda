"""Computes pieces of a finished training again and says whether they are the same, to the bit where that can be asked.

Of all steps: the samples' order and the learning rates. Of steps spread over the training: what was drawn, and the
pixels that came of it. From the start and from each checkpoint that is kept and has steps after it: losses, gradient
norms and parameters of a few steps. Of the finished model: the counts of a sample of images.

A change that acts from some step on is seen if a kept checkpoint lies behind that step; so a training without one
before its last step cannot be proven. One that acts under a condition which only steps between met is not seen: the
evidence says which gradient norms the replayed steps had, and which the training. Nothing is written.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from setr.data.shards import Shards
from setr.errors import EnvironmentFailure, IntegrityError, SetrError
from setr.record import checkpoint
from setr.record.checkpoint_names import step_name
from setr.record.equivalences import FIRST_STEPS, Verdict
from setr.record.files import TRACE
from setr.record.trace import (
    PARAMETERS_AFTER,
    STEPS_BEYOND,
    STEPS_FROM_CHECKPOINT,
    Trace,
    hash_parameters,
    read_trace,
    step_row,
)
from setr.redaction import first_line
from setr.settings.run import EXECUTION, RunSettings
from setr.study.experiment import Experiment
from setr.training.comparison import ImageCounts, Scale, compare_images, compare_step, initial_difference
from setr.training.computation import Computation
from setr.training.distributed import Context
from setr.training.foreseen import foreseen_difference
from setr.training.machine import describe_machine, machine_differences
from setr.training.trace_writer import traced_tensors

_FAILED = "the code cannot compute what was trained"
CountImages = Callable[[nn.Module], Sequence[ImageCounts]]


@dataclass(frozen=True)
class Trained:
    """A finished result, as its scores name it."""

    folder: Path
    identity: str  # of the code that trained it
    trace: str  # SHA-256 of its trace; "": it has none
    checkpoint: str  # SHA-256 of the scored checkpoint
    to_be_scored: str = ""  # what scores it now, where that is not what its scores were made by: then no image counts


def replay(
    experiment: Experiment,
    *,
    trained: Trained,
    new_model: Callable[[], nn.Module],
    shards: Shards,
    context: Context,
    settings: RunSettings,
    count_images: CountImages,
) -> Verdict:
    """Returns, on every rank, whether the present code computes what `trained` was trained with.

    `new_model` returns the model as it is before the first step, `count_images` counts a sample of images with the
    trained model and names the counts that were stored; both are called on all ranks. The training's own micro-batch
    and execution are taken, `settings` decides the rest. Raises EnvironmentFailure where the code is not to blame.
    """
    return _Replay(experiment, trained, shards, context, settings).run(new_model, count_images)


class _Replay:
    """One replay on one rank; what is compared, rank 0 alone knows."""

    def __init__(
        self, experiment: Experiment, trained: Trained, shards: Shards, context: Context, settings: RunSettings
    ) -> None:
        self.experiment, self.trained, self.shards, self.context = experiment, trained, shards, context
        self.settings = settings
        self.trace: Trace | None = None  # on rank 0
        self.scale = Scale.of(experiment.recipe.precision)
        self.apart: list[str] = []  # what differs between then and now
        self.evidence: dict[str, Any] = {"trace": trained.trace, "iterations": experiment.recipe.iterations}
        self.evidence |= {"to_be_scored": trained.to_be_scored} if trained.to_be_scored else {}
        self.start = time.perf_counter()

    def run(self, new_model: Callable[[], nn.Module], count_images: CountImages) -> Verdict:
        """Returns the verdict; each part is begun only when the ones before were equal."""
        opened = self.context.on_main(self._open)
        if opened["missing"]:
            return self._verdict(opened["missing"], provable=False)
        self.settings = _as_trained(self.settings, opened["machine"], self.context)
        try:
            return self._verdict(self._difference(opened["segments"], new_model, count_images))
        except (IntegrityError, _Unprovable) as missing:  # what a training or its data left is damaged
            return self._verdict(str(missing), provable=False)
        except EnvironmentFailure:
            raise
        except (SetrError, RuntimeError) as error:  # it may be the machine's memory: no difference was found
            return self._verdict(_failure(error), provable=False)

    def _open(self) -> dict[str, Any]:
        """Returns what is missing for a proof, the machine of the first step, and the steps to train: start, count."""
        try:
            self.trace = self._read()
        except IntegrityError as error:
            return {"missing": str(error)}
        trace, last = self.trace, self.experiment.recipe.iterations
        starts = [step for step in sorted(trace.kept) if step < last]
        segments = [(0, min(FIRST_STEPS, last))]
        segments += [(step, min(STEPS_FROM_CHECKPOINT, last - step)) for step in starts]
        return {"missing": "", "machine": trace.machine_at(0), "segments": segments}

    def _read(self) -> Trace:
        """Returns the trace; raises IntegrityError if it, or a checkpoint that it names, is not what it was."""
        folder, last = self.trained.folder, self.experiment.recipe.iterations
        if not self.trained.trace:
            raise _missing("the result has no trace", folder)
        trace = read_trace(folder / TRACE, identity=self.trained.identity, sha256=self.trained.trace)
        if (len(trace.steps), trace.kept.get(last)) != (last, self.trained.checkpoint):
            raise _missing("the trace does not end with the checkpoint that was scored", folder / TRACE)
        if last > FIRST_STEPS and len(trace.kept) == 1:
            raise _missing("no checkpoint before the last was kept: what acts late would not be seen", folder)
        wanted = {*PARAMETERS_AFTER, *(step + beyond for step in trace.kept for beyond in STEPS_BEYOND)}
        if {step for step in wanted if step <= last} - trace.parameters.keys():
            raise _missing("the trace lacks parameters that are to be compared", folder / TRACE)
        for step, digest in trace.kept.items():
            path = folder / step_name(step)
            if not path.is_dir():
                raise _missing("a checkpoint that was kept is missing", path)
            if checkpoint.manifest_hash(path) != digest:
                raise _missing("a checkpoint is not the one that was kept", path)
        return trace

    def _difference(
        self, segments: list[tuple[int, int]], new_model: Callable[[], nn.Module], count_images: CountImages
    ) -> str:
        """Returns what differs first, "" if nothing does."""
        computation = Computation(
            self.experiment, model=new_model(), shards=self.shards, context=self.context, settings=self.settings
        )
        computation.share_start()
        found = self._on_main(lambda: self._before_training(computation))
        for start, count in segments:
            if not found:
                found = self._train(computation, start, count)
        if not found:
            found = self._score(computation, count_images)
        return found

    def _before_training(self, computation: Computation) -> str:
        """Returns what differs in what was foreseen for the steps, or in the parameters before the first."""
        trace = self._own_trace()
        self.evidence["machine"] = describe_machine(computation)
        self._exact_at(0)
        difference, compared = foreseen_difference(trace, computation)
        self.evidence |= compared
        return difference or initial_difference(trace, traced_tensors(computation), exact=self._exact_at(0))

    def _train(self, computation: Computation, start: int, count: int) -> str:
        """Returns what differs in `count` steps after `start` finished ones."""
        if start:
            computation.load(self._load(start))
        difference = ""
        for batch in computation.batches(start, start + count):
            result = computation.step(batch)
            if self.context.is_main and not difference:
                trace, step = self._own_trace(), batch.step + 1
                row = step_row(
                    step,
                    batch,
                    loss=result.loss,
                    gradient_norm=result.gradient_norm,
                    replaced=result.replaced,
                    rates=computation.rates,
                )
                after = trace.parameters.get(step)
                hashes = None if after is None else hash_parameters(traced_tensors(computation), trace.tensors)
                exact = self._exact_at(batch.step)
                difference = compare_step(trace, row, hashes, scale=self.scale, exact=exact)
        difference = self._on_main(lambda: difference)
        if self.trace is not None and not difference:
            self._note_norms(self.trace, start, count)
        if not difference and start:
            self.evidence.setdefault("checkpoints", {})[str(start)] = count
        elif not difference:
            self.evidence |= {"first_steps": count, "checkpoints": {}}
        return difference

    def _note_norms(self, trace: Trace, start: int, count: int) -> None:
        """Notes how much of the training's range of gradient norms the replayed steps had."""
        norms = trace.steps["gradient_norm"]
        seen = [*self.evidence.get("gradient_norms", {}).get("replayed", ()), *norms[start : start + count].tolist()]
        self.evidence["gradient_norms"] = {
            "replayed": [min(seen), max(seen)],
            "training": [float(norms.min()), float(norms.max())],
        }

    def _score(self, computation: Computation, count_images: CountImages) -> str:
        """Returns what differs in the counts of images."""
        last = self.experiment.recipe.iterations
        computation.load(self._load(last))
        images = count_images(computation.finish())
        self.evidence["images"] = len(images)
        if self.trained.to_be_scored and not images:
            return ""
        self.evidence["protocols"] = sorted({image.protocol for image in images})
        return self._on_main(lambda: compare_images(images, scale=self.scale, exact=self._exact_at(last - 1)))

    def _on_main(self, compare: Callable[[], str]) -> str:
        """Returns rank 0's comparison on every rank; raises _Unprovable on all of them where it fails."""

        def guarded() -> str:
            try:
                return compare()
            except EnvironmentFailure:
                raise
            except (SetrError, RuntimeError) as error:
                return _failure(error)

        found = str(self.context.on_main(guarded))
        if found.startswith(_FAILED):
            raise _Unprovable(found)
        return found

    def _load(self, step: int) -> dict[str, dict[str, torch.Tensor]]:
        """Returns a checkpoint's tensors on every rank; raises _Unprovable on all if it is damaged."""
        held: dict[str, dict[str, torch.Tensor]] = {}

        def load() -> str:
            try:
                found = checkpoint.load(self.trained.folder / step_name(step), identities=[self.trained.identity])
            except IntegrityError as error:
                return str(error)
            held.update(found.tensors)
            return ""

        missing = self.context.on_main(load)
        if missing:
            raise _Unprovable(missing)
        main = self.context.is_main
        names = self.context.broadcast_json(sorted(held))
        return {name: self.context.broadcast_tensors(held[name] if main else None) for name in names}

    def _exact_at(self, step: int) -> bool:
        """Returns whether the step after `step` finished ones must be equal to the bit, and notes why not."""
        now = self.evidence["machine"]
        differences = machine_differences(self._own_trace().machine_at(step), now)
        self.apart += [text for text in differences if text not in self.apart]
        return not differences and now["device"] == "cpu"

    def _own_trace(self) -> Trace:
        assert self.trace is not None
        return self.trace

    def _verdict(self, difference: str, *, provable: bool = True) -> Verdict:
        """Returns rank 0's verdict on every rank."""
        exact = not self.apart and self.evidence.get("machine", {}).get("device") == "cpu"
        seconds = round(time.perf_counter() - self.start, 3)
        evidence = {**self.evidence, "differences": self.apart, "seconds": seconds}
        found = {"difference": difference, "exact": exact, "evidence": evidence}
        found = self.context.broadcast_json(found if self.context.is_main else None)
        return Verdict(
            equal=not found["difference"],
            exact=found["exact"],
            tolerance=0.0 if found["exact"] else self.scale.relative,
            first_difference=found["difference"],
            evidence=found["evidence"],
            provable=provable,
        )


class _Unprovable(Exception):
    """What the replay needs is not there."""


def _failure(error: Exception) -> str:
    return f"{_FAILED}: {first_line(error)}"


def _as_trained(settings: RunSettings, machine: dict[str, Any], context: Context) -> RunSettings:
    """Returns the settings with what decided the training's numbers, as far as this device can follow."""
    settings = replace(
        settings,
        # As many images in one batch normalisation as there were, over all ranks.
        micro_batch=max(1, machine["forward_images"] * machine["world_size"] // context.world_size),
        photometric_on="device" if machine["distort_later"] else "cpu",
    )
    device = torch.device(context.device).type
    if device != machine["device"]:
        return settings
    execution = {name: value for name, value in machine["execution"].items() if name in EXECUTION}
    # Elsewhere than on a CPU nothing is equal to the bit anyway, and compiling costs more than a few steps.
    return replace(settings, **execution | ({} if device == "cpu" else {"compile": False}))


def _missing(what: str, where: Path) -> IntegrityError:
    return IntegrityError("E_TRACE", what, where=where, remedy="train again: nothing shows that the codes are equal")
