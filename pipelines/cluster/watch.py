"""A driver's watch over its Ray: what has died, stands still or has fallen silent is noticed by the driver itself.

Ray's own calls wait for ever where its raylet is gone, for a minute where its control service is, and never look at a
process that was suspended. So they run in a thread, and the driver's main thread looks once a second at: Ray's
processes, where this driver has started them; whether the cluster answers; the beat in each experiment's lease; and
whether anything is left to wait for. Time in which the driver itself was suspended does not count.
"""

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any

import psutil

from pipelines.cluster import engine as cluster
from pipelines.cluster.processes import Family, kill
from pipelines.terminal.progress import Board
from setr.errors import EnvironmentFailure
from setr.planning.planned import Planned
from setr.record.claims import newest
from setr.record.events import append_event
from setr.record.files import EVENTS
from setr.record.lease import Lease

POLL_SECONDS = 1.0
THOROUGH_SECONDS = 5.0  # between two looks at what costs more: the processes' list, the leases
STOPPED_SECONDS = 20.0  # a suspended process of a Ray of our own
SILENT_SECONDS = 60.0  # a lease without a beat: twice what lets another machine take it over
ANSWER_SECONDS = 40.0  # the cluster, to a question
OVER_SECONDS = 45.0  # nothing is left to wait for, and Ray does not return
NEEDED = ("gcs_server", "raylet")  # without either nothing goes on; Ray's other processes only serve people
WORK = "ray work"  # the thread's name
OVER = "over"
_HOLDER = re.compile(r"host (?P<host>\S+), process (?P<process>\d+)")


class RayLost(EnvironmentFailure):
    """Ray has ended, or says nothing any more; what it ran is safe in the experiments' folders."""

    again = False  # whether the command that started this Ray may start it again

    def __init__(self, found: str) -> None:
        """Say what was found."""
        super().__init__(
            "E_CLUSTER",
            "Ray is lost under its trainings",
            where=os.environ.get("RAY_ADDRESS") or "this machine",
            found=found,
            remedy="run the same command again: it goes on from the checkpoints",
        )


class WatchedTime:
    """Seconds during which somebody looked: whoever sleeps himself must not take others for silent."""

    def __init__(self) -> None:
        """Begin at 0."""
        self.now, self._last = 0.0, time.monotonic()
        self._unchanged: dict[Hashable, tuple[Any, float]] = {}

    def tick(self) -> None:
        """Counts the time since the last tick, two polls at most."""
        now = time.monotonic()
        self.now += min(now - self._last, 2 * POLL_SECONDS)
        self._last = now

    def unchanged(self, what: Hashable, value: Any) -> float:
        """Returns for how long `what` has had this value, 0 the first time."""
        before, since = self._unchanged.get(what, (None, 0.0))
        if what not in self._unchanged or before != value:
            self._unchanged[what] = (value, self.now)
            return 0.0
        return self.now - since


class Pulse:
    """Asks the cluster again and again, from a thread of its own: the question hangs if the cluster does."""

    def __init__(self, ask: Callable[[], str], seconds: float = 3.0) -> None:
        """Ask once in so many seconds; `ask` returns what is wrong, "" if nothing is."""
        self.beats, self.trouble = 0, ""
        self._ask, self._seconds, self._done = ask, seconds, threading.Event()
        threading.Thread(target=self._go_on, name="pulse", daemon=True).start()

    def stop(self) -> None:
        """Asks no more."""
        self._done.set()

    def _go_on(self) -> None:
        while not self._done.is_set():
            try:
                self.trouble = self._ask()
            except BaseException as error:  # Ray raises unrelated kinds, and ends a thread of its driver by SystemExit
                self.trouble = cluster.last_line(error)
            if not self.trouble:
                self.beats += 1
            self._done.wait(self._seconds)


class Watch:
    """What one driver's main thread looks at while its trainings run."""

    def __init__(
        self,
        board: Board,
        entries: Callable[[], Iterable[Planned]],
        stop_file: Path,
        *,
        all_known: bool,
        silence_seconds: float,
    ) -> None:
        """Watch the experiments that `entries` returns, by their state on the board.

        `all_known`: no more will come. Of a Ray of our own, none of them may be without any sign of life for longer
        than `silence_seconds`; on a shared one they may have to wait for others.
        """
        self.board, self.entries, self.stop_file = board, entries, stop_file
        self.all_known, self.silence_seconds = all_known, silence_seconds
        self.family = Family(cluster.own_daemons())
        self.time = WatchedTime()
        self._looked = float("-inf")
        self._ended: set[tuple[str, int]] = set()  # (host, process) of what was killed for its silence

    def run(self, work: Callable[[], None]) -> None:
        """Runs `work`, which waits for Ray; returns when it does, or without it when nothing is left to wait for.

        Raises RayLost, after it has ended what is left of a Ray of our own, and what `work` raises.
        """
        problems: list[BaseException] = []
        ended = threading.Event()

        def go() -> None:
            try:
                work()
            except BaseException as error:
                problems.append(error)
            finally:
                ended.set()

        pulse = Pulse(cluster.trouble)
        threading.Thread(target=go, name=WORK, daemon=True).start()
        try:
            while not ended.wait(POLL_SECONDS):
                if self.look(pulse) == OVER:
                    self.family.kill()
                    return
            self._judge_the_end(problems, pulse)
        except RayLost as lost:
            self.family.kill()
            lost.again = bool(self.family.daemons)
            if not self.stop_file.exists():  # else it was to end, and has
                raise
        finally:
            pulse.stop()

    def look(self, pulse: Pulse) -> str:
        """Looks once; returns OVER if nothing is left to wait for, and raises RayLost if nothing can go on."""
        self.time.tick()
        if gone := self.family.gone(NEEDED):
            raise RayLost(f"its {' and its '.join(gone)} ended")
        stopped = self.family.stopped(NEEDED)
        if self.time.unchanged("stopped", tuple(stopped)) > STOPPED_SECONDS and stopped:
            raise RayLost(f"its {' and its '.join(stopped)} was suspended")
        if self.time.unchanged("pulse", pulse.beats) > ANSWER_SECONDS:
            raise RayLost(pulse.trouble or f"no answer for {ANSWER_SECONDS:.0f} s")
        over = self._is_over()
        if self.time.unchanged("over", over) > OVER_SECONDS and over:
            return OVER
        if self.time.now - self._looked >= THOROUGH_SECONDS:
            self._looked = self.time.now
            self._look_at_processes()
            self._look_at_leases()
        return ""

    def _judge_the_end(self, problems: list[BaseException], pulse: Pulse) -> None:
        """Raises RayLost if `work` ended because Ray did, which may show a moment later; else what it raised."""
        if self._is_over():
            return  # whatever was raised, nothing was left to do
        self.look(pulse)
        if not problems:
            return
        for _ in range(5):
            time.sleep(POLL_SECONDS)
            self.look(pulse)
        if pulse.trouble or isinstance(problems[0], SystemExit):
            raise RayLost(pulse.trouble or "it has ended its driver's thread") from None
        raise problems[0]

    def _is_over(self) -> bool:
        if self.board.count("running"):
            return False
        return self.stop_file.exists() or (self.all_known and not self.board.count("waiting"))

    def _look_at_processes(self) -> None:
        """Ends the workers of our own Ray that somebody has suspended: their watchdogs sleep with them."""
        self.family.refresh()
        stopped = {process.pid: process for process in self.family.stopped_members()}
        for pid in self.family.members:
            asleep = self.time.unchanged(("process", pid), pid in stopped)
            if asleep > STOPPED_SECONDS and pid in stopped:
                kill(stopped[pid])
                self._say_of_holder(pid, f"process {pid} was suspended for {asleep:.0f} s: ended by its driver")

    def _say_of_holder(self, pid: int, cause: str) -> None:
        """Writes into the record of the experiment that a process of this machine held, if any, why it was ended."""
        for entry in self.entries():
            holder = _HOLDER.search(_holder_text(entry.folder))
            if holder and (holder["host"], holder["process"]) == (socket.gethostname(), str(pid)):
                row = self.board.rows.get(entry.identity)
                _say(entry, row.step if row else 0, cause, holder["host"], pid)

    def _look_at_leases(self) -> None:
        """Ends the processes that hold an experiment and give no sign of life; whatever started them goes on."""
        beats = []
        for entry in self.entries():
            row = self.board.rows.get(entry.identity)
            if row is None or row.status not in ("waiting", "running"):
                continue
            held = _holder_text(entry.folder)
            beats.append((held, _size(entry.folder / EVENTS)))
            silent = self.time.unchanged(("lease", entry.identity), held)
            holder = _HOLDER.search(held)
            if holder and silent > SILENT_SECONDS:
                self._end_holder(entry, row.step, holder["host"], int(holder["process"]), silent)
        quiet = self.time.unchanged("silence", tuple(beats))
        if beats and self.family.daemons and quiet > self.silence_seconds:
            raise RayLost(f"no experiment gave a sign of life for {quiet:.0f} s")

    def _end_holder(self, entry: Planned, step: int, host: str, process: int, seconds: float) -> None:
        if (host, process) in self._ended:
            return
        self._ended.add((host, process))
        cause = f"no sign of life from process {process} on {host} for {seconds:.0f} s: ended by its driver"
        if host == socket.gethostname():
            if not end_worker(host, process, of=self.family if self.family.daemons else None):
                return
        else:
            arguments = (end_worker, host, process)
            threading.Thread(target=cluster.on_every_node, args=arguments, name="end", daemon=True).start()
        _say(entry, step, cause, host, process)


def _holder_text(folder: Path) -> str:
    """Returns what the folder's latest owner wrote, its beat included; "" if there was none."""
    found = newest(folder)
    return f"{found.number} {found.text}" if found else ""


def _say(entry: Planned, step: int, cause: str, host: str, process: int) -> None:
    """Records a hang for the process that had the folder, unless another one has it by now."""
    name, claim = f"host {host}, process {process}", newest(entry.folder)
    if claim is None or not claim.text.startswith(f"{name},"):
        return
    event = {"event": "hang", "step": step, "cause": cause}
    with contextlib.suppress(EnvironmentFailure):  # a full disk: whoever writes something that counts will say so
        append_event(entry.folder / EVENTS, event, owner=Lease(entry.folder, claim.number, name))


def end_worker(host: str, pid: int, *, of: Family | None = None) -> bool:
    """Kills a worker of Ray's if it is on this machine, and if it is one; returns whether it did.

    With `of`, only one that belongs to it: a training that somebody else runs is not ours to end.
    """
    if host != socket.gethostname():
        return False
    try:
        process = psutil.Process(pid)
        if of is not None:
            is_ours = of.members.get(pid) == process
        else:
            is_ours = process.uids() == psutil.Process().uids() and process.name().startswith("ray::")
        if is_ours:
            process.kill()
        return is_ours
    except psutil.Error:
        return False


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
