"""The code as it was at one moment: read, kept once in the storage path, and checked before it runs.

    <storage.checkpoints>/code/<SHA-256 of the tree>/
        setr/, pipelines/, params.yaml, ...     the code, files read-only
        .snapshot.json                          {path: SHA-256}, the tree's hash being that of this list
        .lineage.json                           commit, dirty, diff (setr.record.lineage), not in the hash

What counts as code is the same with git and without it, so that a clone, a submitted job's copy and a container's have
one snapshot: files of a few kinds, tracked or new, in no folder that holds data, results, tests or texts. Git adds
what it ignores to what is left out. Nothing removes a snapshot: records name it.
"""

import contextlib
import functools
import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import setr
from setr.errors import EnvironmentFailure, InputError, IntegrityError
from setr.files.atomic import make_folder, read_json, storage_failure, sync_folder
from setr.files.hashing import file_sha256
from setr.settings.home import SNAPSHOT

CODE = "code"  # in the storage path
KINDS = (".py", ".yaml", ".yml", ".toml", ".json", ".html", ".css", ".js")
# Of the project's folder: what commands write, and what no command imports.
WRITTEN = ("build", "checkpoints", "data", "dist", "logs", "mlartifacts", "mlruns", "report", "results", "weights")
NO_CODE = (*WRITTEN, "benchmarks", "docs", "dvc.yaml", "infra", "tests")
MAX_BYTES = 32_000_000
_ABANDONED_SECONDS = 86_400.0  # a half-written snapshot of this age is nobody's
_WRITERS = 8  # threads: a file system takes several flushes together

Code = Mapping[str, bytes]  # by path below the project, with / between the parts


def read_code(project: Path, leave_out: Sequence[Path] = ()) -> dict[str, bytes]:
    """Returns the project's code; nothing below the folders `leave_out`.

    Raises InputError if it is too large to be code, EnvironmentFailure if a file cannot be read.
    """
    closed = [folder for folder in leave_out if folder.is_relative_to(project) and folder != project]
    found: dict[str, bytes] = {}
    for name in sorted(_listed(project) or _walked(project, NO_CODE)):
        path = project / name
        if not _is_code(name) or _lies_elsewhere(path, project, closed):
            continue
        try:
            found[name] = path.read_bytes()
        except FileNotFoundError:  # removed since it was listed
            continue
        except OSError as error:
            raise EnvironmentFailure(
                "E_STORAGE", "cannot read the code", where=path, found=error.strerror or error
            ) from error
    size = sum(map(len, found.values()))
    if size > MAX_BYTES:
        largest = max(found, key=lambda name: len(found[name]))
        raise InputError(
            "E_SNAPSHOT",
            "the project's code is too large to keep with the results",
            where=project,
            found=f"{size / 1e6:.0f} MB, of which {largest} has {len(found[largest]) / 1e6:.0f} MB",
            expected=f"at most {MAX_BYTES / 1e6:.0f} MB",
            remedy="move data out of the project, or let git ignore it",
        )
    return found


def tree_hash(code: Code) -> str:
    """Returns the SHA-256, in hex, of the code's paths and contents."""
    return _hash_of(_digests(code))


def differing(code: Code, snapshot: Path) -> list[str]:
    """Returns the paths of what the code has otherwise than the snapshot: changed, new or not there."""
    kept, present = _manifest(snapshot), _digests(code)
    return sorted(name for name in kept.keys() | present.keys() if kept.get(name) != present.get(name))


def keep(code: Code, storage: Path) -> Path:
    """Returns the folder of the code's snapshot in the storage path, made if it is not there.

    Processes that make the same at once are fine. Raises IntegrityError if what is there is not the code any more,
    EnvironmentFailure if it cannot be written.
    """
    shelf = storage / CODE
    folder = shelf / tree_hash(code)
    if not folder.is_dir():
        make_folder(shelf)
        _sweep_up(shelf)
        new = shelf / f".new-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        try:
            _write(code, new)
            new.rename(folder)
            sync_folder(shelf)
        except OSError as error:
            if not folder.is_dir():  # else another process was faster
                raise storage_failure(folder, error) from error
        finally:
            shutil.rmtree(new, ignore_errors=True)
    verify(folder)
    return folder


def verify(folder: Path) -> None:
    """Raises IntegrityError (E_SNAPSHOT) unless the folder holds the files that its name and manifest say, no others.

    Hidden files and what Python compiles are not looked at.
    """
    kept = _manifest(folder)
    for name in sorted(set(_walked(folder)) - kept.keys()):
        raise _damaged(folder, "an added file", name, "a file", "none")
    for name, expected in sorted(kept.items()):
        try:
            found = file_sha256(folder / name)
        except FileNotFoundError:
            raise _damaged(folder, "a missing file", name, "none", expected) from None
        except OSError as error:
            raise _damaged(folder, "a file that cannot be read", name, error.strerror or error, expected) from None
        if found != expected:
            raise _damaged(folder, "a changed file", name, found, expected)


@functools.cache
def code_tree() -> str:
    """Returns the hash of the snapshot that this process has `setr` from, "" if it has it from none.

    The first time in a process every file is checked: raises IntegrityError (E_SNAPSHOT) if one is not as it was.
    """
    folder = Path(setr.__path__[0]).resolve().parent
    if not (folder / SNAPSHOT).is_file():
        return ""
    verify(folder)
    return folder.name


def require_code(expected: str) -> None:
    """Raises IntegrityError (E_SNAPSHOT) unless this process runs the snapshot of that hash; "" asks for none."""
    if expected and (found := code_tree()) != expected:
        raise IntegrityError(
            "E_SNAPSHOT",
            "a worker has other code than its job began with",
            where=f"{Path(setr.__path__[0]).parent} on {socket.gethostname()}",
            found=found or "no snapshot",
            expected=expected,
            remedy="let every node see the storage path, and run the same command again",
        )


def _listed(project: Path) -> list[str]:
    """Returns the files that git tracks or would track, [] if the project is not git's."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"]
    try:
        done = subprocess.run(
            [*words, *(f"*{kind}" for kind in KINDS)], cwd=project, capture_output=True, timeout=20, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return []
    names = [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]
    # A copy in somebody else's repository may be ignored there.
    return names if done.returncode == 0 and "setr/settings/config.py" in names else []


def _walked(folder: Path, closed: Sequence[str] = ()) -> Iterator[str]:
    """Yields the files below a folder that are neither hidden nor Python's own; none in its folders `closed`."""
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = [name for name in folders if _is_visible(name) and not (here == folder and name in closed)]
        folders[:] = [name for name in folders if not (here / name / "pyvenv.cfg").is_file()]
        yield from ((here / name).relative_to(folder).as_posix() for name in files if _is_visible(name))


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name != "__pycache__"


def _is_code(name: str) -> bool:
    parts = name.split("/")
    return name.endswith(KINDS) and parts[0] not in NO_CODE and all(map(_is_visible, parts))


def _lies_elsewhere(path: Path, project: Path, closed: Sequence[Path]) -> bool:
    """Returns whether it is a link out of the project, in a closed folder or in a snapshot of the project."""
    if any(path.is_relative_to(folder) for folder in closed):
        return True
    if path.is_symlink() and not path.resolve().is_relative_to(project.resolve()):
        return True
    return not path.is_file() or _in_snapshot(path.parent, project)


@functools.lru_cache(maxsize=4096)
def _in_snapshot(folder: Path, project: Path) -> bool:
    if folder == project or not folder.is_relative_to(project):
        return False
    return (folder / SNAPSHOT).is_file() or _in_snapshot(folder.parent, project)


def _digests(code: Code) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in code.items()}


def _hash_of(digests: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(digests), sort_keys=True).encode()).hexdigest()


def _manifest(folder: Path) -> dict[str, str]:
    """Returns {path: SHA-256} of a snapshot; raises IntegrityError if the list is not the one that it was named by."""
    digests = (read_json(folder / SNAPSHOT) or {}).get("files")
    found = _hash_of(digests) if isinstance(digests, dict) else "no list of files"
    if not isinstance(digests, dict) or found != folder.name:
        raise _damaged(folder, "a changed or missing manifest", SNAPSHOT, found, folder.name)
    return digests


def _damaged(folder: Path, what: str, name: str, found: object, expected: str) -> IntegrityError:
    return IntegrityError(
        "E_SNAPSHOT",
        f"{what} in the snapshot of the code that this began with",
        where=folder / name,
        found=found,
        expected=expected,
        remedy="mend that file, or move the snapshot's folder away and give --anew to begin with the present code",
    )


def _write(code: Code, folder: Path) -> None:
    """Writes the code and its manifest into a new folder, all of it flushed to disk."""
    files = {**code, SNAPSHOT: (json.dumps({"files": _digests(code)}, indent=1, sort_keys=True) + "\n").encode()}
    folders = {folder}
    for name in files:
        place = (folder / name).parent
        place.mkdir(parents=True, exist_ok=True)
        folders |= {place, *(parent for parent in place.parents if parent.is_relative_to(folder))}
    with ThreadPoolExecutor(_WRITERS) as writers:
        list(writers.map(lambda name: _write_file(folder / name, files[name]), files))
        list(writers.map(sync_folder, folders))


def _write_file(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), os.fstat(file.fileno()).st_mode & 0o555)


def _sweep_up(shelf: Path) -> None:
    """Removes what a killed process left half-written long ago."""
    for left in shelf.glob(".new-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
