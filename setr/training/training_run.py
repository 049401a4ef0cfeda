"""One training run, from start to end of a process: what it builds, where it goes on, what it writes down.

    <folder>/identity.json      what this folder trains (setr.training.resume)
    <folder>/step-00000400/     checkpoints (setr.record.checkpoint)
    <folder>/evaluations.json   the scores by step
    <folder>/trace.bin          what each step found (setr.record.trace)

Events go to `context.report` on every rank, in the same order.
"""

import importlib.metadata
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn

from setr.data.loading.loader import Batch
from setr.data.shards import Shards
from setr.errors import InputError, IntegrityError
from setr.files.atomic import write_json
from setr.record import checkpoint
from setr.record.checkpoint import CheckpointInfo
from setr.record.files import EVALUATIONS, TRACE
from setr.record.lease import exclusive
from setr.record.reading import read_evaluations_file
from setr.record.trace import STEPS_FROM_CHECKPOINT
from setr.study.experiment import Experiment
from setr.training.computation import Computation
from setr.training.distributed import Event
from setr.training.execution import Execution
from setr.training.resume import Found, find_checkpoint, require_same_tensors
from setr.training.step import StepResult
from setr.training.trace_writer import TraceWriter
from setr.training.watchdog import CHECKPOINT, DATA, EVALUATION, STEP, Sections, watched

Evaluate = Callable[[nn.Module], dict[str, Any]]


@dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    scores: dict[str, Any]  # of the last evaluation
    step: int
    checkpoint: CheckpointInfo
    seconds: dict[str, float]  # this run's, by section: setup, data, step, checkpoint, evaluation
    quarantined: tuple[int, ...] = ()  # damaged records for which others stood in
    trace: str = ""  # SHA-256 of the finished trace; "": there is none


class TrainingRun:
    """Holds what the loop's lines work on; a context manager."""

    def __init__(self, experiment: Experiment, *, model: nn.Module, shards: Shards, execution: Execution) -> None:
        """Take hold of the parts; `model` is trained in place."""
        self.experiment, self.recipe = experiment, experiment.recipe
        self.context, self.settings, self.folder = execution.context, execution.settings, execution.folder
        self.lease, self.allow_drift = execution.lease, execution.allow_drift
        self.shards, self.model = shards, model
        self.sections = Sections()
        self.writer = checkpoint.Writer(self.folder)
        self.environment = {
            **{name: importlib.metadata.version(name) for name in ("torch", "timm")},
            **self.context.versions,
        }
        self.saved: CheckpointInfo | None = None  # the newest that is on disk
        self.pending: int | None = None  # step of the checkpoint being written
        self.evaluations: dict[int, dict[str, Any]] = {}
        self.unlabelled = 0  # batches without a label so far
        self.quarantined: set[int] = set()  # damaged records met so far, on any rank
        self.trace: TraceWriter | None = None  # on rank 0 alone
        self._exit = ExitStack()
        self._logged = (0, 0.0)  # step and working seconds at the last log

    def __enter__(self) -> "TrainingRun":
        """Takes the folder for this process alone and starts the watchdog."""
        self.context.on_main(self._own_folder)
        hang = watched(
            self.sections,
            self.folder,
            rank=self.context.rank,
            limits=self.settings.watchdog,
            on_hang=lambda cause: self.report("hang", self.saved.step if self.saved else 0, cause=cause),
        )
        self._exit.enter_context(hang)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Waits for the checkpoint under way, also when the training failed, and lets go of the folder."""
        with self._exit:
            try:
                self.writer.join()
            except Exception:
                if error is None:
                    raise

    def _own_folder(self) -> None:
        self.lease = self.lease or self._exit.enter_context(exclusive(self.folder))
        self.writer.owner = self.lease

    def resume(self) -> int:
        """Builds the training and returns the finished steps it goes on from: the newest sound checkpoint's, or 0."""
        classes, expected = getattr(self.model, "num_classes", None), len(self.shards.manifest.classes)
        if classes not in (None, expected):
            raise InputError("E_CLASS_COUNT", "model and data set differ in classes", found=classes, expected=expected)
        self.computation = Computation(
            self.experiment, model=self.model, shards=self.shards, context=self.context, settings=self.settings
        )
        step = self._restore()
        computation = self.computation
        self.first_step = step
        self.report(
            "start",
            step,
            identity=self.experiment.identity,
            resumed_from=self.saved.path.name if self.saved else None,
            world_size=self.context.world_size,
            device=self.context.device,
            environment=self.environment,
            execution=computation.settings.execution(),
            host=socket.gethostname(),
            process=os.getpid(),
            # Statistics of the whole global batch, unless gradients are accumulated: then of what goes through at once.
            batch_norm={
                "images": computation.forward_images * self.context.world_size,
                "global_batch": self.recipe.batch_size,
            },
        )
        self._logged = (step, 0.0)
        return step

    def batches(self) -> Iterator[Batch]:
        """Yields the batches that are left; the wait for each counts as section `data`."""
        iterator: Any = self.computation.batches(self.first_step)
        with closing(iterator):
            yield from self.sections.waiting(iterator)

    def step(self, batch: Batch, *, stop: bool) -> StepResult:
        """Returns what one step found, after the update."""
        with self.sections(STEP):
            # A lease that was lost leads to the check in save(), on all ranks.
            result = self.computation.step(batch, stop=stop or (self.lease is not None and self.lease.lost))
            self.unlabelled += result.labelled_pixels == 0
            if result.replaced:
                self._quarantine(batch)
            if self.trace is not None:
                self.trace.add(batch, result, self.computation)
        return result

    def log(self, step: int, result: StepResult) -> None:
        """Reports a step's losses and the speed since the last log, evaluations and checkpoints left out."""
        working = self.sections.seconds[DATA] + self.sections.seconds[STEP]
        before, since = self._logged
        self._logged = (step, working)
        values: dict[str, Any] = {"loss": result.loss, "loss/main": result.main}
        values |= {f"loss/auxiliary_{number}": value for number, value in enumerate(result.auxiliary, start=1)}
        values |= {"learning_rate": self.computation.rates[0], "gradient_norm": result.gradient_norm}
        values["images_per_second"] = self.recipe.batch_size * (step - before) / max(working - since, 1e-9)
        if self.unlabelled:
            values["unlabelled_batches"] = self.unlabelled
        if self.quarantined:
            values["quarantined_records"] = len(self.quarantined)
        self.report("metrics", step, **values)

    def is_checkpoint(self, step: int) -> bool:
        """Returns whether the recipe's rhythm asks for a checkpoint after `step`, or a later replay of the end does.

        A replay goes on from kept checkpoints for a few steps. One of them lies so close to the end that these are the
        last: a change of the code that acts from any step on is then seen.
        """
        every, last = self.recipe.checkpoint_every, self.recipe.iterations
        near = (last - 1) // every * every >= last - STEPS_FROM_CHECKPOINT
        return step % every == 0 or (step == last - STEPS_FROM_CHECKPOINT and not near)

    def save(self, step: int) -> None:
        """Starts to write the checkpoint of `step`; the one before is on disk and reported when this returns."""
        with self.sections(CHECKPOINT):
            self._await_checkpoint()
            # Before the checkpoint: a training that goes on from it finds the trace of all steps so far.
            self.context.on_main(lambda: self.trace.save(step) if self.trace is not None else None)
            if self.context.is_main:
                state = {
                    **self._origin(),
                    "world_size": self.context.world_size,
                    "unlabelled": self.unlabelled,
                    "quarantined": sorted(self.quarantined),
                }
                self.writer.save(step, self.computation.state(), state)
            self.pending = step

    def settle(self) -> None:
        """Waits until the checkpoint under way is on disk, and reports it."""
        with self.sections(CHECKPOINT):
            self._await_checkpoint()

    def evaluate(self, step: int, evaluate: Evaluate) -> None:
        """Scores the model, or its moving average, and reports; the step's checkpoint is on disk before."""
        self.settle()
        with self.sections(EVALUATION):
            model = self.computation.model.eval()
            with self.computation.averaged():
                scores = evaluate(model)
            model.train()
        # Through JSON: what is kept is what is reported, and NaN is none of JSON's numbers.
        self.evaluations[step] = json.loads(json.dumps(scores), parse_constant=lambda _: None)
        if self.context.is_main:
            record = {str(at): found for at, found in self.evaluations.items()}
            write_json(self.folder / EVALUATIONS, record, owner=self.lease)
            self._prune()
        self._report_evaluation(step)

    def evaluate_if_owed(self, step: int, evaluate: Evaluate) -> None:
        """Makes up for an evaluation that a kill prevented; a finished training reports its last one again."""
        finished = step == self.recipe.iterations
        due = step > 0 and (finished or step % self.recipe.evaluate_every == 0)
        if due and step not in self.evaluations:
            self.evaluate(step, evaluate)
        elif finished:
            self._report_evaluation(step)

    def finish(self, step: int) -> Outcome:
        """Returns how the training ended; the model then holds what is to be scored."""
        self.settle()
        trace = self.context.on_main(lambda: self.trace.finish() if self.trace is not None else "")
        self.computation.finish()
        assert self.saved is not None
        return Outcome(
            self.evaluations[step],
            step,
            self.saved,
            self.sections.totals(),
            tuple(sorted(self.quarantined)),
            trace,
        )

    def report(self, event: str, step: int, **values: Any) -> None:
        """Gives an event to whoever follows this training."""
        if self.lease is not None:
            self.lease.check()
        record: Event = {"event": event, "step": step, "time": time.time(), **values}
        self.context.report(record)

    def _quarantine(self, batch: Batch) -> None:
        """Notes the global batch's damaged records; raises E_QUARANTINE, on all ranks, when they become too many."""
        own = torch.as_tensor(batch.damaged, device=self.context.device)
        met = {position for rows in self.context.gather(own) for position in rows.tolist() if position >= 0}
        new = sorted(met - self.quarantined)
        if not new:
            return
        self.quarantined.update(new)
        count, rows, limit = len(self.quarantined), len(self.shards), self.settings.max_quarantined
        places = [self.shards.where(position) for position in new]
        self.report("quarantine", batch.step, records=new, places=places, count=count, of=rows)
        if count > limit * rows:
            raise IntegrityError(
                "E_QUARANTINE",
                "too many records are damaged",
                where=places[0],
                found=f"{count} of {rows}",
                expected=f"at most {limit:.2%} of them (training.max_quarantined)",
                remedy="prepare the data again, or copy the shards from their source",
            )

    def _report_evaluation(self, step: int) -> None:
        self.report("evaluation", step, **self.evaluations[step], final=step == self.recipe.iterations)

    def _await_checkpoint(self) -> None:
        if self.pending is None:
            return
        self.pending = None
        written = self.context.on_main(self._join_writer)
        self.saved = CheckpointInfo(Path(written["path"]), written["step"], written["sha256"])
        self.report("checkpoint", **{**written, "path": self.saved.path.name})

    def _join_writer(self) -> dict[str, Any]:
        info = self.writer.join()
        assert info is not None
        self._prune()
        seconds = round(self.writer.seconds, 3)
        return {"path": str(info.path), "step": info.step, "sha256": info.sha256, "write_seconds": seconds}

    def _prune(self) -> None:
        ranked = [(found.get("mIoU") or 0.0, step) for step, found in self.evaluations.items()]
        best = [max(ranked)[1]] if ranked else []
        removed = checkpoint.prune(
            self.folder, keep_last=self.settings.keep_checkpoints, keep_steps=best, owner=self.lease
        )
        if self.trace is not None:
            self.trace.forget(removed)

    def _restore(self) -> int:
        """Restores the newest sound checkpoint on all ranks; returns its step, 0 if there is none."""
        found: Found | None = None

        def choose() -> dict[str, Any]:
            nonlocal found
            found = find_checkpoint(
                self.folder,
                self._origin(),
                last_step=self.recipe.iterations,
                allow_drift=self.allow_drift,
                owner=self.lease,
            )
            return {
                "info": found.info,
                "state": found.state,
                "notes": found.notes,
                "evaluations": read_evaluations_file(self.folder),
            }

        chosen = self.context.on_main(choose)
        for event, values in chosen["notes"]:
            self.report(event, 0, **values)
        self.evaluations = {int(step): scores for step, scores in chosen["evaluations"].items()}
        computation = self.computation
        info, state = chosen["info"], chosen["state"]
        if info is None:
            computation.share_start()
            if self.context.is_main:
                self.trace = TraceWriter.begin(self.folder, computation, owner=self.lease)
            return 0
        self.saved = CheckpointInfo(Path(info["path"]), info["step"], info["sha256"])
        self.unlabelled = state["unlabelled"]
        self.quarantined = set(state.get("quarantined", ()))
        kept = found.tensors if found else {}
        tensors = {
            name: self.context.broadcast_tensors(kept.get(name, {}) if self.context.is_main else None)
            for name in ("model", "optimizer", "ema")
        }
        require_same_tensors(computation.model, tensors["model"], self.saved.path)
        computation.load(tensors)
        self._resume_trace(self.saved.step)
        return self.saved.step

    def _resume_trace(self, step: int) -> None:
        """Goes on with the trace on disk; a training without it runs all the same, and cannot be proven by replay."""

        def resume() -> str:
            try:
                self.trace = TraceWriter.resume(self.folder, self.experiment, step, owner=self.lease)
            except IntegrityError as error:
                (self.folder / TRACE).unlink(missing_ok=True)
                return str(error)
            return ""

        reason = self.context.on_main(resume)
        if reason:
            self.report("no_trace", step, reason=reason)

    def _origin(self) -> dict[str, Any]:
        return {
            "identity": self.experiment.identity,
            "experiment": self.experiment.as_dict(),
            "environment": self.environment,
        }
