"""One writer per folder: a second process that wants the same one is refused while the first one lives.

On one machine the kernel's lock decides, which goes with its process. Between machines locks are not to be trusted on
every shared file system, so the holder also writes a beat into the file, and one that stands still is taken for dead.
"""

import contextlib
import fcntl
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from setr.errors import EnvironmentFailure

NAME = ".lease"
WAIT_SECONDS = 20.0  # a killed predecessor may still be on its way out
BEAT_SECONDS = 5.0
DEAD_SECONDS = 30.0  # without a beat: six missed
LOCK_SECONDS = 120.0  # until a file server lets go of the lock of a machine that is gone
_POLL_SECONDS = 0.2
_BEAT = re.compile(r", beat \d+")


@contextmanager
def exclusive(
    folder: Path, *, busy: str = "another process trains this experiment", wait_seconds: float | None = None
) -> Iterator[None]:
    """Holds `folder`/.lease for the time of the block; it is free again when the process dies, however.

    Waits for a holder that may be on its way out (None: WAIT_SECONDS), and for one on another machine until it is seen
    to live or to be dead. Raises EnvironmentFailure, saying `busy` and naming the holder's host and process, if another
    one keeps it; or if the folder is not writable.
    """
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise EnvironmentFailure(
            "E_STORAGE", "cannot write here", where=folder, found=error.strerror, remedy="choose a folder that is yours"
        ) from None
    try:
        if not _take(file, path, WAIT_SECONDS if wait_seconds is None else wait_seconds):
            raise EnvironmentFailure(
                "E_LEASE",
                busy,
                where=folder,
                found=_BEAT.sub("", _read(path)) or "a process that has just started",
                remedy="wait for it, or stop it",
            )
        with _beating(file):
            yield
    finally:
        os.close(file)


def _take(file: int, path: Path, wait_seconds: float) -> bool:
    """Returns whether the lease is ours: its lock, and no sign of life from a holder elsewhere."""
    start = time.monotonic()
    first = _read(path)
    while True:
        elapsed = time.monotonic() - start
        locked = _lock(file)
        holder = _read(path)
        elsewhere = bool(holder) and not holder.startswith(f"host {socket.gethostname()},")
        alive = elsewhere and holder != first
        if locked and (not elsewhere or (not alive and elapsed >= DEAD_SECONDS)):
            return True
        patience = wait_seconds if alive or not elsewhere else DEAD_SECONDS if locked else LOCK_SECONDS
        if elapsed > patience:
            return False
        time.sleep(_POLL_SECONDS)


@contextmanager
def _beating(file: int) -> Iterator[None]:
    """Writes who holds the lease, and again and again that it lives."""
    done = threading.Event()

    def beat(number: int) -> int:
        # Always as long, in place: a reader never finds the file empty.
        line = f"host {socket.gethostname()}, process {os.getpid()}, beat {number:08d}\n".encode()
        return os.pwrite(file, line, 0)

    def go_on() -> None:
        number = 0
        while not done.wait(BEAT_SECONDS):
            number += 1
            with contextlib.suppress(OSError):  # a full disk: whoever writes something that counts will say so
                beat(number)

    os.ftruncate(file, beat(0))
    thread = threading.Thread(target=go_on, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        # Left in order: nobody has to wait until it looks dead.
        os.ftruncate(file, 0)


def _read(path: Path) -> str:
    """Returns what the holder last wrote; opened anew, so that a network file system asks its server."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
