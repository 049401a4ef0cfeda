"""A node of a Ray cluster killed while it trains: the experiments go on elsewhere, to the same weights."""

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.home import Audit, audit, command, environment, final_weights, sweep_words
from benchmarks.faults.machines import Cluster
from setr.record.events import read_events


@dataclass(frozen=True)
class NodeLoss:
    """How a sweep came through the loss of a node."""

    interrupted: int  # experiments that were in training there
    restarted_after: float  # seconds from the kill to the first training that went on
    same_weights: bool  # as the sweep that nobody disturbed
    audit: Audit


def lose_a_node(home: Path, *, experiments: int = 2, iterations: int = 120) -> NodeLoss:
    """Returns how a sweep on two nodes of one CPU came through the loss of one; a third joins in its place."""
    calm = sweep_words(experiments, iterations, "calm")
    subprocess.run(command("sweep", *calm), env=environment(home), cwd=home, check=True, capture_output=True)
    words = sweep_words(experiments, iterations, "disturbed")
    storage = home / "disturbed"
    with Cluster(home) as cluster:
        first = cluster.add_node()
        cluster.add_node()
        cluster.wait_for_nodes()
        variables = environment(home, RAY_ADDRESS=cluster.address, **cluster.variables)
        driver = subprocess.Popen(
            command("sweep", *words),
            env=variables,
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        half = iterations // 2  # a checkpoint is there
        while sum(_step(path) > half for path in _records(storage)) < min(2, experiments):
            if driver.poll() is not None:
                raise RuntimeError(driver.communicate()[0])
            time.sleep(0.02)
        cluster.kill(first)
        begun = time.time()
        cluster.add_node()
        said, _ = driver.communicate(timeout=600)
        if driver.returncode:
            raise RuntimeError(said)
    events = [event for path in _records(storage) for event in read_events(path)]
    starts = [event for event in events if event["event"] == "start" and event["step"]]
    return NodeLoss(
        interrupted=len(starts),
        restarted_after=min((event["time"] for event in starts), default=float("nan")) - begun,
        same_weights=final_weights(storage) == final_weights(home / "calm"),
        audit=audit(home, words),
    )


def _records(storage: Path) -> list[Path]:
    return list(storage.glob("*/events.jsonl"))


def _step(path: Path) -> int:
    return max((event["step"] for event in read_events(path) if event["event"] == "metrics"), default=0)
