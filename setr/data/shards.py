"""A prepared data set: a folder of Arrow shards that is read by position, and the writer that makes it.

    manifest.json          what the folder holds; written last, so without it there is no data set
    00000.arrow ...        rows: key, height, width, source hash, label, image
    00000.index.json ...   positions and checksums of the shard's rows; written after their shard

The order of rows is the order of the samples. The same samples give the same bytes, whatever the number of processes
and however often the build was cut off: a shard with its index is kept when its sources still have the same hashes.
"""

import bisect
import os
import resource
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal, overload

import numpy as np

from setr.data.manifest import MANIFEST_NAME, Manifest, read_manifest
from setr.data.row_bytes import unpack_image, unpack_label
from setr.data.shard_file import ShardFile
from setr.data.shard_index import DAMAGED, missing_file, shard_sha256, wrong_size
from setr.data.shard_writer import write_shards
from setr.errors import IntegrityError

__all__ = ["Record", "Shards", "open_shards", "write_shards"]

Verify = Literal["read", "open", "none"]


@dataclass(frozen=True, eq=False)
class Record:
    """One sample: image uint8 (H, W, 3) RGB and label uint8 (H, W) of train ids; read-only views for raw storage."""

    key: str
    image: np.ndarray
    label: np.ndarray
    source_hash: str


class Shards(Sequence[Record]):
    """The records of a prepared split by position. Safe to share between threads; picklable: it opens itself anew."""

    def __init__(self, folder: Path, *, verify: Verify = "read") -> None:
        """Read the manifest and compare names and sizes of the files; see `open_shards`."""
        self.folder = Path(folder)
        self.manifest, self.manifest_hash = read_manifest(self.folder)
        self._verify = verify
        self._ends = list(accumulate(entry.rows for entry in self.manifest.shards))
        self._checked = np.zeros(self.manifest.rows, dtype=bool)
        self._opened: OrderedDict[int, ShardFile] = OrderedDict()
        self._lock = threading.Lock()
        # Each mapped file keeps a descriptor: leave most of the process's allowance to others.
        self._max_opened = max(8, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        _check_files(self.folder, self.manifest)
        if verify == "open":
            self.verify()

    def __len__(self) -> int:
        return self.manifest.rows

    @overload
    def __getitem__(self, position: int) -> Record: ...
    @overload
    def __getitem__(self, position: slice) -> list[Record]: ...
    def __getitem__(self, position: int | slice) -> Record | list[Record]:
        """Returns a record (a list for a slice); raises IntegrityError (E_SHARD_*) naming shard, row and key."""
        if isinstance(position, slice):
            return [self[number] for number in range(*position.indices(len(self)))]
        shard, row = self._locate(position)
        file = self._open(shard)
        stored = file.read(row)
        size, storage = (stored.height, stored.width), self.manifest.storage
        try:
            image = unpack_image(stored.image, size, storage=storage)
            label = unpack_label(stored.label, size, storage=storage)
        except ValueError as error:
            raise file.invalid(row, error) from error
        return Record(stored.key, image, label, stored.source_hash)

    def __iter__(self) -> Iterator[Record]:
        return (self[position] for position in range(len(self)))

    def __reduce__(self) -> tuple[object, ...]:
        return _reopen, (self.folder, self._verify, self.manifest_hash)

    def where(self, position: int) -> str:
        """Returns the place of a record in words: shard file, row."""
        shard, row = self._locate(position)
        return f"{self.folder / self.manifest.shards[shard].file} row {row}"

    def verify(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Compare every byte with the manifest, else raise IntegrityError; `progress` gets (rows done, rows)."""
        for shard, entry in enumerate(self.manifest.shards):
            found = shard_sha256(self.folder / entry.file)
            if found != entry.sha256:
                self._name_damaged_record(shard)
                raise IntegrityError(
                    "E_SHARD_HASH",
                    "SHA-256 of the shard differs from the manifest's",
                    where=self.folder / entry.file,
                    found=found,
                    expected=entry.sha256,
                    remedy=DAMAGED,
                )
            for position in range(self._ends[shard] - entry.rows, self._ends[shard]):
                self[position]
            if progress is not None:
                progress(self._ends[shard], len(self))

    def close(self) -> None:
        """Forget the mapped files; arrays that were handed out stay valid, and reading maps the files again."""
        with self._lock:
            self._opened.clear()

    def _locate(self, position: int) -> tuple[int, int]:
        """Returns (shard, row within it) of a position; negative ones count from the end."""
        wanted = position + len(self) if position < 0 else position
        if not 0 <= wanted < len(self):
            raise IndexError(f"record {position} of {len(self)}")
        shard = bisect.bisect_right(self._ends, wanted)
        return shard, wanted - (self._ends[shard] - self.manifest.shards[shard].rows)

    def _open(self, shard: int) -> ShardFile:
        """Returns the mapped shard; those used longest ago are let go when there are many."""
        with self._lock:
            file = self._opened.get(shard)
            if file is not None:
                self._opened.move_to_end(shard)
                return file
            entry = self.manifest.shards[shard]
            checked = self._checked[self._ends[shard] - entry.rows : self._ends[shard]]
            file = ShardFile(
                self.folder,
                entry,
                storage=self.manifest.storage,
                checked=None if self._verify == "none" else checked,
            )
            self._opened[shard] = file
            if len(self._opened) > self._max_opened:
                self._opened.popitem(last=False)
            return file

    def _name_damaged_record(self, shard: int) -> None:
        """Raise the more telling error of a record, if one of the shard's records is what is damaged."""
        entry = self.manifest.shards[shard]
        file = ShardFile(self.folder, entry, storage=self.manifest.storage, checked=np.zeros(entry.rows, dtype=bool))
        for row in range(entry.rows):
            file.read(row)


def open_shards(folder: Path | str, *, verify: Verify = "read", manifest_hash: str | None = None) -> Shards:
    """Returns the data set in a folder that `write_shards` made.

    Opening reads the manifest and compares names and sizes of the files. `verify` says when contents are compared with
    it: "read" (each record when it is first read), "open" (every byte now), "none" (never; only positions).
    Raises InputError or IntegrityError: E_MANIFEST, E_SHARD_MISSING, E_SHARD_EXTRA, E_SHARD_SIZE, with `manifest_hash`
    also when this is another data set than that hash says, and for "open" all that reading raises.
    """
    shards = Shards(Path(folder), verify=verify)
    if manifest_hash is not None and manifest_hash != shards.manifest_hash:
        raise IntegrityError(
            "E_MANIFEST",
            "this is another data set than the one asked for",
            where=shards.folder / MANIFEST_NAME,
            found=shards.manifest_hash,
            expected=manifest_hash,
            remedy="prepare the data with the same sources and settings",
        )
    return shards


def _reopen(folder: Path, verify: Verify, manifest_hash: str) -> Shards:
    return open_shards(folder, verify=verify, manifest_hash=manifest_hash)


def _check_files(folder: Path, manifest: Manifest) -> None:
    """Raise E_SHARD_MISSING, E_SHARD_EXTRA or E_SHARD_SIZE unless the files are those of the manifest."""
    expected = {entry.file: entry.bytes for entry in manifest.shards}
    indexes = {entry.index_file for entry in manifest.shards}
    with os.scandir(folder) as entries:
        found = {entry.name: entry for entry in entries if entry.name.endswith((".arrow", ".index.json"))}
    for name in [*expected, *sorted(indexes)]:
        if name not in found:
            raise missing_file(folder / name, FileNotFoundError(2, "No such file or directory"))
    extra = sorted(set(found) - expected.keys() - indexes)
    if extra:
        raise IntegrityError(
            "E_SHARD_EXTRA",
            "a shard that the manifest does not name",
            where=folder / extra[0],
            found=f"{len(extra)} more than the manifest's {len(expected)} shards",
            remedy="remove it, or prepare the data again",
        )
    for name, size in expected.items():
        try:
            status = found[name].stat()
        except OSError as error:
            raise missing_file(folder / name, error) from error
        if status.st_size != size:
            raise wrong_size(folder / name, status.st_size, size)
