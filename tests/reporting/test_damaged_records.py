"""One damaged record costs one result: whatever is in a record, the others are read, and it is named with a reason."""

import dataclasses
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.mutated_records import changed, mutated
from setr.errors import InputError
from setr.record.events import append_event, is_evaluation, read_events
from setr.reporting.numbers.results import (
    ELSEWHERE_TAG,
    Result,
    load_results,
    read_experiment,
    read_results,
    save_results,
)
from setr.reporting.numbers.results import usable as usable_of
from setr.reporting.numbers.tables import build_table
from setr.reporting.site.experiment_page import experiment_page
from setr.reporting.site.pages import experiment_row
from setr.reporting.site.places import located, relative
from setr.reporting.tracing.trace import as_text, trace
from setr.study.cells import find_cell

COUNT = int(os.environ.get("SETR_MUTATIONS", "300"))
SEED = int(os.environ.get("SETR_MUTATIONS_SEED", "18"))
PUP = [find_cell("table2/setr-pup/80k")]
HOME = Path("/home/of/the/project")

# Where a record may be wrong, and how: a fault of each of these must cost the record, whatever else is right in it.
FAULTS: dict[str, tuple[tuple[Any, ...], Any]] = {
    "identity that is no hash": (("identity",), "x"),
    "identity of another experiment": (("identity",), "f" * 64),
    "no experiment": (("experiment",), None),
    "experiment that is a list": (("experiment",), [1]),
    "data set that climbs": (("experiment", "dataset"), "../../x"),
    "seed as text": (("experiment", "seed"), "0"),
    "seed without end": (("experiment", "seed"), 10**400),
    "recipe of one number": (("experiment", "recipe"), 1),
    "crop of three sides": (("experiment", "recipe", "crop_size"), [1, 2, 3]),
    "rate that is true": (("experiment", "recipe", "base_lr"), True),
    "unknown flavour": (("experiment", "recipe", "flavour"), "theirs"),
    "cells as text": (("cells",), "table2/setr-pup/80k"),
    "cell that no table has": (("cells",), ["table2/setr-pup/81k"]),
    "no tags": (("tags",), None),
    "tag that is a number": (("tags", "git.commit"), 7),
    "tag with an escape code": (("tags", "git.commit"), "\x1b[2J"),
    "scores that are a list": (("scores",), [1]),
    "score that is a number": (("scores", "ss"), 1),
    "score as text": (("scores", "ss", "mIoU"), "high"),
    "score above a hundred": (("scores", "ss", "mIoU"), 100.5),
    "scores by class by name": (("scores", "ss", "per_class_iou"), {"a": 1}),
    "scores of too few classes": (("scores", "ss", "per_class_iou"), [1.0]),
    "protocol without a window": (("scores", "ss", "protocol"), {"name": "ss"}),
    "calibration that is short": (("scores", "ss", "calibration"), [[1], [2], [3]]),
    "worst image without a name": (("scores", "ss", "worst_images"), [1]),
    "curve of single numbers": (("curves", "loss"), [1, 2]),
    "step of a half": (("curves", "loss"), [[0.5, 1.0]]),
    "loss without end": (("curves", "loss"), [[1, float("inf")]]),
    "seconds as text": (("seconds", "evaluate"), ".."),
    "time below nothing": (("seconds", "evaluate"), -1.0),
    "weights that are numbers": (("weights",), [1]),
    "parameters by the half": (("parameters",), 0.5),
    "address that is a script": (("run_url",), "javascript:alert(1)"),
    "run that climbs": (("run_id",), "../x"),
    "checkpoint that climbs": (("checkpoint",), "checkpoints/../../../etc"),
    "picture at home": (("pictures",), ["~/.ssh/id_rsa"]),
    "half of a pair of characters": (("failure",), "\ud800"),
    "field that nobody knows": (("surprise",), 1),
    "attempts without end": (("attempts",), 2**70),
}


def record_of(result: Result, folder: Path) -> Any:
    save_results(folder / "one.json", [result])
    return json.loads((folder / "one.json").read_text())


def show(results: list[Result]) -> int:
    """Makes everything of results that a report makes but the pictures; returns how many can stand in it."""
    usable, _ = usable_of([located(one, HOME, HOME / "checkpoints") for one in results])
    for scale in {str(one.of("scale")) for one in usable}:
        build_table(2, usable, scale=scale)
    for one in usable:
        json.dumps([experiment_page(one, [], []), experiment_row(one)], default=str).encode()
        as_text(trace(one.cells[0] if one.cells else "table2/setr-pup/80k", usable))
    return len(usable)


@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_value_costs_its_record_and_is_named(
    name: str, tmp_path: Path, result_of: Callable[..., Result]
) -> None:
    path, value = FAULTS[name]
    whole, other = result_of(PUP), result_of(PUP, seed=1)
    save_results(tmp_path / "other.json", [other])
    [record] = record_of(whole, tmp_path / "whole")
    (tmp_path / "bad.json").write_text(json.dumps([changed(record, path, value)]))
    found, notes = read_results(tmp_path)
    usable, own = usable_of(found)
    assert [one.identity for one in usable] == [other.identity]
    assert len([*notes, *own]) == 1
    [note] = [*notes, *own]
    assert "left out" in note.text
    assert path[-1] in note.text or "identity" in note.text or "E_CELL" in note.text or "unexpected" in note.text


def test_whatever_is_in_a_file_it_is_shown_or_named(tmp_path: Path, results_of: Callable[..., list[Result]]) -> None:
    chance = random.Random(SEED)
    made = results_of((2,), points=6)
    faults = {}
    for index in range(COUNT):
        data, words = mutated(record_of(made[index % len(made)], tmp_path / "whole"), chance)
        (tmp_path / f"{index:05d}.json").write_bytes(data)
        faults[f"{index:05d}.json"] = words
    print(f"seed {SEED}, {COUNT} records")
    named = 0
    for name, words in faults.items():
        try:
            found = load_results(tmp_path / name)
        except InputError:
            named += 1
            continue
        usable, notes = usable_of(found)
        assert len(usable) + len(notes) >= len(found), words
        show(found)
    _, notes = read_results(tmp_path)
    assert len(notes) == named > COUNT // 3
    assert not [note.text for note in notes if not note.text.isprintable()]


@pytest.mark.parametrize("name", ["experiment.json", "scores.json", "events.jsonl"])
def test_whatever_is_in_a_folder_it_is_read_or_refused(
    name: str, tmp_path: Path, result_of: Callable[..., Result]
) -> None:
    made, chance = result_of(PUP), random.Random(SEED)
    whole: dict[str, Any] = {
        "experiment.json": {"experiment": made.experiment, "job": {"tags": {"git.commit": "c"}, "cells": []}},
        "scores.json": {
            "identity": made.identity,
            "step": 20,
            "checkpoint": "ab" * 32,
            "checkpoint_folder": "step-00000020",
            "scores": dict(made.scores),
            "classes": list(made.class_names),
            "seconds": {"train": 1.0},
        },
        "events.jsonl": {"event": "metrics", "step": 10, "loss": 2.0, "tags": {"a": "b"}, "seconds": {"train": 1.0}},
    }
    for file, record in whole.items():
        (tmp_path / file).write_text(json.dumps({"time": 1.0, **record} if file == "events.jsonl" else record) + "\n")
    assert read_experiment(tmp_path).score("ss", "mIoU") == made.score("ss", "mIoU")
    refused: list[str] = []
    for _ in range(COUNT // 3):
        data, words = mutated(whole[name] | ({"time": 1.0} if name == "events.jsonl" else {}), chance)
        (tmp_path / name).write_bytes(data + b"\n")
        try:
            found = read_experiment(tmp_path, planned=made.experiment, cells=made.cells)
        except InputError:
            refused.append(words)
            continue
        show([found])
        assert found.identity == made.identity, words
    # The plan knows the experiment, and a lost event is a lost point of a curve.
    assert bool(refused) == (name == "scores.json"), refused


def test_a_lost_line_and_a_lost_experiment_are_named(tmp_path: Path, result_of: Callable[..., Result]) -> None:
    made = result_of(PUP)
    (tmp_path / "experiment.json").touch()
    append_event(tmp_path / "events.jsonl", {"event": "metrics", "step": 1, "loss": 2.0})
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"event": "metrics", "step": "two", "time": 1, "loss": 2.0}\n')
    with pytest.raises(InputError, match=r"experiment\.json"):
        read_experiment(tmp_path)
    found = read_experiment(tmp_path, planned=made.experiment)
    assert (found.identity, found.curves["loss"]) == (made.identity, [(1, 2.0)])
    assert found.tags["setr.damaged"] == "experiment.json, 1 lines of events.jsonl"


def test_scores_of_another_experiment_are_refused(tmp_path: Path, result_of: Callable[..., Result]) -> None:
    mine, other = result_of(PUP), result_of(PUP, seed=1)
    (tmp_path / "experiment.json").write_text(json.dumps({"experiment": other.experiment}))
    stored = {"identity": mine.identity, "checkpoint": "ab" * 32, "scores": dict(mine.scores)}
    (tmp_path / "scores.json").write_text(json.dumps(stored))
    with pytest.raises(InputError, match="scores and experiment differ"):
        read_experiment(tmp_path)
    assert read_experiment(tmp_path, planned=mine.experiment).identity == mine.identity


def test_a_pipe_in_a_records_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "one.json")
    _, [note] = read_results(tmp_path)
    assert "no regular file" in note.text


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[1]",
        b'{"event": 1}',
        b'{"event": "metrics", "step": 1}',
        b'{"event": "metrics", "step": true, "time": 1}',
        b'{"event": "metrics", "step": 1.5, "time": 1}',
        b'{"event": "metrics", "step": 1, "time": "now"}',
        b'{"event": "metrics", "step": 1, "time": 1, "loss": 1e999}',
        b'{"event": "start", "tags": {"a": 1}}',
        b'{"event": "start", "tags": ["a"]}',
        b'{"event": "finished", "seconds": {"train": "long"}}',
        b'{"event": "failed", "cause": 1}',
        b'{"event": "start", "step": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_line_that_is_no_event_is_passed_over(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    append_event(path, {"event": "metrics", "step": 1, "loss": 2.0})
    with path.open("ab") as file:
        file.write(line + b"\n")
    append_event(path, {"event": "metrics", "step": 2, "loss": 1.0})
    assert [event["step"] for event in read_events(path)] == [1, 2]


def test_kept_evaluations_are_checked_one_by_one() -> None:
    assert is_evaluation("12", {"mIoU": 3.5, "per_class_iou": [1.0, None]})
    for step, scores in (("x", {}), ("-1", {}), ("12", None), ("12", {"mIoU": "3"}), ("12", {"mIoU": float("inf")})):
        assert not is_evaluation(step, scores)


def test_places_are_written_relative_and_found_where_the_project_is_now(
    tmp_path: Path, result_of: Callable[..., Result]
) -> None:
    made = result_of(PUP)
    before, now = tmp_path / "before", tmp_path / "now"
    step = Path("checkpoints", made.identity, "step-00000240")
    for home in (before, now):
        (home / step).mkdir(parents=True)
        (home / step.parent / "areas-ss.npz").touch()
    absolute = dataclasses.replace(
        made, checkpoint=str(before / step), per_image={"ss": before / step.parent / "areas-ss.npz"}
    )
    written = relative(absolute, before)
    assert (written.checkpoint, written.per_image) == (str(step), {"ss": step.parent / "areas-ss.npz"})
    for record in (written, absolute):  # as it is written now, and as older versions wrote it
        found = located(record, now, now / "checkpoints")
        assert found.checkpoint == str(now / step)
        assert found.per_image == {"ss": now / step.parent / "areas-ss.npz"}
    elsewhere = located(absolute, tmp_path / "third", tmp_path / "third" / "checkpoints")
    assert (elsewhere.checkpoint, elsewhere.per_image) == (None, {})
    assert elsewhere.tags[ELSEWHERE_TAG] == str(before / step)
    [chain] = trace("table2/setr-pup/80k", [elsewhere])
    assert [link.broken for link in chain.links if link.name == "checkpoint"] == [
        "outside this project and its storage.checkpoints: not what is verified here"
    ]
