"""What the engine makes of a cluster: its versions, resources and errors, and a node that is lost."""

import importlib.metadata
import subprocess
import tempfile
from pathlib import Path

import pytest

from benchmarks.faults.machines import plain_python
from pipelines.cluster import engine as cluster
from setr.errors import EnvironmentFailure
from setr.record.lineage import engine_versions
from tests.helpers.environment import environment
from tests.helpers.tiny_training import events, losses, start, weights


def test_a_cluster_beyond_this_machine_is_refused_without_a_token(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.7:6379")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(EnvironmentFailure, match="RAY_AUTH_MODE=token"):
        cluster.connect(log_folder=tmp_path)


def test_both_ways_to_train_record_the_same_version_of_ray():
    installed = {"ray": importlib.metadata.version("ray")}
    assert cluster._single_process_context().versions == installed == engine_versions()


@pytest.mark.slow
def test_a_lost_node_costs_the_steps_since_the_checkpoint_and_no_bit(tmp_path):
    """Two workers on one node of three; its raylet is killed, and they go on elsewhere."""
    assert start(tmp_path / "undisturbed", world_size=2) == [0, 0]
    quick = {  # how soon a node counts as lost: milliseconds, and how often it must not answer
        "RAY_health_check_initial_delay_ms": "1000",
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_timeout_ms": "1000",
        "RAY_health_check_failure_threshold": "3",
    }
    with tempfile.TemporaryDirectory(prefix="ray") as short:  # a socket's path has room for 107 characters
        token = Path(short) / "token"
        token.write_text("0" * 32)
        token.chmod(0o600)
        security = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_TMPDIR": short}
        done = subprocess.run(
            [plain_python(Path(short)), "-m", "tests.helpers.node_loss", tmp_path],
            env=environment(without=("RAY_", "SETR_"), **quick, **security),
            capture_output=True,
            text=True,
            timeout=600,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "killed" in done.stdout
    begun = events(tmp_path / "run", "start")
    assert [event["step"] for event in begun] == [0, 6]
    assert weights(tmp_path / "run") == weights(tmp_path / "undisturbed")
    found, expected = losses(tmp_path / "run"), losses(tmp_path / "undisturbed")
    assert {step: set(values) for step, values in found.items()} == {step: set(v) for step, v in expected.items()}
    assert [step for step, values in found.items() if len(values) > 1] == [7, 8]
    assert begun[0]["environment"]["ray"] == importlib.metadata.version("ray")


def test_an_address_for_jobs_is_none_to_join(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    with pytest.raises(EnvironmentFailure, match=r"E_CLUSTER.*pipelines/submit\.py"):
        cluster.connect(log_folder=tmp_path)


def test_an_address_where_nobody_listens_is_told_at_once(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with pytest.raises(EnvironmentFailure, match=r"E_CLUSTER \| no Ray cluster answers \| 127\.0\.0\.1:9") as caught:
        cluster.connect(log_folder=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_variable_that_the_job_was_submitted_with_holds(monkeypatch):
    monkeypatch.setenv("SETR_HOME", "/shared")
    monkeypatch.delenv(cluster.JOB_VARIABLE, raising=False)
    assert cluster.worker_environment()["SETR_HOME"] == "/shared"
    monkeypatch.setenv(cluster.JOB_VARIABLE, '{"runtime_env": {"env_vars": {"SETR_HOME": "/shared"}}}')
    assert "SETR_HOME" not in cluster.worker_environment()
    assert cluster.worker_environment()["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(("deaths", "status", "attempts"), [(0, "finished", 1), (2, "finished", 3), (9, "failed", 3)])
def test_trains_controller_is_started_again_as_often_as_a_worker(deaths, status, attempts, monkeypatch, tmp_path):
    names = []

    class Trainer:
        def __init__(self, loop, *, run_config, **_):
            names.append(run_config.name)

        def fit(self):
            if len(names) <= deaths:
                raise cluster.ray.exceptions.ActorDiedError()

    monkeypatch.setattr(cluster, "TorchTrainer", Trainer)
    outcome = train_on_two(tmp_path)
    assert outcome["status"] == status
    assert len(set(names)) == len(names) == attempts


def test_workers_that_died_as_often_as_they_may_are_not_started_again(monkeypatch, tmp_path):
    begun = []

    class Trainer:
        def __init__(self, loop, **_):
            begun.append(loop)

        def fit(self):
            raise RuntimeError("a worker failed\nits cause")

    monkeypatch.setattr(cluster, "TorchTrainer", Trainer)
    assert train_on_two(tmp_path) == {"status": "failed", "cause": "its cause"}
    assert len(begun) == 1


def train_on_two(folder):
    return cluster.run_on_workers(
        lambda job, context: {}, {}, workers=2, resources={"CPU": 1.0}, max_failures=2, storage=folder, name="one"
    )


def test_a_driver_that_started_no_ray_has_none_to_end():
    assert cluster.own_daemons() == {}
    assert cluster.own_session() == ""
    assert cluster.trouble() == "Ray is not running"
    cluster.disconnect()
