"""Where the project and its home are: relative paths in the settings are below the home."""

import contextlib
import os
from pathlib import Path

from setr.errors import InputError

PROJECT = Path(__file__).resolve().parents[2]
STUDIES = PROJECT / "studies"  # those that come with the project
SETR = STUDIES / "setr.yaml"  # the one without which nothing is asked for
SNAPSHOT = ".snapshot.json"  # in the project's folder: it is a snapshot of code (setr.record.snapshot)


def home() -> Path:
    """Returns the folder that relative paths are below: $SETR_HOME, else the project's folder.

    In a submitted Ray job the project is a throw-away copy, so there the default is ~/setr-tables on the head node.
    Raises InputError in a snapshot of the code: nothing is written into one.
    """
    if os.environ.get("SETR_HOME"):
        return Path(os.environ["SETR_HOME"]).expanduser().resolve()
    if (PROJECT / SNAPSHOT).is_file():
        raise InputError(
            "E_CONFIG",
            "a snapshot of the code has no data and results of its own",
            where=PROJECT,
            remedy="set SETR_HOME to the folder that has them",
        )
    if "runtime_resources" in PROJECT.parts:
        return Path.home() / "setr-tables"
    return PROJECT


def resolve(path: str) -> Path:
    """Returns `path` as an absolute path below home(); `~` is the user's home, `~x` of no user a folder."""
    with contextlib.suppress(RuntimeError):
        return (home() / Path(path).expanduser()).absolute()
    return (home() / path).absolute()


def resolve_location(location: str) -> str:
    """Returns an absolute path below home() for a path, and a URI (s3://bucket/prefix) as it is."""
    return location if "://" in location else str(resolve(location))
