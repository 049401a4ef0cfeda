"""Trains and scores every cell of the paper's tables that has no result yet: `python pipelines/sweep.py`.

The same command goes on after a kill, trains nothing twice, and ends with status 0 only if every experiment finished.
A plan waits for neither torch, Ray nor MLflow: what needs them is imported where it is used.
"""

import argparse
import dataclasses
import hashlib
import statistics
import sys
import time
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this file's own project, whichever is installed
    from pipelines.terminal.start import enter

    enter("sweep")

from pipelines.cluster.driver import again_after_a_loss, leaving_ray, quiet, stop_on_signal
from pipelines.cluster.preflight import storage_bytes
from pipelines.cluster.replays import replay_changed
from pipelines.inputs.missing import make_missing_inputs
from pipelines.terminal.command import check_writable, run_command
from pipelines.terminal.plan import Plan, print_plan, print_simulation
from pipelines.terminal.progress import Board, BoardRow, SweepProgress, clock
from pipelines.terminal.start import add_anew, marked
from pipelines.tracking.results_folder import write_results
from setr.planning.checks import check_own_models, licences_of
from setr.planning.experiments import plan_sweep
from setr.planning.planned import Planned
from setr.record.events import Event, read_events
from setr.record.files import EVENTS
from setr.record.lease import Lease, exclusive
from setr.record.lineage import keep_diff, lineage, origin
from setr.settings.config import Config, SimulateConfig, to_dict
from setr.settings.home import resolve
from setr.study.shelf import open_study

if TYPE_CHECKING:
    from pipelines.tracking.tracker import Tracker

SECTIONS = ("sweep", "miniature", "training", "storage")
# What the tables decide, and a sweep does not read.
UNUSED = dict.fromkeys(
    ("data.name", "data.root", "data.images", "data.labels", "data.classes", "data.palette"),
    "the tables name their data sets; choose among them with sweep.datasets",
) | {"data.splits": "a column of a study says what it trains on: `train: train+val`"}
LEASE_SECONDS = 5.0  # a sweep that was just killed may still be on its way out


def work(config: Config, arguments: argparse.Namespace) -> int:
    """Plans, runs what is missing, writes results/; returns the exit status."""
    plan_only = config.sweep.plan or arguments.plan or arguments.simulate
    if config.sweep.scale == "miniature" and not plan_only:
        make_missing_inputs(config, lambda: plan_sweep(config, lenient=True))
    planned = plan_sweep(config, lenient=plan_only)
    for note in (*check_own_models(planned), *(f"licence {line}" for line in licences_of(planned))):
        print(f"note: {note}")
    plan = Plan(config, planned)
    print_plan(plan)
    plan.check()
    if arguments.simulate:
        print_simulation(plan, config.simulate)
    if plan_only:
        return 0
    changed = {entry.experiment.spec for entry in planned if entry.state == "changed"}
    if not arguments.no_replay:
        planned = replay_changed(config, planned, lambda: plan_sweep(config))
        plan = Plan(config, planned)
    if arguments.prove:
        return keep_proofs(config, planned, changed)
    missing = [entry for entry in planned if entry.state != "done"]
    storage = resolve(config.storage.checkpoints)
    check_writable(storage, need_bytes=storage_bytes(missing, config.training.keep_checkpoints))
    check_writable(resolve(config.storage.results))
    status = 0
    if missing:
        with (
            again_after_a_loss(config.sweep.max_failures),
            exclusive(storage, busy="another sweep works on this ledger", wait_seconds=LEASE_SECONDS) as lease,
        ):
            status = train_missing(config, plan, missing, storage, lease)
    results = resolve(config.storage.results)
    finished = write_results(config, planned, results)
    print(f"{finished} of {len(planned)} experiments have results: {results / 'scores.json'}")
    from pipelines.cluster.session import send_unsent

    send_unsent(config, planned)
    if status:
        return status
    return 0 if finished == len(planned) else 1


def keep_proofs(config: Config, planned: Sequence[Planned], changed: Collection[str]) -> int:
    """Puts what replays have shown into results/runs and MLflow; returns 1 if a result, one of `changed`, fell.

    `changed` are the specs that were replayed. Nothing is taken from results/: the next sweep does that.
    """
    results = resolve(config.storage.results)
    check_writable(results)
    write_results(config, planned, results, keep_all=True)
    from pipelines.cluster.session import send_unsent

    send_unsent(config, planned)
    fell = [one for one in planned if one.experiment.spec in changed and one.state not in ("done", "to score")]
    return 1 if fell else 0


def train_missing(config: Config, plan: Plan, missing: Sequence[Planned], storage: Path, lease: Lease) -> int:
    """Runs the missing experiments with one live display; returns 0, or 143 / 130 after a signal.

    Raises EnvironmentFailure (E_LEASE) if another sweep has taken the storage path over: it has the results then.
    """
    if not lease.has_locks:
        print(lease.note())
    from pipelines.cluster.driver_folder import clear_dead, driver_folder
    from pipelines.cluster.placement import run_all, slots_of
    from pipelines.cluster.session import joined_cluster
    from pipelines.cluster.watch import Watch
    from pipelines.tracking.recording import Recorder, finish_parent
    from pipelines.tracking.tracker import open_tracker

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
            missing,
            tracker,
            parent,
            origin(),
            progress.update,
            register=config.tracking.register_models,
            check=lease.check,
        )
        with tracker.system_metrics(parent) if tracker is not None else nullcontext(), recorder:
            untold: list[tuple[str, Event]] = []
            watch.run(lambda: untold.extend(run_all(config, missing, mine.stop, mine.path, resources, lease)))
        lease.check()
        progress.update(untold)
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
    config: Config, tracker: "Tracker | None", planned: Sequence[Planned], missing: Sequence[Planned]
) -> AbstractContextManager[str]:
    """Returns the context of the sweep's run in MLflow; the same sweep goes on in the same one."""
    from pipelines.cluster.session import parent_run

    study = open_study(config.study)
    return parent_run(
        config,
        tracker,
        f"{study.prefix}tables {','.join(config.sweep.tables or study.begin_with) or 'all'} {config.sweep.scale}",
        f"{len(planned)} experiments, {len(missing)} missing when it began; children are the experiments.",
        tags={"setr.kind": "sweep"},
        key=hashlib.sha256(" ".join(sorted(entry.identity for entry in planned)).encode()).hexdigest(),
        parameters={**to_dict(config)["sweep"], "experiments": len(planned), "to_train": len(missing)},
    )


def row_of(plan: Plan, entry: Planned) -> BoardRow:
    """Returns what the display shows of an experiment before it starts."""
    piece = plan.piece(entry)
    return BoardRow(
        entry.name,
        entry.experiment.recipe.iterations,
        step=entry.step,
        from_step=entry.step,
        seconds=piece.seconds,
        workers=piece.width,
        tables=piece.tables,
    )


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
        "--prove", action="store_true", help="replay finished results whose code has changed, and train nothing"
    )
    parser.add_argument(
        "--no-replay", action="store_true", help="train again what other code has trained, instead of replaying it"
    )
    parser.add_argument(
        "--simulate",
        action="store_true",
        help="and replay the plan on a cluster: --simulate nodes=64 gpus=8 mtbf_hours=500",
    )
    add_anew(parser)


def words_of_simulation(words: Sequence[str]) -> list[str]:
    """Returns the command's words with those after --simulate that it knows (nodes=64) in its section of settings."""
    names = {field.name for field in dataclasses.fields(SimulateConfig)}
    start = words.index("--simulate") if "--simulate" in words else len(words)
    after = [f"simulate.{word}" if word.partition("=")[0] in names else word for word in words[start:]]
    return [*words[:start], *after]


if __name__ == "__main__":
    with leaving_ray():
        run_command(
            "Train and score every cell of the tables that has no result yet.",
            "sweep",
            marked("sweep", work),
            sections=SECTIONS,
            add_arguments=_arguments,
            unused=UNUSED,
            rewrite=words_of_simulation,
        )
