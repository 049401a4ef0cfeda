"""What a command that drives a cluster shares with others: its screen, its log, what signals mean, how it ends."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pipelines.terminal.command import check_writable
from setr.errors import EnvironmentFailure
from setr.files.atomic import give_rights
from setr.redaction import redact

AGAIN = "SETR_BEGUN_AGAIN"  # how often this command has started Ray again
RAY_THREADS = ("ray work", "ray leaves")  # pipelines.cluster.watch, pipelines.cluster.engine: they wait for Ray
LOG_SECONDS = 30.0  # between two looks at whether the log still takes what is written


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[IO[str]]:
    """Sends everything that libraries print to `log`; yields a stream that still reaches the user.

    A log that cannot be begun raises EnvironmentFailure; one that is full later costs no training, but it is said.
    """
    check_writable(log.parent)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with log.open("a") as file, os.fdopen(os.dup(1), "w", buffering=1) as screen:
        give_rights(log)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            with _said_when_full(log, screen):
                yield screen
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError):  # what does not fit was said
                    stream.flush()
            for number, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, number)
                os.close(copy)
            _without_secrets(log)


def _without_secrets(log: Path) -> None:
    """Takes out of a log what a library printed of passwords and tokens: an address, or its whole environment."""
    with contextlib.suppress(OSError):
        written = log.read_text(encoding="utf-8", errors="surrogateescape")
        clean = redact(written)
        if clean != written:
            log.write_text(clean, encoding="utf-8", errors="surrogateescape")


@contextlib.contextmanager
def _said_when_full(log: Path, screen: IO[str]) -> Iterator[None]:
    """Says once, on the screen, that the log takes no more: whoever prints into it is not told, or does not tell."""
    done, said = threading.Event(), threading.Event()

    def try_it() -> None:
        try:
            with log.open("a") as file:
                file.write(f"{time.strftime('%H:%M:%S')}\n")
        except OSError as error:
            if not said.is_set():
                said.set()
                print(f"the log is cut off, the trainings go on: {log} ({error.strerror})", file=screen, flush=True)

    def go_on() -> None:
        while not done.wait(LOG_SECONDS):
            try_it()

    threading.Thread(target=go_on, name="log", daemon=True).start()
    try:
        yield
    finally:
        done.set()
        try_it()


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


@contextlib.contextmanager
def again_after_a_loss(times: int) -> Iterator[None]:
    """Starts this very command again where its own Ray was lost under it, up to so many times; then, or on a cluster
    that it joined, the error goes on.

    In a new process image: threads of the old one still wait for a Ray that is no more. It goes on as after a kill.
    """
    try:
        yield
    except EnvironmentFailure as error:
        begun = int(os.environ.get(AGAIN, "0"))
        if error.code != "E_CLUSTER" or not getattr(error, "again", False) or begun >= times:
            raise
        print(f"{error}", file=sys.stderr)
        print(f"Ray starts again, {begun + 1} of {times} times at most", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os.environ[AGAIN] = str(begun + 1)
        os.execv(sys.executable, command_line())


def command_line() -> list[str]:
    """Returns the words that run this command again, the interpreter's own among them."""
    script = sys.argv[0]
    options = sys.orig_argv[1 : sys.orig_argv.index(script)] if script in sys.orig_argv else []
    return [sys.executable, *options, *sys.argv]


@contextlib.contextmanager
def leaving_ray() -> Iterator[None]:
    """Ends the process at the block's end, with its status, where a thread still waits for a Ray that is no more.

    Python would take the interpreter down around it, which neither Ray nor the user survives for sure.
    """
    try:
        yield
    except SystemExit as end:
        if not any(thread.name in RAY_THREADS for thread in threading.enumerate()):
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 0 if end.code is None else 1)
