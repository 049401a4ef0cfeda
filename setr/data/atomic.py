"""Files that appear whole or not at all: written under a temporary name, synced, made read-only, renamed."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from setr.errors import EnvironmentFailure

TEMPORARY_SUFFIX = ".tmp"
READ_ONLY = 0o444  # a file that is mapped elsewhere must be replaced, never changed


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Yields a file that takes the name `path` when the block ends well, replacing what was there; else it vanishes.

    The order is: data synced, renamed, folder synced; so no crash leaves a half-written file under the final name.
    Raises EnvironmentFailure (E_STORAGE) for what the disk or its permissions refuse.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(READ_ONLY)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise storage_failure(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_file(path: Path, data: bytes) -> None:
    """Write a whole read-only file at once, or nothing; raises EnvironmentFailure (E_STORAGE)."""
    with new_file(path) as file:
        file.write(data)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents; raises EnvironmentFailure (E_STORAGE) where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_failure(folder, error) from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: a rename is on disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def storage_failure(path: Path, error: OSError) -> EnvironmentFailure:
    """Returns the one-line error for a disk that is full, read-only or not permitted."""
    return EnvironmentFailure(
        "E_STORAGE",
        f"cannot write ({error.strerror or error})",
        where=path,
        remedy="free space or choose a folder that can be written; a run that was cut off continues where it stopped",
    )


def read_json(path: Path) -> dict[str, Any] | None:
    """Returns the JSON object in a file, None if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
