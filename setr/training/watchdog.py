"""Where an attempt's time goes, section by section, and an end for one that hangs.

A rank that hangs in a collective or in a driver says nothing and is noticed by no engine: its process looks alive. The
watchdog saves every thread's stack and ends the process, so that whoever started it can start it again.
"""

import faulthandler
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from setr.settings.run import Limits

T = TypeVar("T")

EXIT_STATUS = 75  # EX_TEMPFAIL: start me again
TELL_SECONDS = 5.0  # for the stacks and for whoever is told of a hang
SETUP, DATA, STEP, CHECKPOINT, EVALUATION = "setup", "data", "step", "checkpoint", "evaluation"


class Sections:
    """Which section the training is in, and the seconds spent in each so far. Sections do not nest."""

    def __init__(self) -> None:
        """Start in the section `setup`."""
        self.seconds = dict.fromkeys((SETUP, DATA, STEP, CHECKPOINT, EVALUATION), 0.0)
        self.steps: deque[float] = deque(maxlen=1000)  # seconds of the latest ones, waiting for data included
        self.current = (SETUP, time.perf_counter())
        self._waited = 0.0

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the block's time as section `name`, and the time around it as `setup`."""
        start = self._enter(name)
        try:
            yield
        finally:
            seconds = self._enter(SETUP) - start
            if name == DATA:
                self._waited = seconds
            elif name == STEP:
                self.steps.append(self._waited + seconds)

    def waiting(self, batches: Iterable[T]) -> Iterator[T]:
        """Yields the batches; the time until each comes counts as section `data`."""
        iterator = iter(batches)
        while True:
            with self(DATA):
                try:
                    batch = next(iterator)
                except StopIteration:
                    return
            yield batch

    def totals(self) -> dict[str, float]:
        """Returns the seconds of each section, the present one's up to now."""
        name, since = self.current
        return {**self.seconds, name: self.seconds[name] + time.perf_counter() - since}

    def _enter(self, name: str) -> float:
        now = time.perf_counter()
        before, since = self.current
        self.seconds[before] += now - since
        self.current = (name, now)
        return now


@contextmanager
def watched(
    sections: Sections,
    folder: Path,
    *,
    rank: int = 0,
    limits: Limits | None = None,
    on_hang: Callable[[str], None] = lambda cause: None,
    poll_seconds: float = 1.0,
) -> Iterator[None]:
    """Watches the sections for the time of the block, from a thread of its own.

    A section over its limit ends the process with EXIT_STATUS after `folder`/stacks-rank<rank>-<time>.txt is written
    and `on_hang` was given the cause.
    """
    done = threading.Event()
    arguments = (sections, folder, rank, limits or Limits(), on_hang, poll_seconds, done)
    thread = threading.Thread(target=_watch, args=arguments, name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def limit_seconds(name: str, sections: Sections, limits: Limits) -> float:
    """Returns how long the section may last now: a step gets setup's limit until three have been measured."""
    if name in (DATA, STEP):
        measured = sorted(sections.steps)
        if len(measured) < 3:
            return limits.setup
        return max(limits.step, limits.step_factor * measured[int(0.99 * (len(measured) - 1))])
    return {SETUP: limits.setup, CHECKPOINT: limits.checkpoint, EVALUATION: limits.evaluation}[name]


def _watch(
    sections: Sections,
    folder: Path,
    rank: int,
    limits: Limits,
    on_hang: Callable[[str], None],
    poll_seconds: float,
    done: threading.Event,
) -> None:
    seen, elapsed, last = sections.current, 0.0, time.perf_counter()
    while not done.wait(poll_seconds):
        now = time.perf_counter()
        # A process that was itself suspended must not count that time: only what was watched counts.
        elapsed += min(now - last, 2 * poll_seconds)
        last = now
        if sections.current is not seen:
            seen, elapsed = sections.current, 0.0
        allowed = limit_seconds(seen[0], sections, limits)
        if elapsed > allowed:
            _end_process(
                folder, rank, f"no progress in {seen[0]} for {elapsed:.0f} s, {allowed:.0f} s allowed", on_hang
            )


def _end_process(folder: Path, rank: int, cause: str, on_hang: Callable[[str], None]) -> None:
    path = folder / f"stacks-rank{rank}-{time.strftime('%Y%m%dT%H%M%S')}.txt"
    # Aside and with a limit, each: the storage, or whoever is told, may hang for the same reason.
    duties: tuple[Callable[[], None], ...] = (
        lambda: _write_stacks(path, cause),
        lambda: on_hang(f"{cause}; stacks in {path.name}"),
    )
    tellers = [threading.Thread(target=duty, daemon=True) for duty in duties]
    try:
        for teller in tellers:
            teller.start()
        deadline = time.monotonic() + TELL_SECONDS
        for teller in tellers:
            teller.join(max(0.0, deadline - time.monotonic()))
    finally:
        # Not sys.exit: the thread that hangs would never let it finish.
        os._exit(EXIT_STATUS)


def _write_stacks(path: Path, cause: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(cause + "\n")
        file.flush()
        faulthandler.dump_traceback(file, all_threads=True)
