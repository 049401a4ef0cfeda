"""The studies there are: SETR's, those that come with the project, and any file that is named."""

import functools
from pathlib import Path

from setr.errors import InputError
from setr.settings.home import SNAPSHOT, STUDIES
from setr.study.records import SETR_NAME, Study
from setr.study.study_file import read_study


def setr_study() -> Study:
    """Returns SETR's study."""
    return open_study(SETR_NAME)


def open_study(word: str, folder: Path | None = None) -> Study:
    """Returns a study by the name of one that comes with the project, or by its file; "" is SETR's.

    A path is relative to `folder` (None: the working folder), else to the project. Raises InputError for a study that
    is not there, InputErrors for one with mistakes.
    """
    study = _opened(_path_of(word or SETR_NAME, folder or Path.cwd()), ())
    _KNOWN[study.name] = study
    return study


def known_study(name: str, file: Path | None = None) -> Study:
    """Returns a study by name: one that was opened in this process, or comes with the project; else the one in `file`.

    Raises InputError if there is none.
    """
    if name in _KNOWN:
        return _KNOWN[name]
    if name in shipped():
        return open_study(name)
    if file is not None:
        _KNOWN[name] = _opened(file, (), with_code=False)
        return _KNOWN[name]
    raise InputError("E_STUDY", "a cell of a study that is not named", found=name, remedy="give study=<its file>")


_KNOWN: dict[str, Study] = {}


def shipped() -> list[str]:
    """Returns the names of the studies that come with the project, SETR's first."""
    names = sorted(path.stem for path in STUDIES.glob("*.yaml"))
    return sorted(names, key=lambda name: name != SETR_NAME)


def _path_of(word: str, folder: Path) -> Path:
    if (STUDIES / f"{word}.yaml").is_file() and "/" not in word:
        return STUDIES / f"{word}.yaml"
    for base in (folder, STUDIES.parent):
        path = (base / word).resolve()
        if path.is_file():
            if path.stem in shipped() and _is_origin(path):
                return STUDIES / path.name
            if path.stem in shipped() and path.parent != STUDIES:
                what = "a study of that name comes with the project"
                raise InputError("E_STUDY", what, where=path, found=path.stem, remedy="give the file another name")
            return path
    raise InputError("E_STUDY", "no such study", found=word, expected=f"a file, or one of {', '.join(shipped())}")


def _is_origin(path: Path) -> bool:
    """Returns whether this process runs a snapshot of the project that has the file among its studies.

    What the file says now is then no matter: the sweep goes on with what it began with.
    """
    in_snapshot = (STUDIES.parent / SNAPSHOT).is_file()
    return in_snapshot and path.parent.name == STUDIES.name and (path.parent.parent / "setr").is_dir()


def _opened(path: Path, opening: tuple[Path, ...], *, with_code: bool = True) -> Study:
    if path in opening:
        chain = " -> ".join(one.name for one in (*opening, path))
        raise InputError("E_STUDY", "a study that includes itself", where=path, found=chain)
    return _read(path, (*opening, path), with_code, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _read(path: Path, opening: tuple[Path, ...], with_code: bool, _: int) -> Study:
    def find(word: str, folder: Path) -> Study:
        return _opened(_path_of(word, folder), opening, with_code=with_code)

    return read_study(path, find, project=STUDIES.parent, with_code=with_code)
