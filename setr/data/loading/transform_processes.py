"""Processes that fill batches in shared memory, for transforms that hold the interpreter's lock.

The loader's threads are faster for our own augmentation, whose work is done in libraries; with a user's Python function
they would wait for each other.
"""

import multiprocessing
import os
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from setr.data.loading.worker_process import begin_worker
from setr.errors import EnvironmentFailure


@dataclass(frozen=True)
class Part:
    """What is known of the slots first, first + stride, ... of a batch besides their pixels."""

    first: int
    stride: int
    keys: list[str]
    samples: list[int]
    damaged: list[int]


class Buffers(Protocol):
    """Memory for one batch (setr.data.loading.loader)."""

    def release(self) -> None:
        """Give the memory back for the next fill."""

    def begin(self, step: int) -> None:
        """Look up the samples of a step."""

    def fill(self, first: int, stride: int) -> Part:
        """Write the samples first, first + stride, ... of the batch."""

    def take(self, memory: memoryview, parts: list[Part]) -> None:
        """Copy a batch that was filled elsewhere."""


FOLDER = Path("/dev/shm")  # where Linux keeps shared memory
B = TypeVar("B", bound=Buffers)


class TransformProcesses:
    """A pool that fills the batches of a loader, ahead of their use; a context manager."""

    def __init__(self, loader: Any, steps: range) -> None:
        """Start `loader.threads` processes, which open the shards anew; `loader` is loader.py's Loader."""
        self._processes = loader.threads
        self._upcoming = iter(steps)
        self._bytes = loader.batch_bytes
        slots = min(loader.prefetch + 1, len(steps))
        self._memory = reserved(max(slots, 1) * self._bytes)
        self._free = deque(range(slots))
        self._pending: deque[tuple[int, int, list[Future[Part]]]] = deque()  # slot, step, its parts
        self._pool = ProcessPoolExecutor(
            self._processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(loader, self._memory.name, slots),
        )

    def __enter__(self) -> "TransformProcesses":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._memory.close()
        self._memory.unlink()

    def into(self, ring: Iterator[B]) -> Iterator[B]:
        """Yields the ring's buffers, each with the next step's batch in it."""
        while True:
            while self._free and (step := next(self._upcoming, None)) is not None:
                slot = self._free.popleft()
                parts = [self._submit(slot, step, first) for first in range(self._processes)]
                self._pending.append((slot, step, parts))
            if not self._pending:
                return
            slot, step, parts = self._pending.popleft()
            found = [self._result(part, step) for part in parts]
            buffers = next(ring)
            buffers.release()
            buffers.begin(step)
            with _part_of(self._memory, slot, self._bytes) as memory:
                buffers.take(memory, found)
            self._free.append(slot)
            yield buffers

    def _submit(self, slot: int, step: int, first: int) -> "Future[Part]":
        try:
            return self._pool.submit(_fill, slot, step, first, self._processes)
        except BrokenProcessPool as error:
            raise _died(step) from error

    def _result(self, part: "Future[Part]", step: int) -> Part:
        try:
            return part.result()
        except BrokenProcessPool as error:
            raise _died(step) from error


def reserved(size: int) -> SharedMemory:
    """Returns shared memory of `size` bytes that are there; raises EnvironmentFailure if they are not.

    Creating it alone promises nothing: a process that wrote past what the file system holds would end with SIGBUS.
    """
    try:
        memory = SharedMemory(create=True, size=size)
    except OSError as error:
        raise _no_room(size, error) from None
    path = FOLDER / memory.name
    if not path.is_file():  # a system that keeps shared memory elsewhere
        return memory
    try:
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.posix_fallocate(descriptor, 0, size)
        finally:
            os.close(descriptor)
    except OSError as error:
        memory.close()
        memory.unlink()
        raise _no_room(size, error) from None
    return memory


def _no_room(size: int, error: OSError) -> EnvironmentFailure:
    free = shutil.disk_usage(FOLDER).free if FOLDER.is_dir() else 0
    return EnvironmentFailure(
        "E_SHARED_MEMORY",
        "no room for the batches that data.transform fills",
        where=FOLDER,
        found=f"{free / 1e6:.1f} MB free ({error.strerror or error})",
        expected=f"{size / 1e6:.1f} MB",
        remedy="give the container more shared memory (docker run --shm-size=2g; Kubernetes: an emptyDir of medium "
        f"Memory at {FOLDER}), or make training.micro_batch or the crop smaller",
    )


def _died(step: int) -> EnvironmentFailure:
    return EnvironmentFailure(
        "E_WORKER",
        "a process that runs data.transform died: killed, out of memory, or crashed",
        where=f"batch of step {step}",
        remedy="run again, it goes on from the last checkpoint; set fewer training.loader_threads if memory is short",
    )


_buffers: list[Buffers] = []  # of this worker process, by slot
_memory: list[SharedMemory] = []  # kept open as long as they are used


def _begin(loader: Any, name: str, slots: int) -> None:
    begin_worker()
    torch.set_num_threads(1)
    memory = SharedMemory(name)
    _memory.append(memory)
    size = loader.batch_bytes
    _buffers.extend(loader.buffers_on(_part_of(memory, slot, size)) for slot in range(slots))


def _fill(slot: int, step: int, first: int, stride: int) -> Part:
    _buffers[slot].begin(step)
    return _buffers[slot].fill(first, stride)


def _part_of(memory: SharedMemory, slot: int, size: int) -> memoryview:
    assert memory.buf is not None
    return memory.buf[slot * size : (slot + 1) * size]
