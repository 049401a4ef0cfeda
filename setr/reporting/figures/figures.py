"""Figures of a report as SVG: curves, our numbers beside the paper's, per-class IoU, costs, confusion, calibration."""

import re
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from setr.reporting.figures.cost_figures import against_costs
from setr.reporting.figures.curves import curves_by_dataset
from setr.reporting.figures.drawing import (
    COLOURS,
    FAINT,
    MARKERS,
    PAPER,
    SETTINGS,
    Figure,
    decoder_style,
    heat_map,
    print_values,
    svg,
)
from setr.reporting.figures.error_figures import calibration, confusion
from setr.reporting.numbers.chosen_cells import both, class_name, fullest, nan_mean, row_name, two_digits, unique_cells
from setr.reporting.numbers.results import Result
from setr.reporting.numbers.tables import CellReport, TableReport


def figures_of(reports: Sequence[TableReport]) -> list[Figure]:
    """Returns the figures that the tables' results give, in the order in which a reader wants them."""
    results = list({one.identity: one for one in measured_results(reports)}.values())
    with matplotlib.rc_context(SETTINGS):  # type: ignore[arg-type]
        found = [
            against_paper(reports),
            *curves_by_dataset(results, "val/mIoU", "curves-miou", "Validation mIoU during training", "mIoU (%)"),
            *curves_by_dataset(results, "loss", "curves-loss", "Training loss", "loss"),
            per_class(reports),
            *against_costs(reports),
            confusion(reports),
            calibration(reports),
        ]
    return [figure for figure in found if figure is not None]


def figure_sections(figures: Sequence[Figure]) -> list[tuple[str, str, list[Figure]]]:
    """Returns the figures as sections of a page: anchor, title, figures; what the paper has stands in its order."""
    kinds = {
        "numbers": ("numbers", "What was measured", [one for one in figures if not one.answers]),
        "paper": ("paper", "The paper's figures", sorted((one for one in figures if one.answers), key=_paper_order)),
    }
    return [section for section in kinds.values() if section[2]]


def _paper_order(figure: Figure) -> int:
    """Returns the number of the first figure of the paper that a figure answers."""
    return int(next(iter(re.findall(r"\d+", figure.answers)), 0))


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
    report = fullest(reports)
    if report is None:
        return None
    columns = [one for one in report.table.columns if any(both(report, one.id))]
    if not columns:
        return None
    height = 0.95 + 0.34 * max(len(both(report, column.id)) for column in columns)
    canvas = Canvas(figsize=(4.6 * max(2, len(columns)), height), layout="constrained")
    axes = canvas.subplots(1, len(columns), squeeze=False)[0]
    for axis, column in zip(axes, columns, strict=True):
        draw = _from_paper if report.scale == "paper" else _ranks
        draw(axis, both(report, column.id), column.title)
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
        (one.cell.key, two_digits(one.cell.paper), two_digits(one.measured.mean if one.measured else None))
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
    axis.set_yticks(range(len(cells)), [row_name(one) for one in reversed(cells)])
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
        key, decoder = one.cell.key, decoder_style(one.cell.model.decoder)
        colour, marker = COLOURS[decoder], MARKERS[decoder]
        axis.plot([0, 1], [left[key], right[key]], color=colour, marker=marker, linewidth=1.6, markersize=5)
        name = row_name(one)
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
    report = fullest(reports)
    if report is None:
        return None
    lines: list[tuple[str, list[float]]] = []
    first: Result | None = None
    for one in unique_cells(report):
        assert one.measured is not None
        known = [result.scores[one.cell.protocol].get("per_class_iou") for result in one.measured.results]
        arrays = [np.array([np.nan if value is None else value for value in iou], np.float64) for iou in known if iou]
        if not arrays or len({len(array) for array in arrays}) > 1 or (lines and len(lines[0][1]) != len(arrays[0])):
            continue
        first = first or one.measured.results[0]
        lines.append((f"{row_name(one)} {one.cell.schedule}", nan_mean(np.stack(arrays))))
    if first is None:
        return None
    values = np.array([line for _, line in lines], np.float64)
    classes = [class_name(first, index) for index in range(values.shape[1])]
    order = np.argsort(-np.nan_to_num(np.array(nan_mean(values)), nan=-1.0), kind="stable")
    present = [index for index in order if not np.isnan(values[:, index]).all()][:60]
    values, classes = values[:, present], [classes[index] for index in present]
    canvas = Canvas(figsize=(max(5.0, 1.9 + 0.34 * len(classes)), 1.5 + 0.24 * len(lines)), layout="constrained")
    axis = heat_map(canvas, values, ([name for name, _ in lines], classes), "IoU (%)")
    if len(classes) <= 24:
        print_values(axis, values)
    rows = tuple((name, *map(two_digits, line)) for (name, _), line in zip(lines, values, strict=True))
    return Figure(
        "per-class-iou",
        "IoU of each class",
        f"Table {report.table.number}, percent, classes ordered by their mean; blank: the class does not occur.",
        svg(canvas),
        ("model", *classes),
        rows,
    )
