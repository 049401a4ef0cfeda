"""One-line changes of what is computed: one expression of the real modules replaced by another, drawn by a seed.

Where a change may be made is not chosen by hand: every constant, operator, comparison, flag and index in the
definitions that the experiments run through, and in the tables that say what they are, on lines that they do run.
"""

import ast
import copy
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from benchmarks.identity.edits.clock import FILE as CLOCK
from benchmarks.identity.edits.clock import IMPORT, late
from benchmarks.identity.edits.editing import Edit, Function, Sources, definitions, with_expression, with_import

# The tables that decide what an experiment or a protocol is.
TABLES = (
    "setr/data/reading/ade20k.py",
    "setr/data/reading/cityscapes.py",
    "setr/models/decoders/decoder.py",
    "setr/models/decoders/fcn.py",
    "setr/models/decoders/mla.py",
    "setr/models/decoders/naive.py",
    "setr/models/decoders/pup.py",
    "setr/models/flavours.py",
    "setr/models/specification.py",
    "setr/models/variants.py",
    "setr/study/miniature.py",
    "setr/study/protocols.py",
    "setr/study/recipes.py",
)
# What has to be among the changes: pattern of `file:definition: line`.
SUBJECTS = {
    "loss weight": r"auxiliary_weight",
    "tap": r"_LAYERS|taps",
    "stride": r"stride",
    "normalisation constant": r":(MEAN|STD):|eps=",
    "poly power": r"poly_power",
    "momentum": r"momentum",
    "crop rule": r"cat_max_ratio|CROP_DRAWS|_is_varied|_place_window",
    "flip probability": r"flip_probability",
    "dropout": r"dropout|drop_path",
    "initial values": r":initialise_|std=",
    "ignore index": r"ignore_index",
    "metric's sum": r"metrics.py:(scores|image_areas|_mean|_percent)",
    "window overlap": r":(_assembled|coverage|_spans|windows|miniature_protocol): ",
    "ratio list": r":RATIOS: ",
}
EARLY, LATE = "at once", "late"
DEPTH = 25  # candidates in each place of the list: those that change nothing are passed over

_ARITHMETIC: Mapping[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Pow: ast.Mult, ast.Mod: ast.FloorDiv,
}  # fmt: skip
_COMPARISON: Mapping[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_CALLS = {"min": "max", "max": "min", "amax": "amin", "amin": "amax"}
_PASSED_OVER = ast.Raise | ast.Assert | ast.JoinedStr | ast.Import | ast.ImportFrom


@dataclass(frozen=True, eq=False)
class Point:
    """An expression of the project, and what may stand in its place."""

    file: str
    definition: str
    line: str
    node: ast.expr
    before: str
    after: str
    repeated: bool  # it is computed again in each step

    def __str__(self) -> str:
        return f"{self.file}:{self.definition}: {self.line}"

    @property
    def key(self) -> tuple[str, int, int, str]:
        """Returns what tells it from other points."""
        return self.file, self.node.lineno, self.node.col_offset, self.after


def points(
    sources: Sources,
    computing: Mapping[str, Iterable[str]],
    run: Mapping[str, Iterable[int]],
    repeated: Mapping[str, Iterable[int]],
) -> list[Point]:
    """Returns every change that could be made.

    `computing` holds the definitions that experiments run through, by file; `run` the lines that one of them has run,
    `repeated` those of them that a step has run.
    """
    found = []
    for file in sorted({*computing, *TABLES} - {CLOCK}):
        lines = sources.text(file).splitlines()
        names = set(computing.get(file, ()))
        ran, again = set(run.get(file, ())), set(repeated.get(file, ()))
        for name, statement in definitions(sources.tree(file)):
            if name not in names and file not in TABLES:
                continue
            for node, span in _expressions(statement):
                if not ran.intersection(span):
                    continue
                before = ast.get_source_segment(sources.text(file), node)
                assert before is not None
                in_step = name in names and bool(again.intersection(span)) and isinstance(statement, _RUN)
                line = lines[node.lineno - 1].strip()
                found += [Point(file, name, line, node, before, after, in_step) for after in _alternatives(node)]
    return found


_RUN = Function | ast.ClassDef


def candidates(found: list[Point], seed: int, count: int = 60) -> list[tuple[str, list[tuple[str, Point]]]]:
    """Returns the places of the list: a subject ("": any) with the changes that are tried in it, each at once or late.

    Half of the places are for late ones. No change stands twice.
    """
    half, names = count // 2, list(SUBJECTS)
    random.Random(f"{seed}/subjects").shuffle(names)
    slots = [(name, EARLY) for name in names[:half]] + [("", EARLY)] * max(0, half - len(names))
    slots += [("", LATE)] * (count - half)
    streams = [_stream(found, subject, when, f"{seed}/{number}") for number, (subject, when) in enumerate(slots)]
    taken: set[tuple[str, int, int, str]] = set()
    chosen: list[list[tuple[str, Point]]] = [[] for _ in slots]
    for _ in range(DEPTH):
        for entries, stream, (_, when) in zip(chosen, streams, slots, strict=True):
            point = next((point for point in stream if point.key not in taken), None)
            if point is not None:
                taken.add(point.key)
                entries.append((when, point))
    return [(subject, entries) for (subject, _), entries in zip(slots, chosen, strict=True)]


def changed(sources: Sources, when: str, point: Point) -> Edit:
    """Returns the project with one expression replaced."""
    text, new = sources.text(point.file), point.after
    if when == LATE:
        new = late(point.before, point.after)
        if IMPORT not in text:
            new_text = with_import(with_expression(text, point.node, new), IMPORT)
            return _edit(when, point, new, new_text)
    return _edit(when, point, new, with_expression(text, point.node, new))


def _edit(when: str, point: Point, new: str, text: str) -> Edit:
    name = f"{point.file}:{point.node.lineno} {point.definition}: {point.before} -> {point.after}"
    return Edit(when, " ".join(name.split()), {point.file: text}, new)


def _stream(found: list[Point], subject: str, when: str, seed: str) -> Iterator[Point]:
    """Yields changes in random order, each from a definition that is drawn first: long ones have no more weight."""
    rng = random.Random(seed)
    fitting = [point for point in found if point.repeated or when == EARLY]
    fitting = [point for point in fitting if not subject or re.search(SUBJECTS[subject], str(point))]
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in fitting:
        groups.setdefault((point.file, point.definition), []).append(point)
    while groups:
        place = rng.choice(sorted(groups))
        yield groups[place].pop(rng.randrange(len(groups[place])))
        if not groups[place]:
            del groups[place]


def _expressions(statement: ast.stmt) -> Iterator[tuple[ast.expr, range]]:
    """Yields the expressions that compute something, with the lines of the statement, or its head, they stand in."""

    def walk(node: ast.AST, span: range) -> Iterator[tuple[ast.expr, range]]:
        if isinstance(node, _PASSED_OVER) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            return
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if isinstance(body, list) and body else node.end_lineno or node.lineno
            span = range(node.lineno, max(last, node.lineno) + 1)
        if isinstance(node, ast.expr):
            yield node, span
        if isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith(("Error", "Failure")):
            return
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list"):
                continue
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, ast.AST):
                    yield from walk(part, span)

    yield from walk(statement, range(statement.lineno, statement.lineno + 1))


def _alternatives(node: ast.expr) -> Iterator[str]:
    """Yields expressions that compute something else."""
    if isinstance(node, ast.Constant):
        yield from _other_constants(node.value)
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        yield f"({ast.unparse(_with(node, op=_ARITHMETIC[type(node.op)]()))})"
        for side in ("left", "right"):
            operand = getattr(node, side)
            if isinstance(operand, ast.Attribute | ast.Name):
                more = ast.BinOp(operand, ast.Mult(), ast.Constant(2))
                yield f"({ast.unparse(_with(node, **{side: more}))})"
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield f"({ast.unparse(_with(node, ops=[_COMPARISON[type(node.ops[0])]()]))})"
    elif isinstance(node, ast.BoolOp):
        yield f"({ast.unparse(_with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And()))})"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.IfExp):
        yield f"({ast.unparse(_with(node, body=node.orelse, orelse=node.body))})"
    elif isinstance(node, ast.Call):
        yield from _other_calls(node)


def _other_constants(value: object) -> Iterator[str]:
    if isinstance(value, bool):
        yield str(not value)
    elif isinstance(value, int):
        yield str(value + 1)
        if value > 1:
            yield str(value - 1)
    elif isinstance(value, float):
        yield repr(value * 1.5 if value else 0.1)
        if value:
            yield repr(value / 2)


def _other_calls(node: ast.Call) -> Iterator[str]:
    if isinstance(node.func, ast.Name) and node.func.id in _CALLS:
        yield ast.unparse(_with(node, func=ast.Name(_CALLS[node.func.id], ast.Load())))
    elif isinstance(node.func, ast.Attribute) and node.func.attr in _CALLS:
        yield ast.unparse(_with(node, func=_with(node.func, attr=_CALLS[node.func.attr])))


def _with(node: ast.expr, **fields: object) -> ast.expr:
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return other
