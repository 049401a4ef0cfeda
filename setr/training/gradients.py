"""Gradients summed over the ranks while backward still runs, in an order that never changes.

DistributedDataParallel lays its buckets out anew after the first step, and with them the order in which three or more
ranks are added up: a resumed run would differ from an undisturbed one in the last bit. Here the layout depends on the
model alone. A parameter that took no part in a step counts as zero.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import nn

BUCKET_BYTES = 25 << 20


@dataclass
class _Bucket:
    """Gradients that travel together; each parameter's `grad` is a view of `flat`."""

    flat: torch.Tensor
    parameters: set[int] = field(default_factory=set)  # by id
    waiting: set[int] = field(default_factory=set)


class GradientSum:
    """Sums the gradients of all ranks into `parameter.grad`; the default process group must be initialised."""

    def __init__(self, parameters: Iterable[nn.Parameter], *, bucket_bytes: int = BUCKET_BYTES) -> None:
        """Take over the gradients of the trainable parameters, last ones first: backward finishes them first."""
        self.buckets: list[_Bucket] = []
        self._owner: dict[int, _Bucket] = {}
        self._works: list[dist.Work] = []
        self._next = 0
        self._counting = False
        trainable = [parameter for parameter in parameters if parameter.requires_grad]
        for members in _partition(reversed(trainable), bucket_bytes):
            first = members[0]
            size = sum(parameter.numel() for parameter in members)
            bucket = _Bucket(torch.zeros(size, dtype=first.dtype, device=first.device))
            self.buckets.append(bucket)
            offset = 0
            for parameter in members:
                part = bucket.flat[offset : offset + parameter.numel()]
                offset += parameter.numel()
                # The parameter's own strides (channels_last, say): the fused optimisers walk both in memory order.
                parameter.grad = part.as_strided(parameter.size(), parameter.stride())
                bucket.parameters.add(id(parameter))
                self._owner[id(parameter)] = bucket
                parameter.register_post_accumulate_grad_hook(self._ready)

    def begin(self) -> None:
        """Announce that the next backward is the step's last: its gradients are sent as they come."""
        for bucket in self.buckets:
            bucket.waiting = set(bucket.parameters)
        self._works, self._next, self._counting = [], 0, True

    def finish(self) -> None:
        """Wait until every rank's gradients are in."""
        self._counting = False
        self._send(len(self.buckets))
        for work in self._works:
            work.wait()
        self._works = []

    def zero(self) -> None:
        """Set all gradients to zero, in place."""
        for bucket in self.buckets:
            bucket.flat.zero_()

    def _ready(self, parameter: torch.Tensor) -> None:
        if not self._counting:
            return
        self._owner[id(parameter)].waiting.discard(id(parameter))
        complete = self._next
        while complete < len(self.buckets) and not self.buckets[complete].waiting:
            complete += 1
        self._send(complete)

    def _send(self, end: int) -> None:
        """Sends the buckets before `end` that are still here: in the same order on every rank."""
        for bucket in self.buckets[self._next : end]:
            work = dist.all_reduce(bucket.flat, async_op=True)
            assert work is not None
            self._works.append(work)
        self._next = max(self._next, end)


def _partition(parameters: Iterable[nn.Parameter], bucket_bytes: int) -> list[list[nn.Parameter]]:
    """Returns runs of parameters of one type and device, each of at most `bucket_bytes` unless one alone is larger."""
    runs: list[list[nn.Parameter]] = []
    filled = 0
    for parameter in parameters:
        same = runs and (runs[-1][0].dtype, runs[-1][0].device) == (parameter.dtype, parameter.device)
        if not same or filled + parameter.nbytes > bucket_bytes:
            runs.append([])
            filled = 0
        runs[-1].append(parameter)
        filled += parameter.nbytes
    return runs
