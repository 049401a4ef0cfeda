"""Trains and scores one experiment in this process, or under torchrun: `python pipelines/train.py variant=setr-pup`.

With training.workers=N it starts torchrun itself, with N processes on this machine.

A cell of the paper is named by `cell=table2/setr-pup/80k`; otherwise `variant`, `data.name` and `training.recipe.*`
say what to train. The same command goes on after a kill; SIGTERM and Ctrl-C save first, a second one ends at once.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this file's own project, whichever is installed
    from pipelines.terminal.start import enter

    enter("train")

from pipelines.terminal.command import check_writable, run_command
from pipelines.terminal.progress import Board, BoardRow, SweepProgress
from pipelines.terminal.start import add_anew, marked
from setr.experiments.worker import let_first_rank_speak, run_experiment
from setr.planning.experiments import plan_training
from setr.planning.planned import Planned
from setr.record.lease import require_not_taken
from setr.record.lineage import DIFF_ARTIFACT, engine_versions, keep_diff, lineage, origin
from setr.record.reading import read_scores_file
from setr.reporting.site.layouts import number
from setr.settings.config import Config
from setr.settings.home import resolve
from setr.training.distributed import distributed_context, stop_on_signals

if TYPE_CHECKING:
    from pipelines.tracking.tracker import Tracker

SECTIONS = ("data", "training", "sweep", "storage")


@dataclass
class TrackedTraining:
    """What the first process holds: the experiment, and the runs it is recorded in."""

    planned: Planned
    tracker: "Tracker | None"  # None: nothing is sent
    parent: str
    tags: dict[str, str]
    register: bool  # in the model registry


def work(config: Config, arguments: argparse.Namespace) -> int:
    """Trains what the `training` section asks for; returns the exit status, the same on every rank."""
    if config.training.workers > 1 and "WORLD_SIZE" not in os.environ:
        launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={config.training.workers}")
        os.execv(sys.executable, (sys.executable, *launcher, *sys.argv))
    with distributed_context() as context, stop_on_signals() as stop:
        planned: list[Planned] = []  # on rank 0 alone, which decides what the others do
        tracked: list[TrackedTraining] = []

        def replays() -> dict[str, Any] | None:
            """Returns the job of replaying a finished result of other code, None if there is none."""
            entry = plan_training(config)
            if entry.earlier is None or arguments.no_replay:
                return None
            print(f"{entry.name} on {entry.experiment.dataset}: {entry.why}")
            return entry.earlier.job(config, entry.folder / "stop")

        def begin() -> dict[str, Any] | None:
            """Returns the job, None if it is done; what stands in its way is found before any rank trains."""
            planned.append(plan_training(config))
            [entry] = planned
            why = f" ({entry.why})" if entry.why else ""
            print(f"{entry.name} on {entry.experiment.dataset}: {entry.state}, {entry.folder}{why}")
            if entry.state == "done":
                return None
            check_writable(entry.folder)
            tracked.append(_start_tracking(config, entry))
            return entry.job(config, entry.folder / "stop", allow_drift=arguments.allow_drift)

        context = dataclasses.replace(context, versions=engine_versions(), should_stop=stop)
        replay = context.on_main(replays)
        if replay is not None:
            from setr.experiments.proving import prove_experiment

            prove_experiment(replay, context)
        job = context.on_main(begin)
        outcome: dict[str, Any] = {"status": "finished"}
        if job is not None and context.is_main:
            outcome = _recorded(tracked[0], lambda: run_experiment(job, context))
        elif job is not None:
            outcome = run_experiment(job, context)
    if context.is_main:
        _print_end(planned[0], outcome)
    return int(outcome.get("exit_status", 0))


def _start_tracking(config: Config, planned: Planned) -> TrackedTraining:
    # Imported where it is needed: the other ranks do not wait for MLflow.
    from pipelines.tracking.tracker import open_tracker

    tags = origin()
    tracker = open_tracker(config.tracking, resolve("."))
    parent = ""
    if tracker is not None:
        parent = tracker.start_parent(
            f"train {planned.name}", {**tags, "setr.kind": "training"}, "One training started by hand."
        )
        tracker.text_artifact(parent, DIFF_ARTIFACT, lineage().diff)
    keep_diff(resolve(config.storage.checkpoints), lineage())
    return TrackedTraining(planned, tracker, parent, tags, config.tracking.register_models)


def _recorded(tracked: TrackedTraining, train: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns the outcome of `train`, shown while it runs and written to MLflow."""
    from pipelines.tracking.recording import Recorder, finish_parent

    planned = tracked.planned
    row = BoardRow(planned.name, planned.experiment.recipe.iterations, step=planned.step)
    board = SweepProgress(Board({planned.identity: row}), sys.stdout)
    recorder = Recorder(
        [planned],
        tracked.tracker,
        tracked.parent,
        tracked.tags,
        board.update,
        register=tracked.register,
        check=lambda: require_not_taken(planned.folder),
    )
    outcome: dict[str, Any] = {"status": "failed"}
    try:
        with board, recorder:
            outcome = train()
    finally:
        status = outcome["status"]
        ended = {"failed": status == "failed", "stopped": status == "stopped"}
        problem = recorder.problem or finish_parent(tracked.tracker, tracked.parent, **ended)
        if problem:
            print(f"MLflow did not take everything ({problem}); the record in {planned.folder} is complete")
    return outcome


def _print_end(planned: Planned, outcome: dict[str, Any]) -> None:
    if outcome["status"] == "finished":
        show(planned)
    elif outcome["status"] == "stopped":
        print("stopped: the same command goes on", file=sys.stderr)
    else:
        print(f"error: {outcome['cause']}", file=sys.stderr)


def show(planned: Planned) -> None:
    """Prints the scores."""
    for name, score in read_scores_file(planned.folder)["scores"].items():
        miou, pixel, mean = (number(score.get(metric)) for metric in ("mIoU", "pixel_accuracy", "mean_accuracy"))
        print(
            f"{planned.experiment.dataset} val, {name}: mIoU {miou} %, pixel accuracy {pixel} %, "
            f"mean accuracy {mean} % over {score.get('images')} images"
        )


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-drift",
        action="store_true",
        help="go on although the folder was trained with other settings, code, weights or library versions",
    )
    parser.add_argument(
        "--no-replay", action="store_true", help="train again what other code has trained, instead of replaying it"
    )
    add_anew(parser)


if __name__ == "__main__":
    let_first_rank_speak()
    run_command(
        "Train and score one experiment.",
        "training",
        marked("train", work),
        sections=SECTIONS,
        add_arguments=_arguments,
    )
