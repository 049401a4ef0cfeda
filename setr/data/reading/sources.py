"""Where bytes come from: files below a root folder and members of archives, listed and read the same way."""

import difflib
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from setr.data.reading.archives import MAX_MEMBER_BYTES, ArchiveMember, is_archive, list_members, read_member
from setr.errors import InputError

Source = Path | ArchiveMember

_DVC_STORE = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}")
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


def check_root(root: Path, *, setting: str = "data.root") -> Path:
    """Returns the folder or archive that a setting names; raises E_DATA_ROOT, naming the setting, if none is there."""
    what = {"data.root": "the data root"}.get(setting, f"the folder of {setting}")
    if not root.exists():
        beside = [path.name for path in root.parent.iterdir()] if root.parent.is_dir() else []
        near = difflib.get_close_matches(root.name, beside, n=1)
        remedy = f"set {setting}=<folder>; a relative one is below the project's folder, or below $SETR_HOME"
        if near:
            remedy = f"did you mean {near[0]}? {remedy}"
        raise InputError("E_DATA_ROOT", f"{what} does not exist", where=root, remedy=remedy)
    if not root.is_dir() and not is_archive(root):
        raise InputError(
            "E_DATA_ROOT", f"{what} is neither a folder nor an archive", where=root, remedy=f"set {setting}=<folder>"
        )
    return root


def spelled(path: Path) -> Path:
    """Returns the path as it is spelled on disk, where its letters are composed or decomposed otherwise than given."""
    if path.exists():
        return path
    found = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        if not (found / part).exists() and found.is_dir():
            same = unicodedata.normalize("NFC", part)
            names = (entry.name for entry in found.iterdir())
            part = next((name for name in names if unicodedata.normalize("NFC", name) == same), part)
        found /= part
    return found if found.exists() else path


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
            raise InputError(
                "E_FILE_READ",
                f"cannot look at the file ({error.strerror})",
                where=path,
                found=f"a link to {path.resolve()}" if entry.is_symlink() else "",
                remedy=_link_remedy(path.resolve(), "bring what it points to, or remove it")
                if entry.is_symlink()
                else "",
            ) from error
        yield path


def _require_inside(root: Path, path: Path, real: Path) -> None:
    if not real.is_relative_to(root):
        raise InputError(
            "E_PATH_ESCAPE",
            "a link leads out of the data root",
            where=path,
            found=real,
            expected=f"a path below {root}",
            remedy=_link_remedy(
                real, "set data.root (data.images, data.labels) to the real folder, or copy with cp -rL"
            ),
        )


def _link_remedy(real: Path, otherwise: str) -> str:
    """Returns what to do about a link into a store of files, which must stay as it is; `otherwise` for other links."""
    if "annex" in real.parts:
        return "these are links of git-annex: git annex get, then git annex unlock, in that repository"
    if ".dvc" in real.parts or _DVC_STORE.search(real.as_posix()):
        return "these are links of DVC: dvc config cache.type copy, then dvc checkout --relink, in that repository"
    if "blobs" in real.parts:
        return "these are links of a download cache: download again into a plain folder, or copy with cp -rL"
    return otherwise


def _require_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InputError("E_PATH_ESCAPE", "not a regular file (pipe, socket, device or folder)", where=path)
