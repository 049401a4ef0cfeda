"""How much of a sweep's wall clock goes into neither training nor evaluation."""

import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.home import command, environment, sweep_words
from setr.record.events import read_events

WORK = ("data", "step", "evaluation")  # sections of a training that are what it is for


@dataclass(frozen=True)
class Overhead:
    """Where the time of a sweep went, in seconds."""

    experiments: int
    wall: float  # of the command, from start to exit
    work: float  # in training and evaluation, over all experiments
    sections: dict[str, float]  # median per experiment
    start: float  # from the command to the first training

    def share(self, side_by_side: int) -> float:
        """Returns the share of the wall clock, times the experiments side by side, that was no work."""
        return 1 - self.work / (side_by_side * self.wall)


def measure(home: Path, *, experiments: int = 12, seconds: float = 20.0, side_by_side: int = 2) -> Overhead:
    """Returns where the time of a sweep went whose experiments take about `seconds` each, `side_by_side` at once."""
    trial = run(home, "trial", side_by_side, 40, side_by_side)
    each = statistics.median([trial.sections["step"] + trial.sections["data"]]) / 40
    return run(home, "overhead", experiments, max(1, round(seconds / each)), side_by_side)


def run(home: Path, name: str, experiments: int, iterations: int, side_by_side: int) -> Overhead:
    """Returns where the time of one sweep went."""
    words = sweep_words(experiments, iterations, name)
    begun = time.time()
    subprocess.run(
        command("sweep", *words, f"sweep.concurrent={side_by_side}"),
        env=environment(home),
        cwd=home,
        check=True,
        capture_output=True,
    )
    wall = time.time() - begun
    records = [read_events(path) for path in (home / name).glob("*/events.jsonl")]
    spent = [event["seconds"] for events in records for event in events if event["event"] == "finished"]
    sections = {part: statistics.median(one.get(part, 0.0) for one in spent) for part in spent[0]}
    work = sum(one.get(part, 0.0) for one in spent for part in WORK)
    first = min(event["time"] for events in records for event in events if event["event"] == "start")
    return Overhead(len(records), wall, work, sections, first - begun)
