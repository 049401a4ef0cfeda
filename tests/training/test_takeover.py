"""A training that is suspended by a signal while another process takes its folder over, and then goes on.

The other process calls itself another machine, whose locks do not reach the first one's.
"""

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from benchmarks.processes import PROCESSES
from setr.files import atomic
from setr.record import checkpoint, lease
from setr.record.claims import socket
from setr.record.events import append_event
from setr.training.distributed import Context
from tests.helpers.tiny_training import events, run, weights


def is_owned(path, name):
    """Returns whether `path` is the temporary name, of the folder's owner, of the file or checkpoint `name`."""
    return Path(path).name.startswith(".tmp-") and f"-{name}-" in Path(path).name


def suspend_before(module, name, matches):
    """Makes the process stop itself right before the first call that matches."""
    original, done = getattr(module, name), []

    def stopping(*arguments, **options):
        if not done and matches(*arguments):
            done.append(True)
            os.kill(os.getpid(), signal.SIGSTOP)
        return original(*arguments, **options)

    setattr(module, name, stopping)


# What is about to happen when the process stops; all of it behind the check that it would have to fail.
MOMENTS = {
    "identity": (atomic.Path, "replace", lambda path, _: is_owned(path, "identity.json")),
    "line": (atomic.os, "write", lambda file, data: b'"step": 5' in data and b"metrics" in data),
    "checkpoint": (checkpoint.Path, "rename", lambda path, _: is_owned(path, "step-00000006")),
    "evaluations": (atomic.Path, "replace", lambda path, _: is_owned(path, "evaluations.json")),
    "prune": (atomic.Path, "rename", lambda path, aside: path.name == "step-00000003"),
    "opening": (atomic.os, "open", lambda path, *_: str(path).endswith("events.jsonl") and opened(path)),
}
count = []


def opened(path):
    """Returns whether the record is opened for the eighth time."""
    count.append(path)
    return len(count) == 8


def train_as(machine, folder):
    """Trains in the folder under a lease, as a process of a machine of that name."""
    socket.gethostname = lambda: machine
    torch.set_num_threads(1)
    with lease.exclusive(folder) as held:
        report = Context(report=lambda event: append_event(folder / "events.jsonl", event, owner=held))
        run(folder, context=report, lease=held)


def first(folder, moment):
    lease.BEAT_SECONDS = 0.1
    suspend_before(*MOMENTS[moment])
    train_as("first", folder)


def second(folder):
    lease.DEAD_SECONDS = 1.0
    lease.lock = lambda file: True
    train_as("second", folder)


def state_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder)
    return weights(folder)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_suspended_owner_writes_nothing_when_it_goes_on(tmp_path, undisturbed, moment):
    stale = PROCESSES.Process(target=first, args=(tmp_path, moment))
    stale.start()
    deadline = time.monotonic() + 60
    while state_of(stale.pid) != "T":
        assert stale.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    rightful = PROCESSES.Process(target=second, args=(tmp_path,))
    rightful.start()
    rightful.join(60)
    assert rightful.exitcode == 0
    before = contents(tmp_path)
    os.kill(stale.pid, signal.SIGCONT)
    stale.join(60)
    assert stale.exitcode not in (0, None)
    assert contents(tmp_path) == before
    assert weights(tmp_path) == undisturbed
    kept = [event["step"] for event in events(tmp_path, "metrics")]
    begun = [event["step"] for event in events(tmp_path, "start")][-1]
    assert kept[-(12 - begun) :] == list(range(begun + 1, 13)), "each step once since the second has begun"
    assert not list(tmp_path.glob(".tmp-*"))
