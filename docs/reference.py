"""Writes the reference from the docstrings: `make docs`, then docs/reference/README.md.

One page for each package, read from the source without importing it: every public class, function and method with its
signature and docstring.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "setr.study",
    "setr.data",
    "setr.models",
    "setr.training",
    "setr.evaluation",
    "setr.reporting",
    "setr",
    "pipelines",
)


def main() -> int:
    """Write docs/reference/ and return the exit status."""
    out = ROOT / "docs" / "reference"
    out.mkdir(exist_ok=True)
    lines = ["# Reference", "", "Made from the docstrings by `make docs`.", "", "| package | modules |", "|---|---|"]
    for package in PACKAGES:
        modules = sorted(ROOT.joinpath(*package.split(".")).glob("*.py"))
        modules = [module for module in modules if module.name != "__init__.py"]
        pages = [page(f"{package}.{module.stem}", module) for module in modules]
        (out / f"{package}.md").write_text(f"# {package}\n\n" + "\n".join(pages), encoding="utf-8")
        names = ", ".join(f"[{one.stem}]({package}.md#{package.replace('.', '')}{one.stem})" for one in modules)
        lines.append(f"| [{package}]({package}.md) | {names} |")
    (out / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(out / "README.md")
    return 0


def page(name: str, file: Path) -> str:
    """Returns one module's part of its package's page, in Markdown."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    parts = [f"## {name}\n", (ast.get_docstring(tree) or "") + "\n"]
    parts += [text for node in tree.body for text in entries(node)]
    return "\n".join(parts)


def entries(node: ast.stmt, owner: str = "") -> Iterator[str]:
    """Yields a heading, a signature and the docstring of each public thing that a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
        yield entry(f"{owner}{node.name}", signature(node), ast.get_docstring(node), method=bool(owner))
    elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
        bases = f"({', '.join(map(ast.unparse, node.bases))})" if node.bases else ""
        fields = [ast.unparse(one) for one in node.body if isinstance(one, ast.AnnAssign)]
        shown = "\n".join([f"class {node.name}{bases}", *(f"    {field}" for field in fields)])
        yield entry(node.name, shown, ast.get_docstring(node), method=False)
        for one in node.body:
            yield from entries(one, f"{node.name}.")


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Returns a function's head on one line, as it stands in the source."""
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({ast.unparse(node.args)}){returns}"


def entry(name: str, shown: str, said: str | None, *, method: bool) -> str:
    """Returns one entry in Markdown."""
    return f"{'####' if method else '###'} `{name}`\n\n```python\n{shown}\n```\n\n{said or ''}\n"


if __name__ == "__main__":
    sys.exit(main())
