"""What is known of a shard besides its pixels: positions and checksums of its rows, in a signed JSON file beside it."""

import hashlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from setr.errors import IntegrityError
from setr.files.atomic import write_file
from setr.files.hashing import file_sha256
from setr.files.signed_json import dumps_signed, loads_signed

DAMAGED = "prepare the data again, or copy the shard from its source"


@dataclass(frozen=True)
class ShardIndex:
    """Written after its shard, so its presence says that the shard is whole."""

    settings: str  # hash of everything but the samples that decides the shard's bytes
    bytes: int
    sha256: str  # of the whole file
    frame_sha256: str  # of the head before the first block and the tail after the last one
    offsets: tuple[int, ...]  # rows + 1 positions: block i is the bytes from offsets[i] to offsets[i + 1]
    checksums: tuple[int, ...]  # CRC-32 of each block
    keys: tuple[str, ...]
    source_hashes: tuple[str, ...]
    histogram: tuple[int, ...]  # pixels of each of the 256 label values


def index_path(shard: Path) -> Path:
    """Returns the path of a shard's index."""
    return shard.with_name(shard.name.removesuffix(".arrow") + ".index.json")


def write_index(shard: Path, index: ShardIndex) -> None:
    """Write the index of a shard beside it; raises EnvironmentFailure (E_STORAGE)."""
    write_file(index_path(shard), dumps_signed(asdict(index)))


def read_index(path: Path, *, sha256: str | None = None) -> ShardIndex:
    """Returns the index of a shard; raises IntegrityError (E_SHARD_MISSING, E_SHARD_INDEX) unless it is as written."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise missing_file(path, error) from error
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise IntegrityError(
            "E_SHARD_INDEX", "SHA-256 differs from the manifest's", where=path, expected=sha256, remedy=DAMAGED
        )
    try:
        return _parse_index(loads_signed(data))
    except ValueError as error:
        raise IntegrityError("E_SHARD_INDEX", f"not as written: {error}", where=path, remedy=DAMAGED) from error


def shard_sha256(path: Path) -> str:
    """Returns the SHA-256, in hex, of a shard's file; raises IntegrityError (E_SHARD_MISSING)."""
    try:
        return file_sha256(path)
    except OSError as error:
        raise missing_file(path, error) from error


def missing_file(path: Path, error: OSError) -> IntegrityError:
    """Returns the error for a file that the manifest names and that cannot be read."""
    return IntegrityError("E_SHARD_MISSING", f"cannot read ({error.strerror})", where=path, remedy=DAMAGED)


def wrong_size(path: Path, found: int, expected: int) -> IntegrityError:
    """Returns the error for a shard that was cut or grew."""
    return IntegrityError(
        "E_SHARD_SIZE",
        "the shard was cut, or something was appended",
        where=path,
        found=f"{found} bytes",
        expected=f"{expected} bytes",
        remedy=DAMAGED,
    )


def _parse_index(record: dict[str, Any]) -> ShardIndex:
    """Returns the record as an index; raises ValueError unless types and lengths fit together."""
    if set(record) != {field.name for field in fields(ShardIndex)}:
        raise ValueError("missing or unknown fields")
    kinds = {"offsets": int, "checksums": int, "keys": str, "source_hashes": str, "histogram": int}
    for name, kind in kinds.items():
        values = record[name]
        if not isinstance(values, list) or any(type(value) is not kind for value in values):
            raise ValueError(f"{name} must be a list of {kind.__name__}")
        record[name] = tuple(values)
    index = ShardIndex(**record)
    rows = len(index.keys)
    if (len(index.offsets), len(index.checksums), len(index.source_hashes), len(index.histogram)) != (
        rows + 1,
        rows,
        rows,
        256,
    ):
        raise ValueError("lists differ in length")
    if not isinstance(index.bytes, int) or not all(map(lambda a, b: 0 < a < b, index.offsets, index.offsets[1:])):
        raise ValueError("positions do not increase")
    if index.offsets[-1] > index.bytes:
        raise ValueError("positions lie beyond the end")
    return index
