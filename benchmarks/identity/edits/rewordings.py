"""Rewordings of the real modules, drawn by a seed: the project is worded otherwise and computes the same.

Each kind takes the modules that the experiments run through and edits what it finds there; nothing is chosen by hand.
"""

import ast
import builtins
import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

from benchmarks.identity.edits import extensions
from benchmarks.identity.edits.editing import (
    Edit,
    Function,
    Sources,
    first_line,
    functions,
    module_of,
    with_expression,
    with_statement,
)

Computing = Mapping[str, Sequence[str]]  # definitions that the experiments run through, by file
Kind = Callable[[Sources, Computing, random.Random], Edit | None]
Statement = Function | ast.ClassDef
_TRIES = 400


def rewordings(sources: Sources, computing: Computing, seed: int, count: int = 60) -> list[Edit]:
    """Returns `count` rewordings, the kinds in turn; `computing` is what the experiments run through."""
    found: list[Edit] = []
    rng = random.Random(f"{seed}/rewordings")
    for number in range(count):
        name = list(KINDS)[number % len(KINDS)]
        for _ in range(_TRIES):
            edit = KINDS[name](sources, computing, rng)
            if edit is not None and all(edit.files != other.files for other in found):
                found.append(Edit(name, edit.name, edit.files))
                break
        else:
            raise AssertionError(f"no place is left for: {name}")
    return found


def local_names(sources: Sources, computing: Computing, rng: random.Random) -> Edit | None:
    """The local variables of a function have other names."""
    file, node, _ = _any_function(sources, computing, rng)
    names = _own_names(node, sources.tree(file))
    if not names:
        return None
    suffix = rng.choice(("value", "found", "held", "now"))
    text = sources.text(file)
    names = [name for name in names if f"{name}_{suffix}" not in text]
    new = copy.deepcopy(node)
    for part in ast.walk(new):
        if isinstance(part, ast.Name) and part.id in names:
            part.id = f"{part.id}_{suffix}"
    if not names:
        return None
    return _rewritten(file, node, new, text, f"{node.name}: {', '.join(names)} renamed")


def error_texts(sources: Sources, computing: Computing, rng: random.Random) -> Edit | None:
    """A function's errors say other things."""
    file, node, _ = _any_function(sources, computing, rng)
    new, changed = copy.deepcopy(node), 0
    for part in ast.walk(new):
        if not isinstance(part, ast.Call) or not getattr(part.func, "id", "").endswith(("Error", "Failure")):
            continue
        for argument in [*part.args, *(keyword.value for keyword in part.keywords)]:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str) and " " in argument.value:
                argument.value += rng.choice((", as was found", " (see the documentation)", ", please"))
                changed += 1
    if not changed:
        return None
    return _rewritten(file, node, new, sources.text(file), f"{node.name}: {changed} texts of errors")


def annotations_stripped(sources: Sources, computing: Computing, rng: random.Random) -> Edit | None:
    """A function has no annotations."""
    file, node, _ = _any_function(sources, computing, rng)
    before = ast.dump(node)
    new = _Unannotated().visit(copy.deepcopy(node))
    if ast.dump(new) == before:
        return None
    return _rewritten(file, node, new, sources.text(file), f"{node.name}: without annotations")


def annotations_added(sources: Sources, computing: Computing, rng: random.Random) -> Edit | None:
    """A function's variables are annotated where they are assigned."""
    file, node, _ = _any_function(sources, computing, rng)
    own = set(_own_names(node, sources.tree(file)))
    new = copy.deepcopy(node)
    adding = _Annotated(own)
    new.body = [adding.visit(entry) for entry in new.body]
    if not adding.count:
        return None
    return _rewritten(file, node, new, sources.text(file), f"{node.name}: {adding.count} annotations")


def format_and_comments(sources: Sources, computing: Computing, rng: random.Random) -> Edit | None:
    """A module is written by a machine, without comments, or with other docstrings and more comments."""
    file = rng.choice(sorted(computing))
    tree = copy.deepcopy(sources.tree(file))
    documented = [part for part in ast.walk(tree) if _documented(part)]
    how = rng.choice(("other docstrings", "no docstrings", "comments"))
    for part in documented:
        if how == "other docstrings":
            part.body[0].value.value = "Does what its name says.\n\n    And more.\n    "
        elif how == "no docstrings" and len(part.body) > 1:
            del part.body[0]
    text = ast.unparse(tree) + "\n"
    if how == "comments":
        text = "".join(f"{line}  # {rng.randrange(1000)}\n" for line in text.splitlines() if not _in_text(line))
        try:
            if ast.dump(ast.parse(text)) != ast.dump(ast.parse(ast.unparse(tree))):
                return None  # a comment ended up within a text of several lines
        except SyntaxError:
            return None
    return Edit("", f"{file}: written anew, {how}", {file: text})


def functions_reordered(sources: Sources, computing: Computing, rng: random.Random) -> Edit | None:
    """Functions that follow one another stand in another order."""
    file = rng.choice(sorted(computing))
    runs = [run for run in _runs(sources.tree(file)) if len(run) > 1]
    if not runs:
        return None
    run = rng.choice(runs)
    lines = sources.text(file).splitlines(keepends=True)
    texts = ["".join(lines[first_line(node) - 1 : node.end_lineno]) + "\n\n" for node in run]
    order = rng.sample(range(len(run)), len(run))
    if order == sorted(order):
        return None
    middle = "".join(texts[place] for place in order)
    text = "".join([*lines[: first_line(run[0]) - 1], middle, *lines[run[-1].end_lineno or 0 :]])
    return Edit("", f"{file}: {', '.join(run[place].name for place in order)}", {file: text})


def function_moved(sources: Sources, computing: Computing, rng: random.Random) -> Edit | None:
    """A function stands in a module of its own, and is imported where it stood."""
    file, node, owner = _any_function(sources, computing, rng)
    tree = sources.tree(file)
    if owner is not None or any(isinstance(part, ast.Global) for part in ast.walk(node)):
        return None
    used = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} - {node.name}
    inner = {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    inner |= {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
    imported = {alias.asname or alias.name.partition(".")[0]: entry for entry in tree.body
                if isinstance(entry, ast.Import | ast.ImportFrom) for alias in entry.names}  # fmt: skip
    if used - inner - imported.keys() - set(dir(builtins)) or any(isinstance(p, ast.alias) for p in ast.walk(node)):
        return None  # it uses what stands in its module
    new_file = f"{file.rpartition('/')[0]}/moved_{node.name.strip('_')}.py"
    imports = [_import_of(imported[name], name) for name in sorted(used & imported.keys())]
    body = "".join(sources.text(file).splitlines(keepends=True)[first_line(node) - 1 : node.end_lineno])
    moved = '"""Moved."""\n\n' + "\n".join(imports) + "\n\n\n" + body
    here = with_statement(sources.text(file), node, f"from {module_of(new_file)} import {node.name}")
    return Edit("", f"{file}: {node.name} -> {new_file}", {file: here, new_file: moved})


def function_split(sources: Sources, computing: Computing, rng: random.Random) -> Edit | None:
    """What a function returns is computed by a function of its own."""
    file, node, owner = _any_function(sources, computing, rng)
    last = node.body[-1]
    if not isinstance(last, ast.Return) or last.value is None or isinstance(last.value, ast.Name | ast.Constant):
        return None
    parts = list(ast.walk(last.value))
    forbidden = ast.Yield | ast.YieldFrom | ast.Await | ast.NamedExpr
    called = {part.id for part in parts if isinstance(part, ast.Name)}
    if any(isinstance(part, forbidden) for part in parts) or {"super", "__class__", "locals"} & called:
        return None
    bound = {part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    bound |= {part.arg for part in parts if isinstance(part, ast.arg)}
    own = {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    own |= {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
    own |= {part.name for part in ast.walk(node) if isinstance(part, Function) and part is not node}
    imports = [part for part in ast.walk(node) if isinstance(part, ast.Import | ast.ImportFrom)]
    own |= {(entry.asname or entry.name).partition(".")[0] for part in imports for entry in part.names}
    needed = sorted((called & own) - bound)
    name = f"_{node.name.strip('_')}_{rng.choice(('result', 'answer', 'end'))}"
    text, top = sources.text(file), owner or node
    if name in text:
        return None
    helper = f"\n\ndef {name}({', '.join(needed)}):\n    return {ast.unparse(last.value)}\n"
    lines = text.splitlines(keepends=True)
    text = "".join([*lines[: top.end_lineno], helper, *lines[top.end_lineno or 0 :]])
    text = with_expression(text, last.value, f"{name}({', '.join(needed)})")
    return Edit("", f"{file}: {node.name} returns {name}(...)", {file: text})


KINDS: Mapping[str, Kind] = {
    "local names": local_names,
    "error texts": error_texts,
    "annotations stripped": annotations_stripped,
    "annotations added": annotations_added,
    "format and comments": format_and_comments,
    "functions reordered": functions_reordered,
    "function moved": function_moved,
    "function split": function_split,
    "new row": lambda sources, computing, rng: extensions.row(sources, rng),
    "new decoder": lambda sources, computing, rng: extensions.decoder(sources, rng),
    "new recipe field": lambda sources, computing, rng: extensions.recipe_field(sources, rng),
    "new reader": lambda sources, computing, rng: extensions.reader(sources, rng),
}


class _Unannotated(ast.NodeTransformer):
    """Takes the annotations off arguments, results and variables."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        return ast.copy_location(ast.Assign([node.target], node.value), node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return node


class _Annotated(ast.NodeTransformer):
    """Annotates single variables where they are assigned first."""

    def __init__(self, names: set[str]) -> None:
        self.names, self.count = names, 0

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        [target] = node.targets if len(node.targets) == 1 else [None]
        if not isinstance(target, ast.Name) or target.id not in self.names:
            return node
        self.names.discard(target.id)
        self.count += 1
        return ast.copy_location(ast.AnnAssign(target, ast.Name("object", ast.Load()), node.value, 1), node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node


def _any_function(
    sources: Sources, computing: Computing, rng: random.Random
) -> tuple[str, Function, ast.ClassDef | None]:
    file = rng.choice(sorted(computing))
    there = list(functions(sources.tree(file)))
    node, owner = rng.choice([entry for entry in there if (entry[1] or entry[0]).name in computing[file]] or there)
    return file, node, owner


def _rewritten(file: str, node: Function, new: ast.AST, text: str, name: str) -> Edit:
    ast.fix_missing_locations(new)
    return Edit("", f"{file}: {name}", {file: with_statement(text, node, ast.unparse(new))})


def _own_names(node: Function, tree: ast.Module) -> list[str]:
    """Returns the variables of a function that nothing else in it can mean: they may be renamed throughout."""
    stored = [part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)]
    taken = {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
    for part in ast.walk(node):
        if isinstance(part, ast.Global | ast.Nonlocal):
            taken.update(part.names)
        elif isinstance(part, ast.alias):
            taken.add(part.asname or part.name)
        elif isinstance(part, ast.ExceptHandler | ast.MatchAs | ast.MatchStar | Function | ast.ClassDef):
            taken.add(part.name or "")
    outside = {part.id for entry in tree.body if not isinstance(entry, Function | ast.ClassDef)
               for part in ast.walk(entry) if isinstance(part, ast.Name)}  # fmt: skip
    outside |= {alias.asname or alias.name for part in ast.walk(tree) if isinstance(part, ast.Import | ast.ImportFrom)
                for alias in part.names}  # fmt: skip
    outside |= {entry.name for entry in tree.body if isinstance(entry, Function | ast.ClassDef)}
    return [name for name in dict.fromkeys(stored) if name not in taken | outside and not name.startswith("__")]


def _documented(node: ast.AST) -> bool:
    return isinstance(node, ast.Module | Function | ast.ClassDef) and ast.get_docstring(node) is not None


def _in_text(line: str) -> bool:
    return line.rstrip().endswith("\\")


def _runs(tree: ast.Module) -> Iterator[list[Function]]:
    """Yields functions that follow one another and do not need one another while the module is imported."""
    run: list[Function] = []
    for node in [*tree.body, None]:
        if isinstance(node, Function):
            run.append(node)
            continue
        names = {entry.name for entry in run}
        early = [
            part for entry in run for part in [*entry.decorator_list, *entry.args.defaults, *entry.args.kw_defaults]
        ]
        if not names & {part.id for entry in early if entry for part in ast.walk(entry) if isinstance(part, ast.Name)}:
            yield run
        run = []


def _import_of(node: ast.Import | ast.ImportFrom, name: str) -> str:
    """Returns the import of one name alone."""
    [alias] = [entry for entry in node.names if (entry.asname or entry.name.partition(".")[0]) == name]
    one = copy.copy(node)
    one.names = [alias]
    return ast.unparse(one)
