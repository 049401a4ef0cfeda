"""Members of zip and tar archives, read in place: nothing is unpacked, nothing is written.

An archive is refused as a whole when one of its members could harm somebody who unpacks it: a path that leaves the
archive's folder, a link, a device, a set-user-id bit, or a size that only a bomb has (CVE-2025-4517 and its kin).
"""

import lzma
import os
import stat
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from setr.errors import InputError

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MAX_RATIO = 100  # unpacked bytes per packed byte; photographs and PNG labels are near 1
MAX_MEMBER_BYTES = 256 * 2**20
MAX_ARCHIVE_BYTES = 128 * 2**30  # the largest official one, Cityscapes' extra images, unpacks to 44 GB
MAX_MEMBERS = 1_000_000
MAX_TRAILER_BYTES = 16 * 2**20  # after the end mark of a tar archive, which is padded to some kilobytes

_READ_ERRORS = (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, RuntimeError)


@dataclass(frozen=True, order=True)
class ArchiveMember:
    """One file inside an archive; hashable and picklable, opened only when read."""

    archive: Path
    member: str

    @property
    def name(self) -> str:
        """Returns the member's file name without its folders."""
        return PurePosixPath(self.member).name

    def __str__(self) -> str:
        return f"{self.archive}:{self.member}"


def is_archive(path: Path) -> bool:
    """Returns whether the file's name says that it is a zip or tar archive."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def list_members(archive: Path) -> dict[str, int]:
    """Returns the archive's regular files, name -> unpacked bytes; raises E_ARCHIVE_MEMBER if any member is unsafe."""
    return _index(*_stamp(archive))


def read_member(member: ArchiveMember) -> bytes:
    """Returns the unpacked bytes of one member; raises E_ARCHIVE_READ when the archive is damaged."""
    size = list_members(member.archive).get(member.member)
    if size is None:
        raise InputError("E_ARCHIVE_READ", "no such file in the archive", where=member)
    handle = _handle(*_stamp(member.archive), os.getpid())
    try:
        with handle.lock:
            data = handle.read(member.member)
    except _READ_ERRORS as error:
        raise InputError(
            "E_ARCHIVE_READ", f"cannot read this member ({error})", where=member, remedy="download the archive again"
        ) from error
    if len(data) != size:
        raise InputError("E_ARCHIVE_READ", "member is cut short", where=member, found=len(data), expected=size)
    return data


class _Zip:
    """An open zip file."""

    def __init__(self, path: Path) -> None:
        self.lock = threading.Lock()
        self.file = zipfile.ZipFile(path)

    def read(self, name: str) -> bytes:
        return self.file.read(name)


class _Tar:
    """An open tar file and where its members lie; a compressed one is fast when read in its own order."""

    def __init__(self, path: Path) -> None:
        self.lock = threading.Lock()
        self.file = tarfile.open(path)  # noqa: SIM115 - kept open: the members are read one by one
        self.members = {_clean(member.name): member for member in self.file if member.isreg()}

    def read(self, name: str) -> bytes:
        stream = self.file.extractfile(self.members[name])
        assert stream is not None
        return stream.read()


def _stamp(archive: Path) -> tuple[Path, int, int]:
    """Returns what identifies the archive's present content, so that a replaced file is indexed anew."""
    try:
        status = archive.stat()
    except OSError as error:
        raise InputError("E_ARCHIVE_READ", f"cannot open the archive ({error.strerror})", where=archive) from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError("E_PATH_ESCAPE", "the archive is not a regular file", where=archive)
    return archive, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=8)
def _handle(archive: Path, size: int, changed: int, process: int) -> _Zip | _Tar:
    """Returns the open archive; one per process, because a forked copy would share the file position."""
    return _Zip(archive) if archive.name.lower().endswith(".zip") else _Tar(archive)


@lru_cache(maxsize=16)
def _index(archive: Path, size: int, changed: int) -> dict[str, int]:
    members: dict[str, int] = {}
    total = 0
    walk = _zip_members if archive.name.lower().endswith(".zip") else _tar_members
    try:
        for name, member_bytes in walk(archive):
            total += member_bytes
            if name in members:
                raise _refused(archive, name, "this name occurs twice")
            if len(members) >= MAX_MEMBERS:
                raise _refused(archive, name, f"more than {MAX_MEMBERS} members")
            if total > min(MAX_ARCHIVE_BYTES, MAX_RATIO * max(size, 1)):
                raise _refused(archive, name, f"unpacks to over {total} bytes from {size}")
            members[name] = member_bytes
    except _READ_ERRORS as error:
        raise InputError(
            "E_ARCHIVE_READ",
            f"not a readable archive ({error})",
            where=archive,
            found=f"{size} bytes",
            remedy="download it again",
        ) from error
    return members


def _zip_members(archive: Path) -> Iterator[tuple[str, int]]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            mode = info.external_attr >> 16
            if "\\" in info.orig_filename or "\0" in info.orig_filename:
                raise _refused(archive, info.orig_filename, "its name holds a backslash or a zero byte")
            name = _safe_name(archive, info.filename)
            _check_mode(archive, name, mode)
            if info.is_dir():
                continue
            if info.flag_bits & 0x1:
                raise _refused(archive, name, "it is encrypted")
            _check_size(archive, name, info.file_size)
            if info.file_size > MAX_RATIO * max(info.compress_size, 1):
                raise _refused(archive, name, f"{info.compress_size} bytes unpack to {info.file_size}")
            yield name, info.file_size


def _tar_members(archive: Path) -> Iterator[tuple[str, int]]:
    with tarfile.open(archive) as file:
        for info in file:
            name = _safe_name(archive, info.name)
            if not (info.isreg() or info.isdir()) or info.issparse():
                raise _refused(archive, name, "it is a link, a device, a pipe or a sparse file")
            _check_mode(archive, name, info.mode)
            if info.isdir():
                continue
            # Before the next header is looked for: skipping a bomb's data would unpack it.
            _check_size(archive, name, info.size)
            yield name, info.size
        # tarfile stops at the end mark; the checksum of a compressed archive comes after it.
        stream, rest = file.fileobj, 0
        while stream is not None and (block := stream.read(2**20)):
            rest += len(block)
            if rest > MAX_TRAILER_BYTES:
                raise _refused(archive, "", f"over {rest} bytes follow its end")


def _clean(name: str) -> str:
    return PurePosixPath(name).as_posix()


def _safe_name(archive: Path, name: str) -> str:
    """Returns the member's normal posix name; raises if it is absolute or climbs out."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or (len(name) > 1 and name[1] == ":"):
        raise _refused(archive, name, "its path leaves the archive's folder")
    return path.as_posix()


def _check_mode(archive: Path, name: str, mode: int) -> None:
    kind = stat.S_IFMT(mode)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refused(archive, name, "it is a link, a device or a pipe")
    if mode & (stat.S_ISUID | stat.S_ISGID) and kind != stat.S_IFDIR:
        raise _refused(archive, name, "it has a set-user-id or set-group-id bit")


def _check_size(archive: Path, name: str, size: int) -> None:
    if size > MAX_MEMBER_BYTES:
        raise _refused(archive, name, f"it unpacks to {size} bytes, more than {MAX_MEMBER_BYTES}")


def _refused(archive: Path, name: str, why: str) -> InputError:
    return InputError(
        "E_ARCHIVE_MEMBER",
        f"refused: {why}",
        where=f"{archive}:{name!r}",
        remedy="take the archive from its official source; nothing was written",
    )
