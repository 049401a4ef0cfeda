"""How a driver ends: it begins again where its Ray was lost, says when its log is cut off, and never waits for Ray."""

import errno
import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pipelines.cluster import driver
from pipelines.cluster.watch import RayLost
from setr.errors import EnvironmentFailure

BEGINS_AGAIN = """
import os, sys
from pipelines.cluster.driver import AGAIN, again_after_a_loss
from setr.errors import EnvironmentFailure
print("begun", os.environ.get(AGAIN), sys.argv[1:], sys.flags.dont_write_bytecode, flush=True)
with again_after_a_loss(2):
    if os.environ.get(AGAIN) != sys.argv[1]:
        lost = EnvironmentFailure("E_CLUSTER", "Ray is lost")
        lost.again = True
        raise lost
print("done")
"""


def begin(tmp_path: Path, times: str) -> "subprocess.CompletedProcess[str]":
    script = tmp_path / "a script.py"
    script.write_text(BEGINS_AGAIN)
    return subprocess.run([sys.executable, "-B", script, times, "a b=c"], capture_output=True, text=True)


def test_the_same_command_begins_again_in_a_new_process_image(tmp_path: Path) -> None:
    done = begin(tmp_path, "2")
    assert done.returncode == 0, done.stderr
    words = "['2', 'a b=c'] 1"
    assert done.stdout.splitlines() == [f"begun None {words}", f"begun 1 {words}", f"begun 2 {words}", "done"]
    assert done.stderr.count("E_CLUSTER | Ray is lost") == 2


def test_it_does_not_begin_again_for_ever(tmp_path: Path) -> None:
    done = begin(tmp_path, "never")
    assert done.returncode == 1
    assert done.stdout.count("begun") == 3


@pytest.mark.parametrize("error", [RayLost("a cluster that was joined"), EnvironmentFailure("E_CLUSTER", "no answer")])
def test_other_errors_go_on(error: EnvironmentFailure) -> None:
    with pytest.raises(EnvironmentFailure), driver.again_after_a_loss(2):
        raise error


def test_a_log_that_is_full_is_said_once_and_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen, log = io.StringIO(), tmp_path / "a.log"
    real = Path.open

    def full(self: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if self == log and mode == "a":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", full)
    monkeypatch.setattr(driver, "LOG_SECONDS", 0.01)
    with driver._said_when_full(log, screen):
        time.sleep(0.1)
    assert screen.getvalue() == f"the log is cut off, the trainings go on: {log} (No space left on device)\n"


def test_a_log_that_cannot_be_begun_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(EnvironmentFailure, match="E_STORAGE"), driver.quiet(tmp_path / "logs" / "a.log"):
        pass


def test_what_libraries_print_goes_to_the_log_and_the_screen_stays(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with driver.quiet(tmp_path / "a.log") as screen:
        os.write(1, b"a library\n")
        print("the user", file=screen)
    assert "a library\n" in (tmp_path / "a.log").read_text()
    assert capfd.readouterr().out == "the user\n"


@pytest.mark.parametrize("status", [0, 1, 4, None])
def test_a_thread_that_waits_for_ray_keeps_no_process(status: int | None) -> None:
    script = f"""
import threading, time, sys
from pipelines.cluster.driver import RAY_THREADS, leaving_ray
import atexit
atexit.register(lambda: time.sleep(600))
threading.Thread(target=time.sleep, args=(600,), name=RAY_THREADS[0], daemon=True).start()
with leaving_ray():
    print("said")
    sys.exit({status})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == (status or 0)
    assert done.stdout == "said\n"


def test_the_names_of_the_threads_are_those_of_the_threads() -> None:
    from pipelines.cluster import engine as cluster
    from pipelines.cluster import watch

    assert set(driver.RAY_THREADS) == {cluster.LEAVING, watch.WORK}
    assert not any(thread.name in driver.RAY_THREADS for thread in threading.enumerate() if not thread.daemon)
