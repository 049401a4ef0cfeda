"""The tracking server stopped while an experiment trains: no event lost or doubled, no step slower."""

import itertools
import os
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.faults.home import command, environment, settings, sweep_words, working_in
from benchmarks.faults.machines import free_port
from pipelines.tracking.recording import Recorder
from pipelines.tracking.tracker import Tracker
from setr.planning.experiments import plan_sweep
from setr.record.events import Event, read_events
from setr.settings.config import TrackingConfig


@dataclass(frozen=True)
class Outage:
    """How a training came through the server's absence; times in milliseconds."""

    seconds: float
    steps: int
    lost: int  # steps that MLflow does not have
    doubled: int
    median: dict[str, float]  # of a step: up | down
    p99: dict[str, float]
    windows: list[tuple[str, float]]  # the 99th percentile of each stretch in turn: how far two of one kind are apart


def stop_server(home: Path, *, seconds: float = 60.0, around: float = 30.0, rounds: int = 1) -> Outage:
    """Returns what `rounds` stops of `seconds` did to a training, with `around` seconds before, between and after."""
    port = free_port()
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--workers=1", f"--port={port}"),
            f"--backend-store-uri=sqlite:///{home}/server.db",
            f"--artifacts-destination={home}/server-artifacts",
        ],
        env=environment(home, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false", MLFLOW_DISABLE_TELEMETRY="true"),
        cwd=home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _answer(address)
        return _train_through(home, address, server.pid, seconds, around, rounds)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _train_through(home: Path, address: str, group: int, seconds: float, around: float, rounds: int) -> Outage:
    words = sweep_words(1, 1_000_000, "outage")
    with working_in(home):
        [entry] = plan_sweep(settings(*words))
    tracker = Tracker(TrackingConfig(uri=address), home)
    parent = tracker.start_parent("outage", {}, "")
    # Trained by a process of its own, as on a cluster; this one is the driver.
    training = subprocess.Popen(
        command("train", *words, f"training.cell={entry.cells[0]}"),
        env=environment(home, MLFLOW_TRACKING_URI="offline"),
        cwd=home,
        stdout=subprocess.DEVNULL,
    )
    record = entry.folder / "events.jsonl"
    try:
        while not any(event["event"] == "metrics" for event in read_events(record)):
            if training.poll() is not None:
                raise RuntimeError("the training ended")
            time.sleep(0.1)
        with Recorder([entry], tracker, parent, {}, lambda events: None):
            stretches = [("up", time.time())]
            for _ in range(rounds):
                time.sleep(around)
                os.killpg(group, signal.SIGSTOP)
                stretches.append(("down", time.time()))
                time.sleep(seconds)
                os.killpg(group, signal.SIGCONT)
                stretches.append(("up", time.time()))
            time.sleep(around)
            stretches.append(("end", time.time()))
            training.send_signal(signal.SIGTERM)
            training.wait(120)
    finally:
        training.kill()
        training.wait()
    events = [event for event in read_events(record) if event["event"] == "metrics"]
    [run] = tracker.find(entry.identity)
    points = [point.step for point in tracker.client.get_metric_history(run.run_id, "train/loss")]
    found = [(kind, _step_times(events, begun, ended)) for (kind, begun), (_, ended) in itertools.pairwise(stretches)]
    times = {kind: [value for name, values in found if name == kind for value in values] for kind in ("up", "down")}
    return Outage(
        seconds=seconds,
        steps=len(events),
        lost=len({event["step"] for event in events} - set(points)),
        doubled=len(points) - len(set(points)),
        median={name: float(np.median(values)) for name, values in times.items()},
        p99={name: float(np.percentile(values, 99)) for name, values in times.items()},
        windows=[(kind, round(float(np.percentile(values, 99)), 1)) for kind, values in found],
    )


def _step_times(events: list[Event], begun: float, ended: float) -> list[float]:
    """Returns the milliseconds of the steps that lie between two moments."""
    times = [event["time"] for event in events if begun <= event["time"] <= ended]
    return [1000 * (after - before) for before, after in itertools.pairwise(times)]


def _answer(address: str, seconds: float = 400.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
        except OSError:
            if time.monotonic() > deadline:
                raise RuntimeError("the MLflow server does not start") from None
            time.sleep(0.2)
        else:
            return
