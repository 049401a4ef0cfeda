"""An experiment and its identity: the SHA-256 over everything that decides a training's result."""

import ast
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from setr.errors import InputError
from setr.paper.recipes import Recipe

_PACKAGE = Path(__file__).resolve().parent.parent
# What these modules decide enters the identity as values (recipe, manifest, weights), or decides no result at all.
_NOT_HASHED = (
    "setr.errors",
    "setr.config",
    "setr.paper",
    "setr.reporting",
    "setr.data.atomic",
    "setr.training.events",
    "setr.training.claims",
    "setr.training.lease",
    "setr.training.watchdog",
)


@dataclass(frozen=True)
class Experiment:
    """One training: data set, model variant, schedule and seed, with all that decides its result."""

    dataset: str
    variant: str
    schedule: str  # as the tables write it: 40k, 80k, 160k
    scale: str  # miniature | paper
    seed: int
    recipe: Recipe
    manifest: str  # hash of the training shards' manifest
    weights: str  # SHA-256 of the pre-trained weights' file; "" for random
    code: str  # code_hash of the modules that train and score
    transform: str = ""  # a function of the user's own with the hash of its file; "": none, and not in the identity

    @property
    def identity(self) -> str:
        """Returns the SHA-256, in hex, of the canonical JSON: the same identity is never trained twice."""
        return hashlib.sha256(canonical_json(self.as_dict()).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Returns the experiment as JSON-able values, the recipe nested; `from_dict` reads it back."""
        record = json.loads(canonical_json(asdict(self)))
        if not self.transform:
            del record["transform"]
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Experiment":
        """Returns the experiment of a record written by `as_dict`.

        Raises InputError if a field is missing or unknown.
        """
        try:
            return cls(**{**record, "recipe": Recipe(**record["recipe"])})
        except (TypeError, KeyError) as error:
            expected = ", ".join(field.name for field in fields(cls))
            raise InputError(
                "E_EXPERIMENT", "not an experiment's record", found=str(error), expected=expected
            ) from error


def canonical_json(value: object) -> str:
    """Returns the one JSON text of a value: keys sorted, no spaces, ASCII, tuples as lists; NaN raises ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def code_hash(entry_modules: Iterable[str]) -> str:
    """Returns the SHA-256, in hex, of what the named modules and all they import within `setr` compute.

    The modules are parsed, not imported. Comments, docstrings and formatting do not count, nor do the modules that
    decide no result by their code (_NOT_HASHED). Raises InputError for a module that does not exist.
    """
    return _code_hash(tuple(sorted(set(entry_modules))), _PACKAGE)


def import_closure(entry_modules: Iterable[str], package: Path = _PACKAGE) -> tuple[str, ...]:
    """Returns the sorted names of the modules reached from the entry modules by imports within the package."""
    waiting, seen = list(entry_modules), set()
    while waiting:
        name = waiting.pop()
        if name in seen or _is_under(name, _NOT_HASHED):
            continue
        file = _file_of(name, package)
        if file is None:
            raise InputError("E_MODULE", "no such module to hash", where=name, expected=f"a module under {package}")
        seen.add(name)
        waiting.extend(_imports(name, file, package))
    return tuple(sorted(seen))


@functools.lru_cache(maxsize=64)
def _code_hash(entry_modules: tuple[str, ...], package: Path) -> str:
    digest = hashlib.sha256()
    for name in import_closure(entry_modules, package):
        file = _file_of(name, package)
        assert file is not None
        digest.update(f"{name}\n{_meaning(_parsed(file))}\n".encode())
    return digest.hexdigest()


@functools.lru_cache(maxsize=1024)
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def _file_of(name: str, package: Path) -> Path | None:
    """Returns the file of a dotted module name within the package, None if there is none."""
    parts = name.split(".")
    if parts[0] != package.name:
        return None
    path = package.joinpath(*parts[1:])
    for file in (path.with_suffix(".py") if len(parts) > 1 else path / "__init__.py", path / "__init__.py"):
        if file.is_file():
            return file
    return None


def _imports(name: str, file: Path, package: Path) -> Iterable[str]:
    """Returns the modules of the package that one module imports, wherever in the file the import stands."""
    for node in ast.walk(_parsed(file)):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            anchor = name.split(".")[: -node.level or None] if file.name != "__init__.py" else name.split(".")
            if file.name == "__init__.py" and node.level > 1:
                anchor = anchor[: 1 - node.level]
            base = ".".join([*(anchor if node.level else []), *([node.module] if node.module else [])])
            # `from a import b` may name the module a.b or something inside a.
            targets = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (target for target in targets if _file_of(target, package) is not None)


def _is_under(name: str, parents: Iterable[str]) -> bool:
    return any(name == parent or name.startswith(parent + ".") for parent in parents)


def _meaning(node: object) -> str:
    """Returns a text of the syntax tree without positions and docstrings, the same for every Python version.

    Fields that are absent or empty are left out: newer versions of `ast` add such fields.
    """
    if isinstance(node, ast.AST):
        parts = []
        for field, value in ast.iter_fields(node):
            if field == "body" and isinstance(value, list) and _holds_docstring(node):
                value = value[1:]
            if value is None and not isinstance(node, ast.Constant):
                continue
            if value != [] and field not in ("kind", "type_comment"):
                parts.append(f"{field}={_meaning(value)}")
        return f"{type(node).__name__}({','.join(parts)})"
    if isinstance(node, list):
        return f"[{','.join(map(_meaning, node))}]"
    return repr(node)


def _holds_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node, clean=False) is not None
    )
