"""The tracking database's file is looked at before MLflow fails far away."""

import os
import sqlite3

import pytest

from pipelines.tracking.database import check_file
from setr.errors import EnvironmentFailure


def test_a_database_that_is_not_there_or_sound_is_no_problem(tmp_path):
    check_file(tmp_path / "a" / "new.db")
    (tmp_path / "empty.db").touch()
    check_file(tmp_path / "empty.db")
    with sqlite3.connect(tmp_path / "sound.db") as database:
        database.execute("CREATE TABLE t (x)")
        check_file(tmp_path / "sound.db")  # while somebody writes
    check_file(tmp_path / "sound.db")


@pytest.mark.parametrize(("kind", "found"), [("folder", "a folder"), ("text", "another kind"), ("damaged", "")])
def test_a_database_that_cannot_be_opened_is_refused_at_once(tmp_path, kind, found):
    path = tmp_path / "mlflow.db"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("a text, and no database at all")
    else:
        path.write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
    with pytest.raises(EnvironmentFailure, match=f"E_TRACKING.*{found}.*move it away"):
        check_file(path)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_database_without_the_right_to_write_is_refused(tmp_path):
    (tmp_path / "mlflow.db").touch(mode=0o444)
    with pytest.raises(EnvironmentFailure, match=r"no right to write"):
        check_file(tmp_path / "mlflow.db")
