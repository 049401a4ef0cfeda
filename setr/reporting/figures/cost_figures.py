"""mIoU against what a model costs: parameters, floating point operations, images per second of training."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from setr.reporting.figures.drawing import COLOURS, DECODER_NAMES, FAINT, MARKERS, Figure, decoder_style, svg
from setr.reporting.numbers.chosen_cells import fullest, mean_of, results_of, row_name, two_digits, unique_cells
from setr.reporting.numbers.results import Result
from setr.reporting.numbers.tables import CellReport, TableReport


@dataclass(frozen=True)
class Cost:
    """One horizontal axis."""

    name: str  # of the figure
    title: str
    label: str
    column: str
    of: Callable[[Result], float | None]
    remark: str = ""


def images_per_second(result: Result) -> float | None:
    """Returns the median speed of a training, None if none was recorded."""
    values = [value for _, value in result.curves.get("images_per_second", ()) if value > 0]
    return statistics.median(values) if values else None


COSTS = (
    Cost(
        "against-parameters",
        "mIoU against parameters",
        "parameters of the whole model (million)",
        "parameters (M)",
        lambda result: result.parameters / 1e6 if result.parameters else None,
    ),
    Cost(
        "against-gflops",
        "mIoU against floating point operations",
        "GFLOPs of one crop, forward (a multiply-add is two)",
        "GFLOPs",
        lambda result: result.gflops,
    ),
    Cost(
        "against-speed",
        "mIoU against speed",
        "images per second in training (median)",
        "images/s",
        images_per_second,
        " Speeds compare between runs of one machine that had nothing else to do.",
    ),
)


def against_costs(reports: Sequence[TableReport]) -> list[Figure]:
    """Returns mIoU against each cost that at least two models of the fullest table recorded, a marker per decoder."""
    report = fullest(reports)
    if report is None:
        return []
    return [figure for cost in COSTS if (figure := _against(report, cost)) is not None]


def _against(report: TableReport, cost: Cost) -> Figure | None:
    points: list[tuple[float, float, CellReport]] = []
    for one in unique_cells(report):
        value = cost.of(results_of(one)[0])
        if value:
            points.append((value, mean_of(one), one))
    if len({value for value, _, _ in points}) < 2:
        return None
    canvas = Canvas(figsize=(7.8, 4.4), layout="constrained")
    axis = canvas.subplots()
    for decoder in dict.fromkeys((*DECODER_NAMES, *(point[2].cell.model.decoder for point in points))):
        index, name = decoder_style(decoder), DECODER_NAMES.get(decoder, decoder)
        mine = [point for point in points if point[2].cell.model.decoder == decoder]
        if mine:
            x, y = [point[0] for point in mine], [point[1] for point in mine]
            axis.scatter(x, y, color=COLOURS[index], marker=MARKERS[index], s=34, label=name)
    longest = max((one.cell.schedule for _, _, one in points), key=lambda text: (len(text), text))
    axis.margins(x=0.16, y=0.08)
    _name_points(axis, [(x, y, row_name(one)) for x, y, one in points if one.cell.schedule == longest])
    axis.set_xlabel(cost.label)
    axis.set_ylabel("mIoU (%)")
    axis.legend(loc="best")
    rows = tuple((row_name(one), one.cell.schedule, f"{x:.3f}", two_digits(y)) for x, y, one in points)
    return Figure(
        cost.name,
        cost.title,
        f"Table {report.table.number}, {report.scale} scale; names at the {longest} schedule.{cost.remark}",
        svg(canvas),
        ("model", "schedule", cost.column, "mIoU"),
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
