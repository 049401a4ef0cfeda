"""A file of a user's own, read and looked over without running it: what it is called, its text, what it imports."""

import ast
import importlib.util
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path, PurePath

from setr.errors import InputError
from setr.settings.choices import require_choice

_MOST_BYTES = 1_000_000
_PROJECT = "setr"  # a file may import from this project: what it uses there counts in its experiments' code


def split_source(source: str) -> tuple[str, str]:
    """Returns file (or module) and class of a source."""
    file, _, name = source.rpartition(":")
    return file, name


def is_source(source: object) -> bool:
    """Returns whether a value is `file.py:Name`, without folders, or `package.module:Name`."""
    if not isinstance(source, str):
        return False
    file, name = split_source(source)
    stem = file.removesuffix(".py")
    parts = [stem] if file.endswith(".py") else stem.split(".")
    return name.isidentifier() and all(part.replace("-", "_").isidentifier() for part in parts) and stem != _PROJECT


def read_text(name: str, base: Path) -> tuple[str, str]:
    """Returns the source of `file.py:Name` (without its folders) or `package.module:Name`, and its file's text.

    Raises InputError (E_OWN_CODE).
    """
    place, kind = split_source(name)
    said = PurePath(place).name if place.endswith(".py") else place
    if not is_source(f"{said}:{kind}"):
        raise _problem(
            "not the name of a class of one's own",
            name,
            expected="file.py:Name (no dots or blanks) or package.module:Name",
        )
    file = base / Path(place).expanduser() if place.endswith(".py") else _file_of_module(place, name)
    text = _decoded(file, name)
    tree = _parsed(text, file)
    _require_class(tree, kind, file)
    _require_one_file(tree, file, package="" if said.endswith(".py") else said.partition(".")[0])
    return f"{said}:{kind}", text


def _file_of_module(module: str, name: str) -> Path:
    """Returns the file of an installed module; no package on the way to it is imported."""
    parts = module.split(".")
    try:
        found: ModuleSpec | None = importlib.util.find_spec(parts[0])
        for number in range(2, len(parts) + 1):
            inside = found.submodule_search_locations if found is not None else None
            found = PathFinder.find_spec(".".join(parts[:number]), inside) if inside else None
    except (ImportError, ValueError, AttributeError):
        found = None
    if found is None or not found.has_location or not str(found.origin).endswith(".py"):
        raise _problem("no such module", name, remedy="file.py:Name, relative to the study, names a file instead")
    return Path(str(found.origin))


def _decoded(file: Path, name: str) -> str:
    try:
        if not file.is_file():
            raise _problem("no such file", file, found=name)
        if file.stat().st_size > _MOST_BYTES:
            raise _problem("too large for a file of code", file, found=f"{file.stat().st_size} bytes")
        data = file.read_bytes()
    except OSError as error:
        raise _problem("the file cannot be read", file, found=error) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _problem("the file is not UTF-8", f"{file}, line {line}", found=error.reason) from None


def _parsed(text: str, file: Path) -> ast.Module:
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise _problem("the file is no Python", f"{file}, line {error.lineno or 1}", found=error.msg) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise _problem("the file is no Python", file, found=error) from None


def _require_class(tree: ast.Module, kind: str, file: Path) -> None:
    """Raises InputError for a class that is not there, or that is plainly none of torch.nn.Module."""
    for node in tree.body:
        plain = isinstance(node, ast.ClassDef) and node.name == kind and not node.bases
        if plain or (isinstance(node, ast.FunctionDef) and node.name == kind):
            raise _problem(
                f"{kind} is not a class of torch.nn.Module",
                f"{file}, line {node.lineno}",
                expected=f"{kind}(nn.Module)",
            )
    if kind not in _defined(tree):
        try:
            require_choice(f"class {kind}", kind, [node.name for node in tree.body if isinstance(node, ast.ClassDef)])
        except InputError as error:
            raise _problem(f"no class {kind} in the file", file, found=str(error).partition(" | ")[2]) from None


def _require_one_file(tree: ast.Module, file: Path, package: str) -> None:
    """Raises InputError for imports of other files of the user's own, and of everything in a module of this project."""
    for node in ast.walk(tree):
        for imported in _imported(node):
            where = f"{file}, line {getattr(node, 'lineno', 1)}"
            if _is_beside(imported, file, package):
                raise _problem(
                    "a file of one's own imports another one",
                    where,
                    found=imported or "a relative import",
                    remedy="keep what it needs in one file, or install it as a package",
                )
            if imported == _PROJECT and any(alias.name == "*" for alias in getattr(node, "names", ())):
                raise _problem(
                    "a file of one's own imports everything",
                    where,
                    remedy="name what it uses: that is part of its experiments' code",
                )


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.If | ast.Try):
            yield from (
                part.name if isinstance(part, ast.ClassDef) else part.id
                for part in ast.walk(node)
                if isinstance(part, ast.ClassDef) or (isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store))
            )


def _imported(node: ast.AST) -> Iterator[str]:
    """Yields the first part of each module that a statement imports, "" for a relative import."""
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield "" if node.level else str(node.module).partition(".")[0]


def _is_beside(imported: str, file: Path, package: str) -> bool:
    """Returns whether an import is of a file that lies beside this one, or of the same package."""
    if not imported or imported == package:
        return True
    if package or imported == _PROJECT or imported in sys.stdlib_module_names:
        return False
    folder = file.parent / imported
    return folder.with_suffix(".py").is_file() or (folder.is_dir() and any(folder.glob("*.py")))


def _problem(what: str, where: object, *, found: object = "", expected: object = "", remedy: str = "") -> InputError:
    return InputError("E_OWN_CODE", what, where=where, found=found, expected=expected, remedy=remedy)
