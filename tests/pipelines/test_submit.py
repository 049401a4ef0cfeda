"""A real head with its token on: jobs submitted, stopped and resumed, a node lost, and a client refused."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.faults.home import audit, command, environment, final_weights, prepare, sweep_words
from benchmarks.faults.machines import Cluster
from setr.record.events import read_events
from tests.helpers.environment import ROOT

WORDS = sweep_words(1, 400, "cluster")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    prepare(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def commit() -> str:
    """Returns what is checked out when the first job is submitted."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def cluster(home: Path) -> Iterator[Cluster]:
    with Cluster(home) as running:
        running.add_node()
        running.wait_for_nodes()
        yield running


def submit(cluster: Cluster, *words: str, **variables: str) -> "subprocess.Popen[str]":
    options = ("--address", cluster.jobs, "--submission-id", f"job-{time.time_ns()}")
    script = [sys.executable, str(ROOT / "pipelines" / "submit.py"), *options, "--", "python", "pipelines/sweep.py"]
    return subprocess.Popen(
        [*script, *words],
        env=environment(cluster.home, **variables),
        cwd=cluster.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def events(home: Path) -> list[dict]:
    return [event for path in home.glob("cluster/*/events.jsonl") for event in read_events(path)]


def wait_for_step(home: Path, step: int, process: "subprocess.Popen[str]", attempt: int) -> None:
    deadline = time.monotonic() + 600
    while True:
        found = events(home)
        starts = [number for number, event in enumerate(found) if event["event"] == "start"]
        if len(starts) >= attempt and any(e["event"] == "metrics" and e["step"] >= step for e in found[starts[-1] :]):
            return
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_a_client_without_the_token_is_refused(cluster: Cluster) -> None:
    refused = submit(cluster, "--plan", *WORDS, RAY_AUTH_MODE="disabled")
    said, _ = refused.communicate(timeout=600)
    assert refused.returncode != 0
    assert "token" in said.lower()
    wrong = environment(cluster.home, RAY_ADDRESS=cluster.address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64)
    done = subprocess.run(command("sweep", *WORDS), env=wrong, cwd=cluster.home, capture_output=True, text=True)
    assert done.returncode == 4, done.stdout + done.stderr
    assert done.stderr.startswith("error: E_CLUSTER | ")
    assert len(done.stderr.splitlines()) == 1
    assert not events(cluster.home)


@pytest.mark.slow
def test_a_head_that_runs_here_is_not_joined_unasked(cluster: Cluster, tmp_path: Path) -> None:
    code = (
        "import ray; from pathlib import Path; from pipelines.cluster import engine; "
        f"engine.connect(log_folder=Path({str(tmp_path)!r})); print(ray.get_runtime_context().gcs_address)"
    )
    # What `ray start` writes down for the next driver is looked for in $RAY_TMPDIR/ray, its head's folder by default.
    variables = {**cluster.variables, "RAY_TMPDIR": str(cluster.folder)}
    (cluster.folder / "ray").symlink_to("0")
    written = (cluster.folder / "0" / "ray_current_cluster").read_text().strip()
    assert written.rpartition(":")[2] == str(cluster.port)
    done = subprocess.run(
        [cluster.python, "-c", code],
        env=environment(cluster.home, **variables),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    port = done.stdout.strip().rpartition(":")[2]
    assert port.isdigit()
    assert port != str(cluster.port)


@pytest.mark.slow
def test_a_job_is_stopped_saves_and_goes_on_elsewhere_when_its_node_is_lost(cluster: Cluster) -> None:
    home, variables = cluster.home, cluster.variables
    job = submit(cluster, *WORDS, **variables)
    wait_for_step(home, 10, job, 1)
    ray = Path(sys.executable).parent / "ray"
    listed = subprocess.run(
        [ray, "job", "list", "--address", cluster.jobs],
        env=environment(home, **variables),
        capture_output=True,
        text=True,
    )
    name = next(word for word in listed.stdout.split("'") if word.startswith("job-"))
    stopped = subprocess.run(
        [ray, "job", "stop", "--address", cluster.jobs, name], env=environment(home, **variables), capture_output=True
    )
    assert stopped.returncode == 0
    said, _ = job.communicate(timeout=600)
    assert "goes on from there next time" in said  # the job's log comes to whoever submitted it
    [saved] = [event for event in events(home) if event["event"] == "stopped"]
    assert 10 <= saved["step"] < 400

    # The same sweep from a machine of the cluster, as `dvc repro` runs it; its only node goes away.
    driver = subprocess.Popen(
        command("sweep", *WORDS),
        env=environment(home, RAY_ADDRESS=cluster.address, **variables),
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for_step(home, 220, driver, 2)  # a checkpoint at 200 is there
    cluster.kill(cluster.nodes[1])
    cluster.add_node()
    said, _ = driver.communicate(timeout=600)
    assert driver.returncode == 0, said
    starts = [event["step"] for event in events(home) if event["event"] == "start"]
    assert starts == [0, saved["step"], 200]

    calm = [word.replace("=cluster", "=calm") for word in WORDS]
    subprocess.run(command("sweep", *calm), env=environment(home), cwd=home, check=True, capture_output=True)
    assert final_weights(home / "cluster") == final_weights(home / "calm")
    assert audit(home, WORDS).clean


@pytest.mark.slow
def test_a_finished_sweep_is_a_job_that_succeeds_and_a_mistake_one_that_fails(cluster: Cluster) -> None:
    good, bad = (submit(cluster, *words, **cluster.variables) for words in (WORDS, ["tables=[99]"]))
    said, _ = good.communicate(timeout=600)
    assert good.returncode == 0, said
    assert "1 of 1 experiments have results" in said
    said, _ = bad.communicate(timeout=600)
    assert bad.returncode != 0
    assert "error: E_" in said


@pytest.mark.slow
def test_the_runs_have_the_commit_that_was_sent(cluster: Cluster, commit: str) -> None:
    [record] = [json.loads(path.read_text()) for path in cluster.home.glob("cluster/*/experiment.json")]
    first = next(event for event in events(cluster.home) if event["event"] == "start")
    assert first["tags"]["git.commit"] == commit
    assert record["job"]["tags"]["git.commit"] == commit
    assert not list((cluster.home / "cluster").glob("ray-*"))
