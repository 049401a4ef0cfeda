"""Searches a space of one's own for the best experiment: `python pipelines/search.py`, over `search.space`.

Every trial is an experiment like any other: it has an identity, is never trained twice, resumes, and is tracked. The
same command goes on after a kill. What a search stops early is marked `stopped` and counts as unfinished everywhere.
"""

import argparse
import contextlib
import dataclasses
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this file's own project, whichever is installed
    from pipelines.terminal.start import enter

    enter("search")

from rich.console import Console
from rich.table import Table

from pipelines.cluster import engine as cluster
from pipelines.cluster.driver import again_after_a_loss, leaving_ray, quiet, stop_on_signal
from pipelines.cluster.driver_folder import DriverFolder, clear_dead, driver_folder
from pipelines.cluster.placement import per_worker, slots_of
from pipelines.cluster.session import joined_cluster, parent_run
from pipelines.cluster.watch import Watch
from pipelines.inputs.missing import make_missing_inputs
from pipelines.terminal.command import check_writable, run_command
from pipelines.terminal.progress import Board, BoardRow, SweepProgress, clock
from pipelines.terminal.start import add_anew, marked
from pipelines.tracking.recording import Recorder, finish_parent
from pipelines.tracking.tracker import open_tracker
from setr.errors import EnvironmentFailure
from setr.experiments.worker import run_experiment
from setr.planning.planned import Planned
from setr.planning.space import Domain, command_of, planned_of, read_space
from setr.record.events import append_event, read_events
from setr.record.files import EVENTS
from setr.record.lease import exclusive
from setr.record.ledger import state_of
from setr.record.lineage import keep_diff, lineage, origin
from setr.settings.config import Config
from setr.settings.home import resolve
from setr.study.miniature import DATASET
from setr.training.distributed import Context

SECTIONS = ("search", "data", "training", "sweep", "storage")
SHOWN = 10  # trials in the table at the end
RETRY_SECONDS = 2.0  # until an experiment that another trial trains is asked for again


@dataclass(frozen=True)
class Trial:
    """One point of the space, and what became of it."""

    values: Mapping[str, Any]
    entry: Planned
    status: str  # finished | stopped | failed | waiting
    step: int
    score: float | None  # percent; of the last evaluation


def work(config: Config, arguments: argparse.Namespace) -> int:
    """Runs the search; returns the exit status: 0 unless a trial failed or a signal came."""
    if config.sweep.scale == "miniature" and config.data.name == DATASET:
        make_missing_inputs(config)
    space = read_space(config)
    storage = resolve(config.storage.checkpoints)
    check_writable(storage)
    tracker = open_tracker(config.tracking, resolve("."))
    keep_diff(storage, lineage())
    log = resolve(config.storage.logs) / f"search-{datetime.now():%Y%m%d-%H%M%S}.log"
    clear_dead(storage, tracker)
    begun, board = time.time(), Board()
    tags = {"setr.search": config.search.method}
    with (
        again_after_a_loss(config.sweep.max_failures),
        driver_folder(storage) as mine,
        quiet(log) as screen,
        joined_cluster(config, tracker, log.parent, storage, mine) as resources,
        stop_on_signal(mine.stop) as received,  # after Ray, which brings a handler of its own
        parent_run(
            config,
            tracker,
            f"search {config.search.method}",
            f"A search for the best {config.search.metric}; children are trials.",
            tags=tags,
        ) as parent,
        SweepProgress(board, screen) as progress,
    ):
        mine.note(parent=parent)
        board.slots = slots_of(config, resources)
        with Recorder([], tracker, parent, origin() | tags, progress.update) as recorder:
            under_way = TrialsUnderWay(config, board, recorder)
            entries, silence = under_way.entries, config.training.watchdog.setup
            watch = Watch(board, lambda: list(entries.values()), mine.stop, all_known=False, silence_seconds=silence)
            watch.run(lambda: run(under_way, space, mine, resources))
            under_way.mark_stopped(config.search.method)
        trials = under_way.outcomes()
        if tracker is not None:
            tracker.text_artifact(parent, "search.json", json.dumps([record_of(trial) for trial in trials], indent=1))
        failed = sum(trial.status == "failed" for trial in trials)
        problem = finish_parent(tracker, parent, failed=failed > 0, stopped=bool(received)) or recorder.problem
    print(f"{board.summary()} in {clock(time.time() - begun)}")
    if problem:
        print(f"MLflow did not take the last points ({problem}): the next search sends them")
    print_outcomes(config, trials)
    print(f"logs: {log}")
    if received:
        return 128 + received[0]
    return 1 if failed else 0


class TrialsUnderWay:
    """The trials that have started, in this process; more come while the search runs."""

    def __init__(self, config: Config, board: Board, recorder: Recorder) -> None:
        """Start with none."""
        self.config, self.board, self.recorder = config, board, recorder
        self.values: dict[str, Mapping[str, Any]] = {}  # by identity
        self.entries: dict[str, Planned] = {}
        self._lock = threading.Lock()

    def started(self, values: dict[str, Any]) -> None:
        """Takes note of a trial: shows and records it."""
        entry = planned_of(self.config, values)
        with self._lock:
            if entry.identity in self.entries:
                return
            self.entries[entry.identity], self.values[entry.identity] = entry, values
        words = " ".join(f"{name}={value}" for name, value in values.items())
        row = BoardRow(f"{entry.experiment.variant} {words}", entry.experiment.recipe.iterations, step=entry.step)
        if entry.state == "done":
            row.status = "finished"
        self.board.rows = {**self.board.rows, entry.identity: row}
        self.recorder.add(entry)

    def mark_stopped(self, method: str) -> None:
        """Closes the record of a trial that was ended before it could say so itself."""
        for trial in self.outcomes():
            if trial.status == "waiting":
                cause = f"ended by {method}"
                say_stopped(trial.entry.folder, trial.step, cause)

    def outcomes(self) -> list[Trial]:
        """Returns what became of the trials, the best first; unfinished ones after the finished."""
        found = [outcome_of(self.config, self.values[name], entry) for name, entry in self.entries.items()]
        return sorted(
            found, key=lambda trial: (trial.status != "finished", -(trial.score or 0.0), trial.entry.identity)
        )


def run(
    under_way: TrialsUnderWay, space: Mapping[str, Domain], mine: DriverFolder, resources: Mapping[str, float]
) -> None:
    """Runs the trials through Ray Tune."""
    config, search, stop_file = under_way.config, under_way.config.search, mine.stop
    recipe = planned_of(config, first_values(space)).experiment.recipe
    cluster.run_search(
        lambda values, context, report: train_trial(config, stop_file, values, context, report),
        space,
        method=search.method,
        samples=search.samples,
        metric=search.metric,
        seed=search.seed,
        rungs=(min(recipe.evaluate_every, recipe.iterations), recipe.iterations, search.reduction),
        resources=per_worker(config, resources),
        concurrent=slots_of(config, resources),
        storage=mine.path / f"ray-search-{int(time.time())}",
        started=under_way.started,
        max_failures=config.sweep.max_failures,
    )


def train_trial(
    config: Config,
    stop_file: Path,
    values: Mapping[str, Any],
    context: Context,
    report: Callable[[dict[str, Any]], None],
) -> None:
    """Trains one point of the space in a worker, and reports its evaluations as they come, the last one at the end.

    Where `report` ends the trial, the record says `stopped`: it was saved before it was scored, and can go on.
    """
    entry, metric = planned_of(config, values), config.search.metric
    reported: set[int] = set()

    def tell(event: Mapping[str, Any]) -> None:
        # Not the last one: a search that ends a trial there would leave it without its final scores.
        if event["event"] == "evaluation" and not event.get("final") and event["step"] not in reported:
            reported.add(event["step"])
            measured = event.get(metric)
            report({"step": event["step"], metric: measured if isinstance(measured, int | float) else 0.0})

    try:
        for event in read_events(entry.folder / EVENTS):
            tell(event)
        if entry.earlier is not None:
            from setr.experiments.proving import prove_experiment

            prove_experiment(entry.earlier.job(config, stop_file), context)
            entry = planned_of(config, values)
        if entry.state != "done":
            _train(entry, config, stop_file, dataclasses.replace(context, report=tell))
    except SystemExit:
        step = max(reported, default=0)
        cause = f"ended by {config.search.method}"
        if state_of(entry.folder, entry.protocols)[0] != "done":
            say_stopped(entry.folder, step, cause)
        raise
    outcome = outcome_of(config, values, entry)
    report({"step": entry.experiment.recipe.iterations, metric: outcome.score or 0.0, "status": outcome.status})


def say_stopped(folder: Path, step: int, cause: str) -> None:
    """Records that a trial was ended, unless somebody else trains the experiment by now: it goes on then."""
    with contextlib.suppress(EnvironmentFailure), exclusive(folder, wait_seconds=0.0) as lease:
        append_event(folder / EVENTS, {"event": "stopped", "step": step, "cause": cause}, owner=lease)


def _train(entry: Planned, config: Config, stop_file: Path, context: Context) -> None:
    """Trains the experiment, or waits while another trial, search or sweep does that drew the same values.

    A search takes no lease of the storage path, as a sweep does: each of its trials has that of its own folder, so
    searches and a sweep go on beside each other, and what they share is trained once.
    """
    while True:
        outcome = run_experiment(entry.job(config, stop_file), context)
        if "E_LEASE" not in outcome.get("cause", "") or stop_file.exists():
            return
        time.sleep(RETRY_SECONDS)


def outcome_of(config: Config, values: Mapping[str, Any], entry: Planned) -> Trial:
    """Returns what became of a trial, by its record."""
    events = read_events(entry.folder / EVENTS)
    evaluations = [event for event in events if event["event"] == "evaluation"]
    measured = evaluations[-1].get(config.search.metric) if evaluations else None
    score = float(measured) if isinstance(measured, int | float) else None
    step = int(evaluations[-1]["step"]) if evaluations else 0
    if state_of(entry.folder, entry.protocols)[0] == "done":
        status = "finished"
    else:
        last = events[-1]["event"] if events else ""
        status = last if last in ("stopped", "failed") else "waiting"
    return Trial(values, entry, status, step, score)


def first_values(space: Mapping[str, Domain]) -> dict[str, Any]:
    """Returns one point of the space."""
    return {name: values[0] for name, (_, values) in space.items()}


def record_of(trial: Trial) -> dict[str, Any]:
    """Returns a trial as JSON-able values."""
    return {
        "identity": trial.entry.identity,
        "values": dict(trial.values),
        "status": trial.status,
        "step": trial.step,
        "score": trial.score,
    }


def print_outcomes(config: Config, trials: list[Trial]) -> None:
    """Prints the best trials, and the command that trains the winner at the full schedule."""
    names = list(config.search.space)
    table = Table(box=None, pad_edge=False)
    for title in (f"{config.search.metric} %", "step", "status", *names, "identity"):
        table.add_column(title, no_wrap=True)
    for trial in trials[:SHOWN]:
        score = "-" if trial.score is None else f"{trial.score:.2f}"
        values = (_short(trial.values.get(name)) for name in names)
        table.add_row(score, str(trial.step), trial.status, *values, trial.entry.identity[:12])
    Console(width=160, highlight=False).print(table)
    if not trials or trials[0].status != "finished":
        print("no trial finished: the same command goes on")
        return
    best = trials[0]
    if config.search.iterations:
        print("the winner at the full schedule:")
        print(f"  {command_of(config, best.values)}")
    else:
        print(f"the winner is trained: {best.entry.folder}")
        print(f"  again: {command_of(config, best.values)}")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    with leaving_ray():
        run_command(
            "Search a space of one's own for the best experiment.",
            "search",
            marked("search", work),
            sections=SECTIONS,
            add_arguments=add_anew,
        )
