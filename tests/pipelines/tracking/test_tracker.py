import shutil
import socket
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipelines.tracking.tracker import Tracker
from setr.errors import EnvironmentFailure
from setr.settings.config import TrackingConfig

EVENTS = [
    {"event": "start", "step": 0, "time": 1.0},
    {"event": "metrics", "step": 1, "time": 2.0, "loss": 3.0, "loss/main": 2.0},
    {"event": "metrics", "step": 2, "time": 3.0, "loss": 2.0, "loss/main": 1.0},
    {"event": "evaluation", "step": 2, "time": 4.0, "mIoU": 12.0},
]


@pytest.fixture
def tracker(tmp_path, monkeypatch, empty_database):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = tmp_path / "a folder"
    home.mkdir()
    shutil.copy(empty_database, home)
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


def test_a_deleted_experiment_is_one_line_that_says_what_to_do(tracker, tmp_path):
    tracker.client.delete_experiment(tracker.experiment_id)
    with pytest.raises(EnvironmentFailure, match=r"deleted in MLflow.*mlflow experiments restore --experiment-id"):
        Tracker(TrackingConfig(), tmp_path / "a folder")


def test_whatever_the_store_fails_with_is_one_line(tracker, monkeypatch):
    run = tracker.start_parent("p", {}, "")
    address = "http://me:CanarY7f3a91@host:5000"
    for error in (OSError(f"no space\nat {address}"), RuntimeError(), KeyError("run"), TypeError("parse {'a': 1}")):

        def fail(*_, error=error, **__):
            raise error

        for name, call in (
            ("log_text", lambda: tracker.text_artifact(run, "a.txt", "a")),
            ("log_batch", lambda: tracker.set_tags(run, {"a": "b"})),
            ("create_run", lambda: tracker.start_parent("p", {}, "")),
            ("search_runs", lambda: list(tracker.runs())),
            ("set_terminated", lambda: tracker.finish(run)),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(tracker.client._client, name, fail)
                with pytest.raises(EnvironmentFailure, match=f"E_TRACKING.*{name}") as caught:
                    call()
            assert "\n" not in str(caught.value)
            assert "CanarY" not in str(caught.value)


def test_a_database_that_was_emptied_or_may_only_be_read_is_one_line(tracker, tmp_path):
    database = tmp_path / "a folder" / "mlflow.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TRIGGER locked BEFORE INSERT ON runs BEGIN SELECT RAISE(ABORT, 'readonly'); END")
    with pytest.raises(EnvironmentFailure, match=r"E_TRACKING.*create_run.*readonly"):
        tracker.start_parent("p", {}, "")
    with sqlite3.connect(database) as connection:
        connection.execute("DROP TABLE tags")
        connection.execute("DROP TABLE runs")
    with pytest.raises(EnvironmentFailure, match=r"E_TRACKING.*no such table"):
        list(tracker.runs())


def test_an_answer_of_another_server_is_refused(tmp_path, monkeypatch):
    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"a":1}')

        do_POST = do_GET  # noqa: N815 (the base class's word)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(EnvironmentFailure, match="E_TRACKING"):
            Tracker(TrackingConfig(), tmp_path)
        server.shutdown()


def test_a_folder_in_the_databases_place_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(EnvironmentFailure, match="found a folder"):
        Tracker(TrackingConfig(), tmp_path)


def test_a_moved_project_takes_its_runs_files_along(tracker, tmp_path, capsys):
    run = tracker.start_parent("p", {}, "")
    tracker.text_artifact(run, "config.json", "{}")
    old, new = tmp_path / "a folder", tmp_path / "moved"
    old.rename(new)
    moved = Tracker(TrackingConfig(), new)
    assert "moved along with the project" in capsys.readouterr().err
    later = moved.start_parent("q", {}, "")  # MLflow remembers, for a process's life, where an earlier run's files are
    moved.text_artifact(later, "later.json", "{}")
    places = {found.run_id: found.artifacts for found in moved.runs()}
    assert all(place.startswith(f"{new}/mlartifacts/") for place in places.values())
    assert moved.fetch_artifact(run, "config.json", places[run]) == b"{}"
    assert not old.exists()
    Tracker(TrackingConfig(), new)
    assert capsys.readouterr().err == ""


def test_a_copied_project_leaves_the_original_alone(tracker, tmp_path):
    run = tracker.start_parent("p", {}, "")
    tracker.text_artifact(run, "config.json", "{}")
    original, copy = tmp_path / "a folder", tmp_path / "copy"
    copy.mkdir()
    shutil.copy(original / "mlflow.db", copy)
    with pytest.raises(EnvironmentFailure, match=r"lie outside it.*copy .* to "):
        Tracker(TrackingConfig(), copy)
    shutil.copytree(original / "mlartifacts", copy / "mlartifacts")
    before = sorted(original.rglob("*"))
    other = Tracker(TrackingConfig(), copy)
    other.text_artifact(other.start_parent("q", {}, ""), "later.json", "{}")
    assert sorted(original.rglob("*")) == before
    assert len(list((copy / "mlartifacts").rglob("later.json"))) == 1
    assert tracker.fetch_artifact(run, "config.json", next(tracker.runs()).artifacts) == b"{}"
