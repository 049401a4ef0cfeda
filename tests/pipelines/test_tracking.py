import socket
import threading
import time

import pytest

from pipelines.tracking import Tracker
from setr.config import TrackingConfig
from setr.errors import EnvironmentFailure

EVENTS = [
    {"event": "start", "step": 0, "time": 1.0},
    {"event": "metrics", "step": 1, "time": 2.0, "loss": 3.0, "loss/main": 2.0},
    {"event": "metrics", "step": 2, "time": 3.0, "loss": 2.0, "loss/main": 1.0},
    {"event": "evaluation", "step": 2, "time": 4.0, "mIoU": 12.0},
]


@pytest.fixture
def tracker(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = tmp_path / "a folder"
    home.mkdir()
    return Tracker(TrackingConfig(), home)


def test_a_run_is_found_again_by_identity_and_replaying_changes_nothing(tracker):
    parent = tracker.start_parent("sweep", {}, "text")
    run = tracker.start_child(parent, "abc", "setr-pup 80k", {"setr.cells": "table2/setr-pup/80k"})
    for _ in range(2):
        tracker.replay(run, EVENTS)
    history = tracker.client.get_metric_history(run, "train/loss")
    assert [(point.step, point.value, point.timestamp) for point in history] == [(1, 3.0, 2000), (2, 2.0, 3000)]
    assert tracker.start_child(parent, "abc", "again", {}) == run
    assert [found.run_id for found in tracker.find("abc")] == [run]
    assert tracker.find("abc")[0].metrics["val/mIoU"] == 12.0


def test_parameters_are_written_once_and_a_changed_one_does_not_raise(tracker):
    run = tracker.start_child(tracker.start_parent("p", {}, ""), "abc", "n", {})
    tracker.set_parameters(run, {"base_lr": 0.01})
    tracker.set_parameters(run, {"base_lr": 0.02, "momentum": 0.9})
    assert tracker.client.get_run(run).data.params == {"base_lr": "0.01", "momentum": "0.9"}


def test_artifacts_come_back_and_a_missing_one_is_none(tracker, tmp_path):
    run = tracker.start_child(tracker.start_parent("p", {}, ""), "abc", "n", {})
    tracker.text_artifact(run, "record.json", "{}")
    assert tracker.fetch_artifact(run, "record.json") == b"{}"
    assert tracker.fetch_artifact(run, "nothing.json") is None


def test_a_run_ends_as_finished_failed_or_killed(tracker):
    parent = tracker.start_parent("p", {}, "")
    for identity, options, status in (
        ("a", {}, "FINISHED"),
        ("b", {"failed": True}, "FAILED"),
        ("c", {"stopped": True}, "KILLED"),
    ):
        run = tracker.start_child(parent, identity, identity, {})
        tracker.finish(run, **options)
        assert tracker.find(identity)[0].status == status


def test_a_server_that_never_answers_is_reported_in_time(tmp_path, monkeypatch):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        threading.Thread(target=lambda: listener.accept(), daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{listener.getsockname()[1]}")
        begun = time.monotonic()
        with pytest.raises(EnvironmentFailure, match="E_TRACKING") as caught:
            Tracker(TrackingConfig(timeout_seconds=2), tmp_path)
        assert time.monotonic() - begun < 10
        assert "\n" not in str(caught.value)
        assert caught.value.exit_status == 4


def test_a_closed_port_and_the_old_file_store_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(EnvironmentFailure, match="cannot be reached"):
        Tracker(TrackingConfig(timeout_seconds=3), tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///tmp/mlruns")
    with pytest.raises(EnvironmentFailure, match="no longer supported"):
        Tracker(TrackingConfig(), tmp_path)
