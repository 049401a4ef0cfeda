"""Where shards lie: in a folder, or on S3, GCS or shared storage, and then copied once to each node's own disk.

    <local copy>/<data set>-<split>-<manifest's hash>/     a copy: verified, read-only, renamed into place when whole

A copy is named by the hash of its manifest, so another version of the data never takes its place, and one that lies
there whole is used again.
"""

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pyarrow as pa
from pyarrow import fs

from setr.data.manifest import MANIFEST_NAME, Manifest, parse_manifest, read_manifest
from setr.data.shards import Shards, open_shards
from setr.errors import EnvironmentFailure, InputError, IntegrityError, SetrError
from setr.files.atomic import make_folder, new_file, storage_failure, sync_folder, write_file
from setr.files.locking import lock, open_lock

_CHUNK = 4 * 2**20  # bytes read at a time
_STREAMS = 4  # files copied at once: object stores answer slowly, and in parallel


def is_uri(location: str) -> bool:
    """Returns whether a location is a URI such as s3://bucket/prefix, gs://bucket/prefix or file:///folder."""
    return "://" in location


def below(location: str, *names: str) -> str:
    """Returns the location of what lies below another one; a URI keeps its options (?region=...)."""
    if not is_uri(location):
        return str(Path(location, *names))
    parts = urlsplit(location)
    return urlunsplit(parts._replace(path="/".join([parts.path.rstrip("/"), *names])))


def manifest_at(location: str) -> tuple[Manifest, str]:
    """Returns the manifest at a location and the SHA-256, in hex, of its file; raises what `read_manifest` does."""
    if not is_uri(location):
        return read_manifest(Path(location))
    return parse_manifest(_manifest_bytes(location), f"{shown(location)}/{MANIFEST_NAME}")


def open_location(location: str, *, local_copy: str = "") -> Shards:
    """Returns the shards at a location, read from this node's copy where `local_copy` is set; see `local_folder`."""
    return open_shards(local_folder(location, local_copy))


def local_folder(location: str, local_copy: str = "") -> Path:
    """Returns the folder to map shards from: the location itself, or its copy below `local_copy` on this node.

    The first process of a node that asks makes the copy, every file's SHA-256 compared with the manifest; the others
    wait for it. A later one compares the manifest's bytes, and names and sizes of the files. Variables such as
    $SLURM_TMPDIR in `local_copy` are this process's. Raises InputError (E_CONFIG, E_MANIFEST), IntegrityError
    (E_SHARD_HASH, E_MANIFEST) and EnvironmentFailure (E_STORAGE).
    """
    if not local_copy:
        if is_uri(location):
            raise InputError(
                "E_CONFIG",
                "shards that lie elsewhere are read from a copy on this node",
                where="data.local_copy",
                found=shown(location),
                remedy="set data.local_copy=<folder on a local disk>",
            )
        return Path(location)
    cache = Path(os.path.expandvars(local_copy)).expanduser()
    if not cache.is_absolute():
        raise InputError(
            "E_CONFIG",
            "not an absolute path on this node",
            where="data.local_copy",
            found=cache,
            remedy="name a folder on a local disk; is the variable in it set?",
        )
    data = _manifest_bytes(location)
    manifest, sha256 = parse_manifest(data, f"{shown(location)}/{MANIFEST_NAME}")
    name = re.sub(r"[^\w-]", "_", f"{manifest.dataset}-{manifest.split}")
    folder = cache / f"{name}-{sha256[:16]}"
    make_folder(cache)
    with _only_copier(folder):
        if not _is_whole(folder, data):
            _copy(location, manifest, data, folder)
    return folder


def shown(location: str) -> str:
    """Returns a location as it may be printed: a URI without options, which may hold what is secret."""
    if not is_uri(location):
        return location
    parts = urlsplit(location)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _filesystem(location: str) -> tuple[fs.FileSystem, str]:
    """Returns the file system of a location and the path there."""
    if not is_uri(location):
        return fs.LocalFileSystem(), location
    if "@" in urlsplit(location).netloc:
        raise InputError(
            "E_CONFIG",
            "a login in a URI would be written into every record",
            where="data.shards",
            found=shown(location),
            remedy="put it into the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or Google's credentials",
        )
    try:
        filesystem, path = fs.FileSystem.from_uri(location)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError("E_CONFIG", "cannot reach this place", where=shown(location), found=error) from error
    return filesystem, path


def _manifest_bytes(location: str) -> bytes:
    filesystem, path = _filesystem(location)
    try:
        with filesystem.open_input_stream(f"{path}/{MANIFEST_NAME}") as stream:
            return bytes(stream.read())
    except FileNotFoundError as error:
        raise InputError(
            "E_MANIFEST",
            "no prepared data set here",
            where=f"{shown(location)}/{MANIFEST_NAME}",
            remedy="prepare the data into a folder, then copy it here, manifest.json last",
        ) from error
    except OSError as error:
        raise _unreadable(f"{shown(location)}/{MANIFEST_NAME}", error) from error


@contextlib.contextmanager
def _only_copier(folder: Path) -> Iterator[None]:
    """Holds the lock of a copy, waiting for whoever holds it; the kernel drops it with the process."""
    path = folder.with_name(f".{folder.name}.lock")
    try:
        descriptor = open_lock(path)
    except OSError as error:
        raise storage_failure(path, error) from error
    try:
        with contextlib.suppress(OSError):  # a file system without locks: several copy, under names of their own
            lock(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)


def _is_whole(folder: Path, manifest: bytes) -> bool:
    """Returns whether a copy of this very manifest lies there with all its files in their sizes."""
    try:
        if (folder / MANIFEST_NAME).read_bytes() != manifest:
            return False
        Shards(folder)
    except (SetrError, OSError):
        return False
    return True


def _copy(location: str, manifest: Manifest, data: bytes, folder: Path) -> None:
    """Copy the shards aside, compare each file with the manifest, and give the whole folder its name."""
    filesystem, source = _filesystem(location)
    files = {entry.file: entry.sha256 for entry in manifest.shards}
    files |= {entry.index_file: entry.index_sha256 for entry in manifest.shards}
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        for left in (folder, *folder.parent.glob(f".{folder.name}.*.tmp")):  # damaged, or of a process that was killed
            if left.exists():
                shutil.rmtree(left)
        make_folder(aside)
        _require_space(folder.parent, sum(entry.bytes for entry in manifest.shards))
        with ThreadPoolExecutor(_STREAMS) as pool:
            jobs = [
                pool.submit(
                    _copy_file, filesystem, f"{source}/{name}", aside / name, digest, f"{shown(location)}/{name}"
                )
                for name, digest in files.items()
            ]
            try:
                for job in jobs:
                    job.result()
            finally:
                for job in jobs:
                    job.cancel()
        write_file(aside / MANIFEST_NAME, data)
        aside.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        if not _is_whole(folder, data):  # else another process was first, where locks do nothing
            raise storage_failure(folder, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _copy_file(filesystem: fs.FileSystem, source: str, target: Path, sha256: str, where: str) -> None:
    digest = hashlib.sha256()
    try:
        stream = filesystem.open_input_stream(source)
    except OSError as error:
        raise _unreadable(where, error) from error
    with stream, new_file(target) as file:
        while True:
            try:
                chunk = stream.read(_CHUNK)
            except OSError as error:
                raise _unreadable(where, error) from error
            if not chunk:
                break
            digest.update(chunk)
            file.write(chunk)
        if digest.hexdigest() != sha256:
            raise IntegrityError(
                "E_SHARD_HASH",
                "SHA-256 of what was copied differs from the manifest's",
                where=where,
                found=digest.hexdigest(),
                expected=sha256,
                remedy="run again; if it stays so, upload the shards again from where they were prepared",
            )


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise EnvironmentFailure(
            "E_STORAGE",
            "not enough space for a copy of the shards",
            where=folder,
            found=f"{free / 1e9:.2f} GB free",
            expected=f"{needed / 1e9:.2f} GB",
            remedy="free some space, or set another data.local_copy",
        )


def _unreadable(where: str, error: OSError) -> EnvironmentFailure:
    return EnvironmentFailure("E_STORAGE", "cannot read from there", where=where, found=error)
