"""The one place for what no command foresaw: a line for the terminal, the rest in a file that the line names."""

import errno
import os
import select
import sys
import tempfile
import traceback
from datetime import datetime
from pathlib import Path
from typing import TextIO

from setr.errors import EnvironmentFailure, InputError, SetrError
from setr.redaction import redact
from setr.settings.home import PROJECT

PIPE_STATUS = 141  # as a shell has it for a program whose reader went away
_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)


class Unforeseen(SetrError):
    """A fault of the program (exit status 5)."""

    exit_status = 5


def tell(error: BaseException, folder: Path) -> int:
    """Prints one line about an error and returns the exit status; the traceback goes to a file in `folder`.

    Where nothing can be written there, it goes to the system's folder for temporary files.
    """
    told = _line(error, _keep(error, folder))
    print(f"error: {told}", file=sys.stderr, flush=True)
    return told.exit_status


def reader_is_gone() -> bool:
    """Returns whether nobody reads what this process prints any more; raises OSError where it cannot be written.

    In both cases the process prints nothing from then on: Python would try again, and complain, when it ends.
    """
    if sys.stdout is None:  # closed by who started the process
        return False
    try:
        sys.stdout.flush()
        gone = _is_hung_up(sys.stdout)
    except BrokenPipeError:
        gone = True
    except OSError:
        _discard(sys.stdout)
        raise
    if gone:
        _discard(sys.stdout)
    return gone


def _is_hung_up(stream: TextIO) -> bool:
    """Returns whether a pipe has no reader: a write that failed has left nothing behind that would fail again."""
    try:
        descriptor = stream.fileno()
    except OSError:  # one that is no file: a test's, a notebook's
        return False
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _discard(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _line(error: BaseException, kept: str) -> SetrError:
    where = f"the traceback is in {kept}"
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return InputError("E_PATH", "a name longer than the file system takes", where=error.filename or "", found=where)
    if isinstance(error, OSError) and error.errno in _STORAGE:
        found = error.strerror or str(error)
        return EnvironmentFailure(
            "E_STORAGE", "cannot read or write", where=error.filename or "", found=found, remedy=where
        )
    text = redact(f"{type(error).__name__}: {error}")
    return Unforeseen(
        "E_UNEXPECTED", text, where=_place(error), remedy=f"{where}; run again, or report it with that file"
    )


def _place(error: BaseException) -> str:
    """Returns the innermost line of the project's own code on the way to the error."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(PROJECT) and path.relative_to(PROJECT).parts[0] in ("setr", "pipelines"):
            return f"{path.relative_to(PROJECT)}:{frame.lineno}"
    return ""


def _keep(error: BaseException, folder: Path) -> str:
    """Writes command and traceback to a new file; returns its path, or what stands in its way."""
    words = " ".join(sys.argv)
    text = f"{words}\n\n{''.join(traceback.format_exception(error))}"
    text = redact(text).encode(errors="backslashreplace").decode()
    problem = "no file"
    for place in (folder, Path(tempfile.gettempdir())):
        try:
            place.mkdir(parents=True, exist_ok=True)
            prefix = f"unexpected-{datetime.now():%Y%m%d-%H%M%S}-"
            descriptor, name = tempfile.mkstemp(dir=place, prefix=prefix, suffix=".txt")
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            return name
        except OSError as failed:
            problem = f"no file: {failed.strerror}"
    return problem
