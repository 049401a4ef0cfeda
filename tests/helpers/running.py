"""Commands as processes of their own. The processes are real, and so are the signals they get."""

import os
import runpy
import sys
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.processes import PROCESSES
from pipelines.terminal import start
from tests.helpers.environment import ROOT, environment


class Command:
    """A command under way."""

    def __init__(self, home: Path, name: str, *words: str, **variables: str) -> None:
        """Start pipelines/<name>.py in `home`."""
        self.output = home / f"output-{len(list(home.glob('output-*')))}.txt"
        self.output.touch()
        arguments = (ROOT / "pipelines" / f"{name}.py", words, environment(home, **variables), self.output)
        self.process: BaseProcess = PROCESSES.Process(target=run_script, args=arguments)
        self.process.start()

    def send(self, number: int) -> None:
        """Sends a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def end(self, status: int, seconds: float = 120) -> str:
        """Returns what the command printed; fails unless it ends with `status`, without a traceback."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
        said = self.output.read_text()
        assert self.process.exitcode == status, said
        assert "Traceback" not in said, said
        return said


def run_script(script: Path, words: tuple[str, ...], variables: Mapping[str, str], output: Path) -> None:
    """Becomes a command: what its process does."""
    os.environ.clear()
    os.environ.update(variables)
    file = os.open(output, os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.argv = [str(script), *words]
    # A process that becomes its snapshot's would import everything anew: tests/pipelines/terminal/test_start.py.
    start.enter = lambda _: None
    runpy.run_path(str(script), run_name="__main__")
