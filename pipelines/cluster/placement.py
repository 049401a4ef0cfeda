"""Which experiment runs where: those of several workers in lanes of Ray Train, the others around them in Ray Tune.

A lane is as many slots as one such experiment has workers; it runs them one after another, and Tune has the slots that
no lane holds. So no placement group ever waits for resources that another one keeps while it waits itself.
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.cluster import engine as cluster
from setr.errors import EnvironmentFailure
from setr.experiments.worker import run_experiment
from setr.planning.planned import Planned, workers_of
from setr.record.events import Event, append_event, read_events
from setr.record.files import EVENTS
from setr.record.lease import Lease
from setr.settings.config import Config


def per_worker(config: Config, resources: Mapping[str, float]) -> dict[str, float]:
    """Returns what one worker asks for: its threads, and a GPU where there are any or will be."""
    asked = {"CPU": float(config.training.threads)}
    if resources["GPU"] >= 1 or growth(config):
        asked["GPU"] = 1.0
    return asked


def growth(config: Config) -> int:
    """Returns the GPUs that a cluster may grow to, 0 for a cluster of our own, which cannot."""
    return config.sweep.gpus if os.environ.get("RAY_ADDRESS") else 0


def slots_of(config: Config, resources: Mapping[str, float]) -> int:
    """Returns how many workers run side by side: as many as fit, or as an autoscaling cluster may grow to hold."""
    fit = int(min(resources[kind] // amount for kind, amount in per_worker(config, resources).items()))
    return config.sweep.concurrent or max(1, fit, growth(config))


def lanes_of(wide: Sequence[Planned], narrow: Sequence[Planned], *, width: int, slots: int) -> int:
    """Returns how many lanes for several-worker experiments end them with the others: their share of the work."""
    if not wide:
        return 0
    most = min(len(wide), max(1, slots // width))
    work = {True: width * sum(map(_steps, wide)), False: sum(map(_steps, narrow))}
    share = work[True] / max(1, work[True] + work[False])
    return min(most, max(1, round(share * slots / width)))


def run_all(
    config: Config,
    missing: Sequence[Planned],
    stop_file: Path,
    storage: Path,
    resources: Mapping[str, float],
    lease: Lease | None = None,
    *,
    work: cluster.Work = run_experiment,
    job_of: Callable[[Planned], cluster.JobRecord] | None = None,
) -> list[tuple[str, Event]]:
    """Runs the experiments side by side; one that fails as often as it may is marked, and the others go on.

    Returns identity and event of failures that no record may hold: another process has the experiment's folder, or it
    cannot be written. Workers write as long as `lease`, the storage path's, is this process's. `work` is done on the
    jobs that `job_of` makes (None: those that train); what does not train leaves its own record.
    """
    job_of = job_of or (lambda entry: entry.job(config, stop_file, driver=lease))
    untold: list[tuple[str, Event]] = []

    def record(entry: Planned, outcome: Mapping[str, Any]) -> None:
        failure = record_failure(entry, outcome, lease) if work is run_experiment else None
        untold.extend([(entry.identity, failure)] if failure else [])

    asked, slots = per_worker(config, resources), slots_of(config, resources)
    wide = _longest_first(entry for entry in missing if workers_of(config, entry) > 1)
    narrow = _longest_first(entry for entry in missing if workers_of(config, entry) == 1)
    width = min(slots, max((workers_of(config, entry) for entry in wide), default=1))
    lanes = lanes_of(wide, narrow, width=width, slots=slots)
    room = cluster.Room(max(0, slots - lanes * width))
    waiting: queue.SimpleQueue[Planned] = queue.SimpleQueue()
    for entry in wide:
        waiting.put(entry)
    is_free = threading.Event()  # a lane has ended, or there are slots beside them
    if slots > lanes * width:
        is_free.set()

    def run_wide(entry: Planned) -> None:
        outcome = cluster.run_on_workers(
            work,
            job_of(entry),
            workers=min(workers_of(config, entry), slots),
            resources=asked,
            max_failures=config.sweep.max_failures,
            storage=storage / "ray-train",
            name=f"{entry.identity[:16]}-{int(time.time())}",
        )
        record(entry, outcome)

    def leave() -> None:
        room.grow(width)
        is_free.set()

    threads = _lanes(lanes, waiting, run_wide, stop_file.exists, leave)
    is_free.wait()
    if not stop_file.exists():
        outcomes = cluster.run_side_by_side(
            work,
            [job_of(entry) for entry in narrow],
            resources=asked,
            room=room,
            max_failures=config.sweep.max_failures,
            storage=storage / f"ray-tune-{int(time.time())}",
        )
        for entry, outcome in zip(narrow, outcomes, strict=True):
            record(entry, outcome)
    for thread in threads:
        thread.join()
    return untold


def _lanes(
    count: int,
    waiting: "queue.SimpleQueue[Planned]",
    run: Callable[[Planned], None],
    is_stopped: Callable[[], bool],
    leave: Callable[[], None],
) -> list[threading.Thread]:
    """Returns threads that run what waits, one after another each, and `leave` when nothing does."""

    def lane() -> None:
        try:
            while not is_stopped():
                try:
                    entry = waiting.get_nowait()
                except queue.Empty:
                    return
                run(entry)
        finally:
            leave()

    threads = [threading.Thread(target=lane, name=f"lane {number}", daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


def record_failure(entry: Planned, outcome: Mapping[str, Any], lease: Lease | None = None) -> Event | None:
    """Writes down a failure that the worker itself could not (it died as often as it may).

    Returns the event if it may not stand in the record: the folder is another process's, or cannot be written.
    """
    if outcome.get("status") != "failed":
        return None
    event = {"event": "failed", "step": 0, "cause": outcome.get("cause", "")}
    if event["cause"].startswith("E_LEASE"):
        return event
    events = read_events(entry.folder / EVENTS)
    try:
        if not events or events[-1]["event"] != "failed":
            append_event(entry.folder / EVENTS, event, owner=lease)
    except EnvironmentFailure as error:
        return event | {"cause": f"{event['cause']} ({error})"}
    return None


def _steps(entry: Planned) -> int:
    return entry.experiment.recipe.iterations


def _longest_first(entries: Iterable[Planned]) -> list[Planned]:
    # A long experiment that starts last would leave the other slots idle.
    return sorted(entries, key=lambda entry: -_steps(entry))
