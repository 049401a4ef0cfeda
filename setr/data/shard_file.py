"""One shard: an Arrow IPC file with one record batch per image, and the index that makes it safe to map.

Arrow files carry no checksums, and Arrow's reader can crash on damaged metadata. So nothing of a file reaches Arrow
before it was compared: the frame (head with the schema, tail with the footer) by SHA-256 when the shard is opened, each
block (one record batch, all its fields) by CRC-32 when it is first read. The index beside the file holds both.
"""

import hashlib
import mmap
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from setr.data.manifest import SCHEMA_VERSION, ShardEntry, Storage
from setr.data.row_bytes import Payload
from setr.data.shard_index import DAMAGED, ShardIndex, missing_file, read_index, write_index, wrong_size
from setr.errors import IntegrityError
from setr.files.atomic import new_file

_MAGIC = b"ARROW1\x00\x00"
_VERSION_KEY, _STORAGE_KEY = b"setr.schema_version", b"setr.storage"
_EXTENSION_KEY = b"ARROW:extension"


@dataclass(frozen=True, eq=False)
class StoredRow:
    """One image with its label as stored; payloads are bytes or arrays when written, Arrow buffers when read."""

    key: str
    height: int  # pixels
    width: int  # pixels
    source_hash: str
    label: Payload | pa.Buffer
    image: Payload | pa.Buffer


def shard_schema(storage: Storage) -> pa.Schema:
    """Returns the Arrow schema of a shard; plain types only."""
    types = {
        "key": pa.string(),
        "height": pa.int32(),
        "width": pa.int32(),
        "source_hash": pa.string(),
        "label": pa.large_binary(),
        "image": pa.large_binary(),
    }
    return pa.schema(
        [pa.field(name, kind, nullable=False) for name, kind in types.items()],
        metadata={_VERSION_KEY: str(SCHEMA_VERSION).encode(), _STORAGE_KEY: storage.encode()},
    )


def write_shard(
    path: Path, rows: Iterable[tuple[StoredRow, np.ndarray]], *, storage: Storage, settings: str
) -> ShardIndex:
    """Write one shard and its index from (row, histogram of its label) pairs; returns the index.

    The same rows give the same bytes. Raises EnvironmentFailure (E_STORAGE); nothing half-written stays.
    """
    schema = shard_schema(storage)
    histogram = np.zeros(256, dtype=np.int64)
    keys, source_hashes = [], []
    with new_file(path) as file:
        sink = _Sink(file, head_bytes=len(_MAGIC) + schema.serialize().size)
        writer = pa.ipc.new_file(pa.PythonFile(sink, mode="w"), schema)
        for row, counts in rows:
            writer.write_batch(_batch(row, schema))
            sink.end_block()
            histogram += counts
            keys.append(row.key)
            source_hashes.append(row.source_hash)
        sink.start_tail()
        writer.close()
    index = ShardIndex(
        settings=settings,
        bytes=sink.position,
        sha256=sink.whole.hexdigest(),
        frame_sha256=sink.frame.hexdigest(),
        offsets=tuple(sink.offsets),
        checksums=tuple(sink.checksums),
        keys=tuple(keys),
        source_hashes=tuple(source_hashes),
        histogram=tuple(histogram.tolist()),
    )
    write_index(path, index)
    return index


class ShardFile:
    """A mapped shard; blocks are read without a copy, and compared with the index when they are read first."""

    def __init__(self, folder: Path, entry: ShardEntry, *, storage: Storage, checked: np.ndarray | None) -> None:
        """Map the file after comparing size and frame; `checked` bool (rows,) remembers compared blocks, None: never.

        Raises IntegrityError: E_SHARD_MISSING, E_SHARD_INDEX, E_SHARD_SIZE, E_SHARD_HASH, E_SHARD_TYPE,
        E_SHARD_VERSION, E_SHARD_SCHEMA.
        """
        self.path = folder / entry.file
        self.index = read_index(folder / entry.index_file, sha256=entry.index_sha256)
        self._checked = checked
        if (len(self.index.keys), self.index.bytes, self.index.sha256) != (entry.rows, entry.bytes, entry.sha256):
            raise IntegrityError("E_SHARD_INDEX", "index and manifest disagree", where=self.path, remedy=DAMAGED)
        self._map = _map_file(self.path, entry.bytes)
        self._buffer = pa.py_buffer(self._map)
        self._schema = self._check_frame(storage)
        self._layouts = np.zeros((entry.rows, 6), dtype=np.int64)  # what _inspect found; height 0: not yet read

    def read(self, row: int) -> StoredRow:
        """Returns one row, its payloads as views on the mapped file.

        Raises IntegrityError: E_SHARD_RECORD (bytes differ from what was written), E_SHARD_INVALID.
        """
        layout = self._layouts[row]
        if layout[0] == 0:
            layout[:] = self._inspect(row)
        height, width, *places = layout.tolist()
        label, image = (self._buffer.slice(*places[:2]), self._buffer.slice(*places[2:]))
        return StoredRow(self.index.keys[row], height, width, self.index.source_hashes[row], label, image)

    def _inspect(self, row: int) -> tuple[int, int, int, int, int, int]:
        """Returns height, width, then position and size of label and image in the file; compares the block."""
        start, stop = self.index.offsets[row], self.index.offsets[row + 1]
        block = self._buffer.slice(start, stop - start)
        if self._checked is not None and not self._checked[row]:
            if zlib.crc32(block) != self.index.checksums[row]:
                raise IntegrityError(
                    "E_SHARD_RECORD",
                    "the record's checksum is wrong: bytes changed since it was written",
                    where=self.where(row),
                    remedy=DAMAGED,
                )
            self._checked[row] = True
        try:
            batch = pa.ipc.read_record_batch(pa.ipc.read_message(block), self._schema)
            batch.validate(full=True)
            if batch.num_rows != 1 or any(column.null_count for column in batch.columns):
                raise ValueError(f"{batch.num_rows} rows or empty fields, expected one whole row")
            key, height, width, source_hash = (batch.column(number)[0].as_py() for number in range(4))
            label, image = (self._place(batch.column(number)) for number in (4, 5))
        except (pa.ArrowException, OSError, ValueError, SystemError) as error:
            raise self.invalid(row, error) from error
        if (key, source_hash) != (self.index.keys[row], self.index.source_hashes[row]) or min(height, width) < 1:
            raise self.invalid(row, f"{key!r}, {source_hash}, {height}x{width} differ from the index")
        return height, width, *label, *image

    def _place(self, column: pa.Array) -> tuple[int, int]:
        """Returns position and size of a binary column's one value within the file; Arrow's scalars would copy it."""
        _, offsets, data = column.buffers()
        if data is None:
            raise ValueError("an empty field")
        start, stop = np.frombuffer(offsets, np.int64, count=2).tolist()
        return data.address - self._buffer.address + start, stop - start

    def where(self, row: int) -> str:
        """Returns the place of a row in words: shard, row, key."""
        return f"{self.path} row {row} ({self.index.keys[row]})"

    def invalid(self, row: int, found: object) -> IntegrityError:
        """Returns the error for a row whose checksum is right but whose content makes no sense."""
        return IntegrityError("E_SHARD_INVALID", "not a valid row", where=self.where(row), found=found, remedy=DAMAGED)

    def _check_frame(self, storage: Storage) -> pa.Schema:
        """Returns the schema of the file after comparing head and tail with the index, and the schema with ours."""
        first, last = self.index.offsets[0], self.index.offsets[-1]
        head = self._map[:first]
        if hashlib.sha256(head + self._map[last:]).hexdigest() != self.index.frame_sha256:
            raise IntegrityError(
                "E_SHARD_HASH",
                "head or footer of the shard changed since it was written",
                where=self.path,
                expected=f"SHA-256 {self.index.frame_sha256}",
                remedy=DAMAGED,
            )
        # Reading a schema with an extension type may run that type's own code: look before Arrow does.
        if _EXTENSION_KEY in head:
            raise IntegrityError("E_SHARD_TYPE", "extension types are not allowed", where=self.path, remedy=DAMAGED)
        expected = shard_schema(storage)
        try:
            found = pa.ipc.read_schema(self._buffer.slice(len(_MAGIC), first - len(_MAGIC)))
        except (pa.ArrowException, OSError) as error:
            raise IntegrityError("E_SHARD_SCHEMA", f"no schema: {error}", where=self.path, remedy=DAMAGED) from error
        version = (found.metadata or {}).get(_VERSION_KEY, b"")
        if version.isdigit() and int(version) > SCHEMA_VERSION:
            raise IntegrityError(
                "E_SHARD_VERSION",
                "written by a newer version",
                where=self.path,
                found=version.decode(),
                expected=f"at most {SCHEMA_VERSION}",
                remedy="update this program, or prepare the data again",
            )
        if head[: len(_MAGIC)] != _MAGIC or not found.equals(expected, check_metadata=True):
            raise IntegrityError(
                "E_SHARD_SCHEMA",
                "columns or storage are not those of a shard",
                where=self.path,
                found=", ".join(f"{field.name}: {field.type}" for field in found),
                expected=", ".join(f"{field.name}: {field.type}" for field in expected),
                remedy=DAMAGED,
            )
        return expected


class _Sink:
    """The file object that Arrow writes to: hashes what passes, and remembers where each block ends."""

    closed = False

    def __init__(self, file: BinaryIO, *, head_bytes: int) -> None:
        self._file = file
        self._head_left = head_bytes
        self._crc = 0
        self._in_tail = False
        self.whole, self.frame = hashlib.sha256(), hashlib.sha256()
        self.position = 0
        self.offsets = [head_bytes]
        self.checksums: list[int] = []

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._file.write(view)
        self.whole.update(view)
        self.position += len(view)
        head = len(view) if self._in_tail else min(self._head_left, len(view))
        self.frame.update(view[:head])
        self._head_left -= head
        self._crc = zlib.crc32(view[head:], self._crc)
        return len(view)

    def end_block(self) -> None:
        self.offsets.append(self.position)
        self.checksums.append(self._crc)
        self._crc = 0

    def start_tail(self) -> None:
        self._in_tail = True

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Leave the file open: whoever opened it syncs and renames it."""

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


def _batch(row: StoredRow, schema: pa.Schema) -> pa.RecordBatch:
    small = [row.key], [row.height], [row.width], [row.source_hash]
    columns = [pa.array(values, field.type) for values, field in zip(small, schema, strict=False)]
    return pa.record_batch([*columns, _one_binary(row.label), _one_binary(row.image)], schema=schema)


def _one_binary(payload: Payload | pa.Buffer) -> pa.Array:
    """Returns the payload as a column of one value, without a copy."""
    data = pa.py_buffer(payload)
    offsets = pa.py_buffer(np.array([0, data.size], dtype=np.int64))
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, offsets, data])


def _map_file(path: Path, size: int) -> mmap.mmap:
    """Returns the file mapped for reading; its size is compared first, as touching a page beyond the end kills."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise missing_file(path, error) from error
    try:
        found = os.fstat(descriptor).st_size
        if found != size:
            raise wrong_size(path, found, size)
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
    except OSError as error:
        raise missing_file(path, error) from error
    finally:
        os.close(descriptor)
