"""Figures of a report as SVG: curves, our numbers beside the paper's, per-class IoU, mIoU against parameters."""

import re
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from setr.paper.recipes import decoder_of
from setr.reporting.curves import curves_by_dataset
from setr.reporting.drawing import (
    COLOURS,
    DECODER_NAMES,
    FAINT,
    MARKERS,
    PAPER,
    SETTINGS,
    Figure,
    heat_map,
    print_values,
    svg,
)
from setr.reporting.results import Result
from setr.reporting.tables import CellReport, TableReport


def figures_of(reports: Sequence[TableReport]) -> list[Figure]:
    """Returns the figures that the tables' results give, in the order in which a reader wants them."""
    results = list({one.identity: one for one in measured_results(reports)}.values())
    with matplotlib.rc_context(SETTINGS):  # type: ignore[arg-type]
        found = [
            against_paper(reports),
            *curves_by_dataset(results, "val/mIoU", "curves-miou", "Validation mIoU during training", "mIoU (%)"),
            *curves_by_dataset(results, "loss", "curves-loss", "Training loss", "loss"),
            per_class(reports),
            against_parameters(reports),
            confusion(reports),
        ]
    return [figure for figure in found if figure is not None]


def measured_results(reports: Sequence[TableReport]) -> list[Result]:
    """Returns the results behind the tables' numbers, each once."""
    found = {
        one.identity: one
        for report in reports
        for cell in report.present
        if cell.measured
        for one in cell.measured.results
    }
    return list(found.values())


def against_paper(reports: Sequence[TableReport]) -> Figure | None:
    """Returns our mIoU and the paper's, model by model, for the table with the most numbers.

    At the paper's scale the two stand on one axis; at another scale only the order of the models is comparable.
    """
    report = _fullest(reports)
    if report is None:
        return None
    columns = [one for one in report.table.columns if any(_both(report, one.id))]
    if not columns:
        return None
    height = 0.95 + 0.34 * max(len(_both(report, column.id)) for column in columns)
    canvas = Canvas(figsize=(4.6 * max(2, len(columns)), height), layout="constrained")
    axes = canvas.subplots(1, len(columns), squeeze=False)[0]
    for axis, column in zip(axes, columns, strict=True):
        draw = _from_paper if report.scale == "paper" else _ranks
        draw(axis, _both(report, column.id), column.title)
    if report.scale == "paper":
        title = "How far from the paper's mIoU"
        caption = "Grey: the range that others measured. Bars: standard deviation over seeds, where there are several."
        axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1.06), ncols=2, borderaxespad=0)
    else:
        title = "Does the order of the models carry over?"
        caption = (
            f"Models ordered by mIoU, best on top: the paper's at the left, ours of {report.scale} scale at the right."
        )
    rows = tuple(
        (one.cell.key, _number(one.cell.paper), _number(one.measured.mean if one.measured else None))
        for one in report.present
    )
    caption = f"Table {report.table.number}. {caption}"
    return Figure("against-paper", title, caption, svg(canvas), ("cell", "paper", "ours"), rows)


def _from_paper(axis: Axes, cells: Sequence[CellReport], title: str) -> None:
    """Draws how far our numbers are from the paper's, with the range of others' measurements behind them."""
    for index, one in enumerate(cells):
        assert one.measured is not None
        assert one.cell.paper is not None
        y, first = len(cells) - 1 - index, index == 0
        if one.band is not None:
            low, high = one.band.low - one.cell.paper, one.band.high - one.cell.paper
            label = "others' range" if first else None
            axis.barh(y, high - low, left=low, height=0.62, color=FAINT, linewidth=0, label=label, zorder=1)
        axis.errorbar(
            one.measured.mean - one.cell.paper,
            y,
            xerr=one.measured.spread,
            fmt="o",
            color=COLOURS[0],
            markersize=5.5,
            label="ours" if first else None,
        )
    axis.axvline(0, color=PAPER, linewidth=1)
    axis.set_yticks(range(len(cells)), [_row_name(one) for one in reversed(cells)])
    axis.set_ylim(-0.6, len(cells) - 0.4)
    axis.set_xlabel("ours minus the paper's mIoU (points)")
    axis.set_title(title, loc="right")
    axis.grid(axis="y", visible=False)


def _ranks(axis: Axes, cells: Sequence[CellReport], title: str) -> None:
    """Draws the models in the paper's order at the left and in ours at the right, joined by lines."""
    papers = {one.cell.key: one.cell.paper or 0.0 for one in cells}
    means = {one.cell.key: one.measured.mean if one.measured else 0.0 for one in cells}
    left = {key: -rank for rank, key in enumerate(sorted(papers, key=lambda key: -papers[key]))}
    right = {key: -rank for rank, key in enumerate(sorted(means, key=lambda key: -means[key]))}
    for one in cells:
        key, decoder = one.cell.key, list(DECODER_NAMES).index(decoder_of(one.cell.variant))
        colour, marker = COLOURS[decoder], MARKERS[decoder]
        axis.plot([0, 1], [left[key], right[key]], color=colour, marker=marker, linewidth=1.6, markersize=5)
        name = _row_name(one)
        axis.text(-0.05, left[key], f"{name}  {papers[key]:.2f}", ha="right", va="center", fontsize=8)
        axis.text(1.05, right[key], f"{means[key]:.2f}  {name}", ha="left", va="center", fontsize=8)
    axis.set_xlim(-1.15, 2.15)
    axis.set_ylim(-len(cells) + 0.4, 1.5)
    for x, words, side in ((0, "paper", "right"), (1, "ours", "left")):
        axis.text(x, 0.9, words, ha=side, va="center", fontsize=8, fontweight="bold")
    axis.text(0.5, 0.9, title, ha="center", va="center", fontsize=9)
    axis.set_axis_off()


def per_class(reports: Sequence[TableReport]) -> Figure | None:
    """Returns the IoU of each class for each model of the fullest table, as a heat map."""
    report = _fullest(reports)
    if report is None:
        return None
    lines: list[tuple[str, list[float]]] = []
    names: tuple[str, ...] = ()
    for one in _unique_cells(report):
        assert one.measured is not None
        known = [result.scores[one.cell.protocol].get("per_class_iou") for result in one.measured.results]
        arrays = [np.array([np.nan if value is None else value for value in iou], np.float64) for iou in known if iou]
        if not arrays or len({len(array) for array in arrays}) > 1 or (lines and len(lines[0][1]) != len(arrays[0])):
            continue
        names = names or one.measured.results[0].class_names
        lines.append((f"{_row_name(one)} {one.cell.schedule}", _nan_mean(np.stack(arrays))))
    if not lines:
        return None
    values = np.array([line for _, line in lines], np.float64)
    classes = [names[index] if index < len(names) else f"class {index}" for index in range(values.shape[1])]
    order = np.argsort(-np.nan_to_num(np.array(_nan_mean(values)), nan=-1.0), kind="stable")
    present = [index for index in order if not np.isnan(values[:, index]).all()][:60]
    values, classes = values[:, present], [classes[index] for index in present]
    canvas = Canvas(figsize=(max(5.0, 1.9 + 0.34 * len(classes)), 1.5 + 0.24 * len(lines)), layout="constrained")
    axis = heat_map(canvas, values, ([name for name, _ in lines], classes), "IoU (%)")
    if len(classes) <= 24:
        print_values(axis, values)
    rows = tuple((name, *map(_number, line)) for (name, _), line in zip(lines, values, strict=True))
    return Figure(
        "per-class-iou",
        "IoU of each class",
        f"Table {report.table.number}, percent, classes ordered by their mean; blank: the class does not occur.",
        svg(canvas),
        ("model", *classes),
        rows,
    )


def against_parameters(reports: Sequence[TableReport]) -> Figure | None:
    """Returns mIoU against the number of parameters, a marker for each decoder; None if no run recorded its size."""
    report = _fullest(reports)
    if report is None:
        return None
    points = []
    for one in _unique_cells(report):
        assert one.measured is not None
        count = one.measured.results[0].parameters
        if count:
            points.append((count / 1e6, one.measured.mean, one))
    if len({millions for millions, _, _ in points}) < 2:
        return None
    canvas = Canvas(figsize=(7.8, 4.4), layout="constrained")
    axis = canvas.subplots()
    for index, (decoder, name) in enumerate(DECODER_NAMES.items()):
        mine = [point for point in points if decoder_of(point[2].cell.variant) == decoder]
        if mine:
            x, y = [point[0] for point in mine], [point[1] for point in mine]
            axis.scatter(x, y, color=COLOURS[index], marker=MARKERS[index], s=34, label=name)
    longest = max((one.cell.schedule for _, _, one in points), key=lambda text: (len(text), text))
    axis.margins(x=0.16, y=0.08)
    _name_points(axis, [(x, y, _row_name(one)) for x, y, one in points if one.cell.schedule == longest])
    axis.set_xlabel("parameters of the whole model (million)")
    axis.set_ylabel("mIoU (%)")
    axis.legend(loc="best")
    rows = tuple((_row_name(one), one.cell.schedule, f"{x:.3f}", _number(y)) for x, y, one in points)
    return Figure(
        "against-parameters",
        "mIoU against parameters",
        f"Table {report.table.number}; names at the {longest} schedule.",
        svg(canvas),
        ("model", "schedule", "parameters (M)", "mIoU"),
        rows,
    )


def _name_points(axis: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Writes names beside points (x, y), moved up where they would cover one another, with a thin line to the point."""
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    gap = (top - bottom) * 0.042
    placed: list[tuple[float, float]] = []
    for x, y, name in sorted(points, key=lambda point: (point[1], point[0])):
        near = [height for across, height in placed if abs(across - x) < (right - left) * 0.22]
        height = max([y, *(one + gap for one in near)])
        placed.append((x, height))
        axis.annotate(
            name,
            (x, y),
            xytext=(x + (right - left) * 0.022, height),
            va="center",
            fontsize=7,
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 2},
        )


def confusion(reports: Sequence[TableReport]) -> Figure | None:
    """Returns the confusion matrix (rows sum to 100 %) of the best model that recorded one."""
    report = _fullest(reports)
    cells = [] if report is None else [one for one in _unique_cells(report) if one.measured]
    for one in sorted(cells, key=lambda cell: -(cell.measured.mean if cell.measured else 0)):
        assert one.measured is not None
        result = one.measured.results[0]
        matrix = np.array(result.scores[one.cell.protocol].get("matrix") or [], np.float64)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.any():
            continue
        present = np.flatnonzero(matrix.sum(0) + matrix.sum(1))[:40]
        matrix = matrix[np.ix_(present, present)]
        share = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        names = [result.class_names[i] if i < len(result.class_names) else f"class {i}" for i in present]
        side = 1.9 + 0.27 * len(names)
        canvas = Canvas(figsize=(side + 0.9, side), layout="constrained")
        axis = heat_map(canvas, share, (names, names), "pixels of the label (%)")
        axis.set_xlabel("predicted")
        axis.set_ylabel("label")
        rows = tuple((name, *(_number(value) for value in line)) for name, line in zip(names, share, strict=True))
        title = f"Confusion of {_row_name(one)}, {one.cell.schedule}"
        return Figure("confusion", title, "Each row sums to 100 %.", svg(canvas), ("label", *names), rows)
    return None


def _fullest(reports: Sequence[TableReport]) -> TableReport | None:
    """Returns the table with the most numbers of ours, None if there are none."""
    filled = [report for report in reports if report.present]
    return max(filled, key=lambda report: (len(report.present), -report.table.number)) if filled else None


def _cells(report: TableReport, column: str) -> list[CellReport]:
    return [one for one in report.present if one.cell.column == column and one.cell.metric == "mIoU"]


def _both(report: TableReport, column: str) -> list[CellReport]:
    return [one for one in _cells(report, column) if one.cell.paper is not None]


def _unique_cells(report: TableReport) -> list[CellReport]:
    """Returns the single-scale mIoU cells with a number, one for each training."""
    cells = [one for one in report.present if one.cell.metric == "mIoU" and one.cell.protocol == "ss"]
    return list({one.cell.training: one for one in cells}.values())


def _row_name(one: CellReport) -> str:
    random = " (random)" if one.cell.variant.endswith("-random") else ""
    return re.sub(r" \[\d+\]", "", one.cell.label) + random


def _nan_mean(values: np.ndarray) -> list[float]:
    """Returns the column means without NaN; NaN where a column has nothing else."""
    counts, sums = (~np.isnan(values)).sum(0), np.nansum(values, axis=0)
    return [float(sums[index] / count) if count else float("nan") for index, count in enumerate(counts.tolist())]


def _number(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.2f}"
