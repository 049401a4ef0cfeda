"""Remembers which checkpoints have been hashed: a plan of many finished trainings must not read terabytes each time.

<experiment's folder>/proof.json   step folder, its SHA-256, and size and times of its files when they had that hash

Bytes that change through the file system change a file's times, and are hashed again. What a disk does to them by
itself shows when a training goes on, or in `pipelines/report.py trace --verify`: both hash every byte.
"""

import contextlib
from pathlib import Path
from typing import Any

from pipelines.command import write_json
from setr.errors import EnvironmentFailure
from setr.training.checkpoint import verify_checkpoint
from setr.training.resume import read_json

PROOF = "proof.json"


def proven(folder: Path, name: str, sha256: str) -> bool:
    """Returns whether the checkpoint `name` in an experiment's folder is whole and has the hash.

    Raises IntegrityError for one that is not whole, ValueError for a name that is none of a checkpoint's.
    """
    if read_json(folder / PROOF) == _record(folder, name, sha256):
        return True
    if verify_checkpoint(folder, int(name.removeprefix("step-"))).sha256 != sha256:
        return False
    remember(folder, name, sha256)
    return True


def remember(folder: Path, name: str, sha256: str) -> None:
    """Writes down that the checkpoint `name` had the hash just now."""
    with contextlib.suppress(EnvironmentFailure):  # a folder that may only be read is hashed each time
        write_json(folder / PROOF, _record(folder, name, sha256))


def _record(folder: Path, name: str, sha256: str) -> dict[str, Any]:
    files = sorted((folder / name).iterdir()) if (folder / name).is_dir() else []
    found = {path.name: [(stat := path.stat()).st_size, stat.st_mtime_ns, stat.st_ctime_ns] for path in files}
    return {"checkpoint": name, "sha256": sha256, "files": found}
