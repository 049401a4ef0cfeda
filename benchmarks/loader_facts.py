"""What the loader and its shards hold themselves to besides speed against peers: each a printed row with its aim."""

import dataclasses
import multiprocessing
import os
import random
import resource
import shutil
import statistics
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.loader_peers import Work
from setr.data.loading.loader import sample_order
from setr.data.loading.transforms import Augmentation, augment, draw, resized_size
from setr.data.manifest import Manifest, write_manifest
from setr.data.reading.camvid import CAMVID
from setr.data.reading.images import read_image, read_label, read_sample
from setr.data.reading.samples import Sample
from setr.data.shards import open_shards, write_shards
from setr.errors import SetrError

OPEN_ROWS, ROWS_PER_SHARD = 100_000, 64
BUILD_COPIES = 4  # the images are built this often over, so that the start of processes counts little
BUILD_ROUNDS = 5  # of which the median counts


@dataclass(frozen=True)
class Fact:
    """One row."""

    what: str
    found: str
    aim: str
    met: bool


def facts(work: Work, *, mutants: int) -> Iterator[Fact]:
    """Yields the rows; `mutants` 0 leaves out the damaged shards, which take the longest."""
    yield near_duplicates()
    yield whole_epochs()
    yield pixels(work)
    yield build(work)
    yield opening(work)
    if mutants:
        yield damaged_shards(work, mutants)


def near_duplicates(size: int = 2975, batch_size: int = 8, steps: int = 3000, run: int = 16) -> Fact:
    """Pairs of a batch from the same 16 consecutive frames, against independent draws."""
    together = 0
    for step in range(steps):
        runs = sample_order(seed=0, step=step, batch_size=batch_size, size=size) // run
        together += sum(n * (n - 1) // 2 for n in Counter(runs.tolist()).values())
    ratio = together / (steps * batch_size * (batch_size - 1) / 2) / (run / size)
    return Fact("near-duplicate pairs in a batch, times uniform draws", f"{ratio:.2f}", "at most 1.3", ratio <= 1.3)


def whole_epochs(size: int = 2975, batch_size: int = 8, epochs: int = 3) -> Fact:
    """Samples that an epoch misses or repeats, over whole epochs of the endless order."""
    steps = -(-epochs * size // batch_size)
    order = np.concatenate([sample_order(seed=0, step=step, batch_size=batch_size, size=size) for step in range(steps)])
    counts = [np.bincount(order[n * size : (n + 1) * size], minlength=size) for n in range(epochs)]
    wrong = sum(int((count != 1).sum()) for count in counts)
    return Fact(f"samples missed or repeated in {epochs} epochs of {size}", str(wrong), "0", wrong == 0)


def pixels(work: Work) -> Fact:
    """Mean difference of our crops from OpenCV's resize of the whole image followed by the crop."""
    augmentation = dataclasses.replace(work.augmentation, flip_probability=0.0)
    assert isinstance(augmentation, Augmentation)
    height, width = augmentation.crop_size
    differences, labels_equal = [], True
    for number, sample in enumerate(_samples(work)[:40]):
        image, label = read_sample(sample, CAMVID)
        assert label is not None
        chosen = draw(augmentation, seed=0, sample=number, step=0)
        found, found_label = augment(image, label, augmentation, seed=0, sample=number, step=0)
        rows, columns = resized_size((label.shape[0], label.shape[1]), augmentation, chosen.ratio)
        part = (min(height, rows), min(width, columns))
        top, left = (
            int(share * (n - m + 1)) for share, n, m in zip(chosen.offsets[0], (rows, columns), part, strict=True)
        )
        window = slice(top, top + part[0]), slice(left, left + part[1])
        whole = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR)[window]
        whole_label = cv2.resize(label, (columns, rows), interpolation=cv2.INTER_NEAREST)[window]
        differences.append(np.abs(found[: part[0], : part[1]].astype(int) - whole).mean())
        labels_equal &= bool((found_label[: part[0], : part[1]] == whole_label).all())
    mean = statistics.fmean(differences)
    text = f"{mean:.3f} levels, labels {'identical' if labels_equal else 'differ'}"
    return Fact("pixels against resize-then-crop", text, "at most 0.2, identical", mean <= 0.2 and labels_equal)


def build(work: Work) -> Fact:
    """CPU time to decode every image and label once, over that of building the shards from them."""
    samples = [
        dataclasses.replace(sample, key=f"{copy}/{sample.key}")
        for copy in range(BUILD_COPIES)
        for sample in _samples(work)
    ]
    few, workers = samples[: 2 * work.processes], work.processes
    folder = work.folder / "build"

    def write(chosen: list[Sample]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        rows = max(1, len(chosen) // (4 * workers))
        write_shards(chosen, CAMVID, folder, split="train", rows_per_shard=rows, workers=workers)

    more, rounds = len(samples) - len(few), []
    for _ in range(BUILD_ROUNDS):
        # What more samples cost, so that the start of the processes is in neither figure.
        decode = [_cpu(lambda chosen=chosen: _decode_all(chosen, workers)) for chosen in (few, samples)]
        built = [_cpu(lambda chosen=chosen: write(chosen)) for chosen in (few, samples)]
        rounds.append([*((large[0] - small[0]) / more * 1e3 for small, large in (decode, built)), built[1][1]])
    limit, cost, wall = (statistics.median(column) for column in zip(*rounds, strict=True))
    share = statistics.median(one[0] / one[1] for one in rounds)
    busy = cost * len(samples) / 1e3 / (wall * workers)
    text = (
        f"{share:.2f} ({cost:.1f} ms of CPU an image, decoding alone {limit:.1f}; "
        f"{len(samples) / wall:.0f} images/s of wall time, {busy:.0%} of {workers} cores)"
    )
    return Fact("build, as a share of the decode limit", text, "at least 0.8", share >= 0.8)


def opening(work: Work) -> Fact:
    """Time and memory to open a data set of 100,000 rows, of which only names and sizes exist."""
    folder = work.folder / "open"
    folder.mkdir()
    one = write_shards(_samples(work)[:1], CAMVID, work.folder / "open-one", split="train", workers=1)
    _pretend(one, folder)
    seconds = []
    for _ in range(7):
        began = time.process_time()
        shards = open_shards(folder)
        seconds.append(time.process_time() - began)
        assert len(shards) == OPEN_ROWS
    tracemalloc.start()
    shards = open_shards(folder)
    kept = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    text = f"{statistics.median(seconds) * 1e3:.0f} ms, {kept:.1f} MB ({len(shards.manifest.shards)} shards)"
    return Fact(f"open {OPEN_ROWS} rows", text, "under 50 ms", statistics.median(seconds) < 0.05)


def damaged_shards(work: Work, count: int) -> Fact:
    """Mutated data sets, each read whole in another process: what was not noticed, and whether it crashed."""
    good = work.folder / "good"
    write_shards(_samples(work)[:6], CAMVID, good, split="train", rows_per_shard=3, workers=1)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        changed, silent = pool.submit(_read_mutants, good, work.folder / "mutant", count).result()
    return Fact(f"{changed} damaged data sets, not noticed", f"{silent}, 0 crashes", "0", silent == 0)


def _pretend(one: Manifest, folder: Path) -> None:
    entries = []
    for number in range(-(-OPEN_ROWS // ROWS_PER_SHARD)):
        entry = dataclasses.replace(one.shards[0], file=f"{number:05d}.arrow", bytes=1000)
        with (folder / entry.file).open("wb") as file:
            file.truncate(1000)
        (folder / entry.index_file).touch()
        entries.append(dataclasses.replace(entry, rows=min(ROWS_PER_SHARD, OPEN_ROWS - number * ROWS_PER_SHARD)))
    write_manifest(folder, dataclasses.replace(one, rows=OPEN_ROWS, shards=tuple(entries)))


def _read_mutants(good: Path, place: Path, count: int) -> tuple[int, int]:
    """Returns how many data sets differed from the good one, and how many of those were read without an error."""
    generator = random.Random(0)
    names = sorted(path.name for path in good.iterdir())
    changed = silent = 0
    for _ in range(count):
        shutil.copytree(good, place)
        path = place / generator.choice(names)
        data = path.read_bytes()
        mutant = _mutant(data, generator)
        path.unlink()
        path.write_bytes(mutant)
        if mutant != data:
            changed += 1
            try:
                for record in open_shards(place):
                    record.image.sum()
            except SetrError:
                pass
            else:
                silent += 1
        shutil.rmtree(place)
    return changed, silent


def _mutant(data: bytes, generator: random.Random) -> bytes:
    kind = generator.choice(("flip", "footer", "zeros", "cut", "append", "swap"))
    if kind == "cut":
        return data[: generator.randrange(len(data))]
    if kind == "append":
        return data + b"x"
    if kind == "swap":
        half = len(data) // 2
        return data[half : 2 * half] + data[:half] + data[2 * half :]
    if kind == "zeros":
        start = generator.randrange(0, len(data), 4096)
        return data[:start] + bytes(len(data[start : start + 4096])) + data[start + 4096 :]
    position = (
        generator.randrange(len(data)) if kind == "flip" else len(data) - 1 - generator.randrange(min(400, len(data)))
    )
    return data[:position] + bytes([data[position] ^ (1 << generator.randrange(8))]) + data[position + 1 :]


def _samples(work: Work) -> list[Sample]:
    return [Sample(image.stem, image, label) for image, label in zip(work.images, work.labels, strict=True)]


def _decode_all(samples: list[Sample], workers: int) -> None:
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for _ in pool.map(_decode, samples, chunksize=2):
            pass


def _decode(sample: Sample) -> None:
    read_image(sample.image)
    assert sample.label is not None
    read_label(sample.label, CAMVID)


def _cpu(work: object) -> tuple[float, float]:
    """Returns the CPU seconds of this process and of those that it started and that ended, and the wall seconds."""
    began, wall = _used(), time.perf_counter()
    work()  # type: ignore[operator]
    return _used() - began, time.perf_counter() - wall


def _used() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = os.times()
    return own.user + own.system + ended.ru_utime + ended.ru_stime
