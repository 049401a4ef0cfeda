"""The folder of a site: found unchanged by its hashes, or replaced in one step."""

import json
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from setr.errors import EnvironmentFailure, InputError
from setr.files.atomic import give_rights, make_folder
from setr.files.hashing import file_sha256

STATE = "site.json"  # what the site was made from, and the hash of each file


def file_digest(file: Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hex; "missing" if it cannot be read."""
    try:
        return file_sha256(file)
    except OSError:
        return "missing"


def unchanged(folder: Path, inputs: str) -> dict[str, Any] | None:
    """Returns the state of a site that is what a new build would write, None if there is none."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if state["inputs"] != inputs or not isinstance(state["notes"], list):
            return None
        whole = all(file_digest(folder / name) == sha256 for name, sha256 in state["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return state if whole else None


def files_of(folder: Path) -> list[str]:
    """Returns the files of a site, by their path in it, that are still as they were written; none without a state."""
    try:
        files = json.loads((folder / STATE).read_text(encoding="utf-8"))["files"].items()
        plain = [(name, sha256) for name, sha256 in files if ".." not in Path(name).parts and not name.startswith("/")]
        return [name for name, sha256 in plain if file_digest(folder / name) == sha256]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


def check_folder(folder: Path) -> None:
    """Raises InputError if the folder holds something that is no report: it would be replaced."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / STATE).is_file():
        raise InputError(
            "E_REPORT",
            "folder is not empty and holds no report",
            where=folder,
            remedy="name another folder, or remove what is in it",
        )


def swap_in(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes all files into a folder beside the final one and exchanges the two; readers see the old or the new."""
    token = secrets.token_hex(4)
    temporary, old = folder.with_name(f".{folder.name}.new-{token}"), folder.with_name(f".{folder.name}.old-{token}")
    try:
        make_folder(temporary)
        try:
            for name, data in files.items():
                file = temporary / name
                make_folder(file.parent)
                file.write_bytes(data)
                give_rights(file)
            if folder.exists():
                folder.rename(old)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise EnvironmentFailure(
            "E_STORAGE",
            f"cannot write the report ({error.strerror or error})",
            where=folder,
            remedy="free space, or name another folder",
        ) from error
