"""Where models are wrong, from their counts: confusion between classes, and how far confidence can be trusted."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure as Canvas

from setr.errors import InputError
from setr.evaluation.areas import read_arrays
from setr.evaluation.calibration import BINS, PLACES, UNIT, expected_calibration_error, reliability
from setr.reporting.figures.drawing import (
    COLOURS,
    LINES,
    MARKERS,
    PAPER,
    Figure,
    decoder_style,
    heat_map,
    print_values,
    svg,
)
from setr.reporting.numbers.chosen_cells import (
    class_name,
    fullest,
    mean_of,
    results_of,
    row_name,
    two_digits,
    unique_cells,
)
from setr.reporting.numbers.results import Result
from setr.reporting.numbers.tables import CellReport, TableReport

_CLASSES = 40  # of a confusion matrix: those with the most pixels
_PRINTED = 24  # classes whose shares are printed into the fields


def confusion(reports: Sequence[TableReport]) -> Figure | None:
    """Returns the confusion matrix (rows sum to 100 %) of the best model of the fullest table that recorded one."""
    for one in _best_first(reports):
        result = results_of(one)[0]
        matrix = _matrix(result, one.cell.protocol)
        if matrix is None:
            continue
        size = matrix.sum(0) + matrix.sum(1)
        chosen = np.sort(np.argsort(-size, kind="stable")[:_CLASSES])
        present = chosen[size[chosen] > 0]
        totals = np.maximum(matrix.sum(1, keepdims=True), 1)[present]
        share = 100 * matrix[np.ix_(present, present)] / totals
        share[matrix.sum(1)[present] == 0] = np.nan
        names = [class_name(result, int(index)) for index in present]
        side = 1.9 + 0.27 * len(names)
        canvas = Canvas(figsize=(side + 0.9, side), layout="constrained")
        axis = heat_map(canvas, share, (names, names), "pixels of the label (%)")
        if len(names) <= _PRINTED:
            print_values(axis, np.where(share >= 0.5, share, np.nan))
        axis.set_xlabel("predicted")
        axis.set_ylabel("label")
        left_out = int((size > 0).sum()) - len(present)
        caption = "Each row holds the pixels of one label, in percent; blank: less than half a percent." + (
            f" The {left_out} classes with the fewest pixels are left out." if left_out else ""
        )
        return Figure(
            "confusion",
            f"Confusion of {row_name(one)}, {one.cell.schedule}",
            f"{caption} Table {fullest_number(reports)}, {result.of('scale')} scale.",
            svg(canvas),
            ("label", *names),
            tuple((name, *(two_digits(value) for value in line)) for name, line in zip(names, share, strict=True)),
        )
    return None


def calibration(reports: Sequence[TableReport]) -> Figure | None:
    """Returns accuracy against confidence of the best model of each decoder, None if no run recorded it."""
    shown: dict[str, tuple[CellReport, np.ndarray]] = {}
    rows = []
    for one in _best_first(reports):
        counts = _calibration(results_of(one)[0], one.cell.protocol)
        error = None if counts is None else expected_calibration_error(counts)
        if counts is None or error is None:
            continue
        shown.setdefault(one.cell.model.decoder, (one, counts))
        means = [two_digits(100 * value) for value in _totals(counts)]
        rows.append((row_name(one), one.cell.schedule, two_digits(error), *means, str(int(counts[0].sum()))))
    if not shown:
        return None
    canvas = Canvas(figsize=(8.6, 4.3), layout="constrained")
    axis, below = canvas.subplots(1, 2, width_ratios=(1.15, 1))
    axis.plot([0, 100], [0, 100], color=PAPER, linewidth=1, linestyle=":")
    for decoder in sorted(shown, key=decoder_style):
        index = decoder_style(decoder)
        one, counts = shown[decoder]
        confidence, accuracy, share = reliability(counts)
        there = counts[0] >= max(20, counts[0].sum() / 5000)  # fewer say nothing
        style = {"color": COLOURS[index], "linestyle": LINES[index], "label": f"{row_name(one)} {one.cell.schedule}"}
        axis.plot(confidence[there], accuracy[there], marker=MARKERS[index], **style)
        below.stairs(share, np.linspace(0, 100, BINS + 1), color=style["color"], linestyle=style["linestyle"])
    axis.set_xlabel("confidence (%)")
    axis.set_ylabel("right (%)")
    axis.set_xlim(0, 102)
    axis.set_ylim(0, 102)
    axis.legend(loc="upper left")
    below.set_xlabel("confidence (%)")
    below.set_ylabel("share of the pixels (%)")
    below.set_xlim(0, 100)
    return Figure(
        "calibration",
        "Can the confidence be trusted?",
        f"How often the predicted class is right, by its probability, in {BINS} steps; on the dotted line the two "
        "agree, below it a model is too sure. The best model of each decoder; "
        f"{PLACES} pixels of each validation image. "
        f"Table {fullest_number(reports)}.",
        svg(canvas),
        ("model", "schedule", "calibration error (points)", "mean confidence (%)", "accuracy (%)", "pixels"),
        tuple(rows),
    )


def fullest_number(reports: Sequence[TableReport]) -> str:
    """Returns the number of the table that these figures are of."""
    report = fullest(reports)
    return "" if report is None else str(report.table.number)


def _best_first(reports: Sequence[TableReport]) -> list[CellReport]:
    report = fullest(reports)
    return [] if report is None else sorted(unique_cells(report), key=lambda one: -mean_of(one))


def _matrix(result: Result, protocol: str) -> np.ndarray | None:
    """Returns the recorded confusion matrix float64 (K,K), None if there is none (older records have none)."""
    file = result.per_image.get(protocol)
    if file is None:
        return None
    try:
        matrix = np.asarray(read_arrays(file, "matrix")[0], np.float64)
    except (InputError, ValueError, TypeError):
        return None
    if not np.isfinite(matrix).all():
        return None
    return matrix if matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] and matrix.any() else None


def _calibration(result: Result, protocol: str) -> np.ndarray | None:
    """Returns the recorded counts (3,BINS), None if there are none (older records have none)."""
    counts = np.array(result.scores.get(protocol, {}).get("calibration") or [], np.float64)
    return counts if counts.shape == (3, BINS) else None


def _totals(counts: np.ndarray) -> tuple[float, float]:
    """Returns mean confidence and accuracy of all sampled pixels, of 1."""
    pixels, right, confidence = counts.sum(1)
    return float(confidence / UNIT / pixels), float(right / pixels)
