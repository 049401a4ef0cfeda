"""The driver of a sweep killed at random moments, until every experiment is done; then what it left is counted."""

import contextlib
import os
import random
import runpy
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

from benchmarks.faults.home import Audit, audit, command, environment, sweep_words
from benchmarks.processes import PROCESSES
from setr.settings.home import PROJECT


@dataclass(frozen=True)
class Round:
    """One sweep, from its first driver to the one that ended by itself."""

    kills: int
    seconds: float
    audit: Audit


def kill_drivers(
    home: Path,
    kills: int,
    *,
    experiments: int = 12,
    iterations: int = 60,
    within: float = 15.0,
    zero_state: bool = False,
    seed: int = 0,
) -> list[Round]:
    """Returns the rounds in which the driver was killed `kills` times, each time within so many seconds of its start.

    Every second time its whole session goes with it. `zero_state` empties every file that Ray keeps under the storage
    path after each kill. Raises RuntimeError if a driver ends by itself with another status than 0.
    """
    generator = random.Random(seed)
    rounds: list[Round] = []
    left = kills
    while left > 0:
        words = sweep_words(experiments, iterations, f"round-{seed}-{len(rounds)}")
        begun, killed = time.monotonic(), 0
        while True:
            driver = start_driver(home, words)
            driver.join(generator.uniform(0.2, within) if left > 0 else 600)
            if driver.exitcode is not None:
                break
            assert driver.pid is not None
            if left <= 0:
                driver.kill()
                raise RuntimeError("a driver that nobody killed did not end")
            if killed % 2:
                with contextlib.suppress(ProcessLookupError):  # it has no session of its own yet
                    os.killpg(driver.pid, signal.SIGKILL)
            driver.kill()
            driver.join()
            killed, left = killed + 1, left - 1
            if zero_state:
                empty_state(home / f"round-{seed}-{len(rounds)}")
        if driver.exitcode != 0:
            raise RuntimeError(f"a driver ended with {driver.exitcode}: {(home / 'driver.log').read_text()[-3000:]}")
        found = audit(home, words)
        rounds.append(Round(killed, time.monotonic() - begun, found))
        print(f"round {len(rounds)}: {killed} kills in {rounds[-1].seconds:.0f} s, {found}", flush=True)
        end_leftovers(home)
    return rounds


def start_driver(home: Path, words: list[str], *, name: str = "sweep", log: Path | None = None) -> BaseProcess:
    """Returns the process of a sweep, or another command, that has just been started; `log` has what it says."""
    arguments = (command(name, *words)[1:], environment(home), home, log or home / "driver.log")
    driver = PROCESSES.Process(target=_drive, args=arguments)
    driver.start()
    return driver


def _drive(words: list[str], variables: dict[str, str], home: Path, log: Path) -> None:
    os.setsid()
    os.chdir(home)
    os.environ.clear()
    os.environ.update(variables)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.path.insert(0, str(PROJECT))
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")


def empty_state(storage: Path) -> int:
    """Empties what Ray keeps of its own under the storage path; returns the number of files."""
    files = [path for folder in storage.glob("drivers/*/ray-*") for path in folder.rglob("*") if path.is_file()]
    for path in files:
        path.write_bytes(b"")
    return len(files)


def end_leftovers(home: Path, seconds: float = 30.0) -> int:
    """Ends the processes that killed drivers left in `home` and that do not end by themselves; returns their number."""
    deadline = time.monotonic() + seconds
    while (left := _of_home(home)) and time.monotonic() < deadline:
        time.sleep(0.5)
    for process in left:
        process.kill()
    return len(left)


def _of_home(home: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get("SETR_HOME") == str(home):
                found.append(process)
        except psutil.Error:
            continue
    return found
