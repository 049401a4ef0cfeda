import os
import signal
import threading
import time

import pytest
from tiny_training import PROCESSES

from setr.errors import EnvironmentFailure
from setr.training import lease
from setr.training.lease import exclusive


def hold(folder):
    with exclusive(folder):
        (folder / "held").touch()
        time.sleep(60)


def test_a_killed_holder_holds_no_longer(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "WAIT_SECONDS", 0.1)
    process = PROCESSES.Process(target=hold, args=(tmp_path,))
    process.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    with pytest.raises(EnvironmentFailure, match=rf"E_LEASE.*process {process.pid}"), exclusive(tmp_path):
        pass
    monkeypatch.setattr(lease, "WAIT_SECONDS", 20)
    threading.Timer(0.3, os.kill, (process.pid, signal.SIGKILL)).start()
    with exclusive(tmp_path):
        pass
    process.join()
    with exclusive(tmp_path):
        pass


def test_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(EnvironmentFailure, match=r"E_STORAGE.*Not a directory"),
        exclusive(tmp_path / "file" / "folder"),
    ):
        pass


def test_a_holder_on_another_machine_is_waited_for_until_it_is_seen_to_live_or_not(tmp_path, monkeypatch):
    # Where locks do not reach other machines, its word in the file is all there is: here nobody holds the lock.
    monkeypatch.setattr(lease, "DEAD_SECONDS", 0.6)
    file = tmp_path / lease.NAME
    file.write_text("host elsewhere, process 7, beat 00000001\n")
    with exclusive(tmp_path):
        assert f"process {os.getpid()}" in file.read_text()
    assert file.read_text() == ""  # left in order: the next one does not wait

    file.write_text("host elsewhere, process 7, beat 00000001\n")
    beat = threading.Timer(0.3, file.write_text, ("host elsewhere, process 7, beat 00000002\n",))
    beat.start()
    with (
        pytest.raises(EnvironmentFailure, match=r"E_LEASE \| two sweeps \|.*host elsewhere, process 7 \|"),
        exclusive(tmp_path, busy="two sweeps", wait_seconds=0.5),
    ):
        pass


def test_a_holder_writes_that_it_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.05)
    with exclusive(tmp_path):
        first = (tmp_path / lease.NAME).read_text()
        deadline = time.monotonic() + 5
        while (tmp_path / lease.NAME).read_text() == first:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    with pytest.raises(RuntimeError), exclusive(tmp_path):
        raise RuntimeError
    assert (tmp_path / lease.NAME).read_text() == ""
