"""Edits of the project's own text: what is to be changed is found in the syntax tree, what is not changed stays."""

import ast
import functools
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Edit:
    """Files of the project with new texts."""

    kind: str
    name: str  # what was done, and where
    files: Mapping[str, str]  # path below the project -> text
    new: str = ""  # of a changed expression: the text that stands there now


class Sources:
    """The texts and syntax trees of the files below a folder."""

    def __init__(self, root: Path, over: Mapping[str, str] | None = None) -> None:
        """Read from `root`, but for the files that `over` gives."""
        self.root, self._over = root, dict(over or {})
        self.tree = functools.cache(self._tree)

    def text(self, file: str) -> str:
        """Returns a file's text."""
        return self._over[file] if file in self._over else (self.root / file).read_text(encoding="utf-8")

    def _tree(self, file: str) -> ast.Module:
        return ast.parse(self.text(file))

    def files(self, folder: str) -> list[str]:
        """Returns the Python files below a folder."""
        return sorted(str(path.relative_to(self.root)) for path in (self.root / folder).rglob("*.py"))


def functions(tree: ast.Module) -> Iterator[tuple[Function, ast.ClassDef | None]]:
    """Yields the module's functions, and its classes' methods with their class."""
    for node in tree.body:
        if isinstance(node, Function):
            yield node, None
        elif isinstance(node, ast.ClassDef):
            yield from ((entry, node) for entry in node.body if isinstance(entry, Function))


def definitions(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """Yields the name and the statement of each definition; of statements that define no name, none."""
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield from ((name.id, node) for name in ast.walk(target) if isinstance(name, ast.Name))


def first_line(node: ast.stmt) -> int:
    """Returns the line that a statement begins with, decorators included."""
    return min([node.lineno, *(part.lineno for part in getattr(node, "decorator_list", []))])


def with_statement(text: str, node: ast.stmt, new: str) -> str:
    """Returns the text with other lines in a statement's place; `new` comes without indentation."""
    lines = text.splitlines(keepends=True)
    new = textwrap.indent(new.strip("\n"), " " * node.col_offset) + "\n" if new else ""
    return "".join([*lines[: first_line(node) - 1], new, *lines[node.end_lineno :]])


def with_expression(text: str, node: ast.expr, new: str) -> str:
    """Returns the text with another expression in one's place."""
    lines = [line.encode() for line in text.splitlines(keepends=True)]
    before = b"".join(lines[: node.lineno - 1]) + lines[node.lineno - 1][: node.col_offset]
    assert node.end_lineno is not None
    after = lines[node.end_lineno - 1][node.end_col_offset :] + b"".join(lines[node.end_lineno :])
    return (before + new.encode() + after).decode()


def with_import(text: str, line: str) -> str:
    """Returns the text with an import after its own."""
    tree = ast.parse(text)
    last = max([node.end_lineno or 0 for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], default=0)
    if not last and ast.get_docstring(tree) is not None:
        last = tree.body[0].end_lineno or 0
    lines = text.splitlines(keepends=True)
    return "".join([*lines[:last], line + "\n", *lines[last:]])


def with_first_statement(text: str, function: str, statement: str) -> str:
    """Returns the text with a statement before all others of a top-level function, after its docstring."""
    node = next(entry for entry in ast.parse(text).body if isinstance(entry, Function) and entry.name == function)
    place = node.body[0].end_lineno if ast.get_docstring(node) is not None else first_line(node.body[0]) - 1
    lines = text.splitlines(keepends=True)
    return "".join([*lines[:place], f"    {statement}\n", *lines[place:]])


def module_of(file: str) -> str:
    """Returns the dotted name of a file's module."""
    return file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
