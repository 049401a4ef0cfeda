"""The whole line on a handful of images: real processes, real Ray (Tune and Train), real MLflow on SQLite."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from mlflow import MlflowClient

from setr.data.shards import open_shards
from setr.record.events import read_events
from tests.helpers.environment import ROOT, environment

SCENES = ("scenes.train_images=8", "scenes.val_images=3", "scenes.height=64", "scenes.width=128")
WEIGHTS = ("weights.images=4", "weights.size=32", "weights.steps=2")
SWEEP = (
    "sweep.variants=[setr-naive-base,setr-pup-random]",
    "miniature.iterations={40k: 3, 80k: 6}",
    "miniature.crop_size=[32,32]",
    "miniature.batch_size=2",
    "training.log_every=1",
)
EXPERIMENTS = 3  # setr-pup-random has no 80k column


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("a folder with spaces")


def run(home, command, *words, status=0):
    done = subprocess.run(
        [sys.executable, ROOT / "pipelines" / f"{command}.py", *words],
        env=environment(home),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def experiments(home, folder="checkpoints"):
    return {path.parent.name: read_events(path) for path in (home / folder).glob("*/events.jsonl")}


def kinds(events, kind):
    return [event for event in events if event["event"] == kind]


def final_weights(home, folder="checkpoints"):
    """Returns {identity: SHA-256 of the weights of the newest checkpoint}."""
    found = {}
    for experiment in (home / folder).glob("*/events.jsonl"):
        newest = max(experiment.parent.glob("step-*"))
        found[experiment.parent.name] = hashlib.sha256((newest / "model.safetensors").read_bytes()).hexdigest()
    return found


@pytest.fixture(scope="module")
def trained(home):
    """Runs the whole line once."""
    run(home, "scenes", *SCENES)
    run(home, "prepare")
    run(home, "weights", *WEIGHTS)
    return run(home, "sweep", *SWEEP).stdout


@pytest.mark.slow
def test_the_line_ends_with_every_number_and_where_the_time_went(home, trained):
    assert f"{EXPERIMENTS} of {EXPERIMENTS} experiments have results" in trained
    assert "median seconds per experiment" in trained
    assert len(open_shards(home / "data/shards/scenes/train")) == 8
    scores = json.loads((home / "results/scores.json").read_text())["table2"]
    assert set(scores) == {"setr-naive-base", "setr-pup-random"}
    assert all(0 <= value <= 100 for row in scores.values() for value in row.values())
    # Ray's, MLflow's and Alembic's own lines went to the log.
    assert not [line for line in trained.splitlines() if "INFO" in line or "WARNING" in line]


@pytest.mark.slow
def test_one_experiment_ran_on_two_workers_and_the_others_on_one(home, trained):
    sizes = sorted(kinds(events, "start")[0]["world_size"] for events in experiments(home).values())
    assert sizes == [1, 1, 2]


@pytest.mark.slow
def test_mlflow_has_a_parent_and_a_child_for_each_experiment_with_its_curves(home, trained):
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    experiment = client.get_experiment_by_name("setr-tables")
    runs = client.search_runs([experiment.experiment_id])
    children = [found for found in runs if "setr.identity" in found.data.tags]
    assert len(children) == EXPERIMENTS
    assert len(runs) == EXPERIMENTS + 1
    for found in children:
        assert found.info.status == "FINISHED"
        assert {"train/loss", "train/loss/main", "train/learning_rate", "val/mIoU", "final/ss/mIoU"} <= set(
            found.data.metrics
        )
        steps = [point.step for point in client.get_metric_history(found.info.run_id, "train/loss")]
        assert steps == list(range(1, len(steps) + 1))
        assert {"setr.cells", "setr.data_manifest", "setr.checkpoint", "git.commit", "git.dirty"} <= set(
            found.data.tags
        )
        names = {file.path for file in client.list_artifacts(found.info.run_id)}
        assert {"qualitative.png", "record.json", "scores.json"} <= names


@pytest.mark.slow
def test_a_second_run_trains_nothing_and_a_changed_setting_only_what_it_touches(home, trained):
    before = {name: len(events) for name, events in experiments(home).items()}
    again = run(home, "sweep", *SWEEP).stdout
    assert f"{EXPERIMENTS} done" in again
    assert {name: len(events) for name, events in experiments(home).items()} == before
    changed = [*SWEEP, "miniature.iterations={40k: 3, 80k: 8}", "plan=true"]
    plan = run(home, "sweep", *changed).stdout
    assert "2 done, 1 to do" in plan


@pytest.mark.slow
def test_the_report_links_every_number_to_its_run_and_traces_it(home, trained):
    run(home, "report")
    page = (home / "report/table-2.html").read_text()
    identities = experiments(home)
    assert all(f"experiments/{identity[:12]}.html" in page for identity in identities)
    assert (home / "report/index.html").stat().st_size < 300_000
    for suffix in ("md", "tex", "csv"):
        assert (home / f"report/table-2.{suffix}").stat().st_size > 0
    chain = run(home, "report", "trace", "table2/setr-pup-random/40k", "--verify").stdout
    assert "BROKEN" not in chain
    assert "verify checkpoint bytes: ok" in chain


@pytest.mark.slow
def test_a_killed_worker_ends_with_the_weights_of_the_undisturbed_run(home, trained):
    longer = [*SWEEP, "miniature.iterations={40k: 80, 80k: 6}"]
    calm = ["training.cell=table2/setr-pup-random/40k", "storage.checkpoints=calm"]
    run(home, "train", *longer, *calm)
    disturbed = [
        "sweep.cells=[table2/setr-pup-random/40k]",
        "storage.checkpoints=again",
        "storage.results=results-again",
    ]
    process = start(home, "sweep", *longer, *disturbed)
    os.kill(wait_for_step(home / "again", 45, process), signal.SIGKILL)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    starts = [event["step"] for events in experiments(home, "again").values() for event in kinds(events, "start")]
    assert starts == [0, 40]  # killed once, and gone on from the checkpoint half way
    assert final_weights(home, "again") == final_weights(home, "calm")


@pytest.mark.slow
def test_a_killed_driver_goes_on_with_the_same_command(home, trained):
    words = [*SWEEP, "storage.checkpoints=third", "storage.results=results-third", "tracking.experiment=third"]
    process = start(home, "sweep", *words)
    wait_for_step(home / "third", 1, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    run(home, "sweep", *words)
    assert final_weights(home, "third") == final_weights(home)
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("third").experiment_id])
    identities = [found.data.tags["setr.identity"] for found in runs if "setr.identity" in found.data.tags]
    assert len(identities) == len(set(identities)) == EXPERIMENTS
    for found in runs:
        if "setr.identity" in found.data.tags:
            steps = [point.step for point in client.get_metric_history(found.info.run_id, "train/loss")]
            assert len(steps) == len(set(steps))


def start(home, command, *words):
    return subprocess.Popen(
        [sys.executable, ROOT / "pipelines" / f"{command}.py", *words],
        env=environment(home),
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for_step(folder, step, process, seconds=400):
    """Returns the process id of a training that has logged `step`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stdout.read()
        for path in folder.glob("*/events.jsonl"):
            events = read_events(path)
            if any(event["step"] >= step for event in kinds(events, "metrics")):
                return kinds(events, "start")[-1]["process"]
        time.sleep(0.02)
    raise AssertionError("no training step in time")
