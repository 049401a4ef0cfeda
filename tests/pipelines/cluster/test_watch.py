"""A driver's watch over Ray, with processes that are really killed and really suspended; Ray itself is replaced."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from pipelines.cluster import watch
from pipelines.cluster.processes import GONE, RUNNING, STOPPED, Family, kill, state_of_process
from pipelines.cluster.watch import OVER, Pulse, RayLost, Watch, WatchedTime, end_worker
from pipelines.terminal.progress import Board, BoardRow
from setr.record.events import read_events

SLEEPER = "import time; time.sleep(600)"
PARENT = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {SLEEPER!r}]); time.sleep(600)"


def wait_until(condition: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def daemons(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Processes in the places of Ray's own; the raylet has a worker."""
    found = {
        name: subprocess.Popen([sys.executable, "-c", PARENT if name == "raylet" else SLEEPER])
        for name in ("gcs_server", "raylet", "log_monitor")
    }
    wait_until(lambda: psutil.Process(found["raylet"].pid).children())
    workers = psutil.Process(found["raylet"].pid).children()
    monkeypatch.setattr(watch.cluster, "own_daemons", lambda: {name: one.pid for name, one in found.items()})
    monkeypatch.setattr(watch.cluster, "trouble", lambda: "")
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(watch, "THOROUGH_SECONDS", 0.1)
    for name in ("STOPPED_SECONDS", "SILENT_SECONDS", "OVER_SECONDS"):
        monkeypatch.setattr(watch, name, 1.0)
    yield found
    for worker in workers:
        kill(worker)
    for process in found.values():
        process.kill()
        process.wait()


def entry(folder: Path, name: str = "a") -> Any:
    (folder / name).mkdir(parents=True, exist_ok=True)
    return SimpleNamespace(identity=name, folder=folder / name)


def watching(folder: Path, *statuses: str, all_known: bool = True, silence: float = 600.0) -> Watch:
    entries = [entry(folder, f"{number}") for number in range(len(statuses))]
    rows = {
        one.identity: BoardRow(one.identity, 10, status=status) for one, status in zip(entries, statuses, strict=True)
    }
    return Watch(Board(rows), lambda: entries, folder / "stop", all_known=all_known, silence_seconds=silence)


def for_ever() -> None:
    time.sleep(600)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_ray_that_is_killed_or_suspended_is_noticed_and_ended(
    name: str, number: int, daemons: dict[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    looking = watching(tmp_path, "running")
    everyone = [*map(psutil.Process, (one.pid for one in daemons.values())), *looking.family.members.values()]
    assert len(everyone) == 4
    daemons[name].send_signal(number)
    begun = time.monotonic()
    with pytest.raises(RayLost, match=rf"E_CLUSTER \| .*its {name} .*run the same command again") as caught:
        looking.run(for_ever)
    assert time.monotonic() - begun < 60
    assert caught.value.again
    assert "\n" not in str(caught.value)
    assert {state_of_process(one) for one in everyone} == {GONE}


def test_a_process_that_only_serves_people_may_die(daemons: dict[str, subprocess.Popen[bytes]], tmp_path: Path) -> None:
    daemons["log_monitor"].kill()
    done = []
    watching(tmp_path, "running").run(lambda: (time.sleep(1.5), done.append(1))[1])
    assert done


def test_a_suspended_worker_is_ended_and_ray_goes_on(
    daemons: dict[str, subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SILENT_SECONDS", 600.0)
    looking = watching(tmp_path, "running")
    [worker] = looking.family.members.values()
    (tmp_path / "0" / ".lease-00000001").write_text(
        f"host {socket.gethostname()}, process {worker.pid}, beat 00000003\n"
    )
    worker.suspend()
    looking.run(lambda: wait_until(lambda: read_events(tmp_path / "0" / "events.jsonl")))
    [event] = read_events(tmp_path / "0" / "events.jsonl")
    assert event["event"] == "hang"
    assert f"process {worker.pid} was suspended" in event["cause"]
    assert state_of_process(worker) == GONE
    assert daemons["raylet"].poll() is None


def test_a_cluster_that_does_not_answer_is_lost(
    daemons: dict[str, subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(watch.cluster, "trouble", for_ever)
    with pytest.raises(RayLost, match="no answer"):
        watching(tmp_path, "running").run(for_ever)
    monkeypatch.setattr(watch.cluster, "trouble", lambda: "this machine's raylet is gone")
    monkeypatch.setattr(watch.cluster, "own_daemons", dict)
    with pytest.raises(RayLost, match="raylet is gone") as caught:
        watching(tmp_path, "running").run(for_ever)
    assert not caught.value.again  # a cluster that was joined is nobody's to start


@pytest.mark.usefixtures("daemons")
@pytest.mark.parametrize(
    ("statuses", "all_known", "stopped", "over"),
    [
        (("finished", "failed", "stopped"), True, False, True),
        (("finished", "waiting"), True, False, False),
        (("finished", "running"), True, True, False),
        (("finished", "waiting"), True, True, True),
        (("finished",), False, False, False),
        (("finished",), False, True, True),
    ],
)
def test_what_is_done_is_not_waited_for(
    statuses: tuple[str, ...], all_known: bool, stopped: bool, over: bool, tmp_path: Path
) -> None:
    looking = watching(tmp_path, *statuses, all_known=all_known)
    if stopped:
        (tmp_path / "stop").touch()
    pulse = Pulse(lambda: "", seconds=0.01)
    found = []
    for _ in range(40):
        found.append(looking.look(pulse))
        time.sleep(0.05)
    pulse.stop()
    assert (OVER in found) == over


@pytest.mark.usefixtures("daemons")
def test_a_driver_leaves_a_ray_that_does_not_return(tmp_path: Path) -> None:
    looking = watching(tmp_path, "finished")
    looking.run(for_ever)
    assert not looking.family.gone(("nobody",))
    assert looking.family.gone(("raylet", "gcs_server")) == ["raylet", "gcs_server"]


def test_a_stop_is_no_loss(daemons: dict[str, subprocess.Popen[bytes]], tmp_path: Path) -> None:
    looking = watching(tmp_path, "running")
    (tmp_path / "stop").touch()
    daemons["raylet"].kill()
    looking.run(for_ever)


@pytest.mark.usefixtures("daemons")
def test_what_the_trainings_raise_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise KeyError("ours")

    def ended() -> None:
        raise SystemExit(0)

    with pytest.raises(KeyError, match="ours"):
        watching(tmp_path, "running").run(broken)
    with pytest.raises(RayLost, match="driver's thread"):  # so Ray ends a thread of its driver
        watching(tmp_path, "running").run(ended)


def test_a_lease_without_a_beat_costs_its_holder_the_process(
    daemons: dict[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    looking = watching(tmp_path, "running", "running", "finished")
    [worker] = looking.family.members.values()
    stranger = subprocess.Popen([sys.executable, "-c", SLEEPER])
    host = socket.gethostname()
    for name, pid in (("0", worker.pid), ("1", stranger.pid), ("2", daemons["log_monitor"].pid)):
        (tmp_path / name / ".lease-00000001").write_text(f"host {host}, process {pid}, beat 00000003\n")
    looking.run(lambda: wait_until(lambda: read_events(tmp_path / "0" / "events.jsonl")))
    [event] = read_events(tmp_path / "0" / "events.jsonl")
    assert event["event"] == "hang"
    assert f"no sign of life from process {worker.pid} on {host}" in event["cause"]
    assert state_of_process(worker) == GONE
    assert stranger.poll() is None  # somebody else's training is not ours to end
    assert daemons["log_monitor"].poll() is None
    stranger.kill()
    stranger.wait()


def test_a_lease_that_beats_is_left_alone(daemons: dict[str, subprocess.Popen[bytes]], tmp_path: Path) -> None:
    looking = watching(tmp_path, "running", silence=0.5)
    [worker] = looking.family.members.values()
    done = threading.Event()

    def beat() -> None:
        for number in range(30):
            text = f"host {socket.gethostname()}, process {worker.pid}, beat {number:08d}\n"
            (tmp_path / "0" / ".lease-00000001").write_text(text)
            time.sleep(0.05)
        done.set()

    looking.run(beat)
    assert done.is_set()
    assert state_of_process(worker) == RUNNING


def test_no_sign_of_life_of_any_experiment_ends_a_ray_of_our_own_only(
    daemons: dict[str, subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RayLost, match="no experiment gave a sign of life"):
        watching(tmp_path, "waiting", silence=0.5).run(for_ever)
    monkeypatch.setattr(watch.cluster, "own_daemons", dict)  # on a shared cluster others may be first
    watching(tmp_path, "waiting", silence=0.5).run(lambda: time.sleep(1.5))


def test_only_workers_of_ray_are_ended_where_this_driver_started_none() -> None:
    host = socket.gethostname()
    plain = subprocess.Popen([sys.executable, "-c", SLEEPER])
    named = subprocess.Popen(
        [sys.executable, "-c", f"import ctypes; ctypes.CDLL(None).prctl(15, b'ray::train'); {SLEEPER}"]
    )
    wait_until(lambda: psutil.Process(named.pid).name() == "ray::train")
    assert not end_worker(host, plain.pid)
    assert not end_worker("elsewhere", named.pid)
    assert not end_worker(host, 2**22 + 1)  # a number that no process has
    assert plain.poll() is None
    assert named.poll() is None
    assert end_worker(host, named.pid)
    assert named.wait() == -signal.SIGKILL
    plain.kill()
    plain.wait()


def test_time_in_which_the_driver_slept_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 1000.0, 1001.0])
    monkeypatch.setattr(watch.time, "monotonic", lambda: next(clock))
    watched = WatchedTime()
    watched.tick()
    assert watched.unchanged("a", 1) == 0
    watched.tick()
    assert watched.unchanged("a", 1) == 2 * watch.POLL_SECONDS
    watched.tick()
    assert watched.unchanged("a", 2) == 0


def test_states_of_processes() -> None:
    process = subprocess.Popen([sys.executable, "-c", SLEEPER])
    other = psutil.Process(process.pid)
    assert state_of_process(other) == RUNNING
    os.kill(process.pid, signal.SIGSTOP)
    wait_until(lambda: state_of_process(other) == STOPPED)
    process.kill()
    wait_until(lambda: state_of_process(other) == GONE)  # a zombie
    process.wait()
    assert state_of_process(other) == GONE
    assert Family({"raylet": process.pid}).gone(("raylet", "gcs_server")) == ["raylet"]


@pytest.mark.parametrize(
    ("claim", "recorded"),
    [("host a, process 7, beat 00000003\n", True), ("host a, process 77, beat 00000001\n", False), ("free\n", False)],
)
def test_a_hang_is_recorded_for_the_process_that_has_the_folder(tmp_path: Path, claim: str, recorded: bool) -> None:
    one = entry(tmp_path)
    (one.folder / ".lease-00000002").write_text(claim)
    watch._say(one, 3, "no sign of life", "a", 7)
    assert bool(read_events(one.folder / "events.jsonl")) == recorded


def test_a_disk_that_is_full_costs_the_driver_nothing(tmp_path: Path) -> None:
    one = entry(tmp_path)
    (one.folder / ".lease-00000002").write_text("host a, process 7, beat 00000003\n")
    (one.folder / "events.jsonl").mkdir()  # cannot be written, by root either
    watch._say(one, 3, "no sign of life", "a", 7)
