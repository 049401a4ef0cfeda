"""Lanes for several-worker experiments beside the others; the engine is replaced by one that watches the slots."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.cluster import placement
from setr.record.events import read_events
from setr.settings.config import load_config
from tests.helpers.environment import PARAMS


def entry(folder: Path, name: str, workers: int, steps: int = 10) -> Any:
    recipe = SimpleNamespace(iterations=steps)
    return SimpleNamespace(
        identity=name,
        folder=folder / name,
        workers=workers,
        experiment=SimpleNamespace(recipe=recipe),
        job=lambda config, stop, driver: {"name": name, "steps": steps},
    )


class Engine:
    """Counts the slots that are in use, and what ran."""

    def __init__(self, patch: pytest.MonkeyPatch, *, fail: str = "") -> None:
        self.used = self.most = 0
        self.ran: list[str] = []
        self.fail = fail
        self.together: set[frozenset[str]] = set()
        self._now: set[str] = set()
        self._lock = threading.Lock()
        patch.setattr(placement.cluster, "run_on_workers", self.wide)
        patch.setattr(placement.cluster, "run_side_by_side", self.narrow)
        patch.setattr(placement, "workers_of", lambda config, entry: entry.workers)

    def take(self, name: str, slots: int) -> None:
        with self._lock:
            self.used += slots
            self._now.add(name)
            self.most = max(self.most, self.used)
            self.together.add(frozenset(self._now))
        time.sleep(0.03)
        with self._lock:
            self.used -= slots
            self._now.discard(name)
            self.ran.append(name)

    def wide(self, work: Any, job: Any, *, workers: int, **_: Any) -> dict[str, Any]:
        self.take(job["name"], workers)
        return {"status": "failed", "cause": "it broke"} if job["name"] == self.fail else {"status": "finished"}

    def narrow(self, work: Any, jobs: Any, *, room: Any, **_: Any) -> list[dict[str, Any]]:
        waiting, threads = [job["name"] for job in jobs], []
        while waiting or any(thread.is_alive() for thread in threads):
            alive = [thread for thread in threads if thread.is_alive()]
            if waiting and len(alive) < room.generator.max_concurrent:
                threads.append(threading.Thread(target=self.take, args=(waiting.pop(0), 1)))
                threads[-1].start()
            time.sleep(0.002)
        return [{"status": "finished"} for _ in jobs]


def run(tmp_path: Path, entries: list[Any], cpus: float) -> None:
    config = load_config(PARAMS)
    placement.run_all(config, entries, tmp_path / "stop", tmp_path, {"CPU": cpus, "GPU": 0.0})


@pytest.mark.parametrize("cpus", [1, 2, 3, 5, 8])
def test_no_more_slots_are_asked_for_than_there_are(cpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch)
    entries = [entry(tmp_path, f"wide {n}", 2) for n in range(3)] + [
        entry(tmp_path, f"narrow {n}", 1) for n in range(6)
    ]
    run(tmp_path, entries, cpus)
    assert sorted(engine.ran) == sorted(one.identity for one in entries)
    assert engine.most <= cpus


def test_wide_and_narrow_ones_run_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch)
    run(tmp_path, [entry(tmp_path, "wide", 2), *(entry(tmp_path, f"narrow {n}", 1) for n in range(4))], 4)
    assert any({"wide"} < names for names in engine.together)


def test_several_wide_ones_run_side_by_side_where_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch)
    run(tmp_path, [entry(tmp_path, f"wide {n}", 4) for n in range(4)], 8)
    assert engine.most == 8


def test_a_failed_one_is_marked_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, fail="wide 0")
    run(tmp_path, [entry(tmp_path, f"wide {n}", 2) for n in range(2)], 2)
    assert len(engine.ran) == 2
    [event] = read_events(tmp_path / "wide 0" / "events.jsonl")
    assert (event["event"], event["cause"]) == ("failed", "it broke")


def test_a_stop_file_starts_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch)
    (tmp_path / "stop").touch()
    run(tmp_path, [entry(tmp_path, "wide", 2), entry(tmp_path, "narrow", 1)], 4)
    assert engine.ran == []


def test_gpus_count_where_there_are_any_and_where_a_cluster_can_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(PARAMS, ["gpus=16"], section="sweep")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert placement.slots_of(config, {"CPU": 4.0, "GPU": 2.0}) == 2
    assert placement.slots_of(config, {"CPU": 4.0, "GPU": 0.0}) == 4  # ours: it will not grow
    monkeypatch.setenv("RAY_ADDRESS", "http://head.example:8265")
    assert placement.slots_of(config, {"CPU": 4.0, "GPU": 0.0}) == 16
    assert placement.per_worker(config, {"CPU": 4.0, "GPU": 0.0}) == {"CPU": 1.0, "GPU": 1.0}
