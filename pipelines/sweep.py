"""Trains and scores every cell of the paper's tables that has no result yet: `python pipelines/sweep.py`.

The same command goes on after a kill, trains nothing twice, and ends with status 0 only if every experiment finished.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import torch
from rich.console import Console
from rich.table import Table

from pipelines import cluster
from pipelines.command import check_writable, resolve, run_command, write_json
from pipelines.experiment import EVENTS, run_experiment
from pipelines.jobs import Planned, plan_sweep, state_of
from pipelines.lineage import environment, git_diff, git_lineage
from pipelines.prepare import write_all_shards
from pipelines.progress import Board, Row, SweepProgress, clock
from pipelines.recording import Recorder, finished_result
from pipelines.reproduction import train_again
from pipelines.scenes import draw_scenes
from pipelines.tracking import IDENTITY_TAG, Tracker
from pipelines.weights import make_weights
from setr.config import Config, DataConfig, to_dict
from setr.data.manifest import MANIFEST_NAME
from setr.models.counting import paper_parameter_count
from setr.models.segmenter import VARIANTS, build_model
from setr.paper.cells import cells
from setr.paper.miniature import DATASET
from setr.reporting.results import Result, save_results
from setr.training.events import append_event, read_events
from setr.training.pretraining import PROXIES

SECTIONS = ("sweep", "miniature", "training", "storage")
NEED_BYTES_PER_EXPERIMENT = 20_000_000  # a miniature's checkpoints, record and picture


def work(config: Config, arguments: argparse.Namespace) -> int:
    """Plans, runs what is missing, writes results/; returns the exit status."""
    if config.sweep.scale == "miniature":
        make_missing_inputs(config)
    planned = plan_sweep(config)
    print_plan(planned)
    if config.sweep.plan or arguments.plan:
        return 0
    missing = [entry for entry in planned if entry.state != "done"]
    storage = resolve(config.storage.checkpoints)
    check_writable(storage, need_bytes=NEED_BYTES_PER_EXPERIMENT * len(missing))
    check_writable(resolve(config.storage.results))
    status = 0
    if missing:
        status = train_missing(config, planned, missing, storage)
    results = resolve(config.storage.results)
    finished = write_results(config, planned, results)
    print(f"{finished} of {len(planned)} experiments have results: {results / 'scores.json'}")
    send_unsent(config, planned)
    if status:
        return status
    return 0 if finished == len(planned) else 1


def make_missing_inputs(config: Config) -> None:
    """Draws the scenes, writes their shards and pre-trains the miniatures where they are missing.

    `dvc repro` has made them before; a job on a cluster starts with nothing but the code.
    """
    shards = resolve(config.data.shards) / DATASET
    if not all((shards / split / MANIFEST_NAME).is_file() for split in ("train", "val")):
        root = resolve(config.datasets.get(DATASET, DataConfig.root))
        if not root.exists():
            draw_scenes(config)
        data = dataclasses.replace(config.data, name=DATASET, root=str(root), images="", labels="")
        write_all_shards(dataclasses.replace(config, data=data))
    weights = resolve(config.weights.folder)
    if not all((weights / f"{proxy.name}.safetensors").is_file() for proxy in PROXIES):
        make_weights(config.weights, weights, workers=os.cpu_count() or 1)


def train_missing(config: Config, planned: Sequence[Planned], missing: Sequence[Planned], storage: Path) -> int:
    """Runs the missing experiments with one live display; returns 0, or 143 / 130 after a signal."""
    tracker = Tracker(config.tracking, resolve("."))
    log = resolve(config.storage.logs) / f"sweep-{datetime.now():%Y%m%d-%H%M%S}.log"
    stop_file = storage / "stop"
    stop_file.unlink(missing_ok=True)
    lineage = git_lineage()
    tags = {**lineage, **environment()}
    name = f"tables {','.join(map(str, config.sweep.tables))} {config.sweep.scale}"
    parent = tracker.start_parent(name, {**tags, "setr.kind": "sweep"}, _description(planned, missing))
    tracker.set_parameters(parent, {**to_dict(config)["sweep"], "experiments": len(planned), "to_train": len(missing)})
    tracker.text_artifact(parent, "config.json", json.dumps(to_dict(config), indent=1, sort_keys=True))
    tracker.text_artifact(parent, "code.diff", git_diff())
    commands = {one.identity: train_again(config, one, workers=workers_of(config, one)) for one in missing}
    rows = {entry.identity: Row(entry.name, entry.experiment.recipe.iterations, step=entry.step) for entry in missing}
    board = Board(rows)
    begun = time.time()
    with _quiet(log) as screen, SweepProgress(board, screen) as progress, tracker.system_metrics(parent):
        resources = cluster.connect(log_folder=log.parent)
        with _stop_on_signal(stop_file) as received:
            with Recorder(
                missing,
                tracker,
                parent,
                tags,
                progress.update,
                commands=commands,
                register=config.tracking.register_models,
            ) as recorder:
                run_all(config, missing, stop_file, storage, resources)
            problem = recorder.problem
        cluster.disconnect()
    failed = board.count("failed")
    tracker.finish(parent, failed=failed > 0, stopped=bool(received))
    print(board.summary() + f" in {clock(time.time() - begun)}")
    print_overhead(missing, begun)
    if problem:
        print(f"MLflow did not take the last points ({problem}): run the same command again to send them")
    print(f"logs: {log}")
    return 128 + received[0] if received else 0


def send_unsent(config: Config, planned: Sequence[Planned]) -> None:
    """Sends finished experiments that the tracking server does not have: it was away, or it is a new one."""
    tracker = Tracker(config.tracking, resolve("."))
    tracked = {
        run.tags[IDENTITY_TAG] for run in tracker.runs("attributes.status = 'FINISHED'") if IDENTITY_TAG in run.tags
    }
    unsent = [e for e in planned if e.identity not in tracked and state_of(e.folder, e.protocols)[0] == "done"]
    if unsent:
        tags = {**git_lineage(), **environment()}
        parent = tracker.start_parent("records sent later", tags, f"{len(unsent)} experiments trained earlier.")
        register = config.tracking.register_models
        Recorder(unsent, tracker, parent, tags, lambda events: None, register=register).send_all()
        tracker.finish(parent)
        print(f"sent {len(unsent)} records to MLflow")


def run_all(
    config: Config, missing: Sequence[Planned], stop_file: Path, storage: Path, resources: dict[str, float]
) -> None:
    """Runs several-worker experiments one by one through Ray Train, the others side by side through Ray Tune."""
    per_worker = {"CPU": float(config.training.threads)}
    if resources["GPU"] >= 1:
        per_worker["GPU"] = 1.0
    room = int(min(resources[kind] // amount for kind, amount in per_worker.items()))
    wide = [entry for entry in missing if workers_of(config, entry) > 1]
    for entry in wide:
        if stop_file.exists():
            return
        outcome = cluster.run_on_workers(
            run_experiment,
            entry.job(config, stop_file),
            workers=min(workers_of(config, entry), max(1, room)),
            resources=per_worker,
            max_failures=config.sweep.max_failures,
            storage=storage / "ray-train",
            name=f"{entry.identity[:16]}-{int(time.time())}",
        )
        _record_failure(entry, outcome)
    narrow = [entry for entry in missing if workers_of(config, entry) == 1]
    # Longest first: a long experiment that starts last would leave the other slots idle.
    narrow.sort(key=lambda entry: -entry.experiment.recipe.iterations)
    if stop_file.exists():
        return
    outcomes = cluster.run_side_by_side(
        run_experiment,
        [entry.job(config, stop_file) for entry in narrow],
        resources=per_worker,
        concurrent=config.sweep.concurrent or max(1, room),
        max_failures=config.sweep.max_failures,
        storage=storage / f"ray-tune-{int(time.time())}",
    )
    for entry, outcome in zip(narrow, outcomes, strict=True):
        _record_failure(entry, outcome)


def workers_of(config: Config, entry: Planned) -> int:
    """Returns how many processes share the experiment's global batch."""
    small = config.sweep.scale == "miniature" and config.training.workers == 1
    if small and set(entry.cells) & set(config.sweep.two_worker_cells):
        return 2
    return config.training.workers


def write_results(config: Config, planned: Sequence[Planned], folder: Path) -> int:
    """Writes results/runs/<identity>.json and results/scores.json for what is finished; returns how many that are."""
    done = {entry.identity: entry for entry in planned if state_of(entry.folder)[0] == "done"}
    runs = folder / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    for old in runs.iterdir():
        if old.stem not in done:
            old.unlink()
    results = []
    for identity, entry in done.items():
        result = finished_result(entry)
        save_results(runs / f"{identity}.json", [result])
        results.append(result)
    write_json(folder / "scores.json", scores_by_cell(results))
    write_json(folder / "parameters.json", parameter_counts())
    return len(done)


def parameter_counts() -> dict[str, float]:
    """Returns {variant/parameters: millions} of the ADE20K models at paper scale, counted the paper's way."""
    counts = {}
    with torch.device("meta"):
        for name in VARIANTS:
            model = build_model(name, num_classes=150, crop_size=(512, 512))
            counts[f"{name}/parameters"] = paper_parameter_count(model) / 1e6
    return counts


def scores_by_cell(results: Sequence[Result]) -> dict[str, dict[str, dict[str, float]]]:
    """Returns {table: {row: {column: mean score over the seeds}}}, what `dvc metrics show` prints."""
    known = {cell.key: cell for cell in cells()}
    values: dict[str, list[float]] = {}
    for result in results:
        for key in result.cells:
            if known[key].split != "val":
                continue  # a test server's score, which nobody here can compute
            score = result.score(known[key].protocol, known[key].metric)
            if score is not None:
                values.setdefault(key, []).append(score)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for key, scores in sorted(values.items()):
        table, row, column = key.split("/")
        found.setdefault(table, {}).setdefault(row, {})[column] = round(statistics.fmean(scores), 2)
    return found


def print_plan(planned: Sequence[Planned]) -> None:
    """Prints every experiment with its state, steps and cells."""
    table = Table(box=None, pad_edge=False)
    for title in ("experiment", "state", "steps", "identity", "cells"):
        table.add_column(title, no_wrap=title != "cells", justify="right" if title == "steps" else "left")
    for entry in planned:
        at = f" at {entry.step}" if entry.state == "resumable" else ""
        steps = str(entry.experiment.recipe.iterations)
        table.add_row(entry.name, entry.state + at, steps, entry.identity[:12], " ".join(entry.cells))
    Console(width=None if sys.stdout.isatty() else 140, highlight=False).print(table)
    counts = Counter(entry.state for entry in planned)
    print(f"{len(planned)} experiments: " + ", ".join(f"{count} {state}" for state, count in counts.items()))


def print_overhead(entries: Sequence[Planned], begun: float) -> None:
    """Prints the median time per experiment that went into neither steps nor evaluation, and where it went."""
    parts: dict[str, list[float]] = {}
    for entry in entries:
        events = read_events(entry.folder / EVENTS)
        finished = [event for event in events if event["event"] == "finished" and event["time"] >= begun]
        if finished:
            for name, seconds in finished[-1].get("seconds", {}).items():
                parts.setdefault(name, []).append(seconds)
    if not parts:
        return
    medians = {name: statistics.median(values) for name, values in parts.items()}
    print("median seconds per experiment: " + ", ".join(f"{name} {value:.1f}" for name, value in medians.items()))


def _record_failure(entry: Planned, outcome: dict[str, Any]) -> None:
    """Writes down a failure that the worker itself could not (it died as often as it may)."""
    if outcome.get("status") == "failed":
        events = read_events(entry.folder / EVENTS)
        if not events or events[-1]["event"] != "failed":
            append_event(entry.folder / EVENTS, {"event": "failed", "step": 0, "cause": outcome.get("cause", "")})


@contextlib.contextmanager
def _quiet(log: Path) -> Iterator[IO[str]]:
    """Sends everything that libraries print to `log`; yields a stream that still reaches the user."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with log.open("w") as file, os.fdopen(os.dup(1), "w", buffering=1) as screen:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield screen
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, number)
                os.close(copy)


@contextlib.contextmanager
def _stop_on_signal(stop_file: Path) -> Iterator[list[int]]:
    """Makes SIGTERM and SIGINT write the stop file, which every training looks for; a second signal ends at once."""
    received: list[int] = []

    def stop(number: int, _: object) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)
        stop_file.touch()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        stop_file.unlink(missing_ok=True)


def _description(planned: Sequence[Planned], missing: Sequence[Planned]) -> str:
    return f"{len(planned)} experiments, {len(missing)} of them trained in this session; children are the experiments."


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plan", action="store_true", help="print every experiment with its state, and stop")


if __name__ == "__main__":
    run_command(
        "Train and score every cell of the tables that has no result yet.",
        "sweep",
        work,
        sections=SECTIONS,
        add_arguments=_arguments,
    )
