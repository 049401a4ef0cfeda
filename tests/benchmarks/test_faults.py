"""The fault benchmarks in small: two kills, and an audit that sees what is wrong."""

import dataclasses
from pathlib import Path

import pytest

from benchmarks.faults.home import Audit, audit, prepare, settings, sweep_words, working_in
from benchmarks.faults.kills import empty_state, kill_drivers
from benchmarks.faults.overhead import Overhead
from pipelines.tracking.tracker import Tracker
from setr.planning.experiments import plan_sweep
from setr.record.events import append_event


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    prepare(folder)
    return folder


@pytest.mark.slow
def test_a_killed_driver_loses_and_doubles_nothing_though_the_engines_state_is_empty(home: Path) -> None:
    rounds = kill_drivers(home, 2, experiments=2, iterations=4, within=12.0, zero_state=True)
    assert sum(one.kills for one in rounds) == 2
    assert all(one.audit.clean for one in rounds), rounds
    assert rounds[0].audit.experiments == 2


def test_audit_sees_what_is_lost_and_what_is_there_twice(home: Path) -> None:
    words = sweep_words(2, 4, "audited")
    with working_in(home):
        entries = plan_sweep(settings(*words))
        tracker = Tracker(settings(*words).tracking, home)
    record = entries[0].folder / "events.jsonl"
    for kind, step in (("start", 0), ("metrics", 1), ("metrics", 2), ("checkpoint", 2), ("start", 0), ("finished", 4)):
        append_event(record, {"event": kind, "step": step, "loss": 1.0})
    append_event(record, {"event": "metrics", "step": 3, "loss": 1.0})
    parent = tracker.start_parent("sweep", {}, "")
    for _ in range(2):
        run = tracker.client.create_run(tracker.experiment_id, tags={"setr.identity": entries[0].identity})
    first = tracker.find(entries[0].identity)[0].run_id
    for time in (1.0, 2.0):
        tracker.replay(first, [{"event": "metrics", "step": 1, "time": time, "loss": 1.0}])
    assert run.info.run_id != parent
    found = audit(home, words)
    assert found == Audit(
        experiments=2, attempts=2, lost=2, trained_twice=1, duplicate_runs=1, duplicate_steps=1, missing_steps=3
    )
    assert not found.clean
    assert Audit(2, 9, 0, 0, 0, 0, 0).clean
    for name in ("lost", "trained_twice", "duplicate_runs", "duplicate_steps", "missing_steps"):
        assert not dataclasses.replace(Audit(2, 9, 0, 0, 0, 0, 0), **{name: 1}).clean


def test_state_is_emptied_and_nothing_else(tmp_path: Path) -> None:
    state = "drivers/mine/ray-tune-1/trials/state.json"
    for name in (state, "drivers/mine/ray-train/a/b", "drivers/mine/driver.json", "identity/events.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    assert empty_state(tmp_path) == 2
    assert (tmp_path / state).read_bytes() == b""
    assert (tmp_path / "drivers/mine/driver.json").read_text() == "text"
    assert (tmp_path / "identity/events.jsonl").read_text() == "text"


def test_overhead_is_the_share_of_all_places_that_did_no_work() -> None:
    assert Overhead(4, wall=50.0, work=80.0, sections={}, start=5.0).share(2) == pytest.approx(0.2)
