"""Trains and scores one experiment in this process, or under torchrun: `python pipelines/train.py variant=setr-pup`.

A cell of the paper is named by `cell=table2/setr-pup/80k`; otherwise `variant`, `data.name` and `training.recipe.*`
say what to train. The same command goes on after a kill.
"""

import argparse
import os
import signal
import sys
import threading
from contextlib import nullcontext
from typing import Any

import torch

from pipelines.command import check_writable, resolve, run_command
from pipelines.experiment import SCORES, run_experiment
from pipelines.jobs import Planned, plan_training
from pipelines.lineage import environment, git_lineage
from pipelines.progress import Board, Row, SweepProgress
from pipelines.recording import Recorder
from pipelines.tracking import Tracker
from setr.config import Config
from setr.training.context import Context, distributed_context

SECTIONS = ("data", "training", "storage")


def work(config: Config, arguments: argparse.Namespace) -> int:
    """Trains what the `training` section asks for; returns the exit status."""
    with distributed_context() as context:
        planned = plan_training(config)
        if context.rank == 0:
            print(f"{planned.name} on {planned.experiment.dataset}: {planned.state}, {planned.folder}")
        if planned.state == "done":
            return show(planned) if context.rank == 0 else 0
        storage = resolve(config.storage.checkpoints)
        check_writable(storage)
        stop_file = storage / f"stop-{planned.identity[:16]}"
        outcome = _train(config, planned, context, planned.job(config, stop_file), stop_file)
        if context.rank:
            return 0
        if outcome["status"] == "finished":
            return show(planned)
        print(outcome.get("cause", "stopped: the same command goes on"), file=sys.stderr)
        return 143 if outcome["status"] == "stopped" else 1


def _train(config: Config, planned: Planned, context: Context, job: dict[str, Any], stop_file: Any) -> dict[str, Any]:
    def stop(number: int, _: object) -> None:
        stop_file.touch()

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
    stop_file.unlink(missing_ok=True)
    recorder: Any = nullcontext()
    progress: Any = nullcontext()
    if context.rank == 0:
        tags = {**git_lineage(), **environment()}
        tracker = Tracker(config.tracking, resolve("."))
        parent = tracker.start_parent(f"train {planned.name}", tags, "One training started by hand.")
        row = Row(planned.name, planned.experiment.recipe.iterations, step=planned.step)
        progress = SweepProgress(Board({planned.identity: row}), sys.stdout)
        recorder = Recorder([planned], tracker, parent, tags, progress.update)
    try:
        with progress, recorder:
            outcome = run_experiment(job, context)
        if context.rank == 0:
            tracker.finish(parent, failed=outcome["status"] == "failed", stopped=outcome["status"] == "stopped")
        return outcome
    finally:
        stop_file.unlink(missing_ok=True)


def show(planned: Planned) -> int:
    """Prints the scores."""
    import json

    for name, score in json.loads((planned.folder / SCORES).read_text(encoding="utf-8"))["scores"].items():
        print(
            f"{planned.experiment.dataset} val, {name}: mIoU {score['mIoU']:.2f} %, "
            f"pixel accuracy {score['pixel_accuracy']:.2f} %, mean accuracy {score['mean_accuracy']:.2f} % "
            f"over {score['images']} images"
        )
    return 0


if __name__ == "__main__":
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads is None:
        torch.set_num_threads(os.cpu_count() or 1)
    run_command("Train and score one experiment.", "training", work, sections=SECTIONS)
