"""What a training knows of where it runs: rank, world size, device, and whom to tell. Each engine makes one."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from setr.errors import EnvironmentFailure, SetrError
from setr.training.group import LARGEST, group_of, join, number

Event = dict[str, Any]


def _ignore(event: Event) -> None:
    """The default report: the record in the experiment's folder is enough."""


@dataclass(frozen=True)
class Context:
    """Rank, world size and device of this process; with more than one, torch.distributed is initialised by the caller.

    `report` gets every event, on every rank and in the same order there (some engines insist on that); rank 0's holds
    what only rank 0 knows, such as a checkpoint's hash. `versions` names the engines' versions, e.g. {"ray": "2.60.0"}:
    they are compared when a training resumes. `should_stop`, asked after each step on every rank, says whether to save
    and leave; its `exit_status`, if it has one, is what the process should end with.
    """

    rank: int = 0
    world_size: int = 1
    device: str = "cpu"
    report: Callable[[Event], None] = _ignore
    local_rank: int = 0
    should_stop: Callable[[], bool] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_main(self) -> bool:
        """Returns whether this is rank 0, which alone writes files."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Returns the tensor summed over all ranks, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Returns every rank's tensor, by rank; all have the same shape."""
        if self.world_size == 1:
            return [tensor]
        parts = [torch.empty_like(tensor) for _ in range(self.world_size)]
        dist.all_gather(parts, tensor)
        return parts

    def barrier(self) -> None:
        """Waits until every rank is here."""
        if self.world_size > 1:
            dist.barrier()

    def broadcast_json(self, value: Any) -> Any:
        """Returns rank 0's JSON-able value on every rank (as JSON: nothing is unpickled)."""
        if self.world_size == 1:
            return value
        data = json.dumps(value).encode() if self.is_main else b""
        size = torch.tensor([len(data)], dtype=torch.int64, device=self.device)
        dist.broadcast(size, src=0)
        payload = torch.zeros(int(size), dtype=torch.uint8, device=self.device)
        if self.is_main:
            payload.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        dist.broadcast(payload, src=0)
        return json.loads(bytes(payload.cpu().numpy()))

    def broadcast_tensors(self, tensors: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Returns rank 0's named tensors on every rank, on the CPU; the other ranks pass None."""
        if self.world_size == 1:
            return dict(tensors or {})
        layout = {name: [str(t.dtype).removeprefix("torch."), list(t.shape)] for name, t in (tensors or {}).items()}
        received = {}
        for name, (dtype, shape) in self.broadcast_json(layout).items():
            if tensors is not None:
                tensor = tensors[name].to(self.device).contiguous()
            else:
                tensor = torch.empty(shape, dtype=getattr(torch, dtype), device=self.device)
            dist.broadcast(tensor, src=0)
            received[name] = tensor.cpu()
        return received

    def on_main(self, work: Callable[[], Any]) -> Any:
        """Returns the JSON-able result of `work`, run on rank 0 alone; where it fails, every rank raises."""
        if self.world_size == 1:
            return work()
        outcome: dict[str, Any] = {}
        error: SetrError | None = None
        if self.is_main:
            try:
                outcome = {"value": work()}
            except SetrError as caught:
                error, outcome = caught, {"error": str(caught)}
        outcome = self.broadcast_json(outcome)
        if error is not None:
            raise error
        if "error" in outcome:
            raise EnvironmentFailure("E_RANK_0", "rank 0 cannot go on", found=outcome["error"])
        return outcome["value"]


@contextmanager
def distributed_context() -> Iterator[Context]:
    """Gives the context of this process: of the group that its environment speaks of, or of a single process.

    The group talks through NCCL if every process of this machine has a GPU of its own, else through gloo on CPUs.
    Raises what setr.training.group does: for an environment that speaks of half a group, and for peers that stay away.
    """
    group = group_of(os.environ)
    device = _own_device(group.local_rank)
    has_gpu = device != "cpu"
    if has_gpu:
        torch.cuda.set_device(group.local_rank)
    if group.world_size > 1:
        join(group, "nccl" if has_gpu else "gloo", torch.device(device) if has_gpu else None)
    try:
        yield Context(rank=group.rank, world_size=group.world_size, device=device, local_rank=group.local_rank)
    finally:
        if group.world_size > 1:
            dist.destroy_process_group()


def _own_device(local_rank: int) -> str:
    """Returns the process's GPU if every process of this machine has one, else cpu.

    Asked of the whole machine, not of this process: ranks that chose differently would wait for each other for ever.
    """
    neighbours = number(os.environ, "LOCAL_WORLD_SIZE", 1, LARGEST, local_rank + 1)
    return f"cuda:{local_rank}" if torch.cuda.device_count() >= neighbours else "cpu"


class Stopped(Exception):
    """The training left as it was asked to, after it saved; `exit_status` is what the process should end with."""

    def __init__(self, step: int, exit_status: int = 128 + signal.SIGTERM) -> None:
        """Left after `step` finished steps: 143 for SIGTERM, 130 for SIGINT."""
        super().__init__(f"stopped after step {step}, which is saved")
        self.step = step
        self.exit_status = exit_status


class StopRequest(threading.Event):
    """An event that asks a training to save and leave, with the exit status that goes with the reason."""

    exit_status = 128 + signal.SIGTERM

    def __call__(self) -> bool:
        """Returns whether it was set."""
        return self.is_set()


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Gives a StopRequest that SIGTERM or SIGINT sets; a second signal ends the process at once.

    Only the main thread can install handlers; elsewhere the request is never set by a signal.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(number: int, frame: FrameType | None) -> None:
        request.exit_status = 128 + number
        request.set()
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
