"""Do a room's own tests notice a change of one expression in it? `python -m benchmarks.mutants [--seed 7]`.

A constant, an operator, a comparison or a choice of `setr/` is changed in a copy of the project, and the tests of the
changed module's room run there alone, until the first that fails. A change that none notices survives: it is printed
with its place, for somebody to judge. Ends with 1 where fewer than `--at-least` percent were killed.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.identity.edits.changes import EARLY, Point, changed, points
from benchmarks.identity.edits.editing import Sources, definitions

PROJECT = Path(__file__).resolve().parents[1]

KILLED, SURVIVED, HUNG = "killed", "survived", "hung"


@dataclass(frozen=True)
class Outcome:
    """What became of one change."""

    name: str  # place and change
    room: str
    said: str  # killed | survived | hung
    seconds: float


def mutants(sources: Sources, folder: str, *, seed: int, count: int) -> list[Point]:
    """Returns `count` changes below a folder; the module is drawn first, so a long one has no more weight."""
    files = [file for file in sources.files(folder) if tests_of(file)]
    rng = random.Random(seed)
    chosen: list[Point] = []
    taken: set[tuple[str, int, int, str]] = set()
    while files and len(chosen) < count:
        file = rng.choice(files)
        names = {name for name, _ in definitions(sources.tree(file))}
        lines = range(1, sources.text(file).count("\n") + 2)
        found = [point for point in points(sources, {file: names}, {file: lines}, {}) if point.key not in taken]
        if not found:
            files.remove(file)
            continue
        chosen.append(rng.choice(found))
        taken.add(chosen[-1].key)
    return chosen


def tests_of(file: str) -> str:
    """Returns the tests of a module's room: tests/<room>, or the module's own beside the rooms; "" where none are.

    Those of `pipelines` lie below tests/pipelines.
    """
    parts = Path(file).parts
    above = "tests" if parts[0] == "setr" else f"tests/{parts[0]}"
    place = f"{above}/{parts[1]}" if len(parts) > 2 else f"{above}/test_{Path(file).stem}.py"
    return place if (PROJECT / place).exists() else ""


def copy_to(folder: Path) -> None:
    """Copies the project's files, as git lists them, committed or not."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT, capture_output=True, check=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)


def run_tests(project: Path, room: str, limit_seconds: float) -> tuple[str, str]:
    """Returns whether the room's tests pass in a copy (survived | killed | hung), and the last line that they said."""
    # Before what is installed: the copy's modules are the changed ones.
    environment = {**os.environ, "PYTHONPATH": str(project)}
    arguments = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", room]
    process = subprocess.Popen(
        arguments, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=limit_seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)  # its own session: nothing but what these tests have started
        process.communicate()
        return HUNG, f"over {limit_seconds:.0f} s"
    return (SURVIVED if process.returncode == 0 else KILLED), (output.strip().splitlines() or [""])[-1]


def try_out(project: Path, sources: Sources, point: Point, limit_seconds: float) -> Outcome:
    """Returns what the room's tests say to one change; the copy is as before afterwards."""
    edit, room, start = changed(sources, EARLY, point), tests_of(point.file), time.perf_counter()
    before = {file: (project / file).read_text(encoding="utf-8") for file in edit.files}
    try:
        for file, text in edit.files.items():
            (project / file).write_text(text, encoding="utf-8")
        said, _ = run_tests(project, room, limit_seconds)
    finally:
        for file, text in before.items():
            (project / file).write_text(text, encoding="utf-8")
    return Outcome(edit.name, room, said, time.perf_counter() - start)


def main() -> None:
    """Tries the changes one after another, and prints each as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", default="setr", help="the modules that are changed (default: %(default)s)")
    parser.add_argument("--count", type=int, default=10, help="changes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="draws the same changes again (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds for a room's tests (default: %(default)s)")
    parser.add_argument("--at-least", type=float, default=0.0, help="percent killed that are asked for")
    arguments = parser.parse_args()
    sources = Sources(PROJECT)
    chosen = mutants(sources, arguments.folder, seed=arguments.seed, count=arguments.count)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        project = Path(folder)
        copy_to(project)
        for room in sorted({tests_of(point.file) for point in chosen}):
            said, last = run_tests(project, room, arguments.limit)
            if said != SURVIVED:
                sys.exit(f"{room} fails without a change ({said}): {last}")
        for point in chosen:
            outcomes.append(try_out(project, sources, point, arguments.limit))
            one = outcomes[-1]
            print(f"{one.said:9}{one.seconds:6.0f} s  {one.room:16} {one.name}", flush=True)
    killed = sum(one.said != SURVIVED for one in outcomes)
    share = 100.0 * killed / max(1, len(outcomes))
    print(f"{killed} of {len(outcomes)} killed ({share:.0f} %), seed {arguments.seed}")
    sys.exit(1 if share < arguments.at_least else 0)


if __name__ == "__main__":
    main()
