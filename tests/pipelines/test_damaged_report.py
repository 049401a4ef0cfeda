"""The report over damaged records: from results/runs, and from runs in a tracking server that others write to."""

import argparse
import dataclasses
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.generated_results import make_results
from benchmarks.mutated_records import changed, mutated
from pipelines.report import tracked_results, work
from pipelines.tracking.tracker import TrackedRun
from setr.reporting.numbers.results import Result, save_results, usable
from setr.reporting.site.places import located
from tests.helpers.tiny import settings

ASKED = argparse.Namespace(where=False, words=[], verify=False, images=2)
DAMAGES = (
    (("identity",), "x"),
    (("experiment",), None),
    (("experiment", "seed"), "0"),
    (("cells",), ["table2/no/such"]),
    (("tags",), None),
    (("scores",), {"ss": 1}),
    (("scores", "ss", "per_class_iou"), {"a": 1}),
    (("scores", "ss", "mIoU"), -3),
    (("curves", "loss"), [[1]]),
    (("seconds", "evaluate"), ".."),
    (("weights",), [1]),
    (("parameters",), [None]),
    (("checkpoint",), "../x"),
)


class Server:
    """Answers for a tracking server with what it was given."""

    def __init__(self, runs: list[TrackedRun], records: dict[str, bytes]) -> None:
        self.all, self.records = runs, records

    def runs(self, query: str) -> Iterator[TrackedRun]:
        yield from self.all

    def fetch_artifact(self, run_id: str, name: str, folder: str = "") -> bytes | None:
        return self.records[run_id] if name == "record.json" else None


def text_of(result: Result, folder: Path) -> Any:
    save_results(folder / "one.json", [result])
    return json.loads((folder / "one.json").read_text())


def test_of_five_hundred_records_forty_damaged_ones_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SETR_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "offline")
    runs = tmp_path / "results" / "runs"
    made = make_results((2,), seeds=18, points=3)[:500]
    damaged = [index * 12 for index in range(40)]
    for index, one in enumerate(made):
        record = text_of(dataclasses.replace(one, curves={"loss": one.curves["loss"]}), tmp_path / "w")
        data = json.dumps(record)
        if index in damaged:
            number = damaged.index(index)
            path, value = DAMAGES[number % len(DAMAGES)]
            data = data[: number * 7] if number % 4 == 3 else json.dumps([changed(record[0], path, value)])
        (runs / f"{one.identity}.json").parent.mkdir(parents=True, exist_ok=True)
        (runs / f"{one.identity}.json").write_text(data)
    (tmp_path / "results" / "parameters.json").write_text('{"setr-pup/parameters": 1')
    assert work(settings(section="sweep"), ASKED) == 0
    said = capsys.readouterr().out
    assert "460 experiments" in said
    named = [line for line in said.splitlines() if "left out" in line]
    assert len(named) == 41  # and the counts of parameters
    index_page = (tmp_path / "report" / "index.html").read_text()
    for index in damaged:
        assert made[index].identity in index_page or made[index].identity[:12] in index_page


def test_what_a_shared_server_returns_is_taken_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SETR_HOME", str(tmp_path))
    chance, runs, records = random.Random(18), [], {}
    for index, one in enumerate(make_results((2,), seeds=8, points=3)[:200]):
        run_id = f"{index:032x}"
        records[run_id], _ = mutated(text_of(one, tmp_path / "w"), chance)
        tags: dict[str, Any] = {"setr.identity": one.identity, "setr.cells": " ".join(one.cells)}
        if index % 5 == 0:
            tags[chance.choice(tuple(tags))] = chance.choice(("", "../../x", "\x1b[2J", "half \ud800", "a" * 70_000))
        runs.append(TrackedRun(run_id, f"run {index}", "FINISHED", "http://h/1", tags, {}, 0, ""))
    server: Any = Server(runs, records)
    (tmp_path / "fetched").mkdir()
    results, notes = tracked_results(settings(section="sweep"), server, tmp_path / "fetched")
    left_out = [note for note in notes if "left out" in note.text]
    assert len(results) + len(left_out) == 200
    assert 50 < len(left_out) < 200
    shown, _ = usable(located(one, tmp_path, tmp_path / "checkpoints") for one in results)
    assert shown
