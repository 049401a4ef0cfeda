"""The class names of a data set of one's own: from the settings, or from a text file with one a line."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from setr.data.reading.samples import MAX_CLASSES
from setr.data.reading.sources import read_bytes, spelled
from setr.errors import InputError

_TEXT_FILES = (".txt", ".names")
_OTHER_FILES = (".csv", ".json", ".yaml", ".yml", ".xml", ".xlsx", ".tsv", ".lst")
_COLORED = re.compile(r".+[:,;\s]\s*\d{1,3}\s*[,;\s]\s*\d{1,3}\s*[,;\s]\s*\d{1,3}\s*(::?.*)?")  # name:128,0,0::
_NUMBERED = re.compile(r"\d+\s*[:,;\s]\s*\S.*")  # 7: road
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def class_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Returns the names in label order; one name that ends in .txt is a file of them. Raises E_CLASSES, E_FILE_READ."""
    names, where = [str(name).strip() for name in classes], "data.classes"
    if len(names) == 1 and names[0].lower().endswith(_TEXT_FILES):
        path = spelled(Path(names[0]))
        names, where = _lines(path), str(path)
    elif len(names) == 1 and names[0].lower().endswith(_OTHER_FILES):
        raise InputError(
            "E_CLASSES", "a file of class names is a .txt file", where=where, found=names[0], remedy=_ONE_A_LINE
        )
    for name in names:
        _require_name(name, where)
    _require_plain_list(names, where)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if not names or "" in names or repeated or len(names) > MAX_CLASSES:
        raise InputError(
            "E_CLASSES",
            f"class names must be 1 to {MAX_CLASSES} different words",
            where=where,
            found=f"{len(names)} names" + (f", twice: {', '.join(repeated)}" if repeated else ""),
            remedy="list them in the order of the label values, or name a text file with one per line",
        )
    return tuple(names)


_ONE_A_LINE = "write the names alone, one a line, in the order of the label values"


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError("E_CLASSES", "the file of class names does not exist", where="data.classes", found=path)
    data = read_bytes(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        code, kind = "LATIN1", "Latin-1 or another one-byte code"
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            code = kind = "UTF-16"
        raise InputError(
            "E_CLASSES",
            "the file of class names is not UTF-8 text",
            where=path,
            found=f"byte {data[error.start]:#04x} in line {data[: error.start].count(bytes([10])) + 1}, perhaps {kind}",
            remedy=f"save it as UTF-8 (iconv -f {code} -t UTF-8)",
        ) from error
    return [name for name in (line.strip() for line in text.splitlines()) if name]


def _require_name(name: str, where: str) -> None:
    if _REPLACEMENT in name or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        what = "a class name holds a letter that was lost when its text was read in another code"
        raise InputError("E_CLASSES", what, where=where, found=ascii(name), remedy="write it again, as UTF-8")
    if name == "__ignore__":
        what = "__ignore__ is no class: labelme writes those pixels as 255, and counts from the next name"
        raise InputError("E_CLASSES", what, where=where, remedy="leave this name out")


def _require_plain_list(names: Sequence[str], where: str) -> None:
    """Raise E_CLASSES for the lists of other programs, of which a heading or a number would become a name."""
    found = ""
    if any(name.startswith("#") for name in names):
        found = f"a comment: {next(name for name in names if name.startswith('#'))}"
    elif names and all(_COLORED.fullmatch(name) for name in names):
        found = f"names with colours: {names[0]}"
    elif names and all(_NUMBERED.fullmatch(name) for name in names):
        found = f"names with numbers: {names[0]}"
    elif len(names) == 1 and re.search("[,;]", names[0]):
        found = f"one name, {names[0]!r}"
    if found:
        remedy = f"{_ONE_A_LINE}; or data.classes=[first,second]; colours go into data.palette"
        raise InputError("E_CLASSES", "this is no plain list of class names", where=where, found=found, remedy=remedy)
