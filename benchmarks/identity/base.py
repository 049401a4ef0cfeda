"""The home with finished results that every edit is judged against, and the project that trained them."""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.identity import experiments
from benchmarks.identity.children import call
from benchmarks.identity.edits.clock import with_clock
from benchmarks.identity.edits.editing import Sources
from benchmarks.identity.workshop import copy_home, copy_project, edited_project

SECONDS = 900.0  # that one process may take


@dataclass(frozen=True)
class Base:
    """A project and what it has trained."""

    folder: Path  # for copies: everything lies below it
    project: Path
    home: Path
    names: tuple[str, ...]  # of the experiments
    numbers: Mapping[str, Mapping[str, str]]  # hashes of their results
    cpu_seconds: Mapping[str, float]  # that training and scoring took
    computing: Mapping[str, Any]  # definitions and lines that they run through

    @contextmanager
    def edited(self, files: Mapping[str, str]) -> Iterator[Path]:
        """Gives a folder with the project, edited, in `project`."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="edit-") as name:
            edited_project(self.project, Path(name, "project"), files)
            yield Path(name)

    def judge(self, folder: Path) -> dict[str, Any]:
        """Returns what the edited project in a folder makes of the results; nothing in this home changes."""
        home = copy_home(self.home, folder / "judged")
        answer = call(experiments.judge, folder / "project", str(home), self.names, seconds=SECONDS)
        answer.pop("cpu")
        return answer

    def train(self, folder: Path, names: Sequence[str]) -> dict[str, Any]:
        """Returns the numbers that the edited project comes to when it trains, up to the first that is another."""
        home = copy_home(self.home, folder / "trained", results=False)
        answer = call(
            experiments.train, folder / "project", str(home), tuple(names), (), str(self.home), seconds=SECONDS
        )
        return answer["numbers"]


def prepare(folder: Path, *, clock: bool, names: tuple[str, ...] = tuple(experiments.EXPERIMENTS)) -> Base:
    """Returns the base, made in an empty folder; with `clock`, a thread of the project knows its step."""
    plain = copy_project(folder / "plain")
    project = edited_project(plain, folder / "project", with_clock(Sources(plain)).files if clock else {})
    home = folder / "home"
    home.mkdir()
    begun = time.perf_counter()
    call(experiments.make_inputs, project, str(home), seconds=SECONDS)
    trained = call(experiments.train, project, str(home), names, seconds=SECONDS)
    cpu = sum(trained["seconds"].values())
    if clock:
        watched = copy_home(home, folder / "watched", results=False)
        computing = call(experiments.what_computes, project, str(watched), names, str(project), seconds=SECONDS)
    else:
        computing = call(experiments.definitions, project, str(home), names, seconds=SECONDS)
    print(f"{len(names)} experiments trained: {cpu:.0f} s of CPU, {time.perf_counter() - begun:.0f} s with all else")
    return Base(folder, project, home, names, trained["numbers"], trained["seconds"], computing)
