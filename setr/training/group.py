"""The processes that train together, as the environment names them: who this one is, and where the others are met."""

import re
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from setr.errors import EnvironmentFailure, InputError
from setr.redaction import first_line

NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # torchrun and the launchers of clusters set all
MEETING_SECONDS = 300.0  # until a group that is not complete is given up: a node may have an image to fetch
TOLD_SECONDS = 30.0  # between two words about who is still away
LARGEST = 65_536  # processes; ports end there too


@dataclass(frozen=True)
class Group:
    """This process among those of its group; one that is alone meets nobody."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    address: str = ""
    port: int = 0
    met: bool = False  # by torchrun, which has brought the others to the same place


def group_of(environment: Mapping[str, str]) -> Group:
    """Returns the group that the environment speaks of, a process alone if it speaks of none.

    Raises InputError for half of a group: what a shell or a pod has left over is no reason to train alone, with as
    many copies writing one folder as there are pods, nor to wait for peers that nobody started.
    """
    present = [name for name in NEEDED if environment.get(name)]
    size = number(environment, "WORLD_SIZE", 1, LARGEST, 1)
    alone = size == 1 and environment.get("RANK", "") in ("", "0")
    local_rank = number(environment, "LOCAL_RANK", 0, LARGEST, 0)
    if alone:
        return Group(local_rank=local_rank)
    if len(present) < len(NEEDED):
        absent = [name for name in NEEDED if name not in present]
        raise InputError(
            "E_GROUP",
            "the environment speaks of half a group of processes",
            found=", ".join(f"{name}={environment[name]}" for name in present),
            expected=f"{', '.join(absent)} too",
            remedy=f"unset {' '.join(present)} to train alone, or start with torchrun",
        )
    return Group(
        rank=number(environment, "RANK", 0, size - 1, 0),
        world_size=size,
        local_rank=local_rank,
        address=environment["MASTER_ADDR"],
        port=number(environment, "MASTER_PORT", 1, LARGEST - 1, 0),
        met="TORCHELASTIC_RUN_ID" in environment,
    )


def join(group: Group, backend: str, device: torch.device | None) -> None:
    """Joins torch.distributed's default group; raises EnvironmentFailure for peers that do not come."""
    if group.met:
        dist.init_process_group(backend, device_id=device)
        return
    store = meet(group)
    dist.init_process_group(backend, store=store, rank=group.rank, world_size=group.world_size, device_id=device)


def meet(group: Group, *, seconds: float = MEETING_SECONDS) -> dist.Store:
    """Returns the store that all of the group have come to; who is awaited is said on stderr, again and again.

    Waits in small steps: Ctrl-C is heard, where torch's own rendezvous neither hears nor says anything for minutes.
    """
    end, told = time.monotonic() + seconds, 0.0
    store: dist.Store | None = None
    came, reason = 0, ""
    while True:
        if store is None:
            store, reason = _store(group)
            if store is not None:
                came = store.add("setr/came", 1)
        else:
            came = store.add("setr/came", 0)
        if store is not None and came >= group.world_size:
            return dist.PrefixStore("setr/group", store)
        if time.monotonic() > end:
            raise _away(group, came, reason, seconds)
        if time.monotonic() - told > TOLD_SECONDS:
            told = time.monotonic()
            what = f"{came} of {group.world_size} are here" if store is not None else reason
            left = f"for {end - told:.0f} s more"
            print(f"waiting {left} at {group.address}:{group.port}: {what}", file=sys.stderr, flush=True)
        time.sleep(0.2)


def _store(group: Group) -> tuple[dist.Store | None, str]:
    """Returns the group's store, or None and why there is none yet."""
    place = (group.address, group.port)
    options: dict[str, Any] = {"wait_for_workers": False, "timeout": timedelta(seconds=10)}
    if group.rank == 0:
        try:
            # It listens on every interface; MASTER_ADDR is for the others, and asking there could take minutes.
            return _patient(dist.TCPStore("localhost", group.port, is_master=True, **options)), ""
        except (RuntimeError, ValueError) as error:
            raise EnvironmentFailure(
                "E_GROUP",
                "the group cannot meet here",
                where=f"{group.address}:{group.port}",
                found=first_line(error),
                remedy="set MASTER_ADDR to this machine and MASTER_PORT to a free port, or start with torchrun",
            ) from None
    try:
        socket.create_connection(place, timeout=2.0).close()
        return _patient(dist.TCPStore(*place, is_master=False, **options)), ""
    except (OSError, RuntimeError, ValueError) as error:
        return None, f"rank 0 does not answer ({str(error).partition(chr(10))[0]})"


def _patient(store: dist.TCPStore) -> dist.TCPStore:
    """Returns the store with the time that ranks may be apart later, while one of them loads a model."""
    store.set_timeout(dist.default_pg_timeout)
    return store


def _away(group: Group, came: int, reason: str, seconds: float) -> EnvironmentFailure:
    return EnvironmentFailure(
        "E_GROUP",
        "the group did not come together",
        where=f"rank {group.rank} at {group.address}:{group.port}",
        found=reason or f"{came} processes after {seconds:.0f} s",
        expected=f"{group.world_size} processes",
        remedy=f"start the others, or unset {' '.join(NEEDED)} to train alone",
    )


def number(environment: Mapping[str, str], name: str, low: int, high: int, default: int) -> int:
    """Returns a variable as a whole number, `default` if it is not set; raises InputError for any other text."""
    text = environment.get(name, "")
    if not text:
        return default
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not low <= int(text) <= high:
        remedy = f"unset {name}, or start with torchrun"
        found, expected = repr(text), f"a number from {low} to {high}"
        raise InputError("E_GROUP", f"the variable {name}", found=found, expected=expected, remedy=remedy)
    return int(text)
