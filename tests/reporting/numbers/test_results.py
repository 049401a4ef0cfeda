import dataclasses
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from setr.errors import EnvironmentFailure, InputError
from setr.record.events import append_event
from setr.reporting.numbers.results import (
    Result,
    from_record,
    load_results,
    read_experiment,
    save_results,
    thin,
    usable,
)
from setr.study.cells import find_cell
from setr.study.experiment import identity_of

Make = Callable[..., Result]
PUP = [find_cell("table2/setr-pup/80k")]


def write_folder(folder: Path, result: Result, *, scored: bool) -> None:
    folder.mkdir()
    (folder / "experiment.json").write_text(json.dumps({"experiment": result.experiment}))
    append_event(folder / "events.jsonl", {"event": "start", "step": 0})
    append_event(folder / "events.jsonl", {"event": "metrics", "step": 10, "loss": 2.0, "learning_rate": 0.01})
    append_event(folder / "events.jsonl", {"event": "start", "step": 0})
    append_event(folder / "events.jsonl", {"event": "metrics", "step": 10, "loss": 9.0, "learning_rate": 0.01})
    append_event(folder / "events.jsonl", {"event": "evaluation", "step": 20, "mIoU": 31.5})
    with (folder / "events.jsonl").open("a") as file:
        file.write('{"event": "metrics", "step": 30, "lo')
    if scored:
        stored = {"step": 20, "checkpoint": "ab" * 32, "checkpoint_folder": "step-00000020", "scores": result.scores}
        (folder / "scores.json").write_text(json.dumps({**stored, "parameters": 12, "weights": [{"file": "w"}]}))
        (folder / "areas-ss.npz").touch()


def test_folder_of_a_finished_experiment(tmp_path: Path, result_of: Make) -> None:
    made = result_of(PUP)
    write_folder(tmp_path / "one", made, scored=True)
    found = read_experiment(tmp_path / "one", cells=made.cells, run_id="r1")
    assert found.identity == made.identity
    assert found.curves["loss"] == [(10, 2.0)]
    assert found.curves["val/mIoU"] == [(20, 31.5)]
    assert found.score("ss", "mIoU") == made.score("ss", "mIoU")
    assert found.checkpoint == str(tmp_path / "one" / "step-00000020")
    assert (found.checkpoint_sha256, found.parameters, found.attempts) == ("ab" * 32, 12, 2)
    assert (found.finished, found.run_id, list(found.per_image)) == (True, "r1", ["ss"])


def test_folder_of_a_half_finished_experiment(tmp_path: Path, result_of: Make) -> None:
    write_folder(tmp_path / "one", result_of(PUP), scored=False)
    found = read_experiment(tmp_path / "one")
    assert (found.finished, found.scores, found.last_step, found.failure) == (False, {}, 20, "")


def test_folder_of_a_failed_experiment(tmp_path: Path, result_of: Make) -> None:
    write_folder(tmp_path / "one", result_of(PUP), scored=False)
    append_event(tmp_path / "one" / "events.jsonl", {"event": "failed", "step": 0, "cause": "E_DATA | broken"})
    assert read_experiment(tmp_path / "one").failure == "E_DATA | broken"


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"experiment": {"dataset": 1}}'])
def test_folder_without_an_experiment_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "experiment.json").write_text(text)
    with pytest.raises(InputError, match=r"E_RESULTS|E_EXPERIMENT"):
        read_experiment(tmp_path)


def test_record_of_a_run(result_of: Make) -> None:
    made = result_of(PUP)
    record = {
        "identity": made.identity,
        "cells": list(made.cells),
        "experiment": made.experiment,
        "checkpoint": "cd" * 32,
        "scores": made.scores,
        "parameters": 7,
        "curves": {"loss": [[1, 2.0], [2, 1.0]]},
        "attempts": 3,
        "finished_at": 12.5,
        "cause": "",
    }
    found = from_record(record, run_url="http://x/1")
    assert (found.cells, found.curves["loss"][-1], found.attempts) == (made.cells, (2, 1.0), 3)
    assert (found.checkpoint_sha256, found.run_url, found.finished) == ("cd" * 32, "http://x/1", True)
    with pytest.raises(InputError, match=r"curves\.loss"):
        from_record({**record, "curves": {"loss": [1]}})
    with pytest.raises(InputError, match="identity"):
        from_record({})


def test_saved_results_read_back(tmp_path: Path, results_of: Callable[..., list[Result]]) -> None:
    made = [dataclasses.replace(one, pictures=(tmp_path / "p.png",)) for one in results_of((2,))]
    save_results(tmp_path / "copy" / "results.json", made)
    found = load_results(tmp_path / "copy" / "results.json")
    assert [one.identity for one in found] == [one.identity for one in made]
    assert found[0] == dataclasses.replace(made[0], experiment=found[0].experiment, scores=found[0].scores)
    assert identity_of(found[0].experiment) == made[0].identity


@pytest.mark.parametrize("text", ["", "{}", '[{"identity": "a"}]', "[1]"])
def test_damaged_copy_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match="E_RESULTS"):
        load_results(tmp_path / "r.json")


def test_of_two_runs_of_one_identity_the_complete_one_counts(result_of: Make) -> None:
    whole = result_of(PUP, run_id="whole")
    half = result_of(PUP, finished=False, run_id="half", cells=("table6/setr-pup/80k-ss",))
    chosen, notes = usable([half, whole, half])
    assert [one.run_id for one in chosen] == ["whole"]
    assert set(chosen[0].cells) == {"table2/setr-pup/80k", "table6/setr-pup/80k-ss"}
    assert "3 runs of one identity: whole counts, not half, half" in notes[0].text


def test_runs_of_another_project_are_left_out_by_name(result_of: Make) -> None:
    stranger = Result(identity="x", cells=(), experiment={"lr": 1}, scores={}, curves={}, run_id="their run")
    chosen, notes = usable([stranger])
    assert chosen == []
    assert (notes[0].subject, "no experiment of this project" in notes[0].text) == ("their run", True)


def test_identity_that_is_not_the_hash_is_left_out(result_of: Make) -> None:
    forged = dataclasses.replace(result_of(PUP), identity="f" * 64)
    chosen, notes = usable([forged])
    assert chosen == []
    assert "is not the hash of its configuration" in notes[0].text


def test_scores_that_are_no_numbers_are_missing(result_of: Make) -> None:
    for value in (float("nan"), float("inf"), None, "high"):
        assert result_of(PUP, scores={"ss": {"mIoU": value}}).score("ss", "mIoU") is None


def test_thin_keeps_both_ends() -> None:
    points = [(step, float(step)) for step in range(1000)]
    assert (len(thin(points, 100)), thin(points, 100)[0], thin(points, 100)[-1]) == (100, points[0], points[-1])
    assert thin(points[:5], 100) == points[:5]


def test_a_disk_that_is_full_is_one_line_and_leaves_what_was_there(
    tmp_path: Path, result_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, made = tmp_path / "results.json", [result_of(PUP)]
    save_results(path, made)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentFailure, match=r"E_STORAGE .*No space left on device"):
        save_results(path, made)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(EnvironmentFailure, match="E_STORAGE"):
        save_results(path / "below a file" / "results.json", made)
