import contextlib
import errno
import os
import signal
import threading
import time

import pytest

from benchmarks.processes import PROCESSES
from setr.errors import EnvironmentFailure
from setr.files import locking as file_lock
from setr.files.atomic import append, write_json
from setr.record import checkpoint, lease
from setr.record.lease import Lease, exclusive


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(lease, "DEAD_SECONDS", 0.6)
    monkeypatch.setattr(lease, "_POLL_SECONDS", 0.02)


def claim_of(folder, number=1, host="elsewhere", beat=1):
    path = folder / f".lease-{number:08d}"
    path.write_text(f"host {host}, process 7, beat {beat:08d}\n")
    return path


def claims_in(folder):
    return sorted(path.name for path in folder.glob(".lease-*"))


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
    with exclusive(tmp_path) as found:
        assert found.number == 2
    process.join()
    with exclusive(tmp_path) as found:
        assert found.number == 3
    assert claims_in(tmp_path) == [".lease-00000003"], "the number is kept, its predecessors are not"


def test_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(EnvironmentFailure, match=r"E_STORAGE.*Not a directory"),
        exclusive(tmp_path / "file" / "folder"),
    ):
        pass


def test_a_holder_on_another_machine_is_waited_for_until_it_is_seen_to_live_or_not(tmp_path, short):
    # Where locks do not reach other machines, its word in its file is all there is: here nobody holds the lock.
    claim_of(tmp_path, 4)
    with exclusive(tmp_path):
        assert f"process {os.getpid()}" in (tmp_path / ".lease-00000005").read_text()
    start = time.monotonic()
    with exclusive(tmp_path) as found:
        assert found.number == 6
    assert time.monotonic() - start < 0.5, "left in order: the next one does not wait"

    claim_of(tmp_path, 7)
    threading.Timer(0.3, claim_of, (tmp_path, 7, "elsewhere", 2)).start()
    with (
        pytest.raises(EnvironmentFailure, match=r"E_LEASE \| two sweeps \|.*host elsewhere, process 7 \|"),
        exclusive(tmp_path, busy="two sweeps", wait_seconds=0.5),
    ):
        pass
    assert claims_in(tmp_path) == [".lease-00000006", ".lease-00000007"], "the loser has left nothing"


def test_a_holder_writes_that_it_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.05)
    with exclusive(tmp_path):
        first = (tmp_path / ".lease-00000001").read_text()
        deadline = time.monotonic() + 5
        while (tmp_path / ".lease-00000001").read_text() == first:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    with pytest.raises(RuntimeError), exclusive(tmp_path):
        raise RuntimeError
    assert (tmp_path / ".lease-00000002").read_text() == "free\n"


def take_over(folder, number):
    """Does what an owner on another machine does first."""
    other = Lease(folder, number, "host elsewhere, process 7")
    claim_of(folder, number)
    lease.claims.shut_out(other)
    return other


def checkpoint_in(folder, owner, step=1):
    return checkpoint.save(folder, step, {"model": {}}, {"identity": "a"}, owner=owner)


PUBLISHES = {
    "record": lambda folder, owner: write_json(folder / "scores.json", {"mIoU": 1}, owner=owner),
    "line": lambda folder, owner: append(folder / "events.jsonl", b"{}\n", owner=owner),
    "checkpoint": checkpoint_in,
    "prune": lambda folder, owner: checkpoint.prune(folder, keep_last=1, owner=owner),
    "quarantine": lambda folder, owner: checkpoint.load_latest(folder, owner=owner),
}


def prepared(folder):
    for step in (2, 3, 4):
        checkpoint_in(folder, None, step)
    (folder / "events.jsonl").write_text('{"event": "start"}\n')
    damaged = folder / "step-00000004" / "state.json"
    damaged.chmod(0o644)
    damaged.write_text("{}")


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if not path.name.startswith(".lease")
    }


@pytest.mark.parametrize("publish", PUBLISHES.values(), ids=PUBLISHES)
def test_an_owner_that_was_replaced_publishes_nothing(tmp_path, publish):
    prepared(tmp_path)
    with exclusive(tmp_path) as stale:
        take_over(tmp_path, stale.number + 1)
        before = contents(tmp_path)
        with pytest.raises(
            EnvironmentFailure, match=r"E_LEASE .* taken this folder over .* elsewhere, process 7"
        ) as met:
            publish(tmp_path, stale)
        assert met.value.exit_status == 4
        assert contents(tmp_path) == before
        assert stale.lost


@pytest.mark.parametrize("publish", PUBLISHES.values(), ids=PUBLISHES)
@pytest.mark.parametrize("takeovers", [1, 2])
def test_an_owner_that_is_replaced_between_check_and_publish_publishes_nothing(
    tmp_path, monkeypatch, publish, takeovers
):
    prepared(tmp_path)
    with exclusive(tmp_path) as stale:
        check, after = Lease.check, {}

        def check_then_sleep(self):
            check(self)
            if self is stale and not after:  # suspended right behind the last check that is right
                for turn in range(takeovers):
                    take_over(tmp_path, stale.number + 1 + turn)
                after.update(contents(tmp_path))

        if publish is checkpoint_in:  # the first check comes before anything is written
            checks = []
            monkeypatch.setattr(Lease, "check", lambda self: check_then_sleep(self) if checks else checks.append(1))
        else:
            monkeypatch.setattr(Lease, "check", check_then_sleep)
        with contextlib.suppress(EnvironmentFailure):  # a line goes into the old file, and nobody need know
            publish(tmp_path, stale)
        assert after
        assert contents(tmp_path) == after
        monkeypatch.setattr(Lease, "check", check)
        with pytest.raises(EnvironmentFailure, match="E_LEASE"):
            stale.check()


def test_what_one_owner_began_does_not_hurt_the_next(tmp_path):
    with exclusive(tmp_path) as stale:
        rightful = take_over(tmp_path, stale.number + 1)
        (tmp_path / ".tmp-00000002-step-00000009-5").mkdir()
        lease.claims.shut_out(stale)  # one that was suspended while it cleared up
        assert (tmp_path / ".tmp-00000002-step-00000009-5").is_dir()
        assert rightful.check() is None
        checkpoint_in(tmp_path, rightful)
        write_json(tmp_path / "scores.json", {}, owner=rightful)
        with pytest.raises(EnvironmentFailure, match="E_LEASE"):
            checkpoint_in(tmp_path, stale)
        # A number that was given before: its file was removed when this process had read the folder already.
        assert lease.claims.make(tmp_path, stale.number) is None
        assert rightful.check() is None
        assert claims_in(tmp_path) == [".lease-00000002"]


def test_the_beat_notices_a_takeover(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.02)
    with exclusive(tmp_path / "storage") as driver, exclusive(tmp_path / "one", above=driver) as held:
        abroad = Lease.from_dict(driver.as_dict())
        abroad.check()
        take_over(tmp_path / "storage", 2)
        deadline = time.monotonic() + 5
        while not (held.lost and driver.lost):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not abroad.lost, "it has not looked"
        with pytest.raises(EnvironmentFailure, match=r"E_LEASE .*storage"):
            abroad.check()
        with pytest.raises(EnvironmentFailure, match=r"E_LEASE .*storage"):
            write_json(tmp_path / "one" / "scores.json", {}, owner=held)


def test_an_emptied_folder_is_nobodys(tmp_path):
    with exclusive(tmp_path) as held:
        (tmp_path / ".lease-00000001").unlink()
        with pytest.raises(EnvironmentFailure, match=r"E_LEASE .*emptied"):
            held.check()
        # The same number again, for another process.
        claim_of(tmp_path, 1)
        with pytest.raises(EnvironmentFailure, match="E_LEASE"):
            Lease.from_dict(held.as_dict()).check()


@pytest.mark.parametrize("number", file_lock.NO_LOCKS)
def test_without_locks_the_beat_alone_decides(tmp_path, monkeypatch, short, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(file_lock.fcntl, "flock", flock)
    with exclusive(tmp_path) as held:
        assert not held.has_locks
        assert "no file locks" in held.note()
    start = time.monotonic()
    with exclusive(tmp_path) as held:
        assert held.number == 2
    assert time.monotonic() - start < 0.5
    claim_of(tmp_path, 3, os.uname().nodename)  # killed, on this machine
    start = time.monotonic()
    with exclusive(tmp_path) as held:
        assert held.number == 4
        assert time.monotonic() - start >= 0.6


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_a_lock_that_fails_otherwise_is_one_line(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(file_lock.fcntl, "flock", flock)
    with pytest.raises(EnvironmentFailure, match=rf"E_STORAGE \| .*{os.strerror(number)}"), exclusive(tmp_path):
        pass


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_a_disk_that_is_full_at_the_lease_is_one_line(tmp_path, monkeypatch, call):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(lease.claims.os, call, full)
        with pytest.raises(EnvironmentFailure, match=r"E_STORAGE \| .*No space left"), exclusive(tmp_path):
            pass
    assert claims_in(tmp_path) == []
    with exclusive(tmp_path) as held:
        assert held.number == 1


def test_a_holder_elsewhere_that_died_while_it_was_waited_for_is_found_dead(tmp_path, short, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.05)
    claim_of(tmp_path)
    threading.Timer(0.2, claim_of, (tmp_path, 1, "elsewhere", 2)).start()
    with exclusive(tmp_path, wait_seconds=0.5) as held:
        assert held.number == 2


def own_shortly(folder, name, turns, has_locks):
    """Owns the folder again and again, and writes when it begins and ends; at its last turn the process is killed."""
    lease.DEAD_SECONDS, lease.BEAT_SECONDS, lease._POLL_SECONDS = 0.5, 0.05, 0.005
    if not has_locks:
        lease.claims.socket.gethostname = lambda: f"machine-{name}"
        lease._lock = lambda file, folder: None
    for turn in range(turns):
        with contextlib.suppress(EnvironmentFailure), exclusive(folder, wait_seconds=60) as held:
            for word in ("begin", "end"):
                append(folder / "turns.jsonl", f"{held.number} {word}\n".encode(), owner=held)
                if turn == turns - 1:
                    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("has_locks", [True, False])
def test_many_short_owners_never_write_at_once(tmp_path, has_locks):
    count, turns = 5, 6
    started = [PROCESSES.Process(target=own_shortly, args=(tmp_path, name, turns, has_locks)) for name in range(count)]
    for one in started:
        one.start()
    for one in started:
        one.join(60)
        assert one.exitcode is not None
    lines = [line.split() for line in (tmp_path / "turns.jsonl").read_text().splitlines()]
    numbers = [int(number) for number, _ in lines]
    assert numbers == sorted(numbers), "nobody wrote after a later owner"
    begun = [number for number, word in lines if word == "begin"]
    assert len(set(begun)) == len(begun), "no number was given twice"
    assert len(begun) > count
    if has_locks:  # without, a slow machine may take one for dead that only waits for its turn
        assert len(begun) == count * turns
        assert [word for _, word in lines].count("end") == count * (turns - 1)
