"""The files that say who owns a folder: each taking of it has a number and one file, made exclusively.

    <folder>/.lease-00000007   host h, process p, beat 00000012   or: free, when its owner has left in order

The highest number owns the folder. Whoever takes a new one makes sure that no earlier owner can still publish there,
whatever it was doing when it was suspended: see setr.record.lease.
"""

import contextlib
import errno
import os
import re
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from setr.files.atomic import OWNED, Owner, give_rights, renew, storage_failure, sync_folder

APPENDED = "*.jsonl"  # files that grow by lines
_NAME = re.compile(r"\.lease-(\d{8,})")
_OWNED = re.compile(re.escape(OWNED) + r"(\d{8,})-")
_BEAT = re.compile(r", beat \d+")
_FREE = "free"
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)


@dataclass(frozen=True)
class Claim:
    """What an owner's file says."""

    number: int
    text: str  # "" while it is being written

    def file(self, folder: Path) -> Path:
        """Returns the owner's file in the folder."""
        return _path(folder, self.number)

    @property
    def is_free(self) -> bool:
        """Returns whether the owner left in order."""
        return self.text.startswith(_FREE)

    @property
    def is_elsewhere(self) -> bool:
        """Returns whether it is of another machine: machines are told apart by their names."""
        return not self.text.startswith(f"host {socket.gethostname()},")

    def __str__(self) -> str:
        """Returns the owner's host and process, as far as its file still says them."""
        if self.is_free:
            return "one that has ended since"
        return _BEAT.sub("", self.text) or "a process that has just started"


def holder() -> str:
    """Returns how this process calls itself."""
    return f"host {socket.gethostname()}, process {os.getpid()}"


def newest(folder: Path) -> Claim | None:
    """Returns what the folder's latest owner says, None if there was none."""
    found = _all(folder)
    return Claim(found[-1][0], _read(found[-1][1])) if found else None


def stands(folder: Path, number: int, name: str) -> bool:
    """Returns whether taking `number`, by the process that calls itself `name`, is the latest; raises E_STORAGE."""
    # Opened, not asked for: opening is when a network file system asks its server. A successor that has not come to
    # removing this file yet shows by its own.
    try:
        file = os.open(f"{folder}/{_name(number)}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            own = os.read(file, 4096).startswith(f"{name},".encode())
        finally:
            os.close(file)
        return own and not os.path.lexists(f"{folder}/{_name(number + 1)}")
    except OSError as error:
        if error.errno in _GONE:
            return False
        raise storage_failure(folder, error) from error


def make(folder: Path, number: int) -> int | None:
    """Returns the descriptor of a new owner's file, None if another process has the number or a higher one."""
    path = _path(folder, number)
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        return None
    except OSError as error:
        raise storage_failure(path, error) from error
    try:
        beat(file, 0)
        give_rights(path)
        if [last for last, _ in _all(folder)[-1:]] == [number]:
            return file
    except OSError as error:
        withdraw(folder, number, file)
        raise storage_failure(path, error) from error
    withdraw(folder, number, file)  # it had been given to one whose file a later owner has removed
    return None


def withdraw(folder: Path, number: int, file: int) -> None:
    """Removes an owner's file again, and closes it."""
    os.close(file)
    with contextlib.suppress(OSError):
        _path(folder, number).unlink()


def beat(file: int, number: int) -> None:
    """Writes that the owner lives; raises OSError."""
    # Always as long, in place: a reader never finds half a line. Synced: a network file system may keep it for long.
    os.pwrite(file, f"{holder()}, beat {number:08d}\n".encode(), 0)
    os.fsync(file)


def leave(file: int, *, free: bool) -> None:
    """Closes the owner's file; `free` writes that it has left in order, so nobody waits until it looks dead."""
    with contextlib.suppress(OSError):
        if free:
            os.pwrite(file, f"{_FREE}\n".encode(), 0)
            os.ftruncate(file, len(_FREE) + 1)
    os.close(file)


def shut_out(owner: Owner) -> None:
    """Makes whatever the earlier owners may still be about to publish fail; raises EnvironmentFailure."""
    try:
        in_order = True
        for number, path in _all(owner.folder):
            if number < owner.number:
                in_order &= _read(path).startswith(_FREE)
                # The lowest first: one that sees the next higher gone must not find its own.
                path.unlink(missing_ok=True)
        sync_folder(owner.folder)
        for path in owner.folder.glob(f"{OWNED}*"):
            match = _OWNED.match(path.name)
            if match is None or int(match[1]) < owner.number:
                _remove(path, owner)
    except OSError as error:
        raise storage_failure(owner.folder, error) from error
    for path in () if in_order else owner.folder.glob(APPENDED):
        if path.is_file():
            renew(path, owner=owner)


def _remove(path: Path, owner: Owner) -> None:
    # Renamed first: half a folder must not get its final name from whoever was about to give it.
    aside = path.with_name(f"{OWNED}{owner.number:08d}-{time.time_ns()}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(aside)
        if aside.is_dir() and not aside.is_symlink():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink()


def _path(folder: Path, number: int) -> Path:
    return folder / _name(number)


def _name(number: int) -> str:
    return f".lease-{number:08d}"


def _all(folder: Path) -> list[tuple[int, Path]]:
    """Returns number and file of all owners that left one, in order."""
    try:
        return sorted((int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name)))
    except OSError:
        return []


def _read(path: Path) -> str:
    """Returns what an owner last wrote; opened anew, so that a network file system asks its server."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
