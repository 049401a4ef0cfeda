"""A finished checkpoint is hashed once, and again when a file of it has changed."""

import json
import shutil
from pathlib import Path

import pytest

from pipelines import ledger
from pipelines.jobs import Planned
from pipelines.ledger import state_of
from setr.training import checkpoint


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
