"""What another process takes over while this one is suspended: nothing of this one's reaches it."""

import dataclasses
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.processes import PROCESSES
from pipelines.cluster.placement import record_failure
from setr.experiments import worker as experiment
from setr.experiments.job import Job
from setr.experiments.worker import run_experiment
from setr.files import atomic
from setr.planning.planned import Planned
from setr.record import claims, lease
from setr.record.events import read_events
from setr.record.files import EVENTS, SCORES
from setr.record.lease import Lease, exclusive
from setr.training.distributed import Context
from tests.helpers.environment import ROOT, environment
from tests.helpers.running import run_script
from tests.helpers.tiny import CELL, TINY, settings


def take_over(folder: Path) -> None:
    """Does what an owner on another machine does first."""
    newest = claims.newest(folder)
    assert newest is not None
    other = Lease(folder, newest.number + 1, "host elsewhere, process 7")
    (folder / f".lease-{other.number:08d}").write_text("host elsewhere, process 7, beat 00000001\n")
    claims.shut_out(other)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def job_of(planned: Planned, tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(planned.job(settings(), tmp_path / "stop")))
    return found


@pytest.fixture
def unscored(trained: Planned, home: Path, tmp_path: Path) -> Planned:
    """Returns a copy of the trained experiment that is still to be scored."""
    folder = shutil.copytree(trained.folder, tmp_path / trained.identity)
    for name in (SCORES, "qualitative.png", "areas-ss.npz", "evaluations.json", "experiment.json"):
        (folder / name).unlink()
    return dataclasses.replace(trained, folder=folder)


RECORDS = ("experiment.json", "evaluations.json", "areas-ss.npz", "qualitative.png", "scores.json")


@pytest.mark.parametrize("name", RECORDS)
def test_a_stale_owner_writes_no_record_and_says_so(
    unscored: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder, after = unscored.folder, dict[str, bytes]()
    replace = Path.replace

    def held_up(self: Path, target: Path) -> Path:
        if Path(target) == folder / name and not after:
            take_over(folder)
            after.update(contents(folder))
        return replace(self, target)

    monkeypatch.setattr(atomic.Path, "replace", held_up)
    outcome = run_experiment(job_of(unscored, tmp_path), Context())
    assert (outcome["status"], outcome["exit_status"]) == ("failed", 4)
    assert outcome["cause"].startswith("E_LEASE | another process has taken this folder over | ")
    assert "host elsewhere, process 7" in outcome["cause"]
    assert after
    assert contents(folder) == after, "not even that it failed"


def test_who_loses_the_storage_path_loses_what_it_gave_out(unscored: Planned, tmp_path: Path) -> None:
    with exclusive(tmp_path) as driver:
        job = job_of(unscored, tmp_path) | {"driver": driver.as_dict()}
        take_over(tmp_path)
        before = contents(unscored.folder)
        outcome = run_experiment(job, Context())
        assert (outcome["status"], outcome["exit_status"]) == ("failed", 4)
        assert outcome["cause"].startswith("E_LEASE | another process has taken this folder over | ")
        changed = {name for name, data in contents(unscored.folder).items() if before.get(name) != data}
        assert all(name.startswith(".lease") for name in changed)

        # The driver keeps the failure to itself: the record is the other one's.
        failure = record_failure(unscored, {"status": "failed", "cause": "died"}, driver)
        assert failure is not None
        assert "E_LEASE" in failure["cause"]
        assert record_failure(unscored, outcome) == {"event": "failed", "step": 0, "cause": outcome["cause"]}
        assert read_events(unscored.folder / EVENTS)[-1]["event"] == "finished"
    with exclusive(tmp_path) as driver:
        assert run_experiment(job | {"driver": driver.as_dict()}, Context()) == {"status": "finished"}
        assert "driver" not in json.loads((unscored.folder / "experiment.json").read_text())["job"]
        assert record_failure(unscored, {"status": "failed", "cause": "died"}, driver) is None
        assert read_events(unscored.folder / EVENTS)[-1]["event"] == "failed"


def test_every_record_is_on_disk_before_it_has_its_name(
    unscored: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    fsync = os.fsync

    def noted(file: int) -> None:
        synced.add(os.fstat(file).st_ino)
        fsync(file)

    def after_sync(move: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def checked(self: Path, target: Path) -> Path:
            files = [self] if self.is_file() else list(self.iterdir())
            assert {file.stat().st_ino for file in files} <= synced, target
            synced.discard(self.parent.stat().st_ino)
            moved.append(Path(target).parent)
            return move(self, target)

        return checked

    moved: list[Path] = []
    shutil.rmtree(unscored.folder)
    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Path, "replace", after_sync(Path.replace))
    monkeypatch.setattr(Path, "rename", after_sync(Path.rename))
    assert run_experiment(job_of(unscored, tmp_path), Context()) == {"status": "finished"}
    assert len(moved) > len(RECORDS)
    assert {folder.stat().st_ino for folder in moved if folder.is_dir()} <= synced, "and the names as well"
    left = {"events.jsonl", ".lease"}
    files = [path for path in unscored.folder.rglob("*") if path.is_file() and path.name not in left]
    assert {path.name for path in files} >= {*RECORDS, "identity.json", "proof.json", "manifest.json"}
    assert [path.name for path in files if path.stat().st_ino not in synced] == []


def as_machine(name: str, is_first: bool, words: tuple[str, ...], variables: dict[str, str], output: Path) -> None:
    """Runs train.py as a process of a machine of that name; the first suspends itself where it records step 2."""
    socket.gethostname = lambda: name
    lease.BEAT_SECONDS = 0.2
    write, done = os.write, list[bool]()

    def suspended(file: int, data: bytes) -> int:
        if not done and b'"step": 2,' in data and b"metrics" in data:
            done.append(True)
            os.kill(os.getpid(), signal.SIGSTOP)
        return write(file, data)

    if is_first:
        atomic.os.write = suspended  # type: ignore[attr-defined]
    else:
        lease.DEAD_SECONDS = 1.0
        lease.lock = lambda file: True  # a lock that does not reach the other machine
    run_script(ROOT / "pipelines" / "train.py", words, variables, output)


@pytest.fixture
def machines(home: Path) -> Iterator[Callable[[str, bool, str], Any]]:
    """Returns what starts train.py on a machine; whatever is left is ended."""
    started = []

    def start(name: str, is_first: bool, checkpoints: str) -> Any:
        output = home / f"takeover-{name}.txt"
        output.touch()
        words = (f"cell={CELL}", *TINY, "seed=8", f"storage.checkpoints={checkpoints}")
        variables = environment(home, MLFLOW_TRACKING_URI="offline")
        started.append(PROCESSES.Process(target=as_machine, args=(name, is_first, words, variables, output)))
        started[-1].start()
        return started[-1], output

    yield start
    for process in started:
        if process.is_alive():
            process.kill()
            process.join()


@pytest.mark.slow
def test_a_suspended_command_ends_with_one_line_and_has_changed_nothing(home: Path, machines: Any) -> None:
    undisturbed, _ = machines("third", False, "undisturbed")
    stale, said = machines("first", True, "taken")
    deadline = time.monotonic() + 120
    while Path(f"/proc/{stale.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
        assert stale.is_alive(), said.read_text()
        assert time.monotonic() < deadline, said.read_text()
        time.sleep(0.1)
    rightful, told = machines("second", False, "taken")
    for process in (undisturbed, rightful):
        process.join(120)
    assert (undisturbed.exitcode, rightful.exitcode) == (0, 0), told.read_text()
    [folder] = [path.parent for path in (home / "taken").glob("*/scores.json")]
    before = contents(folder)
    os.kill(stale.pid, signal.SIGCONT)
    stale.join(120)
    assert stale.exitcode == 4, said.read_text()
    lines = said.read_text().splitlines()
    assert [line for line in lines if line.startswith("error")] == lines[-1:]
    assert lines[-1].startswith("error: E_LEASE | another process has taken this folder over | ")
    assert "Traceback" not in said.read_text()
    assert contents(folder) == before
    for name in ("model.safetensors", "optimizer.safetensors"):
        files = sorted((home / "undisturbed").glob(f"*/step-*/{name}")), sorted(folder.glob(f"step-*/{name}"))
        assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]] != []
    steps = [event["step"] for event in read_events(folder / EVENTS) if event["event"] == "metrics"]
    assert steps == [1, 1, 2, 3, 4], "what the first was about to record is in no record"


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("taken", [False, True])
def test_a_hang_is_recorded_only_by_the_group_that_has_the_folder(
    trained: Planned, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int, taken: bool
) -> None:
    folder = tmp_path / trained.identity
    job = job_of(dataclasses.replace(trained, folder=folder), tmp_path)

    def hangs(job: Any, context: Context, *_: Any) -> dict[str, Any]:
        context.report({"event": "hang", "step": 2, "time": 1.0, "cause": "no progress"})
        return {"status": "ended"}

    monkeypatch.setattr(experiment, "_run", hangs)
    context = dataclasses.replace(Context(), rank=rank)
    with exclusive(folder) as held:
        fence = Lease.from_dict(held.as_dict()) if rank else held
        if taken:
            take_over(folder)
        outcome = experiment._run_and_record(Job.from_dict(job), context, None if rank else held, fence)
    assert outcome["status"] == ("failed" if taken else "ended")
    assert [event.get("rank") for event in read_events(folder / EVENTS)] == ([] if taken else [rank])
