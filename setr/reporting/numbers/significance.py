"""Which differences between the models of a column are more than the choice of validation images."""

from dataclasses import dataclass

import numpy as np

from setr.errors import InputError
from setr.evaluation.areas import read_areas
from setr.reporting.numbers.results import Note
from setr.reporting.numbers.statistics import Comparison, compare_with_best
from setr.reporting.numbers.tables import TableReport, is_quoted
from setr.study.records import Column


@dataclass(frozen=True)
class Differences:
    """The comparisons of one column's best model with each other one."""

    title: str
    best: str
    images: int
    rows: tuple[Comparison, ...]


def differences_of(report: TableReport, notes: list[Note]) -> list[Differences]:
    """Returns the comparisons of every column that has two models scored on the same images.

    What cannot be compared for want of readable files is added to `notes`.
    """
    found = (_differences(report, column, notes) for column in report.table.columns)
    return [one for one in found if one is not None]


def _differences(report: TableReport, column: Column, notes: list[Note]) -> Differences | None:
    """Returns the paired bootstrap over images between the models of a column, None with fewer than two."""
    if column.metric != "mIoU" or is_quoted(column):
        return None
    areas: dict[str, np.ndarray] = {}
    keys: list[str] | None = None
    for cell in report.present:
        if cell.cell.column != column.id or cell.measured is None:
            continue
        result = cell.measured.results[0]
        file = result.per_image.get(column.protocol)
        if file is None:
            continue
        try:
            mine, found = read_areas(file)
        except InputError as error:
            notes.append(Note(result.short, str(error)))
            continue
        keys = mine if keys is None else keys
        if keys == mine:
            areas[f"{cell.cell.label} ({cell.cell.row})"] = found
    if len({one.shape for one in areas.values()}) != 1 or len(areas) < 2:
        return None
    rows = compare_with_best(areas)
    return Differences(column.title, rows[0].first, rows[0].images, tuple(rows))
