"""Disks that are full where a sweep wants to write: one line says so, and it goes on when there is room.

Each disk is a small one in memory, which takes a right to mount; without it the check is skipped, and says so.
"""

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.faults.home import command, environment, sweep_words

SECONDS = 420.0  # until a command has ended


@dataclass
class Disks:
    """What commands said of full disks, and which of them were wrong."""

    said: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def fill_disks(home: Path) -> Disks:
    """Returns how a sweep and a report came through full disks: status 4 and one line, then 0 when there is room."""
    found = Disks()
    name = "filled"
    words = sweep_words(1, 4, name)
    report = command("report", f"storage.results=results-{name}", "storage.report=report-filled")
    cases = (
        ("logs", "logs-filled", command("sweep", *words, "storage.logs=logs-filled"), {}),
        ("Ray's folder", "ray", command("sweep", *words), {"RAY_TMPDIR": str(home / "ray")}),
        ("results", f"results-{name}", command("sweep", *words), {}),
        ("report", "report-filled", report, {}),
    )
    for what, folder, line, variables in cases:
        try:
            with small_disk(home / folder, megabytes=64 if what == "Ray's folder" else 16) as disk:
                fill(disk)
                _expect(4, f"{what}, full", line, home, variables, found)
                (disk / "filler").unlink()
                if what != "Ray's folder":  # it wants gigabytes, not these
                    _expect(0, f"{what}, with room again", line, home, variables, found)
                elif (home / name).exists():
                    _expect(0, "the same elsewhere", line, home, {}, found)
        except PermissionError as error:
            found.skipped.append(f"a full disk for {what}: {error}")
    return found


@contextlib.contextmanager
def small_disk(folder: Path, *, megabytes: int) -> Iterator[Path]:
    """Gives a disk of its own at `folder`; raises PermissionError where this process may mount none."""
    folder.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "setr-faults", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise PermissionError(done.stderr.strip() or "no right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def fill(disk: Path) -> None:
    """Leaves no byte free."""
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def _expect(status: int, what: str, line: list[str], home: Path, variables: dict[str, str], found: Disks) -> None:
    try:
        done = subprocess.run(
            line, env=environment(home, **variables), cwd=home, capture_output=True, text=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        found.wrong.append(f"{what}: HANG")
        return
    said = done.stdout + done.stderr
    errors = [text for text in said.splitlines() if text.startswith("error:")]
    good = done.returncode == status and "Traceback" not in said and len(errors) == (status == 4)
    text = f"{what}: status {done.returncode}, {errors[0] if errors else 'no error'}"
    found.said.append(text)
    if not good:
        found.wrong.append(f"{text}\n{said[-2000:]}")
