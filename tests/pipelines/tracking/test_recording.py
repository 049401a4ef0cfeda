"""Records on their way to a real tracking database: nothing lost, nothing there twice, whatever happens in between."""

import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.tracking import recording
from pipelines.tracking.recording import Recorder, Sender, send_records
from pipelines.tracking.tracker import Tracker
from setr.errors import EnvironmentFailure
from setr.planning.planned import Planned
from setr.record.events import append_event, read_events
from setr.record.lease import Lease, exclusive, require_not_taken
from setr.settings.config import TrackingConfig


@pytest.fixture
def tracker(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Tracker:
    shutil.copy(empty_database, tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(recording, "FLUSH_SECONDS", 0.1)
    monkeypatch.setattr(recording, "POLL_SECONDS", 0.05)
    return Tracker(TrackingConfig(), tmp_path)


def unfinished(trained: Planned, folder: Path, seed: int = 0) -> Planned:
    experiment = dataclasses.replace(trained.experiment, seed=seed)
    return dataclasses.replace(trained, experiment=experiment, folder=folder / str(seed), state="to do", step=0)


def metrics(entry: Planned, *steps: int) -> None:
    for step in steps:
        append_event(entry.folder / "events.jsonl", {"event": "metrics", "step": step, "loss": float(step)})


def recorder(tracker: Tracker, *entries: Planned) -> Recorder:
    parent = tracker.start_parent("sweep", {}, "")
    return Recorder(entries, tracker, parent, {"git.commit": "now"}, lambda events: None)


def steps(tracker: Tracker, entry: Planned) -> list[int]:
    [run] = tracker.find(entry.identity)
    return [point.step for point in tracker.client.get_metric_history(run.run_id, "train/loss")]


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_steps_repeated_by_a_later_attempt_are_there_once(trained: Planned, tracker: Tracker, tmp_path: Path) -> None:
    entry = unfinished(trained, tmp_path)
    metrics(entry, 1, 2, 3)  # an earlier driver's, which may not have been sent
    with recorder(tracker, entry):
        metrics(entry, 3, 4, 5)
        wait_until(lambda: tracker.find(entry.identity) and len(steps(tracker, entry)) == 5)
        metrics(entry, 4, 5, 6)  # its worker was killed, and went on from an older checkpoint
    assert steps(tracker, entry) == [1, 2, 3, 4, 5, 6]


def test_what_the_server_did_not_take_is_sent_when_it_is_back(
    trained: Planned, tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = unfinished(trained, tmp_path)
    metrics(entry, 1, 2)
    replay, calls = tracker.replay, []

    def away(run: str, events: list[Any]) -> int:
        calls.append(len(events))
        if len(calls) < 3:
            raise OSError("no server")
        return replay(run, events)

    monkeypatch.setattr(tracker, "replay", away)
    with recorder(tracker, entry) as watching:
        metrics(entry, 3)
        wait_until(lambda: calls)
        assert watching.problem == "no server"
        metrics(entry, 4)
        wait_until(lambda: len(calls) >= 3)
    assert watching.problem == ""
    assert steps(tracker, entry) == [1, 2, 3, 4]


def test_a_slow_server_gets_to_the_end_a_few_events_at_a_time(
    trained: Planned, tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = unfinished(trained, tmp_path)
    metrics(entry, *range(1, 21))
    replay, taken, calls = tracker.replay, [], []

    def slow(run: str, events: list[Any]) -> int:
        calls.append(len(events))
        if len(calls) % 2:
            raise OSError("timed out")
        taken.append([event["step"] for event in events])
        return replay(run, events)

    monkeypatch.setattr(tracker, "replay", slow)
    monkeypatch.setattr(recording, "TOGETHER", 2)
    monkeypatch.setattr(recording.time, "sleep", lambda seconds: None)
    watching = recorder(tracker, entry)
    with watching:
        metrics(entry, 21)
    assert watching.problem == ""
    assert taken == [[step, step + 1] for step in range(1, 21, 2)] + [[21]]  # none twice, though half the calls failed
    assert steps(tracker, entry) == list(range(1, 22))


def test_a_whole_record_has_each_step_once_in_whatever_portions_it_goes(
    trained: Planned, tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = unfinished(trained, tmp_path)
    metrics(entry, 1, 2, 3, 4, 3, 4, 5)  # its worker was killed, and went on from step 2
    monkeypatch.setattr(recording, "TOGETHER", 3)
    send_records(tracker, tracker.start_parent("later", {}, ""), [entry])
    assert steps(tracker, entry) == [1, 2, 3, 4, 5]


def test_one_record_that_is_refused_does_not_keep_the_others(
    trained: Planned, tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, accepted = unfinished(trained, tmp_path, 1), unfinished(trained, tmp_path, 2)
    start = tracker.start_child

    def start_child(parent: str, identity: str, *words: Any) -> str:
        if identity == refused.identity:
            raise OSError("not this one")
        return start(parent, identity, *words)

    monkeypatch.setattr(tracker, "start_child", start_child)
    monkeypatch.setattr(recording.time, "sleep", lambda seconds: None)
    watching = recorder(tracker, refused, accepted)
    with watching:
        metrics(refused, 1)
        metrics(accepted, 1, 2)
    assert steps(tracker, accepted) == [1, 2]
    assert watching.problem == "not this one"


def test_a_record_sent_later_keeps_the_tags_of_whoever_trained(
    trained: Planned, tracker: Tracker, tmp_path: Path
) -> None:
    entry = dataclasses.replace(trained, folder=shutil.copytree(trained.folder, tmp_path / trained.identity))
    record = entry.folder / "events.jsonl"
    record.write_text(record.read_text().replace('"git.commit": "', '"git.commit": "then-'))
    for _ in range(2):
        send_records(tracker, tracker.start_parent("later", {}, "", key="later"), [entry])
    [run] = tracker.find(entry.identity)
    assert run.status == "FINISHED"
    assert run.tags["git.commit"].startswith("then-")
    assert steps(tracker, entry) == [1, 2, 3, 4]
    finals = [name for name in run.metrics if name.startswith("final/")]
    assert finals
    for name in finals:
        assert len(tracker.client.get_metric_history(run.run_id, name)) == 1
    assert len(list(tracker.runs())) == 2


def test_a_record_whose_last_line_was_lost_is_finished_all_the_same(
    trained: Planned, tracker: Tracker, tmp_path: Path
) -> None:
    entry = dataclasses.replace(trained, folder=shutil.copytree(trained.folder, tmp_path / trained.identity))
    record = entry.folder / "events.jsonl"
    record.write_text("".join(line for line in record.open() if '"finished"' not in line))
    send_records(tracker, tracker.start_parent("later", {}, ""), [entry])
    assert tracker.find(entry.identity)[0].status == "FINISHED"


def test_a_driver_whose_work_was_taken_over_sends_and_writes_nothing(
    trained: Planned, tracker: Tracker, tmp_path: Path
) -> None:
    entry = unfinished(trained, tmp_path)
    metrics(entry, 1, 2)
    (entry.folder / "experiment.json").write_text("{}")
    parent = tracker.start_parent("sweep", {}, "")
    with exclusive(tmp_path) as lease:
        other = Lease(tmp_path, lease.number + 1, "host elsewhere, process 7")
        (tmp_path / f".lease-{other.number:08d}").write_text("host elsewhere, process 7, beat 00000001\n")
        sender = Sender(tracker, parent, {}, check=lease.check)
        with pytest.raises(EnvironmentFailure, match="E_LEASE"):
            sender.send(entry, read_events(entry.folder / "events.jsonl"))
    assert tracker.find(entry.identity) == []
    assert not (entry.folder / "run.json").exists()


def test_a_training_by_hand_asks_whether_its_folder_is_its_own(tmp_path: Path) -> None:
    require_not_taken(tmp_path)
    with exclusive(tmp_path):
        require_not_taken(tmp_path)
    require_not_taken(tmp_path)
    (tmp_path / ".lease-00000009").write_text("host elsewhere, process 7, beat 00000001\n")
    with pytest.raises(EnvironmentFailure, match=r"E_LEASE .* host elsewhere, process 7"):
        require_not_taken(tmp_path)
