"""Files that appear whole or not at all: written under a temporary name, synced, given their rights, renamed.

Rights: what the process's umask leaves. Where the folder is its group's to write in, so is what is made in it: several
users share a storage path then, and each may go on with what another one began.
"""

import contextlib
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from setr.errors import EnvironmentFailure

TEMPORARY_SUFFIX = ".tmp"
OWNED = ".tmp-"  # begins the temporary names of a folder's owner: .tmp-<its number>-...


class Owner(Protocol):
    """Who alone writes in a folder, as long as nobody takes it over (setr.record.lease)."""

    @property
    def folder(self) -> Path:
        """Returns the folder."""

    @property
    def number(self) -> int:
        """Returns how many have owned it up to this one."""

    def check(self) -> None:
        """Raises EnvironmentFailure (E_LEASE) if another process has taken the folder over."""


@contextlib.contextmanager
def new_file(path: Path, *, owner: Owner | None = None, read_only: bool = True) -> Iterator[BinaryIO]:
    """Yields a file that takes the name `path` when the block ends well, replacing what was there; else it vanishes.

    The order is: data synced, renamed, folder synced; so no crash leaves a half-written file under the final name. A
    file that is mapped elsewhere must be replaced, never changed: hence `read_only`. An `owner` is asked right before
    the rename. Raises EnvironmentFailure: E_STORAGE for what the disk or its permissions refuse, E_LEASE of the owner.
    """
    temporary = temporary_path(path, owner)
    try:
        with os.fdopen(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        give_rights(temporary, read_only=read_only)
        if owner is not None:
            owner.check()
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise refused(path, error, owner) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yields a path in a temporary folder beside `path`, for who writes by name; what lies there moves in at the end.

    If the block does not end well, it vanishes. Raises EnvironmentFailure (E_STORAGE).
    """
    make_folder(path.parent)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        try:
            yield Path(folder) / path.name
            # The file itself comes last: whoever sees it sees what belongs to it.
            for file in sorted(Path(folder).iterdir(), key=lambda file: file.name == path.name):
                with file.open("rb") as written:
                    os.fsync(written.fileno())
                give_rights(file, folder=path.parent)
                file.replace(path.with_name(file.name))
            sync_folder(path.parent)
        except OSError as error:
            raise storage_failure(path, error) from None


def temporary_path(path: Path, owner: Owner | None = None) -> Path:
    """Returns a new name beside `path`; one of the folder's owner is known as such, and goes when another takes over.

    Once that one has removed it, a rename that was held up between check and rename finds nothing to rename.
    """
    token = secrets.randbits(48)  # not the process's id: several machines write here
    if owner is None or owner.folder.absolute() != path.parent.absolute():
        return path.with_name(f".{path.name}.{token}{TEMPORARY_SUFFIX}")
    return path.with_name(f"{OWNED}{owner.number:08d}-{path.name}-{token}")


def write_file(path: Path, data: bytes, *, owner: Owner | None = None, read_only: bool = True) -> None:
    """Write a whole file at once and durably, or nothing; raises EnvironmentFailure as new_file() does."""
    with new_file(path, owner=owner, read_only=read_only) as file:
        file.write(data)


def write_text(path: Path, text: str, *, owner: Owner | None = None) -> None:
    """Write a text, as UTF-8, whole and durably or not at all, making its folder; raises EnvironmentFailure."""
    make_folder(path.parent)
    write_file(path, text.encode(), owner=owner, read_only=False)


def write_json(path: Path, value: object, *, owner: Owner | None = None) -> None:
    """Write `value` as JSON, whole and durably or not at all, making its folder; raises EnvironmentFailure."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n", owner=owner)


def append(path: Path, data: bytes, *, owner: Owner | None = None) -> None:
    """Append lines to a file in one write, closing a line that a killed process left unfinished.

    The owner is asked between opening and writing: who takes the folder over puts a copy in the file's place (renew),
    so that a write which was held up behind the check goes into the old one. Raises EnvironmentFailure as new_file().
    """
    make_folder(path.parent)
    try:
        file = _open_to_append(path, owner)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                data = b"\n" + data
            if owner is not None:
                owner.check()
            # One write of whole lines: readers see all of it or none.
            while data:
                data = data[os.write(file, data) :]
        finally:
            os.close(file)
    except OSError as error:
        raise refused(path, error, owner) from error


def renew(path: Path, *, owner: Owner | None = None) -> None:
    """Put a copy of a file's whole lines in its place: who still has the old one open no longer writes into it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise storage_failure(path, error) from error
    write_file(path, data[: data.rfind(b"\n") + 1], owner=owner, read_only=False)


def move_aside(path: Path, aside: Path, *, owner: Owner | None = None) -> None:
    """Rename what goes away, if it is still there; and back again if the folder was taken over meanwhile.

    Raises EnvironmentFailure as new_file() does.
    """
    try:
        if owner is not None:
            owner.check()
        try:
            path.rename(aside)
        except FileNotFoundError:
            return
        if owner is not None:
            try:
                owner.check()
            except EnvironmentFailure:
                if not path.exists():
                    aside.rename(path)
                raise
        sync_folder(path.parent)
    except OSError as error:
        raise refused(path, error, owner) from error


def _open_to_append(path: Path, owner: Owner | None) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        file = os.open(path, flags | os.O_CREAT, 0o666)
        give_rights(path)
        return file
    except PermissionError:  # another user's, in a folder that is ours as well
        renew(path, owner=owner)
        return os.open(path, flags)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents; raises EnvironmentFailure (E_STORAGE) where that is not possible."""
    if folder.is_dir():
        return
    try:
        for one in (*reversed(folder.parents), folder):
            if not one.is_dir():
                with contextlib.suppress(FileExistsError):  # somebody else was as fast
                    one.mkdir()
                    give_rights(one)
        folder.mkdir(exist_ok=True)  # a file of that name
    except OSError as error:
        raise storage_failure(folder, error) from error


def give_rights(path: Path, *, read_only: bool = False, folder: Path | None = None) -> None:
    """Give what this process has just made at `path` its rights: libraries make files that are their owner's alone.

    `folder` is where it is to go (None: its own).

    They are the umask's; and the group's, if it is the folder's group and may write there. Not in a folder that
    everybody may write in (sticky, as /tmp is).
    """
    made, around = path.stat(), (folder or path.parent).stat()
    every = 0o777 if stat.S_ISDIR(made.st_mode) else 0o666
    mode = every & ~_umask()
    if around.st_mode & stat.S_IWGRP and not around.st_mode & stat.S_ISVTX and made.st_gid == around.st_gid:
        mode |= every & stat.S_IRWXG
    if read_only:
        mode &= ~0o222
    mode |= made.st_mode & stat.S_ISGID  # of a folder: inherited, and handed on
    if stat.S_IMODE(made.st_mode) != mode:
        with contextlib.suppress(PermissionError):  # a file system without rights
            path.chmod(mode)


def _umask() -> int:
    """Returns the process's umask; the system call alone would change it under the other threads."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: a rename is on disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refused(path: Path, error: OSError, owner: Owner | None = None) -> EnvironmentFailure:
    """Returns what an owner's write failed for: the folder was taken over (E_LEASE), or the storage (E_STORAGE)."""
    if owner is not None:
        try:
            owner.check()
        except EnvironmentFailure as lost:
            return lost
    return storage_failure(path, error)


def storage_failure(path: Path, error: OSError) -> EnvironmentFailure:
    """Returns the one-line error for a disk that is full, read-only or not permitted."""
    return EnvironmentFailure(
        "E_STORAGE",
        f"cannot write ({error.strerror or error})",
        where=path,
        remedy="free space or choose a folder that can be written; a run that was cut off continues where it stopped",
    )


def read_json(path: Path) -> dict[str, Any] | None:
    """Returns the JSON object in a file, None if there is none: also where brackets nest too deep to be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
