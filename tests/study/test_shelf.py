"""Which file a word for a study means."""

from pathlib import Path

import pytest

from setr.errors import InputError
from setr.study import shelf

TEXT = "title: x\nmodels: {pup: {decoder: pup}}\ntables: {one: {rows: [pup], columns: {a: {data: scenes}}}}\n"


def project(folder: Path, *names: str) -> Path:
    (folder / "setr").mkdir(parents=True)
    (folder / "studies").mkdir()
    for name in names:
        (folder / "studies" / f"{name}.yaml").write_text(TEXT)
    return folder


def test_a_sweep_that_runs_a_snapshot_reads_the_study_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of the working copy may have changed since: the snapshot has it, too."""
    snapshot, copy = project(tmp_path / "snapshot", "setr", "mine"), project(tmp_path / "copy", "setr", "mine")
    (snapshot / ".snapshot.json").write_text("{}")
    monkeypatch.setattr(shelf, "STUDIES", snapshot / "studies")
    (copy / "studies" / "mine.yaml").write_text("changed: since")
    for word in ("studies/mine.yaml", str(copy / "studies" / "mine.yaml"), "mine"):
        assert shelf.open_study(word, copy).file == snapshot / "studies" / "mine.yaml"


def test_another_file_of_a_shipped_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, other = project(tmp_path / "here", "setr"), project(tmp_path / "other", "setr")
    monkeypatch.setattr(shelf, "STUDIES", here / "studies")
    with pytest.raises(InputError, match="comes with the project"):
        shelf.open_study("studies/setr.yaml", other)
    assert shelf.open_study("studies/setr.yaml", here).file == here / "studies" / "setr.yaml"
