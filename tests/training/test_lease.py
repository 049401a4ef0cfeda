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
