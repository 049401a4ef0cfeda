"""One writer per folder: a second process that wants the same one is refused while the first one lives.

    <folder>/.lease            locked by who owns the folder
    <folder>/.lease-00000007   who that is, with a beat: the seventh owner so far (setr.record.claims)

On one machine the kernel's lock decides, which goes with its process. Between machines locks are not to be trusted on
every shared file system, so the owner also writes a beat into its file, and one that stands still is taken for dead.
Where there are no locks, the beat alone decides. Machines are told apart by their names; clocks are never compared.

Taken for dead is not dead: a process may have been suspended, or its file system may have hung. So each taking has a
number that no other process gets, and every publish asks right before it whether the number is still the highest
(Lease.check). What may lie between the check and the publish, the new owner closes before it does anything else:

- files and folders appear by a rename from a temporary name that carries the number. The new owner removes those of
  lower numbers, so a rename that was held up finds nothing to rename;
- lines are appended to a file that was opened before the check. The new owner puts a copy of the file in its place, so
  a line that was held up goes into the old one, which has no name any more;
- a name that goes away (an old checkpoint, a damaged one) is moved aside, checked again, and moved back if it was late.

What is left: a process that is suspended inside the last of these, and then killed, has moved aside a checkpoint that
it was about to delete or to quarantine. And all of it takes a file system where a name that one machine has made,
renamed or removed is so for the others when they next open it, as NFS, Lustre and CephFS promise.
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from setr.errors import EnvironmentFailure
from setr.files.atomic import make_folder, storage_failure
from setr.files.locking import lock, open_lock
from setr.record import claims

NAME = ".lease"
WAIT_SECONDS = 20.0  # a killed predecessor may still be on its way out
BEAT_SECONDS = 5.0
DEAD_SECONDS = 30.0  # without a beat: six missed
LOCK_SECONDS = 120.0  # until a file server lets go of the lock of a machine that is gone
_POLL_SECONDS = 0.2


@dataclass(frozen=True, eq=False)
class Lease:
    """The right to write in a folder, until another process takes it over; an Owner of setr.files.atomic.

    May travel to another process (as_dict): what that one writes is fenced as well.
    """

    folder: Path
    number: int  # of this taking
    holder: str  # whose it is: claims.holder()
    above: "Lease | None" = None  # whoever gave the work out: it counts only as long as that one's does
    has_locks: bool = True  # False: the file system has none, and the beat alone says who lives
    _lost: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def lost(self) -> bool:
        """Returns whether a takeover has been noticed, by a check or between two beats; asks no file."""
        return self._lost.is_set() or (self.above is not None and self.above.lost)

    def check(self) -> None:
        """Raises EnvironmentFailure: E_LEASE if another process has the folder, E_STORAGE if that cannot be told."""
        if self.above is not None:
            self.above.check()
        if self._lost.is_set() or not claims.stands(self.folder, self.number, self.holder):
            self._lost.set()
            raise _taken_over(self.folder, claims.newest(self.folder))

    def note(self) -> str:
        """Returns the line to show where there are no locks."""
        return (
            f"note: no file locks in {self.folder}: whether another process lives is told by its beat alone, "
            f"so after a kill the next one waits {DEAD_SECONDS:.0f} s"
        )

    def as_dict(self) -> dict[str, Any]:
        """Returns what from_dict() makes the lease of, in another process."""
        return {"folder": str(self.folder), "number": self.number, "holder": self.holder}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Lease":
        """Returns a lease that another process holds: it can be checked, and is never given back."""
        return cls(Path(record["folder"]), int(record["number"]), str(record["holder"]))


def require_not_taken(folder: Path) -> None:
    """Raises EnvironmentFailure (E_LEASE) if another process than this one has the folder."""
    newest = claims.newest(folder)
    if newest is not None and not newest.is_free and not newest.text.startswith(f"{claims.holder()},"):
        raise _taken_over(folder, newest)


def _taken_over(folder: Path, newest: claims.Claim | None) -> EnvironmentFailure:
    return EnvironmentFailure(
        "E_LEASE",
        "another process has taken this folder over",
        where=folder,
        found=newest or "no file of an owner: the folder was emptied",
        remedy="this one was taken for dead and writes nothing more; leave the work to the other one",
    )


@contextmanager
def exclusive(
    folder: Path,
    *,
    busy: str = "another process trains this experiment",
    wait_seconds: float | None = None,
    above: Lease | None = None,
) -> Iterator[Lease]:
    """Gives the folder's lease for the time of the block; it is free again when the process dies, however.

    Waits for a holder that may be on its way out (None: WAIT_SECONDS), and for one on another machine until it is seen
    to live or to be dead. Raises EnvironmentFailure: E_LEASE, saying `busy` and naming the holder's host and process,
    if another one keeps it; E_STORAGE if the folder is not writable.
    """
    try:
        make_folder(folder)
        file = open_lock(folder / NAME)
    except OSError as error:
        raise storage_failure(folder / NAME, error) from None
    try:
        lease, claim = _take(file, folder, busy, WAIT_SECONDS if wait_seconds is None else wait_seconds, above)
        with _beating(lease, claim):
            yield lease
    finally:
        os.close(file)


def _take(file: int, folder: Path, busy: str, wait_seconds: float, above: Lease | None) -> tuple[Lease, int]:
    """Returns the lease and the descriptor of its file: once the lock is ours, and no sign of life from elsewhere."""
    start = since = time.monotonic()
    seen, alive = claims.newest(folder), False
    while True:
        try:
            locked = lock(file)
        except OSError as error:
            raise storage_failure(folder / NAME, error) from error
        holder, now = claims.newest(folder), time.monotonic()
        # Where the kernel cannot say that the holder is gone.
        unknown = holder is not None and not holder.is_free and (holder.is_elsewhere or locked is None)
        if holder != seen:
            seen, since, alive = holder, now, unknown
        if locked is not False and (not unknown or now - since >= DEAD_SECONDS):
            number = holder.number + 1 if holder else 1
            claim = claims.make(folder, number)
            if claim is not None:
                return Lease(folder, number, claims.holder(), above, has_locks=locked is not None), claim
        patience = wait_seconds if alive or not unknown else LOCK_SECONDS if locked is False else DEAD_SECONDS
        # One that lived a moment ago and has missed two beats since: soon it is known.
        in_doubt = unknown and locked is not False and now - since > 2 * BEAT_SECONDS
        if now - start > patience and not in_doubt:
            raise EnvironmentFailure(
                "E_LEASE",
                busy,
                where=folder,
                found=holder or "a process that has just started",
                remedy="wait for it, or stop it",
            )
        time.sleep(_POLL_SECONDS)


@contextmanager
def _beating(lease: Lease, claim: int) -> Iterator[None]:
    """Shuts out the earlier owners; writes again and again that this one lives, and watches whether it still owns."""
    done, begun = threading.Event(), False

    def go_on() -> None:
        number = 0
        while not done.wait(BEAT_SECONDS) and not lease.lost:
            number += 1
            # A full disk, or none: whoever writes something that counts will say so.
            with suppress(OSError, EnvironmentFailure):
                claims.beat(claim, number)
                lease.check()

    thread = threading.Thread(target=go_on, name="lease", daemon=True)
    thread.start()
    try:
        claims.shut_out(lease)
        begun = True
        yield
    finally:
        done.set()
        thread.join()
        # One that could not shut the others out is no reason for the next one not to try.
        claims.leave(claim, free=begun)
