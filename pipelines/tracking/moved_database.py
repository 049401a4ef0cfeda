"""MLflow's own database in a project that was moved or copied: it holds the absolute path of the files beside it.

MLflow writes a run's files to the path that its experiment was made with, and makes that path again where it is gone:
a copy would write into the original, and a moved project into a folder that nobody looks for.
"""

import contextlib
import sqlite3
from pathlib import Path

from setr.errors import EnvironmentFailure

_PLACES = (("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location"))


def follow_move(database: Path, artifacts: Path, experiment: str) -> str:
    """Makes the places in the database those below `artifacts`; returns where they were before, "" if nothing moved.

    Nothing is changed for an experiment whose files somebody keeps elsewhere on purpose (under another name). Raises
    EnvironmentFailure where the old place exists and the new one does not: then the files are still to be brought.
    """
    if not database.is_file():
        return ""
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=10.0)) as connection, connection:
            found = connection.execute("SELECT artifact_location FROM experiments WHERE name = ?", (experiment,))
            old = str((found.fetchone() or ("",))[0] or "")
            if not _moved(old, artifacts):
                return ""
            if Path(old).is_dir() and not artifacts.exists():
                raise EnvironmentFailure(
                    "E_TRACKING",
                    "MLflow's files of this project lie outside it",
                    where=database,
                    found=old,
                    expected=artifacts,
                    remedy=f"copy {old} to {artifacts}, or name another tracking.experiment",
                )
            for table, column in _PLACES:
                _replace(connection, table, column, old, str(artifacts))
    except sqlite3.Error as error:
        raise EnvironmentFailure(
            "E_TRACKING", "MLflow's database cannot be used", where=database, found=error, remedy="mend its file"
        ) from None
    return old


def _moved(old: str, artifacts: Path) -> bool:
    ours = old.startswith("/") and Path(old).name == artifacts.name
    return ours and Path(old) != artifacts and Path(old).resolve() != artifacts.resolve()


def _replace(connection: sqlite3.Connection, table: str, column: str, old: str, new: str) -> None:
    """Replaces the beginning of the paths in a column, where the table is there."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchone():
        return
    # The names are constants of this module; only values come from outside.
    connection.execute(
        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR substr({column}, 1, ?) = ?",
        (new, len(old) + 1, old, len(old) + 1, old + "/"),
    )
