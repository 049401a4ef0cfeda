"""Records of a cluster without a tracking server, brought into one later, as often as one likes."""

import argparse
import dataclasses
import shutil
from pathlib import Path

import pytest

from pipelines.cluster.session import parent_run
from pipelines.evaluate import track
from pipelines.import_checkpoint import store_receipt
from pipelines.track_import import work
from pipelines.tracking.recording import Recorder, finish_parent
from pipelines.tracking.tracker import OFFLINE, Tracker, open_tracker
from setr.errors import InputError
from setr.models.importing.receipt import Receipt
from setr.planning.planned import Planned
from setr.record.events import append_event
from setr.record.files import EVENTS
from setr.record.lineage import DIFFS
from setr.settings.config import Config, TrackingConfig


@pytest.fixture
def tracker(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Tracker:
    shutil.copy(empty_database, tmp_path)
    monkeypatch.setenv("SETR_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Tracker(TrackingConfig(), tmp_path)


@pytest.fixture
def storage(trained: Planned, tmp_path: Path) -> Path:
    """Returns a storage path from elsewhere, with one finished experiment."""
    shutil.copytree(trained.folder, tmp_path / "from a cluster" / trained.identity)
    return tmp_path / "from a cluster"


def bring(*words: Path) -> int:
    return work(Config(), argparse.Namespace(words=[str(word) for word in words]))


def histories(tracker: Tracker, entry: Planned) -> dict[str, list[int]]:
    [run] = tracker.find(entry.identity)
    names = tracker.metrics(run.run_id)
    return {name: [point.step for point in tracker.client.get_metric_history(run.run_id, name)] for name in names}


def test_a_storage_path_is_imported_once_however_often(
    trained: Planned, tracker: Tracker, storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = storage / trained.identity / "events.jsonl"
    record.write_text(record.read_text().replace('"git.dirty": "', '"git.diff_sha256": "abc", "git.dirty": "'))
    (storage / DIFFS).mkdir()
    (storage / DIFFS / "abc.diff").write_text("+one line")
    assert bring(storage) == 0
    before = histories(tracker, trained)
    assert before["train/loss"] == [1, 2, 3, 4]
    assert all(len(steps) == len(set(steps)) for steps in before.values())
    [run] = tracker.find(trained.identity)
    assert (run.status, run.tags["setr.cells"]) == ("FINISHED", " ".join(trained.cells))
    assert tracker.fetch_artifact(run.run_id, "record.json")
    assert tracker.fetch_artifact(run.run_id, "abc.diff") == b"+one line"
    assert bring(storage, storage / trained.identity) == 0
    assert "0 of 2 records imported" in capsys.readouterr().out
    assert histories(tracker, trained) == before
    assert len(list(tracker.runs())) == 2  # the import and the experiment


def test_a_record_that_grew_since_adds_what_is_new(trained: Planned, tracker: Tracker, tmp_path: Path) -> None:
    record = tmp_path / "anything.jsonl"
    lines = (trained.folder / "events.jsonl").read_text().splitlines(keepends=True)
    cut = next(number for number, line in enumerate(lines) if '"step": 2' in line) + 1
    record.write_text("".join(lines[:cut]))
    bring(record)
    assert histories(tracker, trained)["train/loss"] == [1, 2]
    record.write_text("".join(lines))
    bring(record)
    assert histories(tracker, trained)["train/loss"] == [1, 2, 3, 4]
    [run] = tracker.find(trained.identity)
    assert run.status == "FINISHED"
    assert run.tags["setr.gap"] == "imported without scores and pictures"
    assert tracker.fetch_artifact(run.run_id, "record.json") is None


def test_a_run_that_a_sweep_made_is_continued(trained: Planned, tracker: Tracker, storage: Path) -> None:
    made = tracker.start_child(tracker.start_parent("sweep", {}, ""), trained.identity, "name", {})
    bring(storage)
    assert [run.run_id for run in tracker.find(trained.identity)] == [made]


def test_what_is_no_record_is_refused_before_anything_is_sent(tracker: Tracker, storage: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    strange = tmp_path / "strange.jsonl"
    append_event(strange, {"event": "metrics", "step": 1, "loss": 1.0})
    for words, said in (
        ((), "nothing to import"),
        ((storage, tmp_path / "empty"), "empty"),
        ((storage, tmp_path / "nowhere"), "nowhere"),
        ((storage, strange), r"strange\.jsonl.*no start event"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            bring(*words)
        assert "\n" not in str(caught.value)
    assert not list(tracker.runs())


def test_offline_keeps_nothing_and_is_nothing_to_import_into(
    trained: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: Path
) -> None:
    monkeypatch.setenv("SETR_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", OFFLINE)
    tracker, shown = open_tracker(TrackingConfig(), tmp_path), []
    assert tracker is None
    entry = dataclasses.replace(trained, folder=storage / trained.identity)
    with (
        parent_run(Config(), tracker, "sweep", "", tags={}) as parent,
        Recorder([entry], tracker, parent, {}, shown.extend) as recorder,
    ):
        append_event(entry.folder / EVENTS, {"event": "metrics", "step": 5, "loss": 1.0})
    assert [(identity, event["step"]) for identity, event in shown] == [(trained.identity, 5)]
    assert (recorder.problem, recorder.waiting) == ("", {})
    assert finish_parent(tracker, parent, failed=False, stopped=False) == ""
    with pytest.raises(InputError, match="no server to import into"):
        bring(storage)
    assert not (tmp_path / "mlflow.db").exists()


def test_offline_a_score_and_a_receipt_say_that_they_are_not_in_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SETR_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", OFFLINE)
    data = {"dataset": "scenes", "split": "val", "manifest": ""}
    checkpoint = {"sha256": "0" * 64, "source": "model.pth"}
    record = {"data": data, "protocol": {"name": "ss"}, "checkpoint": checkpoint, "digest": "", "tags": {}}
    assert track(Config(), record, tmp_path / "record.json") == "not in MLflow: tracking is offline"
    receipt = Receipt("model.pth", "model.pth", "0" * 64, 1, "weights_only", "authors", {}, ())
    assert store_receipt(Config(), receipt) == "not in MLflow: tracking is offline"
    assert not (tmp_path / "mlflow.db").exists()
