"""Where bytes come from: files below a root folder and members of archives, listed and read the same way."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from setr.data.archives import MAX_MEMBER_BYTES, ArchiveMember, is_archive, list_members, read_member
from setr.errors import InputError

Source = Path | ArchiveMember

JUNK_NAMES = frozenset({".ds_store", "thumbs.db", "desktop.ini", "ehthumbs.db"})


@dataclass(frozen=True)
class Files:
    """What lies below one folder: relative posix path -> source, and how many junk files were passed over."""

    found: dict[str, Source] = field(default_factory=dict)
    junk: int = 0
    present: bool = False  # False: the folder is neither unpacked nor in an archive


def read_bytes(source: Source) -> bytes:
    """Returns the bytes of a file or archive member; raises E_PATH_ESCAPE for pipes and devices, unopened."""
    if isinstance(source, ArchiveMember):
        return read_member(source)
    try:
        status = source.stat()
        _require_regular(source, status)
        if status.st_size > MAX_MEMBER_BYTES:
            raise InputError(
                "E_FILE_TOO_LARGE", "file is too large", where=source, found=status.st_size, expected=MAX_MEMBER_BYTES
            )
        return source.read_bytes()
    except OSError as error:
        raise InputError("E_FILE_READ", f"cannot read the file ({error.strerror})", where=source) from error


def check_root(root: Path) -> Path:
    """Returns the data root (a folder, or one archive); raises E_DATA_ROOT when nothing is there."""
    if not root.exists():
        raise InputError("E_DATA_ROOT", "the data root does not exist", where=root, remedy="set data.root=<folder>")
    if not root.is_dir() and not is_archive(root):
        raise InputError("E_DATA_ROOT", "the data root is neither a folder nor an archive", where=root)
    return root


def find_files(root: Path, folder: str, *, archives: Sequence[str] = (), prefixes: Sequence[str] = ("",)) -> Files:
    """Returns the files below `folder`, unpacked under one of the prefixes of the root, or else in an archive there.

    `archives` are file names to look for in the root; a root that is itself an archive is looked into directly.
    Raises E_PATH_ESCAPE for links out of the root, pipes and devices.
    """
    check_root(root)
    if root.is_dir():
        for prefix in prefixes:
            base = root / prefix / folder
            if base.is_dir():
                return _files_on_disk(root, base)
        candidates = [root / name for name in archives if (root / name).is_file()]
    else:
        candidates = [root]
    return _files_in_archives(candidates, [f"{prefix}/{folder}".strip("/") for prefix in prefixes])


def find_file(root: Path, path: str, *, archives: Sequence[str] = (), prefixes: Sequence[str] = ("",)) -> Source | None:
    """Returns one file by its path below the root, unpacked or in an archive, or None."""
    folder, name = str(PurePosixPath(path).parent), PurePosixPath(path).name
    return find_files(root, folder, archives=archives, prefixes=prefixes).found.get(name)


def is_junk(path: str) -> bool:
    """Returns whether an operating system left this file behind (AppleDouble, .DS_Store, Thumbs.db)."""
    parts = PurePosixPath(path).parts
    return parts[-1].startswith("._") or parts[-1].lower() in JUNK_NAMES or "__MACOSX" in parts


def _files_on_disk(root: Path, base: Path) -> Files:
    found: dict[str, Source] = {}
    junk = 0
    for path in _walk(root.resolve(), base, set()):
        name = path.relative_to(base).as_posix()
        if is_junk(name):
            junk += 1
        else:
            found[name] = path
    return Files(found, junk, present=True)


def _files_in_archives(archives: Sequence[Path], folders: Sequence[str]) -> Files:
    found: dict[str, Source] = {}
    junk, present = 0, False
    for archive in archives:
        members = list_members(archive)
        for folder in folders:
            start = "" if folder in ("", ".") else f"{folder}/"
            inside = [name for name in members if name.startswith(start)]
            present = present or bool(inside)
            for name in inside:
                if is_junk(name):
                    junk += 1
                else:
                    found.setdefault(name[len(start) :], ArchiveMember(archive, name))
    return Files(found, junk, present)


def _walk(root: Path, folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Yields the regular files below a folder, in name order; links are followed only inside the root, and once."""
    real = folder.resolve()
    if real in seen:
        return
    seen.add(real)
    _require_inside(root, folder, real)
    try:
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError("E_FILE_READ", f"cannot list the folder ({error.strerror})", where=folder) from error
    for entry in ordered:
        path = Path(entry.path)
        if entry.is_symlink():
            _require_inside(root, path, path.resolve())
        if entry.is_dir():
            yield from _walk(root, path, seen)
            continue
        try:
            _require_regular(path, entry.stat())
        except OSError as error:
            raise InputError("E_FILE_READ", f"cannot look at the file ({error.strerror})", where=path) from error
        yield path


def _require_inside(root: Path, path: Path, real: Path) -> None:
    if not real.is_relative_to(root):
        raise InputError(
            "E_PATH_ESCAPE",
            "a link leads out of the data root",
            where=path,
            found=real,
            expected=f"a path below {root}",
            remedy="set data.root to the real folder, or move the files below it",
        )


def _require_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InputError("E_PATH_ESCAPE", "not a regular file (pipe, socket, device or folder)", where=path)
