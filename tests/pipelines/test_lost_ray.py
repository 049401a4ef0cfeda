"""A sweep whose Ray is really killed under it, piece by piece: the same command goes on by itself, and ends well."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from setr.record.events import Event, read_events
from tests.helpers.running import Command
from tests.helpers.tiny import CELL, TINY
from tests.helpers.untrained import write_untrained

WORDS = (f"cells=[{CELL}]", "seeds=2", "miniature.iterations={40k: 900}", "miniature.checkpoints=45")


def recorded(storage: Path, kind: str) -> list[Event]:
    found = [event for path in storage.glob("*/events.jsonl") for event in read_events(path)]
    return [event for event in found if event["event"] == kind]


def wait_for_more(storage: Path, kind: str, than: int, sweep: Command, seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while len(recorded(storage, kind)) <= than:
        assert sweep.process.is_alive(), sweep.output.read_text()
        assert time.monotonic() < deadline, sweep.output.read_text()
        time.sleep(0.1)


def below(sweep: Command, name: str) -> list[psutil.Process]:
    # Those of a Ray that is gone already may still be there as zombies: the command has become itself again by exec.
    return [
        one
        for one in psutil.Process(sweep.process.pid).children(recursive=True)
        if one.name().startswith(name) and one.status() != psutil.STATUS_ZOMBIE
    ]


@pytest.mark.slow
def test_a_sweep_goes_on_after_its_raylet_its_control_service_and_a_suspended_training(tiny_home: Path) -> None:
    home, storage = tiny_home, tiny_home / "lost-ray"
    write_untrained(home / "weights")
    words = (*TINY, *WORDS, "storage.checkpoints=lost-ray", "storage.results=lost-results", "tracking.experiment=lost")
    sweep = Command(home, "sweep", *words)
    everyone: list[psutil.Process] = []
    for name, number in (("raylet", signal.SIGKILL), ("gcs_server", signal.SIGKILL), ("ray::Impl", signal.SIGSTOP)):
        wait_for_more(storage, "metrics", len(recorded(storage, "metrics")) + 2, sweep)
        everyone += psutil.Process(sweep.process.pid).children(recursive=True)
        begun = len(recorded(storage, "start"))
        below(sweep, name)[0].send_signal(number)
        wait_for_more(storage, "start", begun, sweep)
    said = sweep.end(0, seconds=400)
    assert said.count("E_CLUSTER | Ray is lost") == 2
    assert "its raylet ended" in said
    assert "its gcs_server ended" in said
    assert "2 of 2 experiments have results" in said
    assert len(recorded(storage, "finished")) == 2
    assert not list((storage / "drivers").iterdir())
    sessions = Path(os.environ.get("RAY_TMPDIR") or "/tmp") / "ray"
    assert not list(sessions.glob(f"session_*_{sweep.process.pid}"))
    left = [one for one in everyone if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert not left
