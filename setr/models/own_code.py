"""Code of a user's own: one file each, kept as text, and run only where that very text was allowed.

A source is `file.py:Name` or `package.module:Name`. Who names it (a study) reads it with read_source() and allows it; a
model that was opened brings a text of its own, which nobody here has looked at: nothing of it runs until it is allowed.
A text is never imported by name: what runs is what was read, hashed and allowed.
"""

import hashlib
import linecache
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from setr.errors import InputError
from setr.models.own_source import read_text, split_source


@dataclass(frozen=True)
class OwnCode:
    """One class of a user's own, with the whole text of its file."""

    source: str  # mine.py:ConcatHead, or package.module:Name
    text: str

    @property
    def sha256(self) -> str:
        """Returns the SHA-256, in hex, of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def module_name(self) -> str:
        """Returns what Python calls the module: two texts of one file name are two modules."""
        stem = split_source(self.source)[0].removesuffix(".py").replace(".", "_").replace("-", "_")
        return f"own_{stem}_{self.sha256[:16]}"


_allowed: dict[str, dict[str, OwnCode]] = {}  # source -> {SHA-256: code}
_only: ContextVar[Mapping[str, OwnCode] | None] = ContextVar("own code that may run, and no other", default=None)
_modules: dict[str, tuple[ModuleType, str]] = {}  # by name: what has run, and its text


def read_source(name: str, base: Path) -> OwnCode:
    """Returns the class that `file.py:Name` (relative to `base`) or `package.module:Name` names, without running it.

    Raises InputError (E_OWN_CODE) for a file that is missing, not UTF-8 or no Python, that has no such class, or that
    imports other files of the user's own.
    """
    source, text = read_text(name, base)
    return OwnCode(source, text)


def own_codes(texts: Mapping[str, str]) -> list[OwnCode]:
    """Returns the codes of {source: text}."""
    return [OwnCode(source, text) for source, text in texts.items()]


def allow(code: OwnCode) -> None:
    """Lets this process run a text from now on: for who has named the file."""
    _allowed.setdefault(code.source, {})[code.sha256] = code


@contextmanager
def allowed(codes: Iterable[OwnCode]) -> Iterator[None]:
    """Within the block these texts may run, and no others."""
    token = _only.set({code.source: code for code in codes})
    try:
        yield
    finally:
        _only.reset(token)


def is_allowed(code: OwnCode) -> bool:
    """Returns whether this very text may run in this process."""
    only = _only.get()
    if only is not None:
        return only.get(code.source) == code
    return code.sha256 in _allowed.get(code.source, {})


def load(source: str) -> type:
    """Returns the class, a torch.nn.Module, of an allowed source; its file runs once.

    Raises InputError: E_CODE_NOT_ALLOWED, or E_OWN_CODE where the file raises, has no such class, or where two texts
    are allowed under this name and nothing says which is meant.
    """
    only = _only.get()
    found = _allowed.get(source, {}) if only is None else {"": only[source]} if source in only else {}
    if not found:
        raise not_allowed([source])
    if len(found) > 1:
        raise InputError(
            "E_OWN_CODE",
            "several files of this name are in use",
            where=source,
            found=", ".join(sorted(sha256[:12] for sha256 in found)),
            remedy="give the files different names",
        )
    return _class_of(next(iter(found.values())))


def not_allowed(sources: Iterable[str], where: object = "") -> InputError:
    """Returns the error for code that nobody has allowed; `where` is the file to look at."""
    return InputError(
        "E_CODE_NOT_ALLOWED",
        f"this checkpoint runs code of its own: {', '.join(sources)}",
        where=where,
        remedy=f"look at it{f' at {where}' if where else ''} and give --allow-code",
    )


@contextmanager
def opened(codes: Iterable[OwnCode], *, allow_code: bool, where: object) -> Iterator[None]:
    """Within the block a checkpoint's own code may run: if it is `allow_code`d, or in use here already.

    Raises InputError (E_CODE_NOT_ALLOWED) before anything of it runs; `where` is what to look at.
    """
    brought = list(codes)
    refused = [code.source for code in brought if not (allow_code or is_allowed(code))]
    if refused:
        raise not_allowed(refused, where)
    with allowed(brought):
        yield


def text_of(kind: type) -> str:
    """Returns the text of the file that a loaded class stands in."""
    return _modules[kind.__module__][1]


def error_line(error: BaseException, code: OwnCode) -> str:
    """Returns `mine.py, line 12`, the last line of the file that an error went through; the file if through none."""
    file = split_source(code.source)[0]
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == _file_of(code)]
    return f"{file}, line {lines[-1]}" if lines else file


def _class_of(code: OwnCode) -> type:
    from torch import nn  # a plan reads sources and does without

    module, _ = _modules.get(code.module_name) or _run(code)
    file, name = split_source(code.source)
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        what = "no such class" if found is None else "not a class of torch.nn.Module"
        raise InputError("E_OWN_CODE", f"{code.source} is {what}", where=file, remedy=f"class {name}(nn.Module)")
    return found


def _run(code: OwnCode) -> tuple[ModuleType, str]:
    """Runs a text as a module and keeps it; its lines are shown where an error goes through them."""
    module = ModuleType(code.module_name)
    module.__file__ = _file_of(code)
    linecache.cache[_file_of(code)] = (len(code.text), None, code.text.splitlines(True), _file_of(code))
    sys.modules[code.module_name] = module  # dataclasses and pickle look there
    try:
        exec(compile(code.text, _file_of(code), "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[code.module_name]
        raise InputError(
            "E_OWN_CODE",
            f"{split_source(code.source)[0]} raises when it is imported: {type(error).__name__}: {error}",
            where=error_line(error, code),
        ) from error
    _modules[code.module_name] = module, code.text
    return module, code.text


def _file_of(code: OwnCode) -> str:
    return f"<{split_source(code.source)[0]} {code.sha256[:12]}>"
