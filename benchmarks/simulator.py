"""The simulator against a sweep that ran: `python -m benchmarks.simulator checkpoints`.

Reads the records of a finished sweep on one machine, replays its experiments in the order they started on as many
slots as were busy, and compares the makespan. Durations are once the measured ones (which tests the scheduling), once
what the plan would have said of each experiment from the others' records (which tests plan and scheduling together).
Status 1 if the first is off by more than 10 %.
"""

import argparse
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setr.planning.plan import Ways, estimate, modelled_seconds
from setr.planning.simulate import Cluster, Task, replay
from setr.planning.throughput import Clock, Machine, Measurement, evaluations_of, kind_of
from setr.record.events import read_events
from setr.record.files import EVENTS, EXPERIMENT
from setr.record.reading import as_kept
from setr.study.experiment import Experiment
from setr.study.protocols import Protocol

AIM = 0.10  # of the makespan


@dataclass(frozen=True)
class Ran:
    """One experiment that ran without a break."""

    experiment: Experiment
    protocols: tuple[Protocol, ...]
    start: float  # seconds since 1970
    end: float
    workers: int
    measurement: Measurement

    @property
    def seconds(self) -> float:
        """Returns how long it took."""
        return self.end - self.start


def read_sweep(folder: Path) -> list[Ran]:
    """Returns the experiments of a storage folder that ran at one go, by their start."""
    found = []
    for path in folder.glob(f"*/{EVENTS}"):
        events = read_events(path)
        starts = [event for event in events if event["event"] == "start"]
        ends = [event for event in events if event["event"] == "finished"]
        if len(starts) == 1 and len(ends) == 1:
            record = as_kept(path.parent, EXPERIMENT)
            found.append(_ran(record, starts[0], ends[0]))
    return sorted(found, key=lambda one: one.start)


def _ran(record: dict[str, Any], start: dict[str, Any], end: dict[str, Any]) -> Ran:
    experiment = Experiment.from_dict(record["experiment"])
    recipe, seconds, workers = experiment.recipe, end["seconds"], int(start["world_size"])
    key = kind_of(
        variant=experiment.variant,
        scale=experiment.scale,
        recipe=recipe,
        workers=workers,
        images=Ways(workers).images(recipe),
        checkpointing=False,
        device="cpu",
    )
    measurement = Measurement(
        key,
        step=(seconds["step"] + seconds["data"]) / recipe.iterations,
        evaluation=seconds["evaluation"] / evaluations_of(recipe),
        other=seconds["setup"] + seconds["checkpoint"],
    )
    protocols = tuple(Protocol(**one) for one in record["job"]["protocols"])
    return Ran(experiment, protocols, start["time"], end["time"], workers, measurement)


def busy_slots(sweep: list[Ran]) -> int:
    """Returns how many workers were busy at once, at most."""
    return max(sum(other.workers for other in sweep if other.start <= one.start < other.end) for one in sweep)


def planned_seconds(sweep: list[Ran], number: int, slots: int) -> float:
    """Returns what the plan says of one experiment that knows the others alone."""
    one = sweep[number]
    machine = Machine("cpu", slots, 0.0, {"float32": 0.04, "bfloat16": 0.04}, 1.0)
    others = [other for index, other in enumerate(sweep) if index != number]
    clock = Clock(machine, [other.measurement for other in others])
    for other in others:
        modelled_seconds(other.experiment, other.protocols, Ways(other.workers), clock, 120)
    return estimate(one.experiment, one.protocols, Ways(one.workers), clock, images=120).seconds


def makespan(sweep: list[Ran], seconds: list[float], slots: int, restart: float) -> float:
    """Returns the simulator's makespan of the experiments in the order they started."""
    tasks = [Task(str(number), length, sweep[number].workers) for number, length in enumerate(seconds)]
    return replay(tasks, Cluster(nodes=1, gpus=slots, restart=restart)).makespan


def main() -> int:
    """Prints both comparisons; returns the exit status."""
    parser = argparse.ArgumentParser(description="The simulator against a sweep that ran.")
    parser.add_argument("storage", type=Path, help="a finished sweep's storage folder")
    arguments = parser.parse_args()
    sweep = read_sweep(arguments.storage)
    if len(sweep) < 3:
        sys.exit(f"{arguments.storage}: fewer than three experiments that ran at one go")
    slots = busy_slots(sweep)
    # Several-worker experiments take an engine of their own, whose start and end is no training: left out.
    side_by_side = [one for one in sweep if one.workers == 1]
    real = max(one.end for one in side_by_side) - min(one.start for one in side_by_side)
    gaps = [
        two.start - max((one.end for one in side_by_side if one.end <= two.start), default=two.start)
        for two in side_by_side
    ]
    gap = statistics.median(gap for gap in gaps if gap >= 0)
    measured = makespan(side_by_side, [one.seconds for one in side_by_side], slots, gap)
    planned = [planned_seconds(side_by_side, number, slots) for number in range(len(side_by_side))]
    forecast = makespan(side_by_side, planned, slots, gap)
    print(f"{len(side_by_side)} experiments on {slots} slots, {gap:.2f} s between two of one slot")
    print(f"real makespan {real:.0f} s")
    print(f"simulated, durations as measured: {measured:.0f} s ({measured / real - 1:+.1%})")
    print(f"simulated, durations as planned from the others' records: {forecast:.0f} s ({forecast / real - 1:+.1%})")
    return 0 if abs(measured / real - 1) <= AIM else 1


if __name__ == "__main__":
    sys.exit(main())
