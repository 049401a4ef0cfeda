"""A finished checkpoint is hashed once, and again when a file of it has changed."""

import json
import shutil
from pathlib import Path

import pytest

from setr.planning.experiments import plan_training
from setr.planning.measured import measurements
from setr.planning.planned import Planned
from setr.record import checkpoint, ledger
from setr.record.earlier import shelf
from setr.record.ledger import damage, state_of
from tests.helpers.tiny import CELL, settings


@pytest.fixture
def folder(trained: Planned, tmp_path: Path) -> Path:
    return shutil.copytree(trained.folder, tmp_path / trained.identity)


def test_a_checkpoint_that_was_hashed_is_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert state_of(folder) == ("done", 4)  # the copy has times of its own: hashed, and written down
    monkeypatch.setattr(checkpoint, "verify_checkpoint", lambda *_: pytest.fail("read again"))
    assert state_of(folder) == ("done", 4)


def test_a_training_leaves_the_proof_of_what_it_wrote(
    trained: Planned, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "verify_checkpoint", lambda *_: pytest.fail("read again"))
    assert state_of(trained.folder) == ("done", 4)


def test_bytes_that_changed_since_are_found(folder: Path) -> None:
    assert state_of(folder) == ("done", 4)
    scored = json.loads((folder / "scores.json").read_text())
    file = folder / scored["checkpoint_folder"] / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert state_of(folder)[0] == "resumable"


def test_a_folder_that_cannot_be_written_is_hashed_each_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ledger.PROOF).unlink()
    (folder / ledger.PROOF).mkdir()  # also in the way of root
    assert state_of(folder) == ("done", 4)
    assert (folder / ledger.PROOF).is_dir()


DAMAGED = {
    "a list": "[1]",
    "null": "null",
    "a number": "7",
    "a text": '"x"',
    "nothing": "",
    "half of it": '{"scores": {"ss": ',
    "deep nesting": "[" * 100_000,
    "deep nesting of objects": '{"a":' * 100_000,
    "a huge number": "1" * 5000,
    "no text": "\udcff",
}
# Records of the right shape with one value that is none.
WRONG = {
    "scores": [None, [], "x", {"ss": 1}, {"ss": None}, {"ss": [1]}],
    "step": [None, "4", -1, 2**80, 1.5, True, [4]],
    "checkpoint": [None, 1, [], {}],
    "checkpoint_folder": [None, 1, [], "step-x", "../step-00000004", f"step-{10**400}"],
}


def write_text(path: Path, text: str) -> None:
    path.chmod(0o644)
    path.write_text(text, encoding="utf-8", errors="surrogateescape")


@pytest.mark.parametrize("text", DAMAGED.values(), ids=list(DAMAGED))
def test_a_damaged_record_of_scores_is_named_and_counts_as_none(folder: Path, text: str) -> None:
    assert (state_of(folder), damage(folder)) == (("done", 4), "")
    write_text(folder / "scores.json", text)
    assert state_of(folder) == ("resumable", 4)
    assert damage(folder).startswith("scores.json is damaged")


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_among_the_scores_is_named(folder: Path, name: str, value: object) -> None:
    stored = json.loads((folder / "scores.json").read_text())
    write_text(folder / "scores.json", json.dumps({**stored, name: value}))
    assert state_of(folder) == ("resumable", 4)
    assert damage(folder)
    assert "\n" not in damage(folder)


@pytest.mark.parametrize("text", DAMAGED.values(), ids=list(DAMAGED))
@pytest.mark.parametrize("name", ["scores.json", "experiment.json", "identity.json", "proof.json", "events.jsonl"])
def test_every_record_of_a_folder_may_be_damaged_under_a_plan(folder: Path, name: str, text: str) -> None:
    write_text(folder / name, text)
    state_of(folder)
    shelf(folder.parent)
    measurements(folder.parent, folder.parent)


def test_a_plan_names_the_damaged_record(trained: Planned, home: Path, tmp_path: Path) -> None:
    config = settings(f"cell={CELL}", f"storage.checkpoints={tmp_path}")
    shutil.copytree(trained.folder, tmp_path / trained.identity)
    assert (plan_training(config).state, plan_training(config).why) == ("done", "")
    write_text(tmp_path / trained.identity / "scores.json", "[1]")
    entry = plan_training(config)
    assert (entry.identity, entry.state) == (trained.identity, "resumable")
    assert entry.why.startswith("scores.json is damaged")
