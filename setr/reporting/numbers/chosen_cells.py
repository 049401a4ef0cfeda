"""Which cells of the tables a figure shows, and how they are named in it."""

import re
from collections.abc import Sequence

import numpy as np

from setr.reporting.numbers.results import Result
from setr.reporting.numbers.tables import CellReport, TableReport


def fullest(reports: Sequence[TableReport]) -> TableReport | None:
    """Returns the table with the most numbers of ours, None if there are none."""
    filled = [report for report in reports if report.present]
    return max(filled, key=lambda report: len(report.present)) if filled else None


def unique_cells(report: TableReport) -> list[CellReport]:
    """Returns the single-scale mIoU cells with a number, one for each training."""
    cells = [one for one in report.present if one.cell.metric == "mIoU" and one.cell.protocol == "ss"]
    return list({one.cell.training: one for one in cells}.values())


def both(report: TableReport, column: str) -> list[CellReport]:
    """Returns the mIoU cells of a column that have the paper's number and ours."""
    cells = [one for one in report.present if one.cell.column == column and one.cell.metric == "mIoU"]
    return [one for one in cells if one.cell.paper is not None]


def results_of(one: CellReport) -> tuple[Result, ...]:
    """Returns the experiments behind a cell's number, the first seed first."""
    assert one.measured is not None
    return tuple(one.measured.results)


def mean_of(one: CellReport) -> float:
    """Returns the mean over seeds of a cell that has a number."""
    assert one.measured is not None
    return one.measured.mean


def row_name(one: CellReport) -> str:
    """Returns a row's label without the paper's reference numbers."""
    random = " (random)" if one.cell.variant.endswith("-random") else ""
    return re.sub(r" \[\d+\]", "", one.cell.label) + random


def class_name(result: Result, index: int) -> str:
    """Returns the name of a class, its number where there is none."""
    return result.class_names[index] if index < len(result.class_names) else f"class {index}"


def nan_mean(values: np.ndarray) -> list[float]:
    """Returns the column means without NaN; NaN where a column has nothing else."""
    counts, sums = (~np.isnan(values)).sum(0), np.nansum(values, axis=0)
    return [float(sums[index] / count) if count else float("nan") for index, count in enumerate(counts.tolist())]


def two_digits(value: float | None) -> str:
    """Returns a number with two digits, "" for None and NaN."""
    return "" if value is None or np.isnan(value) else f"{value:.2f}"
