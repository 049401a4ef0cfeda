"""Replays of a whole sweep: finished results under changed code, shown to be the same before anything is trained."""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from pipelines.cluster.driver import quiet, stop_on_signal
from pipelines.terminal.command import check_writable
from pipelines.terminal.progress import Board, clock
from setr.planning.planned import Planned
from setr.record.equivalences import comparisons
from setr.record.files import EQUIVALENCES
from setr.settings.config import Config
from setr.settings.home import resolve

POLL_SECONDS = 1.0
PLAIN_SECONDS = 15.0  # between two lines of progress


def replay_changed(
    config: Config, planned: Sequence[Planned], plan_again: Callable[[], list[Planned]]
) -> list[Planned]:
    """Returns the plan after every result whose code has changed was replayed; prints how it went."""
    changed = [entry for entry in planned if entry.state == "changed"]
    if not changed:
        return list(planned)
    begun = time.time()
    storage = resolve(config.storage.checkpoints)
    check_writable(storage)
    received = _run(config, changed, storage)
    after = plan_again()
    states = {entry.experiment.spec: entry for entry in after}
    kept = [entry for entry in changed if states[entry.experiment.spec].state in ("done", "to score")]
    print(
        f"replayed {len(changed)} finished results in {clock(time.time() - begun)}: {len(kept)} stand under this code"
    )
    causes = Counter(states[entry.experiment.spec].why for entry in changed if entry not in kept)
    for why, count in causes.items():
        print(f"  {count} x {why}")
    for line in reach(kept):
        print(line)
    if received:
        raise KeyboardInterrupt
    return after


def reach(kept: Sequence[Planned]) -> list[str]:
    """Returns for results that stand which share of the training's gradient norms their replays met, a line at most.

    A change that acts beyond a norm that no replayed step had is not seen.
    """
    apart = []
    for entry in kept:
        assert entry.earlier is not None
        found = [one for one in comparisons(entry.earlier.folder) if one.code == entry.code]
        apart += [f"{entry.name}: {text}" for one in found[-1:] if (text := one.verdict.norms_apart)]
    if not apart:
        return []
    more = f" (and {len(apart) - 1} more like it)" if len(apart) > 1 else ""
    return [f"  {apart[0]}{more}; what acts only beyond these was not seen: --no-replay trains again"]


def _run(config: Config, changed: Sequence[Planned], storage: Path) -> list[int]:
    """Replays on the cluster, side by side; returns the signals that came."""
    from pipelines.cluster.driver_folder import driver_folder
    from pipelines.cluster.placement import run_all
    from pipelines.cluster.session import cluster_resources
    from pipelines.cluster.watch import Watch
    from setr.experiments.proving import prove_experiment

    log = resolve(config.storage.logs) / f"replay-{datetime.now():%Y%m%d-%H%M%S}.log"
    with (
        driver_folder(storage) as mine,
        quiet(log) as screen,
        cluster_resources(config, log.parent, storage, mine) as resources,
        stop_on_signal(mine.stop) as received,
    ):

        def replay_all() -> None:
            run_all(
                config,
                changed,
                mine.stop,
                mine.path,
                resources,
                work=prove_experiment,
                job_of=lambda entry: replay_job(config, entry, mine.stop),
            )

        watch = Watch(Board(), list, mine.stop, all_known=False, silence_seconds=math.inf)
        done = threading.Event()
        teller = threading.Thread(target=_tell, args=(changed, screen, done), name="replays", daemon=True)
        teller.start()
        try:
            watch.run(replay_all)
        finally:
            done.set()
            teller.join()
    return received


def replay_job(config: Config, entry: Planned, stop_file: Path) -> dict[str, Any]:
    """Returns the job of replaying the finished experiment that an entry may be the same as."""
    assert entry.earlier is not None
    return entry.earlier.job(config, stop_file)


def _tell(changed: Sequence[Planned], screen: IO[str], done: threading.Event) -> None:
    """Says now and then how many replays are over."""
    before = {entry.identity: _size(entry) for entry in changed}
    told = time.monotonic()
    while not done.wait(POLL_SECONDS):
        if time.monotonic() - told < PLAIN_SECONDS:
            continue
        told = time.monotonic()
        over = sum(_size(entry) > before[entry.identity] for entry in changed)
        screen.write(f"replayed {over} of {len(changed)}\n")


def _size(entry: Planned) -> int:
    assert entry.earlier is not None
    path = entry.earlier.folder / EQUIVALENCES
    return path.stat().st_size if path.is_file() else 0
