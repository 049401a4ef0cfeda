"""Our loader against the others: CPU time per sample, all in one run on the same images.

    python -m benchmarks.loader [--camvid FOLDER] [--size mid|own] [--rounds 5] [--ray] [--mutants 1000]

The work: CamVid enlarged to 1024x512 with sensor-like noise (or at its own 480x360), crop 384, scale 0.5 to 2, flip, in
uint8 batches of 8, by two threads (ours) or two processes (the others). One round runs every loader once, in turns; the
figures are medians over the rounds, and ratios are medians of the rounds' ratios. The gate is CPU time, of the process
and all below it; wall time is shown beside. One epoch goes before each measurement and is not counted. Peers that are
not installed are named and left out; they do not all agree with our pins, so install them into an environment apart:
pip install webdataset mosaicml-streaming lmdb "mmsegmentation==1.2.2" "mmcv-lite==2.1.0" mmengine
"""

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks import loader_peers as peers
from benchmarks.loader_facts import facts
from benchmarks.loader_peers import Work
from setr.data.loading.loader import Loader
from setr.data.loading.transforms import Augmentation
from setr.data.reading.camvid import CAMVID
from setr.data.reading.samples import Sample
from setr.data.shards import open_shards, write_shards

RAW, ENCODED = "shards, raw", "shards, JPEG"
# peer, which of our storages is compared with it, times less CPU that we aim for (None: any number above one)
AIMS: tuple[tuple[str, str, float | None], ...] = (
    ("mmsegmentation, PNG files", RAW, 15),
    ("webdataset, JPEG", RAW, 6),
    ("webdataset, PNG", RAW, 15),
    ("MDS, raw", RAW, 3),
    ("MDS, JPEG", RAW, 6),
    ("MDS, PNG", RAW, 12),
    ("webdataset, JPEG", ENCODED, 1.7),
    ("MDS, JPEG", ENCODED, 1.8),
    ("LMDB, raw", RAW, None),
    ("LMDB, JPEG", ENCODED, None),
    ("Parquet, raw", RAW, None),
    ("Parquet, JPEG", ENCODED, None),
    ("Ray Data, Parquet raw", RAW, None),
)


def main() -> None:
    """Print the tables; exit status 1 if an aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("SETR_CAMVID", "data/raw/camvid"))
    parser.add_argument("--camvid", type=Path, default=default, help="folder with train/ and trainannot/")
    parser.add_argument("--size", choices=("mid", "own"), default="mid", help="1024x512, or CamVid's 480x360")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--batches", type=int, default=40, help="batches per loader and round")
    parser.add_argument("--rounds", type=int, default=5, help="0: only what needs no peer")
    parser.add_argument(
        "--mutants", type=int, default=0, help="damaged copies of a data set to read; 1000 take a minute"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="LOADER", help='e.g. "shards, raw" "MDS, raw"')
    parser.add_argument("--ray", action="store_true", help="Ray Data too; it starts a local cluster")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="loader-benchmark-") as folder:
        work = prepare(arguments, Path(folder))
        missed = []
        if arguments.rounds:
            loaders = available(work, ray=arguments.ray, only=arguments.only)
            cost = measure(loaders, work, rounds=arguments.rounds, batches=arguments.batches)
            missed = report(cost)
        missed += report_facts(work, mutants=arguments.mutants)
    sys.exit(1 if missed else 0)


def prepare(arguments: argparse.Namespace, folder: Path) -> Work:
    """Returns the work: PNG and JPEG files of the size asked for."""
    samples = CAMVID.list_samples(arguments.camvid, "train")[: arguments.images]
    generator = np.random.default_rng(0)
    images, labels = [], []
    for number, sample in enumerate(samples):
        image, label = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (sample.image, sample.label))
        if arguments.size == "mid":
            enlarged = cv2.resize(image, (1024, 512), interpolation=cv2.INTER_CUBIC)
            image = np.clip(enlarged + generator.normal(0, 4, enlarged.shape), 0, 255).astype(np.uint8)
            label = cv2.resize(label, (1024, 512), interpolation=cv2.INTER_NEAREST)
        images.append(folder / f"{number:04d}.png")
        labels.append(folder / f"{number:04d}_label.png")
        cv2.imwrite(str(images[-1]), image)
        cv2.imwrite(str(images[-1].with_suffix(".jpg")), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
        cv2.imwrite(str(labels[-1]), label)
    augmentation = Augmentation((384, 384), cat_max_ratio=1, photometric=False)
    return Work(folder, tuple(images), tuple(labels), label.shape, augmentation, batch_size=8, processes=2)


def ours(work: Work, storage: str) -> Iterator[Any]:
    """Our shards and loader, with as many threads as the others have processes."""
    folder = work.folder / f"shards-{storage}"
    if not folder.exists():
        images = work.images if storage == "raw" else [path.with_suffix(".jpg") for path in work.images]
        samples = [Sample(i.stem, i, label) for i, label in zip(images, work.labels, strict=True)]
        write_shards(samples, CAMVID, folder, split="train", storage=storage)  # type: ignore[arg-type]
    shards = open_shards(folder)
    return iter(
        Loader(
            shards,
            work.augmentation,
            batch_size=work.batch_size,
            seed=0,
            stop_step=10**6,
            threads=work.processes,
            pin_memory=False,
        )
    )


def available(work: Work, *, ray: bool, only: Sequence[str] = ()) -> dict[str, Callable[[], Iterator[Any]]]:
    """Returns name -> loader for those that start here, of `only` if it names any; names the others and why."""
    candidates: dict[str, Callable[[], Iterator[Any]]] = {
        RAW: partial(ours, work, "raw"),
        ENCODED: partial(ours, work, "encoded"),
        "mmsegmentation, PNG files": partial(peers.mmsegmentation, work),
        "resize all then crop, PNG files": partial(peers.mmsegmentation_restated, work),
        "webdataset, JPEG": partial(peers.webdataset, work, "jpeg"),
        "webdataset, PNG": partial(peers.webdataset, work, "png"),
        "MDS, raw": partial(peers.mosaicml_streaming, work, "raw"),
        "MDS, JPEG": partial(peers.mosaicml_streaming, work, "jpeg"),
        "MDS, PNG": partial(peers.mosaicml_streaming, work, "png"),
        "LMDB, raw": partial(peers.lmdb, work, "raw"),
        "LMDB, JPEG": partial(peers.lmdb, work, "jpeg"),
        "Parquet, raw": partial(peers.parquet, work, "raw"),
        "Parquet, JPEG": partial(peers.parquet, work, "jpeg"),
    }
    if ray:
        candidates["Ray Data, Parquet raw"] = partial(peers.ray_data, work, "raw")
    loaders = {}
    for name, start in candidates.items():
        if only and name not in only:
            continue
        try:
            next(start())  # writes the peer's files, too
        except ImportError as error:
            print(f"left out: {name} ({error})")
        else:
            loaders[name] = start
    return loaders


def measure(
    loaders: dict[str, Callable[[], Iterator[Any]]], work: Work, *, rounds: int, batches: int
) -> dict[str, list[tuple[float, float]]]:
    """Returns name -> (CPU, wall) milliseconds per sample of each round, after one epoch that is not counted."""
    epoch = -(-len(work.images) // work.batch_size)
    cost: dict[str, list[tuple[float, float]]] = {name: [] for name in loaders}
    names = list(loaders)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            with contextlib.closing(_Stoppable(loaders[name]())) as batch:
                for _ in range(epoch):
                    next(batch)
                cpu, wall = cpu_seconds(), time.perf_counter()
                for _ in range(batches):
                    next(batch)
                samples = batches * work.batch_size / 1e3
                cost[name].append(((cpu_seconds() - cpu) / samples, (time.perf_counter() - wall) / samples))
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return cost


class _Stoppable:
    """An iterator that ends its threads and processes when it is closed."""

    def __init__(self, iterator: Iterator[Any]) -> None:
        self.iterator: Iterator[Any] | None = iterator

    def __next__(self) -> Any:
        assert self.iterator is not None
        return next(self.iterator)

    def close(self) -> None:
        self.iterator = None  # generators and DataLoader iterators clean up when they are collected


def cpu_seconds() -> float:
    """Returns the CPU time that this process and those below it, alive now, have used so far."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
                used[int(entry.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    below = 0.0
    for process in parents:
        ancestor = parents[process]
        while ancestor not in (0, os.getpid()):
            ancestor = parents.get(ancestor, 0)
        below += used[process] if ancestor == os.getpid() else 0.0
    return time.process_time() + below


def report(cost: dict[str, list[tuple[float, float]]]) -> list[str]:
    """Print costs and ratios as Markdown; returns the aims that were missed."""
    print("\n| loader | CPU ms a sample | wall ms a sample |\n|---|---|---|")
    for name, rounds in cost.items():
        cpu, wall = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"| {name} | {cpu:.2f} | {wall:.2f} |")
    print("\n| against | ours | times less CPU | aim |\n|---|---|---|---|")
    missed = []
    for peer, mine, aim in AIMS:
        if peer not in cost or mine not in cost:
            continue
        ratio = statistics.median(theirs[0] / own[0] for theirs, own in zip(cost[peer], cost[mine], strict=True))
        if ratio < (aim or 1):
            missed.append(f"{peer} against {mine}")
        print(f"| {peer} | {mine} | {ratio:.1f} | {'ahead' if aim is None else f'at least {aim}'} |")
    print(f"\nmissed: {', '.join(missed) or 'none'}")
    return missed


def report_facts(work: Work, *, mutants: int) -> list[str]:
    """Print the rows that need no peer as Markdown, as they are found; returns the aims that were missed."""
    print("\n| what | found | aim |\n|---|---|---|")
    missed = []
    for fact in facts(work, mutants=mutants):
        print(f"| {fact.what} | {fact.found} | {fact.aim} |", flush=True)
        missed += [] if fact.met else [fact.what]
    print(f"\nmissed: {', '.join(missed) or 'none'}")
    return missed


if __name__ == "__main__":
    main()
