"""Work in processes of its own, each with a copy of the project in the project's place."""

import os
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.processes import PROCESSES


class ChildError(Exception):
    """A process ended without an answer; the text is the last line that it said."""


def call(work: Callable[..., Any], project: Path, *arguments: Any, seconds: float) -> Any:
    """Returns what `work` returns in a process that imports the project from the folder `project`.

    `work` is a function of a module that imports nothing of the project before it is called. Raises ChildError if it
    raises, dies, or takes longer than `seconds`.
    """
    ours, theirs = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=_run, args=(theirs, str(project), work, arguments), daemon=False)
    process.start()
    theirs.close()
    try:
        if not ours.poll(seconds):
            raise ChildError(f"no answer after {seconds:.0f} s")
        answer, error = ours.recv()
    except EOFError:
        process.join()
        raise ChildError(f"ended with status {process.exitcode}") from None
    finally:
        if process.is_alive():
            process.join(0.5)
        if process.is_alive():
            process.kill()
        process.join()
        ours.close()
    if error:
        raise ChildError(error)
    return answer


def _run(connection: Connection, project: str, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    early = [name for name in sys.modules if name.partition(".")[0] in ("setr", "pipelines")]
    assert not early, f"loaded before its time: {early}"
    sys.path.insert(0, project)
    # What a change makes the project say is of no interest.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        import torch

        torch.set_num_threads(1)
        begun = time.process_time()
        answer = work(*arguments)
        import setr

        assert str(setr.__file__).startswith(project), setr.__file__
        answer = {**answer, "cpu": time.process_time() - begun} if isinstance(answer, dict) else answer
        connection.send((answer, ""))
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
        text = (str(error).splitlines() or [""])[0]
        connection.send((None, f"{type(error).__name__}: {text} ({where})"))
    connection.close()
    os._exit(0)
