"""All of Table 2 in miniature: the CPU time of the sweep, of its replay under other code, of scoring it again.

The commands themselves are run, in a clone of the project, with their workers. CPU time is read from each process while
it lives, several times a second: what Ray ends without waiting for it is in nobody's account of children.
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from benchmarks.identity.figures import OTHER_SCORE, REPLAY_AIM, SAME
from benchmarks.identity.workshop import PROJECT

_SUBREAPER = 36  # prctl: orphans of our children become ours
_MEASURED = "sweep-cpu.json"  # in the home: what its sweep took


def table2(folder: Path, home: Path, words: tuple[str, ...] = ()) -> bool:
    """Prints the three CPU times; `home` is one whose sweep is finished, or one where it runs now.

    The home's results are not touched by replays: those go to a copy.
    """
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(PROJECT), str(clone)], check=True)
    home.mkdir(parents=True, exist_ok=True)
    swept = _sweep_cpu(clone, home, words)
    copy = folder / "home"
    shutil.copytree(home, copy, symlinks=True)
    _edit(clone, SAME)
    text, replayed = _sweep(clone, copy, (*words, "--prove"))
    stand = next(
        (line for line in text.splitlines() if line.startswith("replayed ") and "stand" in line), "nothing was replayed"
    )
    share = replayed / swept
    print(f"{stand}\nCPU seconds: sweep {swept:.0f}, replay {replayed:.0f}: {share:.1%} (aim: under 20 %)")
    _edit(clone, OTHER_SCORE)
    before = _steps(copy)
    _, scored = _sweep(clone, copy, words)
    print(f"another score: {scored:.0f} CPU seconds, {_steps(copy) - before} training steps reported (aim: none)")
    return share < REPLAY_AIM and _steps(copy) == before and "28 stand" in stand


def _sweep_cpu(clone: Path, home: Path, words: tuple[str, ...]) -> float:
    """Returns the CPU seconds of the home's sweep: as measured when it ran, or it runs now."""
    known = home / _MEASURED
    if known.is_file():
        return float(json.loads(known.read_text())["seconds"])
    if (home / "checkpoints").is_dir():
        raise SystemExit(f"{home} has results, and no {_MEASURED}: name an empty folder, and the sweep runs there")
    _sweep(clone, home, ("--plan", *words))  # reads what there is; inputs are made before the clock runs
    _, seconds = _sweep(clone, home, words)
    known.write_text(json.dumps({"seconds": seconds}))
    return seconds


def _sweep(clone: Path, home: Path, words: tuple[str, ...]) -> tuple[str, float]:
    """Returns what the command printed, and the CPU seconds of all processes that it began."""
    environment: Mapping[str, str] = {**os.environ, "SETR_HOME": str(home), "PYTHONPATH": str(clone)}
    command = [sys.executable, str(clone / "pipelines" / "sweep.py"), "sweep.tables=[2]", *words]
    with _CpuSeconds() as used:
        done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
        _wait_for_orphans()
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-2000:], sep="\n")
    return done.stdout, used.total


def _wait_for_orphans(seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            time.sleep(0.2)


class _CpuSeconds:
    """The CPU seconds of all processes below this one while the block runs, each as last read."""

    _EVERY = 0.2  # seconds between two readings: the most of a process's end that is not seen

    def __init__(self) -> None:
        self._seen: dict[tuple[int, float], float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_CpuSeconds":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def total(self) -> float:
        return sum(self._seen.values())

    def _watch(self) -> None:
        while not self._ended.wait(self._EVERY):
            for process in psutil.Process().children(recursive=True):
                try:
                    times = process.cpu_times()
                    self._seen[process.pid, process.create_time()] = times.user + times.system
                except psutil.Error:
                    continue


def _edit(clone: Path, edit: tuple[str, str, str]) -> None:
    file, before, after = edit
    text = (clone / file).read_text()
    assert before in text, edit
    (clone / file).write_text(text.replace(before, after))


def _steps(home: Path) -> int:
    """Returns how many reports of steps all events of a home hold."""
    return sum(path.read_text().count('"metrics"') for path in home.glob("checkpoints/*/events.jsonl"))
