"""Searches through real Ray Tune on a handful of images: what ends early is marked, what is done is not done again."""

import shutil
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipelines import search as searching
from setr.planning.experiments import plan_training
from setr.planning.planned import Planned
from setr.record import lease
from setr.record.events import read_events
from setr.record.lease import exclusive
from setr.training.distributed import Context
from tests.helpers.environment import ROOT, environment
from tests.helpers.tiny import CELL, settings
from tests.helpers.untrained import write_untrained

SPACE = (
    "training.variant=setr-pup-random",
    "training.recipe={batch_size: 2, crop_size: [32, 32], evaluate_every: 2, checkpoint_every: 2}",
    "search.iterations=6",
    "search.reduction=2",
    "training.log_every=1",
    "sweep.concurrent=1",  # one after another: asha then has something to compare with
)


def search(home: Path, *words: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "pipelines" / "search.py", *SPACE, *words],
        env=environment(home),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def searched_home(tiny_home: Path) -> Path:
    """Returns the tiny home with files where the miniature's weights would be."""
    write_untrained(tiny_home / "weights")
    return tiny_home


def test_asha_ends_trials_and_marks_them(searched_home: Path) -> None:
    home = searched_home
    words = ("method=asha", "samples=3", "search.space={base_lr: {loguniform: [1.0e-6, 1.0e-1]}}", "search.seed=1")
    here = ("storage.checkpoints=searched",)
    said = search(home, *words, *here)
    ledgers = {path.parent.name: read_events(path) for path in (home / "searched").glob("*/events.jsonl")}
    assert len(ledgers) == 3
    last = {name: events[-1]["event"] for name, events in ledgers.items()}
    stopped = {name for name, kind in last.items() if kind == "stopped"}
    finished = {name for name, kind in last.items() if kind == "finished"}
    assert stopped
    assert finished
    assert stopped | finished == set(ledgers)
    for name in ledgers:
        assert (home / "searched" / name / "scores.json").exists() == (name in finished)
        assert list((home / "searched" / name).glob("step-*"))  # stopped ones are saved too
    assert "the winner at the full schedule" in said
    assert "pipelines/train.py variant=setr-pup-random" in said

    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    experiment = client.get_experiment_by_name("setr-tables")
    runs = client.search_runs([experiment.experiment_id])
    children = {run.data.tags["setr.identity"]: run for run in runs if "setr.identity" in run.data.tags}
    assert {children[name].info.status for name in finished} == {"FINISHED"}
    assert {children[name].info.status for name in stopped} == {"KILLED"}
    [parent] = {children[name].data.tags["mlflow.parentRunId"] for name in ledgers}
    assert any(run.info.run_id == parent for run in runs)

    # Bayesian, over what is there already and one more: what is finished is read, not trained.
    lengths = {name: len(ledgers[name]) for name in finished}
    search(
        home,
        "method=bayesian",
        "samples=2",
        "search.space={base_lr: [0.01], weight_decay: [0.0], crop_size: [[32, 32]]}",
        *here,
    )
    again = {path.parent.name: read_events(path) for path in (home / "searched").glob("*/events.jsonl")}
    assert len(again) == 4  # both draws are one experiment, trained once
    assert {name: len(again[name]) for name in finished} == lengths
    [new] = set(again) - set(ledgers)
    assert [event["event"] for event in again[new]].count("start") == 1


def test_an_invalid_space_is_one_line_before_anything_starts(searched_home: Path) -> None:
    said = search(searched_home, "search.space={base_lr: [fast]}", "storage.checkpoints=none", status=2)
    [line] = [line for line in said.splitlines() if line.startswith("error:")]
    assert "base_lr" in line
    assert [path.name for path in (searched_home / "none").iterdir()] == ["code"]  # no trial, no lease


@pytest.fixture
def shared(trained: Planned, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planned:
    """Returns a finished experiment on a storage path of its own, and makes waiting for another owner short."""
    monkeypatch.setattr(lease, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(searching, "RETRY_SECONDS", 0.05)
    shutil.copytree(trained.folder, tmp_path / "storage" / trained.identity)
    return plan_training(settings(f"cell={CELL}", f"storage.checkpoints={tmp_path / 'storage'}"))


@pytest.mark.parametrize("end", ["the other one ends", "stop"])
def test_a_trial_waits_while_another_search_or_a_sweep_trains_its_experiment(
    shared: Planned, tmp_path: Path, end: str
) -> None:
    stop, before = tmp_path / "stop", read_events(shared.folder / "events.jsonl")
    config = settings(f"cell={CELL}", f"storage.checkpoints={shared.folder.parent}")
    trial = threading.Thread(target=searching._train, args=(shared, config, stop, Context()), daemon=True)
    with ExitStack() as others:
        others.enter_context(exclusive(shared.folder.parent))  # a sweep's, of the storage path: no trial asks for it
        held = others.enter_context(ExitStack())
        held.enter_context(exclusive(shared.folder))
        trial.start()
        time.sleep(0.5)
        assert trial.is_alive()
        if end == "stop":
            stop.touch()
        else:
            held.close()
        trial.join(60)
        assert not trial.is_alive()
    assert read_events(shared.folder / "events.jsonl") == before  # trained once, by the other one


def test_a_trial_that_was_ended_says_so_unless_somebody_else_goes_on_with_it(shared: Planned) -> None:
    file = shared.folder / "events.jsonl"
    before = read_events(file)
    with exclusive(shared.folder):
        searching.say_stopped(shared.folder, 2, "ended by asha")
    assert read_events(file) == before
    searching.say_stopped(shared.folder, 2, "ended by asha")
    assert [event["event"] for event in read_events(file)[len(before) :]] == ["stopped"]
