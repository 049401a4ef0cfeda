"""The processes of a Ray that this driver has started: what state they are in, and an end for all of them."""

import contextlib
from collections.abc import Iterable, Mapping

import psutil

RUNNING, STOPPED, GONE = "running", "stopped", "gone"
END_SECONDS = 5.0  # until killed processes are gone


def state_of_process(process: psutil.Process) -> str:
    """Returns running, stopped (by a signal) or gone, which a zombie is; one that is traced is somebody's, and runs."""
    try:
        if not process.is_running():
            return GONE
        status = process.status()
    except psutil.Error:
        return GONE
    if status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
        return GONE
    return STOPPED if status == psutil.STATUS_STOPPED else RUNNING


class Family:
    """Ray's own processes by name, and everything that they have started since they were first looked at."""

    def __init__(self, daemons: Mapping[str, int]) -> None:
        """Take the processes of these numbers; one that is gone already counts as gone."""
        self.daemons: dict[str, psutil.Process | None] = {name: _process(pid) for name, pid in daemons.items()}
        self.members: dict[int, psutil.Process] = {}
        self.refresh()

    def refresh(self) -> None:
        """Takes note of what was started: when its parent is gone nobody can tell any more whose it was."""
        for daemon in self.daemons.values():
            if daemon is None:
                continue
            with contextlib.suppress(psutil.Error):
                self.members |= {child.pid: child for child in daemon.children(recursive=True)}
        self.members = {pid: child for pid, child in self.members.items() if state_of_process(child) != GONE}

    def gone(self, names: Iterable[str]) -> list[str]:
        """Returns which of the named daemons are no more."""
        return [name for name in names if name in self.daemons and self._state(name) == GONE]

    def stopped(self, names: Iterable[str]) -> list[str]:
        """Returns which of the named daemons were suspended."""
        return [name for name in names if name in self.daemons and self._state(name) == STOPPED]

    def stopped_members(self) -> list[psutil.Process]:
        """Returns the processes below the daemons that were suspended."""
        return [child for child in self.members.values() if state_of_process(child) == STOPPED]

    def kill(self) -> None:
        """Ends all of them at once, and waits a moment until they are gone."""
        self.refresh()
        everyone = [*(daemon for daemon in self.daemons.values() if daemon is not None), *self.members.values()]
        for process in everyone:
            kill(process)
        psutil.wait_procs(everyone, timeout=END_SECONDS)

    def _state(self, name: str) -> str:
        daemon = self.daemons[name]
        return GONE if daemon is None else state_of_process(daemon)


def kill(process: psutil.Process) -> None:
    """Ends a process, which may be gone already; never another one that got its number since."""
    with contextlib.suppress(psutil.Error):
        process.kill()


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None
