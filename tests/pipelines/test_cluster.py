import pytest

from pipelines import cluster
from setr.errors import EnvironmentFailure


@pytest.mark.parametrize("address", ["", "auto", "local", "127.0.0.1:6379", "http://127.0.0.1:8265", "localhost:6379"])
def test_this_machine_is_local(address):
    assert cluster.is_local(address)


@pytest.mark.parametrize("address", ["192.0.2.7:6379", "ray://head.example:10001", "http://head.example:8265"])
def test_another_machine_is_not(address):
    assert not cluster.is_local(address)


def test_a_cluster_beyond_this_machine_is_refused_without_a_token(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.7:6379")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(EnvironmentFailure, match="RAY_AUTH_MODE=token"):
        cluster.connect(log_folder=tmp_path)


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
