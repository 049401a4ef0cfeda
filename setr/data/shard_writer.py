"""The build of a folder of shards: in parallel over processes, resumable, with the same bytes every time."""

import concurrent.futures
import contextlib
import hashlib
import multiprocessing
import os
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from setr.data.loading.worker_process import begin_worker
from setr.data.manifest import (
    MANIFEST_NAME,
    SCHEMA_VERSION,
    STORAGES,
    Manifest,
    ShardEntry,
    Storage,
    read_manifest,
    shard_name,
    write_manifest,
)
from setr.data.reading.image_file import read_header
from setr.data.reading.images import check_same_size, hash_sources, parse_raw_label, source_hash, to_train_ids
from setr.data.reading.samples import Dataset, Sample
from setr.data.reading.sources import read_bytes
from setr.data.row_bytes import pack_image, pack_label
from setr.data.shard_file import StoredRow, write_shard
from setr.data.shard_index import ShardIndex, index_path, read_index, shard_sha256
from setr.errors import EnvironmentFailure, InputError, IntegrityError, SetrError
from setr.files.atomic import TEMPORARY_SUFFIX, make_folder, storage_failure, sync_folder
from setr.files.locking import lock
from setr.files.signed_json import dumps_signed

Progress = Callable[[int, int], None]

_OURS = re.compile(r"[0-9]{5,}\.(arrow|index\.json)")
_TEMPORARY = re.compile(rf"\..*\.[0-9]+{re.escape(TEMPORARY_SUFFIX)}")


@dataclass(frozen=True)
class _Job:
    """What one shard is made of; picklable."""

    path: Path
    samples: tuple[Sample, ...]
    dataset: Dataset
    storage: Storage


@dataclass(frozen=True)
class _Failure:
    """An error of a worker process, in parts that travel between processes."""

    kind: type[SetrError]
    code: str
    text: str


def write_shards(
    samples: Sequence[Sample],
    dataset: Dataset,
    folder: Path | str,
    *,
    split: str,
    storage: Storage = "raw",
    rows_per_shard: int = 64,
    workers: int = 0,
    progress: Progress | None = None,
) -> Manifest:
    """Returns the manifest of the shards that it writes into `folder` from the samples, in their order.

    `workers` processes read and write (0: one per core; 1: this process); `progress` gets (rows done, rows) after each
    shard. Run again after whatever cut it off, it keeps the finished shards that still fit their sources.
    Raises InputError for bad samples, naming the file (E_IMAGE_*, E_LABEL_*, E_SIZE_MISMATCH, E_DUP_KEY, E_DATA_EMPTY),
    EnvironmentFailure for disk and processes (E_STORAGE, E_BUSY, E_WORKER); then there is no manifest.
    """
    folder = Path(folder)
    _check_arguments(samples, dataset, split, storage, rows_per_shard)
    make_folder(folder)
    jobs = [
        _Job(folder / shard_name(number), tuple(samples[start : start + rows_per_shard]), dataset, storage)
        for number, start in enumerate(range(0, len(samples), rows_per_shard))
    ]
    with _only_builder(folder):
        _clean(folder, jobs)
        indexes = _build(jobs, workers or len(os.sched_getaffinity(0)), progress)
        manifest = _summarise(jobs, indexes, split=split)
        with contextlib.suppress(SetrError):
            if read_manifest(folder)[0] == manifest:
                return manifest
        write_manifest(folder, manifest)
    return manifest


def _check_arguments(
    samples: Sequence[Sample], dataset: Dataset, split: str, storage: Storage, rows_per_shard: int
) -> None:
    where = f"{dataset.name}/{split}"
    if storage not in STORAGES:
        raise InputError("E_STORAGE_KIND", "unknown storage", found=storage, expected=" or ".join(STORAGES))
    if rows_per_shard < 1:
        raise InputError("E_CONFIG", "rows_per_shard must be at least 1", found=rows_per_shard)
    if not samples:
        raise InputError("E_DATA_EMPTY", "no samples to prepare", where=where, remedy="check data.root and the split")
    (commonest, times), *_ = Counter(sample.key for sample in samples).most_common(1)
    if times > 1:
        raise InputError("E_DUP_KEY", "samples have the same key", where=where, found=f"{times} times {commonest}")
    unlabelled = sum(sample.label is None for sample in samples)
    if unlabelled not in (0, len(samples)):
        raise InputError(
            "E_PAIR_MISSING", "some samples have a label and some have none", where=where, found=f"{unlabelled} without"
        )


@contextlib.contextmanager
def _only_builder(folder: Path) -> Iterator[None]:
    """Holds the folder's lock; the kernel drops it with the process, so no stale lock can remain."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise storage_failure(folder, error) from error
    try:
        held = None
        with contextlib.suppress(OSError):  # without locks two builders write the same bytes, aside
            held = lock(descriptor)
        if held is False:
            raise EnvironmentFailure(
                "E_BUSY", "another process is writing these shards", where=folder, remedy="wait for it, or stop it"
            )
        yield
    finally:
        os.close(descriptor)


def _clean(folder: Path, jobs: Sequence[_Job]) -> None:
    """Remove what earlier builds left: temporary files, and shards beyond those of this one."""
    wanted = {path.name for job in jobs for path in (job.path, index_path(job.path))}
    try:
        for path in folder.iterdir():
            if _TEMPORARY.fullmatch(path.name) or (_OURS.fullmatch(path.name) and path.name not in wanted):
                (folder / MANIFEST_NAME).unlink(missing_ok=True)
                path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_failure(folder, error) from error


def _build(jobs: Sequence[_Job], workers: int, progress: Progress | None) -> list[ShardIndex]:
    """Returns the index of each job's shard, in order."""
    rows, done = sum(len(job.samples) for job in jobs), 0
    indexes: dict[int, ShardIndex] = {}
    with contextlib.closing(_results(jobs, min(workers, len(jobs)))) as results:
        for number, result in results:
            if isinstance(result, _Failure):
                raise result.kind(result.code, result.text)
            indexes[number] = result
            done += len(jobs[number].samples)
            if progress is not None:
                progress(done, rows)
    return [indexes[number] for number in range(len(jobs))]


def _results(jobs: Sequence[_Job], workers: int) -> Generator[tuple[int, ShardIndex | _Failure], None, None]:
    """Yields (number, result) of each job as it ends; what has not begun is given up when the caller stops."""
    if workers <= 1:
        yield from ((number, _run(job)) for number, job in enumerate(jobs))
        return
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=begin_worker
    )
    try:
        futures = {pool.submit(_run, job): number for number, job in enumerate(jobs)}
        for future in concurrent.futures.as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise EnvironmentFailure(
            "E_WORKER",
            "a process that writes shards died: killed, or out of memory",
            where=jobs[0].path.parent,
            remedy="set fewer data.workers; run again, finished shards are kept",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _run(job: _Job) -> ShardIndex | _Failure:
    try:
        return _finished(job) or _write(job)
    except SetrError as error:
        return _Failure(type(error), error.code, str(error).removeprefix(f"{error.code} | "))


def _finished(job: _Job) -> ShardIndex | None:
    """Returns the index of the job's shard if it lies there whole and its sources are what they were."""
    try:
        index = read_index(index_path(job.path))
        whole = index.settings == _settings(job) and index.keys == tuple(sample.key for sample in job.samples)
        if not whole or job.path.stat().st_size != index.bytes or shard_sha256(job.path) != index.sha256:
            return None
    except (IntegrityError, OSError):
        return None
    return index if index.source_hashes == tuple(source_hash(sample) for sample in job.samples) else None


def _write(job: _Job) -> ShardIndex:
    """Returns the index of the shard that it writes; the manifest and the old index go first, they no longer hold."""
    try:
        for stale in (job.path.with_name(MANIFEST_NAME), index_path(job.path)):
            stale.unlink(missing_ok=True)
        sync_folder(job.path.parent)
    except OSError as error:
        raise storage_failure(job.path, error) from error
    rows = (_row(sample, job) for sample in job.samples)
    return write_shard(job.path, rows, storage=job.storage, settings=_settings(job))


def _row(sample: Sample, job: _Job) -> tuple[StoredRow, np.ndarray]:
    """Returns a sample as it is stored, and the histogram (256,) of its label."""
    dataset = job.dataset
    image_data = read_bytes(sample.image)
    label_data = None if sample.label is None else read_bytes(sample.label)
    image, size = pack_image(image_data, storage=job.storage, where=sample.image)
    if sample.label is None or label_data is None:
        label = np.full(size, dataset.ignore_index, dtype=np.uint8)
    else:
        label = to_train_ids(parse_raw_label(label_data, sample.label, dataset), dataset, sample.label)
        check_same_size(np.empty((*size, 0)), label, sample)
    row = StoredRow(
        key=sample.key,
        height=size[0],
        width=size[1],
        source_hash=hash_sources(image_data, label_data),
        label=pack_label(label, storage=job.storage),
        image=image,
    )
    return row, _histogram(label)


def _histogram(label: np.ndarray) -> np.ndarray:
    """Returns the pixels of each value, int64 (256,); OpenCV counts faster, in float32, which is exact up to 2**24."""
    if label.size < 2**24:
        return cv2.calcHist([label], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    return np.bincount(label.ravel(), minlength=256)


def _settings(job: _Job) -> str:
    """Returns the hash of all that decides a shard's bytes besides its samples."""
    dataset = job.dataset
    decisive: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "storage": job.storage,
        "classes": len(dataset.classes),
        "ignore_index": dataset.ignore_index,
        "label_map": dataset.label_map,
        "wide_label_map": dataset.wide_label_map,
        "color_labels": dataset.palette if dataset.color_labels else None,
    }
    if dataset.read_colors is not None and any(not _is_rgb(sample) for sample in job.samples):
        decisive["colors_of"] = "file"  # once their indices were taken: such shards are written anew
    return hashlib.sha256(dumps_signed(decisive)).hexdigest()


def _is_rgb(sample: Sample) -> bool:
    return sample.label is None or read_header(read_bytes(sample.label), sample.label).kind == "RGB"


def _summarise(jobs: Sequence[_Job], indexes: Sequence[ShardIndex], *, split: str) -> Manifest:
    dataset = jobs[0].dataset
    fingerprint = hashlib.sha256()
    for index in indexes:
        for key, digest in zip(index.keys, index.source_hashes, strict=True):
            fingerprint.update(f"{digest} {key}\n".encode())
    histogram = np.sum([index.histogram for index in indexes], axis=0).tolist()
    classes = len(dataset.classes)
    return Manifest(
        schema_version=SCHEMA_VERSION,
        dataset=dataset.name,
        split=split,
        classes=dataset.classes,
        palette=dataset.palette,
        ignore_index=dataset.ignore_index,
        storage=jobs[0].storage,
        labelled=jobs[0].samples[0].label is not None,
        rows=sum(len(index.keys) for index in indexes),
        class_histogram=tuple(histogram[:classes]),
        ignored_pixels=sum(histogram[classes:]),
        source_fingerprint=fingerprint.hexdigest(),
        shards=tuple(
            ShardEntry(
                file=job.path.name,
                rows=len(index.keys),
                bytes=index.bytes,
                sha256=index.sha256,
                index_sha256=shard_sha256(index_path(job.path)),
            )
            for job, index in zip(jobs, indexes, strict=True)
        ),
    )
