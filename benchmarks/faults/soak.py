"""Faults at random for as long as is asked, on sweeps that have company: nothing lost, doubled, different or hung.

One round is one sweep of short experiments in a storage path of its own, begun again as often as it takes. While it
runs, Ray's raylet and control service, a training's process and the driver are killed or stopped, by process id, found
below the driver; and others work in the same folder: a second sweep, a search, `dvc repro`, a report.
"""

import contextlib
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import yaml

from benchmarks.faults import full_disks
from benchmarks.faults.home import audit, command, environment, final_weights, sweep_words
from benchmarks.faults.kills import end_leftovers, start_driver

EXPERIMENTS, ITERATIONS = 3, 60
HANG_SECONDS = 420.0  # without a new event and without a fault: two loaded cores need some minutes to start Ray
# What processes below the driver are called; and the driver itself. A trial's process is named after what it runs.
TARGETS = {"raylet": "raylet", "gcs": "gcs_server", "trial": "ray::ImplicitFunc"}
COMPANY = ("nobody", "a second sweep", "a search", "dvc repro", "reports")
# 1: somebody else trains an experiment, or one failed for good; 2: nothing to report yet; 4: another sweep works here,
# or Ray was lost too often; -9: killed.
FINE = (0, 1, 2, 4, -signal.SIGKILL)
Started = BaseProcess | subprocess.Popen[bytes]


@dataclass
class Soak:
    """What was done to the sweeps, and what came of it; all but the first three have to be 0."""

    rounds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    company: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # from each fault until something happened again
    hangs: int = 0
    tracebacks: int = 0
    bad_endings: int = 0
    lost: int = 0
    doubled: int = 0
    different: int = 0
    left_behind: int = 0  # processes that outlived their drivers by half a minute
    skipped: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Returns whether nothing was lost, doubled or different, and nothing hung."""
        found = (self.hangs, self.tracebacks, self.bad_endings, self.lost, self.doubled, self.different)
        return not any(found) and not self.left_behind

    def __str__(self) -> str:
        """Returns everything in a few lines."""
        slow = sorted(self.seconds)
        times = f"median {slow[len(slow) // 2]:.0f} s, at most {slow[-1]:.0f} s" if slow else "none"
        lines = (
            f"{self.rounds} rounds; {sum(self.faults.values())} kills and stops: {dict(sorted(self.faults.items()))}",
            f"in company of: {dict(sorted(self.company.items()))}",
            f"from a fault until it went on or had left: {times}",
            f"hangs {self.hangs}, tracebacks {self.tracebacks}, bad endings {self.bad_endings}; experiments lost "
            f"{self.lost}, doubled {self.doubled}, different from undisturbed {self.different}; processes left behind "
            f"{self.left_behind}",
            *(f"skipped: {what}" for what in self.skipped),
        )
        return "\n".join(lines)


def soak(
    home: Path, *, minutes: float = 60.0, seed: int = 0, disks: bool = True, hang_seconds: float = HANG_SECONDS
) -> Soak:
    """Returns what came of `minutes` of faults, drawn by `seed`, and then, with `disks`, of full disks.

    A round that has begun is brought to its end.
    """
    generator, found = random.Random(seed), Soak()
    found.skipped.append("a clock that jumps, which takes a library that this project does not install")
    calm = sweep_words(EXPERIMENTS, ITERATIONS, "calm")
    subprocess.run(command("sweep", *calm), env=environment(home), cwd=home, check=True, capture_output=True)
    expected = final_weights(home / "calm")
    deadline = time.monotonic() + 60 * minutes
    while time.monotonic() < deadline:
        name, company = f"soak-{seed}-{found.rounds}", COMPANY[found.rounds % len(COMPANY)]
        one = Round(home, name, company, generator, found, hang_seconds)
        one.run(deadline)
        _judge(home, one, expected, found)
        found.rounds += 1
        print(f"--- round {found.rounds}, in company of {company}\n{found}", flush=True)
    if disks:
        filled = full_disks.fill_disks(home)
        found.company["full disks"] = len(filled.said)
        found.bad_endings += len(filled.wrong)
        found.skipped += filled.skipped
        print(*filled.said, *filled.wrong, sep="\n", flush=True)
    else:
        found.skipped.append("full disks, as was asked")
    return found


def _judge(home: Path, one: "Round", expected: dict[str, str], found: Soak) -> None:
    """Adds what a round left to what was found."""
    left = audit(home, one.words)
    weights = final_weights(one.storage)
    found.lost += left.lost + left.missing_steps
    found.doubled += left.trained_twice + left.duplicate_runs + left.duplicate_steps
    found.different += sum(weights.get(identity) != sha256 for identity, sha256 in expected.items())
    found.left_behind += end_leftovers(home) + len(list((one.storage / "drivers").glob("*")))
    if not left.clean:
        print(f"{one.storage.name}: {left}", flush=True)


class Round:
    """One sweep under fire, and its company."""

    def __init__(
        self, home: Path, name: str, company: str, generator: random.Random, found: Soak, hang_seconds: float
    ) -> None:
        """Prepare it; nothing runs yet."""
        self.hang_seconds = hang_seconds
        self.home, self.company, self.generator, self.found = home, company, generator, found
        self.words, self.storage = sweep_words(EXPERIMENTS, ITERATIONS, name), home / name
        self.log = home / f"{name}.log"
        self.others: list[Started] = []
        self.left = 0  # faults

    def run(self, deadline: float) -> None:
        """Runs the sweep again and again until it ends with 0; after the deadline nothing is done to it any more."""
        self.found.company[self.company] += 1
        self.left = self.generator.randint(3, 7)
        try:
            while True:
                driver = start_driver(self.home, self.words, log=self.log)
                if not self.others:
                    self._invite()
                self._follow(driver, until=deadline)
                if driver.exitcode == 0:
                    break
                time.sleep(0.5)
            for other in self.others:
                self._follow(other, until=0.0)
        finally:
            for other in self.others:
                if _status(other) is None:
                    other.kill()

    def _invite(self) -> None:
        """Starts who else works in the folder."""
        name = self.storage.name
        if self.company == "a second sweep":
            self.others.append(start_driver(self.home, self.words, log=self.home / f"{name}-second.log"))
        elif self.company == "a search":
            words = search_words(name)
            self.others.append(start_driver(self.home, words, name="search", log=self.home / f"{name}-search.log"))
        elif self.company == "dvc repro":
            project = dvc_project(self.home / f"dvc-{name}", command("sweep", *self.words))
            self._start([sys.executable, "-m", "dvc", "repro"], project)
        elif self.company == "reports":
            self._start(
                command("report", f"storage.results=results-{name}", f"storage.report=report-{name}"), self.home
            )

    def _start(self, words: list[str], folder: Path) -> None:
        with (self.home / f"{self.storage.name}-others.log").open("ab") as log:
            process = subprocess.Popen(words, env=environment(self.home), cwd=folder, stdout=log, stderr=log)
        self.others.append(process)

    def _follow(self, command: "Started", *, until: float) -> None:
        """Follows a command to its end, and hits it now and then until that moment."""
        hit_at = 0.0
        changed, before = time.monotonic(), self._state()
        next_hit = changed + self.generator.uniform(2, 40)
        while _status(command) is None:
            time.sleep(0.3)
            now, state = time.monotonic(), self._state()
            if state != before:
                if hit_at:
                    self.found.seconds.append(now - hit_at)
                before, changed, hit_at = state, now, 0.0
            if now - changed > self.hang_seconds:
                self.found.hangs += 1
                print(f"HANG in company of {self.company}: {self._said()}", flush=True)
                command.kill()
            if next_hit <= now < until and self.left:
                if self._hit(command):
                    self.left -= 1
                    hit_at = changed = time.monotonic()
                    before = self._state()
                    if self.company == "reports":
                        self._invite()
                next_hit = time.monotonic() + self.generator.uniform(5, 40)
        if hit_at:
            self.found.seconds.append(time.monotonic() - hit_at)
        self._judge_ending(_status(command))

    def _state(self) -> tuple[int, ...]:
        """Returns what grows while trainings go on."""
        return tuple(path.stat().st_size for path in sorted(self.storage.glob("*/events.jsonl")))

    def _hit(self, driver: "Started") -> bool:
        """Kills or stops one process of the sweep; returns whether there was one."""
        what = self.generator.choice((*TARGETS, "driver"))
        kind = self.generator.choice(("kill", "kill", "stop"))
        try:
            mine = psutil.Process(driver.pid)
            family = mine.children(recursive=True)
            if what == "driver":
                self._hit_driver(mine, kind)
            else:
                there = [one for one in family if one.name().startswith(TARGETS[what])]
                if not there:
                    return False
                self.generator.choice(there).send_signal(signal.SIGKILL if kind == "kill" else signal.SIGSTOP)
        except psutil.Error:
            return False
        self.found.faults[f"{what} {kind}"] += 1
        return True

    def _hit_driver(self, driver: psutil.Process, kind: str) -> None:
        """Kills the driver, every other time with its session; or makes it sleep for a while: it is nobody's to end."""
        if kind == "stop":
            driver.suspend()
            time.sleep(self.generator.uniform(1, 20))
            driver.resume()
            return
        if self.generator.random() < 0.5:
            with contextlib.suppress(ProcessLookupError):  # it has no session of its own yet
                os.killpg(driver.pid, signal.SIGKILL)
        with contextlib.suppress(psutil.NoSuchProcess):
            driver.kill()

    def _judge_ending(self, status: int | None) -> None:
        said, bad = self._said(), status not in FINE
        self.found.tracebacks += "Traceback" in said
        self.found.bad_endings += bad
        if bad or "Traceback" in said:
            print(f"in company of {self.company}, ended with {status}: {said[-3000:]}", flush=True)

    def _said(self) -> str:
        return "\n".join(
            path.read_text(errors="replace") for path in sorted(self.home.glob(f"{self.storage.name}*.log"))
        )


def search_words(name: str) -> list[str]:
    """Returns the settings of a search whose trials are kept where the sweep `name` keeps its experiments."""
    return [
        "training.variant=setr-pup-random",
        "training.recipe={batch_size: 2, crop_size: [32, 32], evaluate_every: 20, checkpoint_every: 20}",
        f"search.iterations={ITERATIONS}",
        "search.method=grid",
        "search.space={base_lr: [0.01, 0.001]}",
        "training.log_every=1",
        f"storage.checkpoints={name}",
        f"tracking.experiment=search-{name}",
    ]


def dvc_project(folder: Path, words: list[str]) -> Path:
    """Returns a new project of DVC's without git, whose one stage runs these words."""
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=folder, check=True)
    stages = {"stages": {"sweep": {"cmd": shlex.join(words)}}}
    (folder / "dvc.yaml").write_text(yaml.safe_dump(stages))
    return folder


def _status(process: "Started") -> int | None:
    return process.poll() if isinstance(process, subprocess.Popen) else process.exitcode
