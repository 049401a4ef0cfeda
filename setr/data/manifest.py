"""What a folder of shards holds: `manifest.json`, written last, so that without it there is no data set.

The manifest holds the hash of itself, of each shard file and of each shard's index; the index holds a checksum of every
record. So every byte of a data set can be traced to the one hash that experiments store.
"""

import functools
import hashlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from setr.errors import InputError, IntegrityError
from setr.files.atomic import write_file
from setr.files.signed_json import dumps_signed, loads_signed

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
STORAGES = ("raw", "encoded")
Storage = Literal["raw", "encoded"]


@dataclass(frozen=True)
class ShardEntry:
    """One Arrow file of the data set."""

    file: str
    rows: int
    bytes: int
    sha256: str
    index_sha256: str

    @property
    def index_file(self) -> str:
        """Returns the name of the file with the shard's block positions and checksums."""
        return self.file.removesuffix(".arrow") + ".index.json"


@dataclass(frozen=True)
class Manifest:
    """A prepared split of a data set."""

    schema_version: int
    dataset: str
    split: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]  # red, green, blue of each class
    ignore_index: int
    storage: Storage
    labelled: bool  # False: the split has no labels, every label pixel is ignore_index
    rows: int
    class_histogram: tuple[int, ...]  # pixels of each class
    ignored_pixels: int
    source_fingerprint: str  # SHA-256 over every sample's key and source hash, in order
    shards: tuple[ShardEntry, ...]

    @property
    def num_classes(self) -> int:
        """Returns the number of classes."""
        return len(self.classes)

    def as_dict(self) -> dict[str, Any]:
        """Returns the manifest as JSON-able values, the shards as a list of records."""
        return asdict(self)


def shard_name(number: int) -> str:
    """Returns the file name of a data set's shard."""
    return f"{number:05d}.arrow"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` atomically; raises EnvironmentFailure (E_STORAGE)."""
    write_file(folder / MANIFEST_NAME, dumps_signed(manifest.as_dict()))


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """Returns the folder's manifest and the SHA-256, in hex, of its file.

    Raises InputError when there is none, IntegrityError when it is damaged, edited or of a newer version (E_MANIFEST).
    """
    path = folder / MANIFEST_NAME
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            "E_MANIFEST",
            f"no prepared data set here ({error.strerror})",
            where=path,
            remedy=f"run python pipelines/prepare.py data.name={path.parent.parent.name} data.root=<its folder>; "
            "a build that was cut off continues",
        ) from error
    return parse_manifest(data, path)


def parse_manifest(data: bytes, path: Path | str) -> tuple[Manifest, str]:
    """Returns the manifest in a file's bytes and their SHA-256, in hex; raises IntegrityError (E_MANIFEST)."""
    try:
        record = loads_signed(data)
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    version = record.get("schema_version")
    if type(version) is int and version > SCHEMA_VERSION:
        raise IntegrityError(
            "E_MANIFEST",
            "written by a newer version",
            where=path,
            found=f"schema version {version}",
            expected=f"at most {SCHEMA_VERSION}",
            remedy="update this program, or prepare the data again",
        )
    return _parse(record, path), hashlib.sha256(data).hexdigest()


def _parse(record: dict[str, Any], path: Path | str) -> Manifest:
    """Returns the record as a Manifest; every field of the right type, file names plain, counts consistent."""
    _require_fields(record, Manifest, path)
    shards: list[ShardEntry] = []
    for number, entry in enumerate(_list_of(record, "shards", dict, path)):
        _require_fields(entry, ShardEntry, path)
        shard = ShardEntry(**entry)
        if shard.file != shard_name(number):  # never a path: what lies elsewhere is not read
            raise _damaged(path, f"shards[{number}].file must be {shard_name(number)}, found {shard.file!r}")
        if type(shard.rows) is not int or type(shard.bytes) is not int or shard.rows < 1 or shard.bytes < 1:
            raise _damaged(path, f"shards[{number}]: rows and bytes must be positive whole numbers")
        if type(shard.sha256) is not str or type(shard.index_sha256) is not str:
            raise _damaged(path, f"shards[{number}]: sha256 and index_sha256 must be text")
        shards.append(shard)
    manifest = Manifest(
        **{
            **record,
            "classes": tuple(_list_of(record, "classes", str, path)),
            "palette": tuple(tuple(color) for color in _list_of(record, "palette", list, path)),
            "class_histogram": tuple(_list_of(record, "class_histogram", int, path)),
            "shards": tuple(shards),
        }
    )
    for name, kind in _SCALARS.items():
        if type(getattr(manifest, name)) is not kind:
            raise _damaged(path, f"{name} must be {kind.__name__}, found {getattr(manifest, name)!r}")
    consistent = {
        "rows must be the sum over the shards, and at least 1": sum(s.rows for s in shards) == manifest.rows > 0,
        "class_histogram and palette must have one entry per class": len(manifest.classes)
        == len(manifest.class_histogram)
        == len(manifest.palette),
        f"storage must be one of {', '.join(STORAGES)}": manifest.storage in STORAGES,
    }
    for rule, holds in consistent.items():
        if not holds:
            raise _damaged(path, rule)
    return manifest


_SCALARS: dict[str, type] = {
    "schema_version": int,
    "dataset": str,
    "split": str,
    "ignore_index": int,
    "labelled": bool,
    "rows": int,
    "ignored_pixels": int,
    "source_fingerprint": str,
}


def _require_fields(record: dict[str, Any], kind: type, path: Path | str) -> None:
    expected = _field_names(kind)
    if record.keys() != expected:
        raise _damaged(path, f"missing or unknown fields: {', '.join(sorted(set(record) ^ expected))}")


@functools.cache
def _field_names(kind: type) -> frozenset[str]:
    return frozenset(field.name for field in fields(kind))


def _list_of(record: dict[str, Any], name: str, kind: type, path: Path | str) -> list[Any]:
    values = record[name]
    if not isinstance(values, list) or any(type(value) is not kind for value in values):
        raise _damaged(path, f"{name} must be a list of {kind.__name__}")
    return values


def _damaged(path: Path | str, found: str) -> IntegrityError:
    return IntegrityError(
        "E_MANIFEST", "the manifest is not as written", where=path, found=found, remedy="prepare the data again"
    )
