"""A driver's own folder below the storage path: its stop, what Ray keeps for it, and what is to be mended if it dies.

    <storage>/drivers/<host>-<process>-<time>/
        .lease        held while the driver lives
        stop          there when its trainings are to save and leave; no other driver looks at it
        driver.json   Ray's session folder, the driver's run in MLflow, its experiments
        ray-*/        Ray's own files, which nothing here reads

It goes with its driver. What a driver that was killed left behind, the next one on the same storage path mends.
"""

import contextlib
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.tracking.tracker import Tracker
from setr.errors import EnvironmentFailure
from setr.files.atomic import read_json, write_json
from setr.record.claims import newest
from setr.record.lease import exclusive
from setr.record.ledger import state_of

DRIVERS = "drivers"
RECORD = "driver.json"
STOP = "stop"
# A driver of another machine whose lease was not written for so long is dead whatever its locks say.
ELSEWHERE_SECONDS = 600.0


@dataclass(frozen=True)
class DriverFolder:
    """One driver's folder."""

    path: Path

    @property
    def stop(self) -> Path:
        """Returns the file that makes this driver's trainings, and nobody else's, save and leave."""
        return self.path / STOP

    def note(self, **facts: Any) -> None:
        """Adds to what is known of this driver if it dies: `session`, `parent`, `experiments`."""
        write_json(self.path / RECORD, {**(read_json(self.path / RECORD) or {}), **facts})


@contextlib.contextmanager
def driver_folder(storage: Path) -> Iterator[DriverFolder]:
    """Gives this driver its folder; it is removed at the end, unless that is an error: then Ray's logs are of use."""
    folder = DriverFolder(storage / DRIVERS / f"{socket.gethostname()}-{os.getpid()}-{time.time_ns() // 1000}")
    with exclusive(folder.path):
        folder.note(host=socket.gethostname(), process=os.getpid(), session="", parent="", experiments=[])
        yield folder
    _remove(folder.path)


def clear_dead(storage: Path, tracker: Tracker | None) -> int:
    """Mends what drivers that died on this storage path left behind; returns how many there were.

    Their runs in MLflow end (without a `tracker` they are not asked for), their files and Ray's session folders go. A
    driver that lives is left alone.
    """
    cleared = 0
    for path in sorted((storage / DRIVERS).glob("*")):
        if not path.is_dir() or _may_live_elsewhere(path):
            continue
        # Refused: it lives. Another driver that clears it at this moment is no reason to wait either.
        with contextlib.suppress(EnvironmentFailure), exclusive(path, wait_seconds=0.0):
            if tracker is not None:
                _end_run(storage, path, tracker)
            _remove(path)
            cleared += 1
    return cleared


def _may_live_elsewhere(path: Path) -> bool:
    """Returns whether a driver of another machine may hold the folder: its beat is fresh by the file server's clock."""
    claim = newest(path)
    if claim is None or claim.is_free or not claim.is_elsewhere:
        return False
    try:
        with tempfile.NamedTemporaryFile(dir=path) as now:
            return os.fstat(now.fileno()).st_mtime - claim.file(path).stat().st_mtime < ELSEWHERE_SECONDS
    except OSError:
        return False


def _end_run(storage: Path, path: Path, tracker: Tracker) -> None:
    record = read_json(path / RECORD) or {}
    parent = record.get("parent")
    if not isinstance(parent, str) or not parent:
        return
    run = tracker.run(parent)
    if run is None or run.status != "RUNNING":
        return
    names = [name for name in record.get("experiments") or [] if isinstance(name, str) and Path(name).name == name]
    done = bool(names) and all(state_of(storage / name)[0] == "done" for name in names)
    with contextlib.suppress(Exception):  # the tracking server's answer must not keep a driver from starting
        tracker.finish(parent, stopped=not done)


def _remove(path: Path) -> None:
    record = read_json(path / RECORD) or {}
    session = own_session(record)
    if session is not None:
        shutil.rmtree(session, ignore_errors=True)
        latest = session.parent / "session_latest"
        # Ray does not replace a link that leads nowhere.
        if latest.is_symlink() and latest.readlink().name == session.name:
            latest.unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def own_session(record: dict[str, Any]) -> Path | None:
    """Returns the Ray session folder that the record's driver made on this machine, None unless that is certain.

    Ray names it by the driver's process; whoever wrote the record, nothing else is ever removed.
    """
    host, process, session = (record.get(name) for name in ("host", "process", "session"))
    if host != socket.gethostname() or not isinstance(session, str) or not session:
        return None
    path = Path(session)
    named = re.fullmatch(rf"session_\d{{4}}-\d\d-\d\d_\d\d-\d\d-\d\d_\d+_{process}", path.name)
    if not named or path.is_symlink() or not path.is_dir() or path.stat().st_uid != os.getuid():
        return None
    return path
