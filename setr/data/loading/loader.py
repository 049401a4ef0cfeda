"""Batches from shards: threads write augmented samples into a ring of preallocated buffers, ahead of the training step.

Threads, because OpenCV and the mapped files leave the interpreter's lock, and because handing samples from process to
process costs more than augmenting them. Order and augmentation are pure functions of (seed, step, global batch), so
the state of a loader is its step number alone: a run resumes in mid-epoch, on any number of workers, with the same
samples.
"""

import contextlib
import functools
import itertools
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from setr.data.loading.own_transform import apply_transform, load_transform
from setr.data.loading.photometric import Distortion
from setr.data.loading.photometric_batch import BatchDistortion
from setr.data.loading.random_streams import ORDER_STREAM, words
from setr.data.loading.transform_processes import Part, TransformProcesses
from setr.data.loading.transforms import Augmentation, Draw, augment, draw, resized_size
from setr.data.shards import Record, Shards
from setr.errors import InputError, IntegrityError, SetrError


@dataclass(frozen=True, eq=False)
class Batch:
    """One rank's part of a global batch. The tensors are valid until the batch after the next one is asked for."""

    step: int
    samples: np.ndarray  # int64 (b,), positions in the shards
    keys: tuple[str, ...]
    images: torch.Tensor  # uint8 (b, H, W, 3), RGB
    labels: torch.Tensor  # uint8 (b, H, W), train ids and ignore_index
    damaged: np.ndarray | None = None  # int64 (b,), the record whose place a sample took; -1: its own
    distortion: BatchDistortion | None = None  # left to do on the device, with `distort_batch`
    choice: "Choice | None" = None  # what was chosen for it before a record was read


@dataclass(frozen=True, eq=False)
class Choice:
    """What one rank's part of a step is made of; where a record is damaged, another one stands in later."""

    order: np.ndarray  # int64 (B,), the samples of the global batch
    samples: np.ndarray  # int64 (b,), this rank's slice of it
    repeats: tuple[int, ...]  # by sample: how often it came before in the global batch
    draws: tuple[Draw, ...]  # by sample


def sample_order(*, seed: int, step: int, batch_size: int, size: int) -> np.ndarray:
    """Returns int64 (batch_size,): which of `size` samples form the global batch of a step.

    Each epoch is a permutation of all samples, a function of (seed, epoch); batches are consecutive slices of the
    endless sequence of epochs: a batch may end one epoch and begin the next, and an epoch misses and repeats nothing.
    """
    places = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, within = places // size, places % size
    order = np.empty(batch_size, dtype=np.int64)
    for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
        chosen = epochs == epoch
        order[chosen] = _permutation(seed, epoch, size)[within[chosen]]
    return order


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    order = np.argsort(words(size, key=(seed, epoch), position=(0, 0), stream=ORDER_STREAM), kind="stable")
    order.setflags(write=False)
    return order


class Loader:
    """Iterates over the batches of steps `start_step` to `stop_step` - 1, this rank's slice of each global batch."""

    def __init__(
        self,
        shards: Shards,
        augmentation: Augmentation,
        *,
        batch_size: int,
        seed: int,
        stop_step: int,
        start_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
        threads: int = 2,
        prefetch: int = 3,
        pin_memory: bool | None = None,
        replace_damaged: bool = False,
        transform: str = "",
        distort_later: bool = False,
    ) -> None:
        """`batch_size` is global: over all ranks. `threads` 0 loads when asked; `prefetch` counts batches ahead.

        `pin_memory` None: pinned when CUDA is there, so that copies to the device can overlap with work. A buffer is
        refilled only after the copies that were issued from it on the current stream are done.
        `replace_damaged`: the next sound record stands in for one that fails its checks, and the batch says which; else
        the first one ends the iteration with its IntegrityError. `transform`: a function of the user's own as
        `setr.data.loading.own_transform.transform_with_hash` names it, applied last; then `threads` are processes.
        `distort_later`: photometric distortion is left to the device, unless a transform of the user's own follows.
        Raises InputError (E_CONFIG) when the global batch does not divide by the number of ranks.
        """
        if batch_size < 1 or batch_size % world_size or not 0 <= rank < world_size or threads < 0 or prefetch < 1:
            raise InputError(
                "E_CONFIG",
                "the global batch must be a positive multiple of the number of ranks",
                where="batch_size",
                found=f"batch size {batch_size}, rank {rank} of {world_size}, threads {threads}, prefetch {prefetch}",
                remedy="choose a batch size that the workers can share equally",
            )
        self.shards, self.augmentation = shards, augmentation
        self.batch_size, self.seed = batch_size, seed
        self.start_step, self.stop_step = start_step, stop_step
        self.rank, self.world_size = rank, world_size
        self.threads, self.prefetch = threads, prefetch
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self.replace_damaged = replace_damaged
        self.transform = transform
        self.distort_later = distort_later and augmentation.photometric and not transform

    def __len__(self) -> int:
        return max(0, self.stop_step - self.start_step)

    def __iter__(self) -> Iterator[Batch]:
        """Returns an iterator over the batches in order; errors of threads are raised here, naming shard, row, key.

        Leaving the iteration early stops the threads. OpenCV's own threads are turned off in this process: the
        loader's threads keep the cores busy.
        """
        cv2.setNumThreads(1)
        steps = range(self.start_step, self.stop_step)
        if not self.threads:
            return self._inline(steps)
        return self._in_processes(steps) if self.transform else self._threaded(steps)

    def choose(self, step: int) -> Choice:
        """Returns which samples this rank takes at a step, and what is drawn for each; no record is read."""
        order = sample_order(seed=self.seed, step=step, batch_size=self.batch_size, size=len(self.shards))
        count = self.batch_size // self.world_size
        first = self.rank * count
        samples = order[first : first + count]
        seen = Counter(order[:first].tolist())
        repeats, draws = [], []
        for sample in samples.tolist():  # a sample that comes twice in one batch is augmented in two ways
            repeats.append(seen[sample])
            draws.append(self.draw(sample, step, seen[sample]))
            seen[sample] += 1
        return Choice(order, samples, tuple(repeats), tuple(draws))

    def draw(self, sample: int, step: int, repeat: int) -> Draw:
        """Returns the random choices for a sample at a step."""
        return draw(self.augmentation, seed=self.seed, sample=sample, step=step, repeat=repeat)

    def batches_of(self, steps: Sequence[int]) -> Iterator[Batch]:
        """Returns an iterator over the batches of any steps, loaded when asked for, in this process and thread."""
        cv2.setNumThreads(1)
        return self._inline(steps)

    @property
    def batch_bytes(self) -> int:
        """Returns the size of this rank's part of a batch: images and labels."""
        height, width = self.augmentation.crop_size
        return self.batch_size // self.world_size * height * width * 4

    def buffers_on(self, memory: memoryview) -> "_Buffers":
        """Returns buffers for one batch on memory of `batch_bytes` that somebody else owns."""
        return _Buffers(self, memory)

    def _inline(self, steps: Sequence[int]) -> Iterator[Batch]:
        ring = itertools.cycle(_Buffers(self) for _ in range(2))
        for step, buffers in zip(steps, ring, strict=False):
            buffers.release()
            buffers.begin(step)
            buffers.fill(0, 1)
            yield buffers.batch()

    def _in_processes(self, steps: range) -> Iterator[Batch]:
        ring = itertools.cycle([_Buffers(self) for _ in range(2)])
        with TransformProcesses(self, steps) as processes:
            for buffers in processes.into(ring):
                yield buffers.batch()

    def _threaded(self, steps: range) -> Iterator[Batch]:
        upcoming = iter(steps)
        free = deque(_Buffers(self) for _ in range(min(self.prefetch + 2, len(steps))))
        pending: deque[tuple[_Buffers, list[Future[Part]]]] = deque()
        last: _Buffers | None = None
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="loader")
        try:
            while True:
                while free and (step := next(upcoming, None)) is not None:
                    buffers = free.popleft()
                    buffers.begin(step)
                    pending.append((buffers, [pool.submit(buffers.fill, n, self.threads) for n in range(self.threads)]))
                if not pending:
                    return
                buffers, parts = pending.popleft()
                for part in parts:
                    part.result()
                yield buffers.batch()
                if last is not None:
                    last.release()
                    free.append(last)
                last = buffers
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Buffers:
    """Memory for one batch, filled again and again."""

    def __init__(self, loader: Loader, memory: memoryview | None = None) -> None:
        self._loader = loader
        self._transform = load_transform(loader.transform) if loader.transform else None
        count = loader.batch_size // loader.world_size
        shape = (count, *loader.augmentation.crop_size)
        if memory is None:
            self._images = torch.empty((*shape, 3), dtype=torch.uint8, pin_memory=loader.pin_memory)
            self._labels = torch.empty(shape, dtype=torch.uint8, pin_memory=loader.pin_memory)
            self._pixels, self._ids = self._images.numpy(), self._labels.numpy()
        else:
            self._pixels, self._ids = _on(memory, shape)
            self._images, self._labels = torch.from_numpy(self._pixels), torch.from_numpy(self._ids)
        self._copied: torch.cuda.Event | None = None
        self._keys = [""] * count
        self._steps, self._extents = [Distortion()] * count, [(0, 0)] * count
        self._damaged = np.full(count, -1, dtype=np.int64)
        self._step = -1

    def begin(self, step: int) -> None:
        """Look up this rank's samples of a step."""
        self._step = step
        self._choice = self._loader.choose(step)
        self._samples = self._choice.samples.copy()
        self._repeats = list(self._choice.repeats)
        self._damaged[:] = -1

    def fill(self, first: int, stride: int) -> Part:
        """Write the samples first, first + stride, ... of the batch."""
        if self._copied is not None:
            self._copied.synchronize()
        loader = self._loader
        for slot in range(first, len(self._keys), stride):
            sample = int(self._samples[slot])
            try:
                record = self._record(slot)
                sample = int(self._samples[slot])
                self._keys[slot] = record.key
                chosen = self._choice.draws[slot]
                if self._damaged[slot] >= 0:
                    chosen = loader.draw(sample, self._step, self._repeats[slot])
                if loader.distort_later:
                    self._leave_distortion(slot, record, chosen)
                    chosen = replace(chosen, distortion=Distortion())
                augment(
                    record.image,
                    record.label,
                    loader.augmentation,
                    seed=loader.seed,
                    sample=sample,
                    step=self._step,
                    chosen=chosen,
                    out_image=self._pixels[slot],
                    out_label=self._ids[slot],
                )
                if self._transform is not None:
                    apply_transform(
                        self._transform,
                        self._pixels[slot],
                        self._ids[slot],
                        seed=loader.seed,
                        sample=sample,
                        step=self._step,
                        repeat=self._repeats[slot],
                        where=f"{record.key}, {loader.shards.where(sample)}",
                    )
            except SetrError:
                raise
            except Exception as error:
                where = loader.shards.where(sample)
                raise RuntimeError(f"step {self._step}: cannot prepare sample {sample} ({where}): {error}") from error

        places = slice(first, None, stride)
        return Part(first, stride, self._keys[places], self._samples[places].tolist(), self._damaged[places].tolist())

    def take(self, memory: memoryview, parts: list[Part]) -> None:
        """Copy the batch of the step that was begun from memory where other processes filled it."""
        if self._copied is not None:
            self._copied.synchronize()
        pixels, ids = _on(memory, self._ids.shape)
        np.copyto(self._pixels, pixels)
        np.copyto(self._ids, ids)
        for part in parts:
            places = slice(part.first, None, part.stride)
            self._keys[places], self._samples[places], self._damaged[places] = part.keys, part.samples, part.damaged

    def _record(self, slot: int) -> Record:
        """Returns the slot's record, or the one that stands in for it: which one depends on the damage alone."""
        loader, sample = self._loader, int(self._samples[slot])
        try:
            return loader.shards[sample]
        except IntegrityError:
            if not loader.replace_damaged:
                raise
            for other in (*range(sample + 1, len(loader.shards)), *range(sample)):
                with contextlib.suppress(IntegrityError):
                    record = loader.shards[other]
                    self._damaged[slot], self._samples[slot] = sample, other
                    # It may be in the batch on its own account: numbers that no other slot draws.
                    self._repeats[slot] = loader.batch_size + loader.rank * len(self._keys) + slot
                    return record
            raise

    def _leave_distortion(self, slot: int, record: Record, chosen: Draw) -> None:
        augmentation = self._loader.augmentation
        height, width = resized_size((record.label.shape[0], record.label.shape[1]), augmentation, chosen.ratio)
        self._steps[slot] = chosen.distortion
        self._extents[slot] = (min(augmentation.crop_size[0], height), min(augmentation.crop_size[1], width))

    def batch(self) -> Batch:
        return Batch(
            self._step,
            self._samples,
            tuple(self._keys),
            self._images,
            self._labels,
            damaged=self._damaged.copy(),
            distortion=BatchDistortion(tuple(self._steps), tuple(self._extents))
            if self._loader.distort_later
            else None,
            choice=self._choice,
        )

    def release(self) -> None:
        """Give the memory back for the next fill, which waits for the copies to the device that were issued so far."""
        if self._loader.pin_memory and torch.cuda.is_initialized():
            self._copied = torch.cuda.Event()
            self._copied.record()


def _on(memory: memoryview, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Returns images (*shape, 3) and labels `shape`, uint8, one after the other on the memory."""
    labels = int(np.prod(shape))
    return (
        np.frombuffer(memory, np.uint8, count=3 * labels).reshape(*shape, 3),
        np.frombuffer(memory, np.uint8, count=labels, offset=3 * labels).reshape(shape),
    )
