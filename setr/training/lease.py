"""One writer per experiment: a second process that wants the same folder is refused while the first one lives."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from setr.errors import EnvironmentFailure

WAIT_SECONDS = 20.0  # a killed predecessor may still be on its way out
_POLL_SECONDS = 0.2


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Holds `folder`/.lease for the time of the block; the kernel lets go of it when the process dies, however.

    Raises EnvironmentFailure if another process still holds it after WAIT_SECONDS, naming its host and id, or if the
    folder is not writable.
    """
    path = folder / ".lease"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise EnvironmentFailure(
            "E_STORAGE", "cannot write here", where=folder, found=error.strerror, remedy="choose a folder that is yours"
        ) from None
    with file:
        if not _lock(file):
            file.seek(0)
            raise EnvironmentFailure(
                "E_LEASE",
                "another process trains this experiment",
                where=folder,
                found=file.read().strip() or "a process that has just started",
                remedy="wait for it, or stop it",
            )
        file.truncate(0)
        file.write(f"host {socket.gethostname()}, process {os.getpid()}\n")
        file.flush()
        yield


def _lock(file: TextIO) -> bool:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        else:
            return True
