"""Trains and scores every cell of the paper's tables that has no result yet: `python pipelines/sweep.py`.

The same command goes on after a kill, trains nothing twice, and ends with status 0 only if every experiment finished.
A plan waits for neither torch, Ray nor MLflow: what needs them is imported where it is used.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import os
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.command import check_writable, resolve, run_command, write_json
from pipelines.driver import again_after_a_loss, leaving_ray, quiet, stop_on_signal
from pipelines.jobs import Planned, plan_earlier, plan_sweep
from pipelines.ledger import EVENTS, state_of
from pipelines.lineage import keep_diff, lineage, origin
from pipelines.plan import Plan, print_plan, print_simulation
from pipelines.preflight import storage_bytes
from pipelines.progress import Board, Row, SweepProgress, clock
from setr.config import Config, DataConfig, SimulateConfig, to_dict
from setr.data.atomic import make_folder
from setr.data.locations import is_uri
from setr.data.manifest import MANIFEST_NAME
from setr.errors import InputError
from setr.models.variants import VARIANTS
from setr.paper.cells import cells
from setr.paper.miniature import DATASET
from setr.reporting.results import Result, load_results, save_results
from setr.training.events import read_events
from setr.training.lease import exclusive
from setr.training.proxies import PROXIES

if TYPE_CHECKING:
    from pipelines.tracking import Tracker

SECTIONS = ("sweep", "miniature", "training", "storage")
LEASE_SECONDS = 5.0  # a sweep that was just killed may still be on its way out


def work(config: Config, arguments: argparse.Namespace) -> int:
    """Plans, runs what is missing, writes results/; returns the exit status."""
    plan_only = config.sweep.plan or arguments.plan or arguments.simulate
    if config.sweep.scale == "miniature" and not plan_only:
        make_missing_inputs(config)
    planned = plan_sweep(config, lenient=plan_only)
    plan = Plan(config, planned)
    print_plan(plan)
    plan.check()
    if arguments.simulate:
        print_simulation(plan, config.simulate)
    if plan_only:
        return 0
    missing = [entry for entry in planned if entry.state != "done"]
    storage = resolve(config.storage.checkpoints)
    check_writable(storage, need_bytes=storage_bytes(missing, config.training.keep_checkpoints))
    check_writable(resolve(config.storage.results))
    status = 0
    if missing:
        with (
            again_after_a_loss(config.sweep.max_failures),
            exclusive(storage, busy="another sweep works on this ledger", wait_seconds=LEASE_SECONDS),
        ):
            status = train_missing(config, plan, missing, storage)
    results = resolve(config.storage.results)
    finished = write_results(config, planned, results)
    print(f"{finished} of {len(planned)} experiments have results: {results / 'scores.json'}")
    from pipelines.session import send_unsent

    send_unsent(config, planned)
    if status:
        return status
    return 0 if finished == len(planned) else 1


def make_missing_inputs(config: Config) -> None:
    """Draws the scenes, writes their shards and pre-trains the miniatures where they are missing.

    `dvc repro` has made them before; a job on a cluster starts with nothing but the code.
    """
    shards = resolve(config.data.shards) / DATASET
    here = not is_uri(config.data.shards)  # what lies elsewhere is not made from here
    if here and not all((shards / split / MANIFEST_NAME).is_file() for split in ("train", "val")):
        root = resolve(config.datasets.get(DATASET, DataConfig.root))
        from pipelines.prepare import write_all_shards
        from pipelines.scenes import draw_scenes

        if not root.exists():
            draw_scenes(config)
        data = dataclasses.replace(config.data, name=DATASET, root=str(root), images="", labels="")
        write_all_shards(dataclasses.replace(config, data=data))
    weights = resolve(config.weights.folder)
    if not all((weights / f"{proxy.name}.safetensors").is_file() for proxy in PROXIES):
        from pipelines.weights import make_weights

        make_weights(config.weights, weights, workers=os.cpu_count() or 1)


def train_missing(config: Config, plan: Plan, missing: Sequence[Planned], storage: Path) -> int:
    """Runs the missing experiments with one live display; returns 0, or 143 / 130 after a signal."""
    from pipelines.driver_folder import clear_dead, driver_folder
    from pipelines.placement import run_all, slots_of
    from pipelines.recording import Recorder, finish_parent
    from pipelines.session import joined_cluster
    from pipelines.tracking import open_tracker
    from pipelines.watch import Watch

    tracker = open_tracker(config.tracking, resolve("."))
    log = resolve(config.storage.logs) / f"sweep-{datetime.now():%Y%m%d-%H%M%S}.log"
    clear_dead(storage, tracker)
    keep_diff(storage, lineage())
    board = Board({entry.identity: row_of(plan, entry) for entry in missing})
    begun = time.time()
    with (
        driver_folder(storage) as mine,
        quiet(log) as screen,
        joined_cluster(config, tracker, log.parent, storage, mine) as resources,
        stop_on_signal(mine.stop) as received,  # after Ray, which brings a handler of its own
        sweep_run(config, tracker, plan.planned, missing) as parent,
        SweepProgress(board, screen) as progress,
    ):
        mine.note(parent=parent, experiments=[entry.identity for entry in plan.planned])
        board.slots = slots_of(config, resources)
        silence = config.training.watchdog.setup
        watch = Watch(board, lambda: missing, mine.stop, all_known=True, silence_seconds=silence)
        recorder = Recorder(
            missing, tracker, parent, origin(), progress.update, register=config.tracking.register_models
        )
        with tracker.system_metrics(parent), recorder:
            watch.run(lambda: run_all(config, missing, mine.stop, mine.path, resources))
        # What a worker of a killed driver had finished before its turn came was not begun again.
        waiting = [entry for entry in missing if board.rows[entry.identity].status == "waiting"]
        over = [entry.identity for entry in waiting if entry.state_now()[0] == "done"]
        progress.update([(identity, {"event": "finished"}) for identity in over])
        failed = board.count("failed")
        problem = finish_parent(tracker, parent, failed=failed > 0, stopped=bool(received)) or recorder.problem
    print(board.summary() + f" in {clock(time.time() - begun)}")
    print_overhead(missing, begun)
    if problem:
        print(f"MLflow did not take the last points ({problem}): run the same command again to send them")
    print(f"logs: {log}")
    return 128 + received[0] if received else 0


def sweep_run(
    config: Config, tracker: "Tracker", planned: Sequence[Planned], missing: Sequence[Planned]
) -> AbstractContextManager[str]:
    """Returns the context of the sweep's run in MLflow; the same sweep goes on in the same one."""
    from pipelines.session import parent_run

    return parent_run(
        config,
        tracker,
        f"tables {','.join(map(str, config.sweep.tables))} {config.sweep.scale}",
        f"{len(planned)} experiments, {len(missing)} missing when it began; children are the experiments.",
        tags={"setr.kind": "sweep"},
        key=hashlib.sha256(" ".join(sorted(entry.identity for entry in planned)).encode()).hexdigest(),
        parameters={**to_dict(config)["sweep"], "experiments": len(planned), "to_train": len(missing)},
    )


def row_of(plan: Plan, entry: Planned) -> Row:
    """Returns what the display shows of an experiment before it starts."""
    piece = plan.piece(entry)
    return Row(
        entry.name,
        entry.experiment.recipe.iterations,
        step=entry.step,
        from_step=entry.step,
        seconds=piece.seconds,
        workers=piece.width,
        tables=piece.tables,
    )


def write_results(config: Config, planned: Sequence[Planned], folder: Path) -> int:
    """Writes results/runs/<identity>.json and results/scores.json; returns how many of `planned` are finished.

    What earlier sweeps left there stays as long as the present settings give it the same identity: a narrowed sweep
    takes nothing from the report.
    """
    from pipelines.recording import finished_result

    done = {entry.identity: entry for entry in planned if state_of(entry.folder)[0] == "done"}
    runs = folder / "runs"
    make_folder(runs)
    asked_before = earlier_cells(runs)
    if asked_before.keys() - {entry.identity for entry in planned}:
        done |= {entry.identity: entry for entry in plan_earlier(config, planned) if entry.identity in asked_before}
    for old in runs.iterdir():
        if old.stem not in done:
            old.unlink()
    results = []
    for identity, entry in done.items():
        names = dict.fromkeys((*entry.cells, *asked_before.get(identity, ())))
        result = finished_result(dataclasses.replace(entry, cells=tuple(names)))
        save_results(runs / f"{identity}.json", [result])
        results.append(result)
    write_json(folder / "scores.json", scores_by_cell(results))
    write_json(folder / "parameters.json", parameter_counts())
    return sum(entry.identity in done for entry in planned)


def earlier_cells(runs: Path) -> dict[str, tuple[str, ...]]:
    """Returns {identity: cells} of the records of earlier sweeps; one that cannot be read is no longer there."""
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted(runs.glob("*.json")):
        with contextlib.suppress(InputError):
            found |= {result.identity: result.cells for result in load_results(path)}
    return found


def parameter_counts() -> dict[str, float]:
    """Returns {variant/parameters: millions} of the ADE20K models at paper scale, counted the paper's way."""
    import torch

    from setr.models.counting import paper_parameter_count
    from setr.models.segmenter import build_model

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


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plan", action="store_true", help="print what every experiment takes, and stop")
    parser.add_argument(
        "--simulate",
        action="store_true",
        help="and replay the plan on a cluster: --simulate nodes=64 gpus=8 mtbf_hours=500",
    )


def words_of_simulation(words: Sequence[str]) -> list[str]:
    """Returns the command's words with those after --simulate that it knows (nodes=64) in its section of settings."""
    names = {field.name for field in dataclasses.fields(SimulateConfig)}
    start = words.index("--simulate") if "--simulate" in words else len(words)
    after = [f"simulate.{word}" if word.partition("=")[0] in names else word for word in words[start:]]
    return [*words[:start], *after]


if __name__ == "__main__":
    sys.argv[1:] = words_of_simulation(sys.argv[1:])
    with leaving_ray():
        run_command(
            "Train and score every cell of the tables that has no result yet.",
            "sweep",
            work,
            sections=SECTIONS,
            add_arguments=_arguments,
        )
