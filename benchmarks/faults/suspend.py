"""A sweep suspended with all its processes while another machine's takes its work over, and then let go on.

Both are sweeps of this machine: each in a namespace with a host name of its own, on a file system without locks (a
library in front of libc says so), so that the beat alone decides who lives, as between two machines.
"""

import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.faults.home import Audit, audit, command, environment, final_weights, sweep_words
from benchmarks.faults.kills import end_leftovers
from setr.record.events import read_events

NO_LOCKS = "#include <errno.h>\nint flock(int file, int how) { errno = ENOLCK; return -1; }\n"
WAIT_SECONDS = 600.0


@dataclass(frozen=True)
class Suspension:
    """How two sweeps of one storage path ended, the first having been away."""

    seconds: float  # that it was suspended
    processes: int  # that were
    first: int  # exit status
    second: int
    said: str  # the first one's last line
    changed: tuple[str, ...]  # files that it wrote, or removed, after it came back
    same_weights: bool  # as those of a sweep that nobody disturbed
    audit: Audit

    @property
    def clean(self) -> bool:
        """Returns whether the first left, in one line, without having written, and the second lost nothing."""
        left = self.first == 4 and "E_LEASE" in self.said
        return left and self.second == 0 and not self.changed and self.same_weights and self.audit.clean


def suspend(home: Path, seconds: float, *, experiments: int = 2, iterations: int = 400) -> Suspension:
    """Returns what becomes of a sweep that is suspended for so long in mid-training while a second one goes on."""
    undisturbed = command("sweep", *sweep_words(experiments, iterations, "undisturbed"))
    subprocess.run(undisturbed, env=environment(home), cwd=home, check=True, capture_output=True)
    words = sweep_words(experiments, iterations, "suspended")
    storage = home / "suspended"
    with tempfile.TemporaryDirectory(prefix="setr-locks-") as name:
        library = Path(name, "nolocks.so")
        compiler = ["cc", "-shared", "-fPIC", "-x", "c", "-o", str(library), "-"]
        subprocess.run(compiler, input=NO_LOCKS.encode(), check=True)
        first = _start("first", words, home, library)
        _wait_for_steps(storage, 20, first)
        asleep = [psutil.Process(first.pid), *psutil.Process(first.pid).children(recursive=True)]
        _send(asleep, signal.SIGSTOP)
        begun = time.monotonic()
        second = _start("second", words, home, library)
        status = second.wait(WAIT_SECONDS)
        time.sleep(max(0.0, seconds - (time.monotonic() - begun)))
        before = _contents(storage)
        _send(asleep, signal.SIGCONT)
        away = time.monotonic() - begun
        ended = first.wait(WAIT_SECONDS)
        end_leftovers(home)
    after = _contents(storage)
    changed = tuple(sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path)))
    lines = (home / "first.log").read_text().splitlines() or [""]
    same = final_weights(storage) == final_weights(home / "undisturbed")
    return Suspension(away, len(asleep), ended, status, lines[-1], changed, same, audit(home, words))


def _start(host: str, words: Sequence[str], home: Path, library: Path) -> subprocess.Popen[bytes]:
    line = ["unshare", "--uts", "sh", "-c", f'hostname {host} && exec "$@"', "sh", *command("sweep", *words)]
    variables = environment(home, LD_PRELOAD=str(library))
    with (home / f"{host}.log").open("wb") as log:
        return subprocess.Popen(line, env=variables, cwd=home, stdout=log, stderr=log, start_new_session=True)


def _wait_for_steps(storage: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while (
        sum(event["event"] == "metrics" for path in storage.glob("*/events.jsonl") for event in read_events(path))
        < count
    ):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the first sweep ended with {process.poll()} before it was suspended")
        time.sleep(0.1)


def _steps(storage: Path) -> int:
    events = [event for path in storage.glob("*/events.jsonl") for event in read_events(path)]
    return sum(event["event"] == "metrics" for event in events)


def _send(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def _contents(storage: Path) -> dict[str, tuple[int, int]]:
    """Returns (inode, time of the last change) of each experiment's files; a driver's own folder is its own."""
    found = {}
    for path in storage.rglob("*"):
        parts = path.relative_to(storage).parts
        if path.is_file() and len(parts[0]) == 64:
            found["/".join(parts)] = (path.stat().st_ino, path.stat().st_mtime_ns)
    return found
