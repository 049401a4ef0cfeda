"""What a piece of Python computes, as one canonical text: wording is not in it.

Left out: comments, formatting, docstrings, annotations, what is raised (the condition stays), what the project's own
errors say where they are made, what is printed, messages of assertions, names of local variables, the order of a
class's methods, how a name was imported.
"""

import ast
from collections.abc import Callable, Mapping
from typing import Any

# Answers what a global name, or an attribute chain of one, refers to: the text that stands for it.
Resolve = Callable[[str, tuple[str, ...]], str]

_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
_COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_SILENT = ("print", "warn")  # functions that compute nothing
# Of setr.errors: what they are given is told, not computed.
_ERRORS = ("InputError", "IntegrityError", "EnvironmentFailure")
_SKIPPED_FIELDS = ("kind", "type_comment", "ctx", "annotation", "returns", "type_params", "type_ignores")


def definition_text(
    node: ast.stmt, resolve: Resolve, *, values_only: bool = False, chosen: frozenset[str] | None = None
) -> str:
    """Returns the canonical text of a top-level statement; `resolve` says what its global names refer to.

    `values_only`: of a class, its methods alone (a record's fields enter by their values). `chosen`: of a table (a
    dictionary with text keys), the entries of these keys alone.
    """
    return _Text(resolve, values_only=values_only, chosen=chosen).statement(node, ())


def is_wording(node: ast.stmt) -> bool:
    """Returns whether a statement computes nothing: a text on its own, or something printed."""
    if not isinstance(node, ast.Expr):
        return False
    if isinstance(node.value, ast.Constant):
        return True
    called = node.value.func if isinstance(node.value, ast.Call) else None
    return getattr(called, "id", getattr(called, "attr", "")) in _SILENT


def annotated_names(node: ast.AST) -> list[ast.expr]:
    """Returns the annotations within a piece of code: they name classes whose methods it may call."""
    found: list[ast.expr] = []
    for part in ast.walk(node):
        if isinstance(part, ast.arg | ast.AnnAssign) and part.annotation is not None:
            found.append(part.annotation)
        elif isinstance(part, _FUNCTIONS) and part.returns is not None:
            found.append(part.returns)
    return found


class _Text:
    def __init__(self, resolve: Resolve, *, values_only: bool, chosen: frozenset[str] | None) -> None:
        self.resolve, self.values_only, self.chosen = resolve, values_only, chosen

    def statement(self, node: ast.stmt, scopes: tuple[Mapping[str, str], ...]) -> str:
        if isinstance(node, ast.ClassDef):
            return self._class(node, scopes)
        if isinstance(node, _FUNCTIONS):
            return self._function(node, scopes)
        if isinstance(node, ast.Raise):
            return "Raise"
        if isinstance(node, ast.Assert):
            return f"Assert({self.any(node.test, scopes)})"
        if (
            isinstance(node, ast.Assign | ast.AnnAssign)
            and self.chosen is not None
            and isinstance(node.value, ast.Dict)
        ):
            return self._table(node.value, scopes)
        if isinstance(node, ast.AnnAssign):
            # As the plain assignment, but that a declaration alone still says where a field stands.
            return f"Assign([{self.any(node.target, scopes)}],{self.any(node.value, scopes)})"
        if isinstance(node, ast.Assign):
            return f"Assign({self.any(node.targets, scopes)},{self.any(node.value, scopes)})"
        return self._plain(node, scopes)

    def body(self, statements: list[ast.stmt], scopes: tuple[Mapping[str, str], ...]) -> str:
        kept = [node for node in statements if not is_wording(node) and not isinstance(node, _IMPORTS)]
        kept = [node for node in kept if not (isinstance(node, ast.AnnAssign) and node.value is None)]
        return "[" + ";".join(self.statement(node, scopes) for node in kept) + "]"

    def any(self, value: Any, scopes: tuple[Mapping[str, str], ...]) -> str:
        if isinstance(value, list):
            if value and all(isinstance(item, ast.stmt) for item in value):
                return self.body(value, scopes)
            return "[" + ",".join(self.any(item, scopes) for item in value) + "]"
        if isinstance(value, ast.stmt):
            return self.statement(value, scopes)
        if isinstance(value, ast.Name):
            return self._name(value.id, (), scopes)
        if isinstance(value, ast.Attribute):
            return self._attribute(value, scopes)
        if isinstance(value, ast.Lambda):
            return self._lambda(value, scopes)
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in _ERRORS:
            return f"Error({self.any(value.func, scopes)})"
        if isinstance(value, _COMPREHENSIONS):
            return self._comprehension(value, scopes)
        if isinstance(value, ast.ExceptHandler):
            name = self._bound(value.name, scopes)
            return f"Except({self.any(value.type, scopes)},{name},{self.body(value.body, scopes)})"
        if isinstance(value, ast.MatchAs | ast.MatchStar):
            pattern = self.any(getattr(value, "pattern", None), scopes)
            return f"{type(value).__name__}({pattern},{self._bound(value.name, scopes)})"
        if isinstance(value, ast.MatchMapping):
            parts = (self.any(value.keys, scopes), self.any(value.patterns, scopes), self._bound(value.rest, scopes))
            return f"MatchMapping({','.join(parts)})"
        if isinstance(value, ast.AST):
            return self._plain(value, scopes)
        return repr(value)

    def _plain(self, node: ast.AST, scopes: tuple[Mapping[str, str], ...]) -> str:
        # Absent and empty fields are left out: newer versions of Python add such fields.
        parts = [
            f"{field}={self.any(value, scopes)}"
            for field, value in ast.iter_fields(node)
            if field not in _SKIPPED_FIELDS and value != [] and (value is not None or isinstance(node, ast.Constant))
        ]
        return f"{type(node).__name__}({','.join(parts)})"

    def _class(self, node: ast.ClassDef, scopes: tuple[Mapping[str, str], ...]) -> str:
        kept = [entry for entry in node.body if not is_wording(entry) and not isinstance(entry, _IMPORTS)]
        methods = sorted(self.statement(entry, scopes) for entry in kept if isinstance(entry, _FUNCTIONS))
        fields = [entry for entry in kept if not isinstance(entry, _FUNCTIONS)]
        if self.values_only:
            fields = [entry for entry in fields if not isinstance(entry, ast.AnnAssign)]
        texts = [self.statement(entry, scopes) for entry in fields]
        head = [self.any(part, scopes) for part in (node.bases, node.keywords, node.decorator_list)]
        return f"Class({node.name},{','.join(head)},[{';'.join(texts)}],[{';'.join(methods)}])"

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, scopes: tuple[Mapping[str, str], ...]) -> str:
        arguments = node.args
        # Parameters keep their names: whoever calls may name them.
        own = {argument.arg: argument.arg for argument in _all_arguments(arguments)}
        inner = (*scopes, {**_places(_bound_names(node.body), own, len(scopes)), **own})
        outer = [self.any(part, scopes) for part in (arguments.defaults, arguments.kw_defaults, node.decorator_list)]
        name = self._bound(node.name, scopes)
        return f"{type(node).__name__}({name},{_signature(arguments)},{','.join(outer)},{self.body(node.body, inner)})"

    def _lambda(self, node: ast.Lambda, scopes: tuple[Mapping[str, str], ...]) -> str:
        names = dict.fromkeys(argument.arg for argument in _all_arguments(node.args))
        inner = (*scopes, _places(names, {}, len(scopes)))
        defaults = self.any([*node.args.defaults, *(entry for entry in node.args.kw_defaults if entry)], scopes)
        return f"Lambda({len(names)},{defaults},{self.any(node.body, inner)})"

    def _comprehension(self, node: Any, scopes: tuple[Mapping[str, str], ...]) -> str:
        names = dict.fromkeys(
            name.id for part in node.generators for name in ast.walk(part.target) if isinstance(name, ast.Name)
        )
        return self._plain(node, (*scopes, _places(names, {}, len(scopes))))

    def _table(self, table: ast.Dict, scopes: tuple[Mapping[str, str], ...]) -> str:
        assert self.chosen is not None
        entries = [
            f"{key.value!r}:{self.any(value, scopes)}"
            for key, value in zip(table.keys, table.values, strict=True)
            if isinstance(key, ast.Constant) and key.value in self.chosen
        ]
        return f"Table([{','.join(sorted(entries))}])"

    def _bound(self, name: str | None, scopes: tuple[Mapping[str, str], ...]) -> str:
        return next((scope[name] for scope in reversed(scopes) if name in scope), name) if name else ""

    def _name(self, name: str, attributes: tuple[str, ...], scopes: tuple[Mapping[str, str], ...]) -> str:
        for scope in reversed(scopes):
            if name in scope:
                return ".".join((scope[name], *attributes))
        return self.resolve(name, attributes)

    def _attribute(self, node: ast.Attribute, scopes: tuple[Mapping[str, str], ...]) -> str:
        attributes = [node.attr]
        value = node.value
        while isinstance(value, ast.Attribute):
            attributes.append(value.attr)
            value = value.value
        if isinstance(value, ast.Name):
            return self._name(value.id, tuple(reversed(attributes)), scopes)
        return f"{self.any(value, scopes)}.{'.'.join(reversed(attributes))}"


_IMPORTS = (ast.Import, ast.ImportFrom)


def _places(names: Mapping[str, None], taken: Mapping[str, str], depth: int) -> dict[str, str]:
    """Returns what stands for the local variables of a scope: how deep it lies, and their order of appearance."""
    return {name: f"${depth}.{place}" for place, name in enumerate(name for name in names if name not in taken)}


def _all_arguments(arguments: ast.arguments) -> list[ast.arg]:
    extra = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *extra]


def _signature(arguments: ast.arguments) -> str:
    kinds = (arguments.posonlyargs, arguments.args, arguments.kwonlyargs)
    stars = (arguments.vararg.arg if arguments.vararg else "", arguments.kwarg.arg if arguments.kwarg else "")
    return "|".join([*(",".join(argument.arg for argument in kind) for kind in kinds), *stars])


def _bound_names(body: list[ast.stmt]) -> dict[str, None]:
    """Returns the names that a function's body binds, in the order of their first appearance, inner scopes left out.

    Names that it imports or declares global or nonlocal are none of them.
    """
    found: dict[str, None] = {}
    not_own: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Global | ast.Nonlocal):
            not_own.update(node.names)
        elif isinstance(node, _IMPORTS):
            not_own.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, _FUNCTIONS | ast.ClassDef):
            found.setdefault(node.name)
            for decorator in node.decorator_list:
                visit(decorator)
            return
        elif isinstance(node, ast.Lambda):
            return
        elif isinstance(node, _COMPREHENSIONS):
            # Its own variables are its own; what a walrus in it binds is the function's.
            for part in ast.walk(node):
                if isinstance(part, ast.NamedExpr):
                    found.setdefault(part.target.id)
            return
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            found.setdefault(node.id)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            found.setdefault(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            found.setdefault(node.rest)
        for child in ast.iter_child_nodes(node):
            visit(child)

    for statement in body:
        visit(statement)
    return {name: None for name in found if name not in not_own}
