"""A lock is one process's, goes with it, and is said to be none where the file system has none."""

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from benchmarks.processes import PROCESSES
from setr.files import locking
from setr.files.locking import NO_LOCKS, lock, open_lock


def hold(path: Path) -> None:
    assert lock(open_lock(path)) is True
    path.with_suffix(".held").touch()
    time.sleep(60)


def test_one_holds_it_and_it_is_free_with_the_holders_end(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    other = PROCESSES.Process(target=hold, args=(path,))
    other.start()
    deadline = time.monotonic() + 60
    while not path.with_suffix(".held").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    file = open_lock(path)
    assert lock(file) is False
    threading.Timer(0.2, other.kill).start()
    assert lock(file, wait=True) is True, "a killed process holds nothing"
    other.join()
    os.close(file)


def test_the_file_is_made_once_and_closed_in_started_programs(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = open_lock(path)
    second = open_lock(path)
    assert os.fstat(first).st_ino == os.fstat(second).st_ino
    assert not os.get_inheritable(first)
    assert lock(first) is True
    assert lock(second) is False, "of this process too, it is one holder's"
    os.close(first)
    assert lock(second) is True
    os.close(second)


def test_a_file_that_may_only_be_read_serves_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, opened, modes = tmp_path / "lock", os.open, []
    path.touch()

    def read_only(name: object, flags: int, *mode: int) -> int:
        modes.append(flags & os.O_ACCMODE)
        if flags & os.O_CREAT:
            raise FileExistsError
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise PermissionError
        return opened(name, flags, *mode)  # type: ignore[arg-type]

    monkeypatch.setattr(locking.os, "open", read_only)
    file = open_lock(path)
    monkeypatch.undo()
    assert modes == [os.O_RDWR, os.O_RDWR, os.O_RDONLY]
    assert lock(file) is True
    os.close(file)


@pytest.mark.parametrize("number", sorted({*NO_LOCKS, errno.EIO}))
def test_no_locks_are_told_from_a_storage_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locking.fcntl, "flock", fail)
    file = open_lock(tmp_path / "lock")
    if number == errno.EIO:
        with pytest.raises(OSError, match=r"Input/output"):
            lock(file)
    else:
        assert lock(file) is None
    os.close(file)
