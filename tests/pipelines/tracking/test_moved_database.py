"""A database beside files that were moved says where they are now; one whose files are elsewhere stays as it is."""

import sqlite3
from pathlib import Path

import pytest

from pipelines.tracking.moved_database import follow_move
from setr.errors import EnvironmentFailure


def make(folder: Path, old: str, *, models: bool = True) -> Path:
    """Returns a database whose experiment `mine` keeps its files at `old`."""
    database = folder / "mlflow.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE experiments (name, artifact_location)")
        connection.execute("CREATE TABLE runs (artifact_uri)")
        rows = [("mine", old), ("other", f"{old}-of another"), ("third", f"{old}/3")]
        connection.executemany("INSERT INTO experiments VALUES (?, ?)", rows)
        connection.executemany("INSERT INTO runs VALUES (?)", [(f"{old}/1/run",), (f"{old}x/1",), ("s3://b/1",)])
        if models:
            connection.execute("CREATE TABLE logged_models (artifact_location)")
            connection.execute("INSERT INTO logged_models VALUES (?)", (f"{old}/1/models/m",))
    connection.close()
    return database


def places(database: Path, table: str, column: str) -> list[str]:
    with sqlite3.connect(database) as connection:
        found = [row[0] for row in connection.execute(f"SELECT {column} FROM {table} ORDER BY rowid")]
    connection.close()
    return found


@pytest.mark.parametrize("models", [True, False])
def test_every_path_below_the_old_place_follows_and_no_other(tmp_path: Path, models: bool) -> None:
    old, new = str(tmp_path / "before" / "mlartifacts"), tmp_path / "mlartifacts"
    database = make(tmp_path, old, models=models)
    assert follow_move(database, new, "mine") == old
    assert places(database, "experiments", "artifact_location") == [str(new), f"{old}-of another", f"{new}/3"]
    assert places(database, "runs", "artifact_uri") == [f"{new}/1/run", f"{old}x/1", "s3://b/1"]
    if models:
        assert places(database, "logged_models", "artifact_location") == [f"{new}/1/models/m"]
    assert follow_move(database, new, "mine") == "", "once is enough"


@pytest.mark.parametrize("old", ["s3://bucket/mlartifacts", "/elsewhere/kept on purpose", "mlartifacts", ""])
def test_what_is_kept_elsewhere_on_purpose_stays(tmp_path: Path, old: str) -> None:
    database = make(tmp_path, old)
    assert follow_move(database, tmp_path / "mlartifacts", "mine") == ""
    assert places(database, "experiments", "artifact_location")[0] == old


def test_no_database_or_no_such_experiment_has_nothing_to_move(tmp_path: Path) -> None:
    assert follow_move(tmp_path / "mlflow.db", tmp_path / "mlartifacts", "mine") == ""
    assert not (tmp_path / "mlflow.db").exists()
    database = make(tmp_path, "/before/mlartifacts")
    assert follow_move(database, tmp_path / "mlartifacts", "unknown") == ""


def test_the_same_folder_by_another_name_has_not_moved(tmp_path: Path) -> None:
    (tmp_path / "mlartifacts").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    database = make(tmp_path, str(tmp_path / "mlartifacts"))
    assert follow_move(database, tmp_path / "link" / "mlartifacts", "mine") == ""


def test_files_that_are_still_at_the_old_place_are_to_be_brought(tmp_path: Path) -> None:
    old = tmp_path / "before" / "mlartifacts"
    old.mkdir(parents=True)
    database = make(tmp_path, str(old))
    with pytest.raises(EnvironmentFailure, match=rf"E_TRACKING.*lie outside.*copy {old} to"):
        follow_move(database, tmp_path / "mlartifacts", "mine")
    assert places(database, "experiments", "artifact_location")[0] == str(old)
    (tmp_path / "mlartifacts").mkdir()  # a copy of the whole project: its own files are there
    assert follow_move(database, tmp_path / "mlartifacts", "mine") == str(old)


def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
    with pytest.raises(EnvironmentFailure, match=r"E_TRACKING.*cannot be used.*mlflow\.db"):
        follow_move(tmp_path / "mlflow.db", tmp_path / "mlartifacts", "mine")
