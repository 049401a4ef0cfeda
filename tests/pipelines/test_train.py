"""The training command as a process: signals, torchrun, seeds, and folders that hold something else."""

import argparse
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipelines.train import work
from setr.record.checkpoint_names import latest_step
from setr.record.events import Event, read_events
from setr.settings.config import load_config
from setr.settings.home import PROJECT
from tests.helpers.environment import environment
from tests.helpers.running import Command

CELL = "cell=table2/setr-pup-random/40k"
TINY = (
    "sweep.scale=miniature",
    "miniature.crop_size=[32,32]",
    "miniature.batch_size=2",
    "log_every=1",
    "loader_threads=0",
)


def wait_for(folder: Path, kind: str, command: Command) -> list[Event]:
    """Returns the events below `folder` as soon as there is one of the kind."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and command.process.is_alive():
        for path in folder.glob("*/events.jsonl"):
            events = read_events(path)
            if any(event["event"] == kind for event in events):
                return events
        time.sleep(0.005)
    command.process.kill()
    raise AssertionError(f"no {kind} event: {command.output.read_text()}")


def the_events(folder: Path, kind: str = "") -> list[Event]:
    [path] = folder.glob("*/events.jsonl")
    return [event for event in read_events(path) if kind in ("", event["event"])]


def tracked(home: Path, experiment: str) -> list[Any]:
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    return list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))


@pytest.mark.slow
def test_sigterm_saves_leaves_with_143_and_the_same_command_goes_on(home: Path) -> None:
    words = ("miniature.iterations={40k: 60}", "seed=3", "storage.checkpoints=stopped", "tracking.experiment=stopped")
    training = Command(home, "train", CELL, *TINY, *words)
    wait_for(home / "stopped", "metrics", training)
    training.send(signal.SIGTERM)
    training.end(143)
    [experiment] = [record.parent for record in (home / "stopped").glob("*/events.jsonl")]
    stopped = the_events(home / "stopped")[-1]
    assert stopped["event"] == "stopped"
    assert 0 < stopped["step"] == latest_step(experiment) < 60
    assert [run.info.status for run in tracked(home, "stopped")] == ["KILLED", "KILLED"]

    assert "mIoU" in Command(home, "train", CELL, *TINY, *words).end(0)
    assert [event["step"] for event in the_events(home / "stopped", "start")] == [0, stopped["step"]]
    assert [event["step"] for event in the_events(home / "stopped", "metrics")] == list(range(1, 61))
    [child] = [run for run in tracked(home, "stopped") if "setr.identity" in run.data.tags]
    assert child.info.status == "FINISHED"
    assert child.data.tags["setr.seed"] == "3"
    assert child.data.tags["setr.identity"] == experiment.name


@pytest.mark.slow
def test_two_ranks_leave_together_and_torchrun_ends_what_they_began(home: Path) -> None:
    words = ("miniature.iterations={40k: 40}", "seed=4", "storage.checkpoints=two", "tracking.experiment=two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [
        Command(home, "train", CELL, *TINY, *words, RANK=str(rank), LOCAL_RANK=str(rank), **group) for rank in range(2)
    ]
    wait_for(home / "two", "metrics", ranks[0])
    ranks[1].send(signal.SIGTERM)  # one process of many is told, all leave
    said = [rank.end(143) for rank in ranks]
    assert "setr-pup-random 40k seed 4" in said[0]
    assert all(line.startswith("waiting for ") for line in said[1].splitlines()), said[1]  # it was the faster one

    done = subprocess.run(  # the command starts torchrun
        [sys.executable, str(PROJECT / "pipelines" / "train.py"), CELL, *TINY, *words, "training.workers=2"],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("scenes val, ss: mIoU") == 1
    events = the_events(home / "two")
    assert [event["world_size"] for event in events if event["event"] == "start"] == [2, 2]
    assert [event["step"] for event in events if event["event"] == "metrics"] == list(range(1, 41))
    assert [event["event"] for event in events].count("finished") == 1
    names = sorted("setr.identity" in run.data.tags for run in tracked(home, "two"))
    assert names == [False, False, True]  # a run for each of two commands, and the experiment's


def command(*words: str, allow_drift: bool = False) -> int:
    """Runs the command in this process."""
    config = load_config(PROJECT / "params.yaml", [CELL, *TINY, *words], section="training")
    return work(config, argparse.Namespace(allow_drift=allow_drift))


def test_a_folder_with_another_training_is_refused_unless_drift_is_allowed(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("folder=mine", "tracking.experiment=drift")
    assert command(*words, "miniature.iterations={40k: 2}") == 0
    first = json.loads((home / "mine" / "experiment.json").read_text())
    events = read_events(home / "mine" / "events.jsonl")
    assert command(*words, "miniature.iterations={40k: 2}") == 0
    assert ": done, " in capsys.readouterr().out

    assert command(*words, "miniature.iterations={40k: 3}") == 2
    [error] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "E_DRIFT" in error
    assert "experiment.recipe.iterations: 2 -> 3" in error
    assert "--allow-drift" in error
    assert json.loads((home / "mine" / "experiment.json").read_text()) == first
    assert read_events(home / "mine" / "events.jsonl") == events

    assert command(*words, "miniature.iterations={40k: 3}", allow_drift=True) == 0
    news = read_events(home / "mine" / "events.jsonl")[len(events) :]
    kinds = [(event["event"], event["step"]) for event in news[:3]]
    assert kinds == [("drift", 0), ("no_trace", 2), ("start", 2)]  # no replay could tell what was trained by what
    assert json.loads((home / "mine" / "scores.json").read_text())["step"] == 3
    assert command(*words, "miniature.iterations={40k: 3}") == 0
