"""What a command that drives a cluster shares with others: its screen, its log, and what signals mean."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from setr.data.atomic import give_rights, make_folder


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[IO[str]]:
    """Sends everything that libraries print to `log`; yields a stream that still reaches the user."""
    make_folder(log.parent)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with log.open("w") as file, os.fdopen(os.dup(1), "w", buffering=1) as screen:
        give_rights(log)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield screen
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, number)
                os.close(copy)


@contextlib.contextmanager
def stop_on_signal(stop_file: Path) -> Iterator[list[int]]:
    """Makes SIGTERM and SIGINT write the stop file, which every training looks for; a second signal ends at once."""
    received: list[int] = []

    def stop(number: int, _: object) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)
        stop_file.touch()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        stop_file.unlink(missing_ok=True)
