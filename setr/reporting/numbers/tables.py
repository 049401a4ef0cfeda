"""The paper's tables filled in with our results: every cell with its number, spread, difference and verdict.

A column never mixes silently: results of one scale, and within a column of one data set, manifest and code version;
what was measured otherwise stands with a mark and a footnote, or is named as not comparable.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from setr.errors import InputError
from setr.reporting.numbers import verdicts
from setr.reporting.numbers.column_protocols import expected_protocols, most_frequent, score_name, scored_digest
from setr.reporting.numbers.results import Result
from setr.reporting.numbers.statistics import mean_and_spread
from setr.reporting.numbers.verdicts import Band
from setr.reporting.numbers.versions import MainVersion, choose, main_version
from setr.study.cells import Cell, cells
from setr.study.records import Column, Row, Study, Table
from setr.study.shelf import setr_study

SCALES = ("paper", "miniature")
_OWN_PROTOCOL = "Scored under the row's own protocol, which the paper uses for it and not for most of the column."
_UNCONFIRMED = "The printed value rests on one text conversion of the paper."
# How often something is looked at or saved, and in which precision, is no other recipe.
_NOT_RECIPE = ("evaluate_every", "checkpoint_every", "precision")


@dataclass(frozen=True)
class Measured:
    """Our number for one cell: the mean over seeds of experiments that differ in nothing else."""

    mean: float
    spread: float | None  # standard deviation over seeds; None for a single seed
    values: tuple[float, ...]  # percent, one for each of `results`
    results: tuple[Result, ...]

    @property
    def count(self) -> int:
        """Returns the number of seeds."""
        return len(self.values)


@dataclass(frozen=True)
class CellReport:
    """One cell: the paper's number, ours, and how they stand to each other."""

    cell: Cell
    verdict: str
    detail: str
    measured: Measured | None = None
    band: Band | None = None
    paper_marks: tuple[str, ...] = ()  # letters of footnotes on the paper's number
    marks: tuple[str, ...] = ()  # letters of footnotes on ours

    @property
    def difference(self) -> float | None:
        """Returns ours minus the paper's in percentage points, None where one is missing."""
        if self.measured is None or self.cell.paper is None:
            return None
        return self.measured.mean - self.cell.paper


@dataclass(frozen=True)
class RowReport:
    """One row: the printed texts and facts, and a cell for each column that the paper fills."""

    row: Row
    cells: Mapping[str, CellReport]  # column id -> cell
    facts: Mapping[str, float] = field(default_factory=dict)  # fact id -> our own count
    fact_marks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # fact id -> letters of footnotes


@dataclass(frozen=True)
class TableReport:
    """One table of the paper at one scale."""

    table: Table
    scale: str
    rows: tuple[RowReport, ...]
    footnotes: tuple[tuple[str, str], ...]  # mark, text

    @property
    def cells(self) -> tuple[CellReport, ...]:
        """Returns all cells, row by row."""
        return tuple(cell for row in self.rows for cell in row.cells.values())

    @property
    def wanted(self) -> tuple[CellReport, ...]:
        """Returns the cells that the project can train: those that are not quoted."""
        return tuple(cell for cell in self.cells if cell.cell.runnable)

    @property
    def present(self) -> tuple[CellReport, ...]:
        """Returns the wanted cells that have a number of ours."""
        return tuple(cell for cell in self.wanted if cell.measured is not None)

    @property
    def missing(self) -> tuple[CellReport, ...]:
        """Returns the wanted cells without a number of ours."""
        return tuple(cell for cell in self.wanted if cell.measured is None)

    @property
    def tally(self) -> dict[str, int]:
        """Returns how often each verdict occurs among the wanted cells, most frequent first."""
        return dict(Counter(cell.verdict for cell in self.wanted).most_common())


class _Footnotes:
    """Letters for remarks, each remark once, in the order of their first use."""

    def __init__(self) -> None:
        self.marks: dict[str, str] = {}

    def mark(self, text: str) -> str:
        """Returns the letter of a remark."""
        return self.marks.setdefault(text, _letters(len(self.marks)))


def is_quoted(column: Column) -> bool:
    """Returns whether a column holds what the paper quotes from others."""
    return not column.protocol


def scales_of(results: Iterable[Result]) -> list[str]:
    """Returns the scales of results, paper first, miniature next; miniature where there are no results."""
    found = {str(result.of("scale")) for result in results}
    return [scale for scale in SCALES if scale in found] + sorted(found - set(SCALES)) or ["miniature"]


def build_table(
    number: int | str,
    results: Sequence[Result],
    *,
    scale: str,
    facts: Mapping[str, float] | None = None,
    study: Study | None = None,
) -> TableReport:
    """Returns one table of a study (None: SETR's) with what the results (see results.usable) say at one scale.

    `facts` are our own counts for columns that hold no scores, by "<row>/<fact>": {"setr-pup/parameters": 318.307}.
    """
    study = study or setr_study()
    table = study.table(number)
    here = [result for result in results if result.of("scale") == scale]
    by_cell: dict[str, list[Result]] = {}
    for result in here:
        for key in result.cells:
            by_cell.setdefault(key, []).append(result)
    footnotes = _Footnotes()
    all_cells = {(cell.row, cell.column): cell for cell in cells([number], study)}
    reports: dict[tuple[str, str], CellReport] = {}
    for column in table.columns:
        in_column = [cell for cell in all_cells.values() if cell.column == column.id]
        reports |= _column_reports(in_column, by_cell, scale, footnotes)
    return TableReport(
        table,
        scale,
        tuple(_row_report(row, table.columns, reports, facts or {}, footnotes) for row in table.rows),
        tuple((mark, text) for text, mark in footnotes.marks.items()),
    )


def _row_report(
    row: Row,
    columns: Sequence[Column],
    reports: Mapping[tuple[str, str], CellReport],
    facts: Mapping[str, float],
    footnotes: _Footnotes,
) -> RowReport:
    return RowReport(
        row,
        {column.id: reports[row.id, column.id] for column in columns if (row.id, column.id) in reports},
        {fact: facts[f"{row.id}/{fact}"] for fact in row.facts if f"{row.id}/{fact}" in facts},
        {fact: (footnotes.mark(_UNCONFIRMED),) for fact in row.facts if fact in row.unconfirmed},
    )


def _column_reports(
    column: Sequence[Cell], by_cell: Mapping[str, list[Result]], scale: str, footnotes: _Footnotes
) -> dict[tuple[str, str], CellReport]:
    """Returns the reports of one column's cells."""
    scored = {cell.key: [one for one in _candidates(cell, by_cell) if _value(cell, one) is not None] for cell in column}
    expected = expected_protocols(column, scored, scale)
    usual = most_frequent(expected.values())
    candidates = {
        cell.key: [one for one in scored[cell.key] if scored_digest(cell, one) == expected.get(cell.key)]
        for cell in column
    }
    main = main_version([one for results in candidates.values() for one in results])
    reports = {}
    for cell in column:
        if candidates[cell.key] or not scored[cell.key]:
            report = _cell_report(cell, candidates[cell.key], by_cell, scale, main, footnotes)
        else:
            detail = _other_protocol(cell, scored[cell.key], expected.get(cell.key, ""))
            marks = tuple(footnotes.mark(text) for text in _remarks_on_paper(cell))
            report = CellReport(cell, verdicts.NOT_COMPARABLE, detail, paper_marks=marks)
        if report.measured and expected.get(cell.key) != usual:
            report = dataclasses.replace(report, marks=(*report.marks, footnotes.mark(_OWN_PROTOCOL)))
        reports[cell.row, cell.column] = report
    return reports


def _other_protocol(cell: Cell, scored: Sequence[Result], expected: str) -> str:
    """Returns why a cell's scores do not stand in its column."""
    best = max(scored, key=lambda one: one.started)
    found, value = scored_digest(cell, best), _value(cell, best)
    assert value is not None
    if not found:
        return f"scored {value:.2f}, but no protocol was recorded with the score"
    return f"scored {value:.2f} under protocol {found[:12]}; the column's is {expected[:12] or 'unknown'}"


def _candidates(cell: Cell, by_cell: Mapping[str, list[Result]]) -> list[Result]:
    """Returns the results that claim a cell; pixel accuracy comes from the results of the mIoU beside it."""
    keys = [cell.key]
    if cell.metric != "mIoU":
        suffix = "-" + cell.metric.replace("_", "-")
        keys.append(cell.key.removesuffix(suffix))
    found = {one.identity: one for key in keys for one in by_cell.get(key, [])}
    return list(found.values())


def _value(cell: Cell, result: Result) -> float | None:
    return result.score(score_name(cell), cell.metric)


def _cell_report(
    cell: Cell,
    candidates: Sequence[Result],
    by_cell: Mapping[str, list[Result]],
    scale: str,
    main: MainVersion | None,
    footnotes: _Footnotes,
) -> CellReport:
    paper_marks = tuple(footnotes.mark(text) for text in _remarks_on_paper(cell))
    if cell.quoted:
        detail = "as the paper quotes it; scored under its authors' own protocol"
        return CellReport(cell, verdicts.QUOTED, detail, paper_marks=paper_marks)
    if not candidates:
        verdict, detail = _why_missing(cell, _candidates(cell, by_cell))
        return CellReport(cell, verdict, detail, paper_marks=paper_marks)
    assert main is not None
    group, remarks = choose(candidates, main, score_name(cell))
    values = tuple(value for one in group if (value := _value(cell, one)) is not None)
    mean, spread = mean_and_spread(values)
    band = None
    if scale != "paper":
        verdict = verdicts.MINIATURE if scale == "miniature" else verdicts.NOT_COMPARABLE
        detail = f"{group[0].of('dataset')} at {scale} scale: other data and another size than the paper's number"
    elif reason := _why_not_comparable(cell, group[0]):
        verdict, detail = verdicts.NOT_COMPARABLE, reason
    else:
        verdict, detail, band = verdicts.verdict_of(cell, mean, spread)
    if band is not None:
        remarks.append(verdicts.band_remark(band))
    marks = tuple(footnotes.mark(remark) for remark in remarks)
    return CellReport(cell, verdict, detail, Measured(mean, spread, values, tuple(group)), band, paper_marks, marks)


def _remarks_on_paper(cell: Cell) -> list[str]:
    remarks = []
    if cell.unconfirmed:
        remarks.append(_UNCONFIRMED)
    if cell.inferred:
        remarks.append("The paper does not state this row's schedule or protocol; see the notes.")
    return remarks


def _why_missing(cell: Cell, claimed: Sequence[Result]) -> tuple[str, str]:
    """Returns the verdict and the reason for a cell without a number."""
    if not claimed and not cell.runnable:
        return verdicts.UNPRINTED, "the paper prints no value, and the tables do not ask for one"
    if not claimed:
        return verdicts.NOT_RUN, "no experiment of this cell has run"
    one = max(claimed, key=lambda result: (result.finished, result.last_step))
    if one.failure:
        return verdicts.NOT_RUN, f"failed in attempt {one.attempts}: {one.failure}"
    if not one.finished:
        total = one.of("recipe", {}).get("iterations", "?")
        return verdicts.UNFINISHED, f"at step {one.last_step} of {total}"
    if cell.split != "val":
        return verdicts.NOT_RUN, "trained; the test server's score is not recorded"
    return verdicts.NOT_RUN, f"trained, but without a finite {cell.metric} under protocol {cell.protocol}"


def _why_not_comparable(cell: Cell, result: Result) -> str:
    """Returns what differs from the paper's own training or scoring, "" if nothing that decides the number does."""
    if result.of("dataset") != cell.dataset:
        return f"trained on {result.of('dataset')}, the paper's number is for {cell.dataset}"
    if result.of("schedule") != cell.schedule:
        return f"schedule {result.of('schedule')}, the paper's number is for {cell.schedule}"
    changed = recipe_differences(cell, result)
    if changed:
        return "recipe differs: " + ", ".join(f"{name} {ours} (paper {paper})" for name, ours, paper in changed)
    return ""


def recipe_differences(cell: Cell, result: Result) -> list[tuple[str, object, object]]:
    """Returns (field, ours, the paper's) where a result's recipe differs from the published one of its flavour."""
    ours = dict(result.of("recipe", {}))
    try:
        published = dataclasses.asdict(cell.published_recipe(str(ours.get("flavour"))))
    except InputError:  # a flavour that has no recipe for this cell
        published = dataclasses.asdict(cell.published_recipe())
    found: list[tuple[str, object, object]] = []
    for name, value in published.items():
        mine = ours.get(name)
        theirs = list(value) if isinstance(value, tuple) else value
        mine = list(mine) if isinstance(mine, tuple) else mine
        if name not in _NOT_RECIPE and mine != theirs:
            found.append((name, mine, theirs))
    return found


def _letters(index: int) -> str:
    """Returns a, b, ... z, aa, ab, ... for 0, 1, ..."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return letters
