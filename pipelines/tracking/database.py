"""The SQLite file of MLflow, looked at before MLflow opens it: for minutes it would try again what cannot work."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from setr.errors import EnvironmentFailure

MAGIC = b"SQLite format 3\0"


def check_file(path: Path) -> None:
    """Raises EnvironmentFailure for a database that cannot be read and written; a missing one can be made.

    A folder in its place, a file of something else, one or a folder without the right to write, one that is damaged.
    """
    if path.is_dir():
        raise _refused(path, "a folder", "move it away, or set tracking.uri to sqlite:///<another file>")
    if not path.exists():
        folder = next(parent for parent in path.parents if parent.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise _refused(folder, "no right to write here", "mend the permissions, or set tracking.uri")
        return
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
    except OSError as error:
        raise _refused(path, error.strerror or str(error), "mend the permissions, or set tracking.uri") from None
    if head and head != MAGIC:
        raise _refused(path, "a file of another kind", "move it away, or set tracking.uri")
    if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
        raise _refused(
            path, "no right to write", "mend the permissions of the file and its folder, or set tracking.uri"
        )
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=1.0)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.rollback()
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):  # somebody writes: it works
            raise _refused(path, str(error), "mend the disk or its permissions, or set tracking.uri") from None
    except sqlite3.DatabaseError as error:
        raise _refused(path, str(error), "put a sound copy in its place, or move it away: a new one is made") from None


def _refused(where: Path, found: str, remedy: str) -> EnvironmentFailure:
    return EnvironmentFailure(
        "E_TRACKING", "MLflow's database cannot be opened", where=where, found=found, remedy=remedy
    )
