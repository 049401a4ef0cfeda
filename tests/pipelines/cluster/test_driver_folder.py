"""A driver's folder: its stop is its own, it goes with its driver, and what a killed one leaves is mended."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.cluster.driver import stop_on_signal
from pipelines.cluster.driver_folder import clear_dead, driver_folder, own_session
from pipelines.tracking.tracker import Tracker
from setr.planning.planned import Planned
from setr.record.claims import newest
from setr.settings.config import Config

KILLED = """
import os, signal, sys
from pathlib import Path
from pipelines.cluster.driver_folder import driver_folder
with driver_folder(Path(sys.argv[1])) as mine:
    (mine.path / "ray-tune-1").mkdir()
    mine.stop.touch()
    mine.note(parent=sys.argv[2], experiments=sys.argv[3:])
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_driver(storage: Path, parent: str = "", *experiments: str) -> Path:
    """Returns the folder of a driver that was killed."""
    subprocess.run([sys.executable, "-c", KILLED, storage, parent, *experiments], check=False)
    [left] = (storage / "drivers").iterdir()
    return left


def test_a_stop_belongs_to_one_driver_and_goes_with_it(tmp_path: Path) -> None:
    with driver_folder(tmp_path) as sweep, driver_folder(tmp_path) as search:
        assert sweep.stop != search.stop
        with stop_on_signal(search.stop) as received:
            os.kill(os.getpid(), 15)
            assert received == [15]
            assert search.stop.exists()
            assert not sweep.stop.exists()
            clear_dead(tmp_path, None)  # what a driver does that starts now
            assert search.stop.exists()
    assert list((tmp_path / "drivers").iterdir()) == []


def test_an_error_leaves_it_for_the_next(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), driver_folder(tmp_path) as mine:
        raise RuntimeError
    assert mine.path.is_dir()
    assert clear_dead(tmp_path, None) == 1
    assert not mine.path.exists()


@pytest.mark.parametrize(
    ("done", "status", "expected"),
    [(True, "RUNNING", "FINISHED"), (False, "RUNNING", "KILLED"), (False, "FAILED", "FAILED")],
)
def test_the_run_of_a_killed_driver_ends(
    done: bool, status: str, expected: str, told: tuple[Config, Planned, Tracker]
) -> None:
    _, entry, tracker = told
    parent = tracker.start_parent("killed", {}, "")
    tracker.client.update_run(parent, status=status)
    storage = entry.folder.parent
    left = kill_driver(storage, parent, entry.identity, *([] if done else ["0" * 64]))
    assert clear_dead(storage, tracker) == 1
    assert not left.exists()
    run = tracker.run(parent)
    assert run is not None
    assert run.status == expected
    assert entry.folder.is_dir()


def test_a_driver_of_another_machine_is_left_alone_while_it_beats(tmp_path: Path) -> None:
    left = kill_driver(tmp_path)
    found = newest(left)
    assert found is not None
    found.file(left).write_text("host elsewhere, process 1, beat 00000001\n")
    assert clear_dead(tmp_path, None) == 0
    assert left.is_dir()


def record(**changed: object) -> dict[str, object]:
    return {"host": socket.gethostname(), "process": 77, "session": "", **changed}


@pytest.fixture
def session(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        folder = tmp_path / "ray" / name
        folder.mkdir(parents=True)
        return folder

    return make


def test_only_a_session_that_is_certainly_ones_own_is_removed(
    session: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = session("session_2026-11-28_12-00-00_123456_77")
    others = session("session_2026-11-28_12-00-00_123456_78")
    link = tmp_path / "ray" / "session_2026-11-29_12-00-00_123456_77"
    link.symlink_to(tmp_path)
    assert own_session(record(session=str(mine))) == mine
    assert own_session(record(session=str(mine), host="elsewhere")) is None
    for path in (others, link, tmp_path, Path("/"), tmp_path / "session_2026-11-30_12-00-00_123456_77"):
        assert own_session(record(session=str(path))) is None
    assert own_session(record(session=7)) is None
    assert own_session({}) is None
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert own_session(record(session=str(mine))) is None


def test_rays_session_goes_with_the_driver(session: Callable[[str], Path], tmp_path: Path) -> None:
    mine = session(f"session_{time.strftime('%Y-%m-%d_%H-%M-%S')}_123456_{os.getpid()}")
    latest = mine.parent / "session_latest"
    latest.symlink_to(mine)
    with driver_folder(tmp_path) as folder:
        folder.note(session=str(mine))
        assert json.loads((folder.path / "driver.json").read_text())["session"] == str(mine)
        clear_dead(tmp_path, None)
        assert mine.is_dir()
    assert not mine.exists()
    assert not latest.is_symlink()
