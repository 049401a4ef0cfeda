"""Training curves: a panel for each decoder and schedule, a line for each model, its seeds as a band."""

import re
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from setr.reporting.figures.drawing import COLOURS, DECODER_NAMES, LINES, MARKERS, Figure, decoder_shown, svg
from setr.reporting.numbers.results import Result

_POINTS = 60  # of one line; more are averaged


def curves_by_dataset(results: Sequence[Result], metric: str, name: str, title: str, label: str) -> list[Figure | None]:
    """Returns one figure of curves for each data set and scale, the one with most results first."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for one in results:
        groups.setdefault((str(one.of("scale")), str(one.of("dataset"))), []).append(one)
    order = sorted(groups, key=lambda key: (-len(groups[key]), key))
    plain = len(order) == 1
    return [
        curves(
            groups[key],
            metric,
            name if plain else re.sub(r"[^a-z0-9-]+", "-", f"{name}-{key[1]}-{key[0]}".lower()),
            title if plain else f"{title} ({key[1]}, {key[0]} scale)",
            label,
        )
        for key in order
    ]


def curves(results: Sequence[Result], metric: str, name: str, title: str, label: str) -> Figure | None:
    """Returns a metric over the steps: a panel for each decoder and schedule, a line for each model."""
    groups: dict[tuple[str, str], dict[str, list[Result]]] = {}
    for one in results:
        if one.curves.get(metric):
            panel = (decoder_shown(str(one.of("variant"))), str(one.of("schedule")))
            groups.setdefault(panel, {}).setdefault(str(one.of("variant")), []).append(one)
    if not groups:
        return None
    decoders = [decoder for decoder in [*DECODER_NAMES, ""] if any(key[0] == decoder for key in groups)]
    schedules = sorted({key[1] for key in groups}, key=lambda text: (len(text), text))
    canvas = Canvas(figsize=(9.2, 0.5 + 2.15 * len(decoders)), layout="constrained")
    axes = canvas.subplots(len(decoders), len(schedules), squeeze=False, sharey="row", sharex="col")
    for row, decoder in enumerate(decoders):
        names = sorted({variant for key in groups if key[0] == decoder for variant in groups[key]})
        for column, schedule in enumerate(schedules):
            axis = axes[row, column]
            if (decoder, schedule) not in groups:
                axis.set_axis_off()
                continue
            for variant, seeds in sorted(groups[decoder, schedule].items()):
                _curve(axis, seeds, metric, variant, names.index(variant))
            axis.set_title(f"{DECODER_NAMES.get(decoder, 'other')}, {schedule}", loc="left")
            axis.legend(loc="upper right" if metric.startswith("loss") else "lower right", handlelength=2.6)
            if column == 0 or (decoder, schedules[column - 1]) not in groups:
                axis.set_ylabel(label)
                axis.tick_params(labelleft=True)
            if not any((below, schedule) in groups for below in decoders[row + 1 :]):
                axis.set_xlabel("step")
                axis.tick_params(labelbottom=True)
    rows = []
    for (_, schedule), variants in sorted(groups.items()):
        for variant, seeds in sorted(variants.items()):
            last = [one.curves[metric][-1][1] for one in seeds]
            rows.append((variant, schedule, str(len(seeds)), f"{float(np.mean(last)):.4g}"))
    caption = (
        "One panel for each decoder and schedule; with several seeds the line is their mean and the band their range."
    )
    return Figure(name, title, caption, svg(canvas), ("model", "schedule", "seeds", f"last {label}"), tuple(rows))


def _curve(axis: Axes, seeds: Sequence[Result], metric: str, variant: str, index: int) -> None:
    """Draws the mean curve of one model, and the range over its seeds."""
    lines = [np.asarray(one.curves[metric], dtype=np.float64) for one in seeds]
    lines = [line[np.isfinite(line[:, 1])] for line in lines]
    lines = [line for line in lines if len(line)]
    if not lines:
        return
    first, last = max(line[0, 0] for line in lines), min(line[-1, 0] for line in lines)
    steps = np.unique(np.concatenate([line[:, 0] for line in lines]))
    steps = steps[(steps >= first) & (steps <= last)]
    if len(steps) > _POINTS:
        edges = np.linspace(steps[0], steps[-1], _POINTS + 1)
        centres = (edges[1:] + edges[:-1]) / 2
        values = np.stack([_bucket_means(line, edges) for line in lines])
        steps = centres
    else:
        values = np.stack([np.interp(steps, line[:, 0], line[:, 1]) for line in lines])
    colour, marker = COLOURS[index % 6], MARKERS[index % 6] if len(steps) <= 12 else None
    axis.plot(steps, values.mean(0), label=variant, marker=marker, color=colour, linestyle=LINES[index % 6])
    if len(lines) > 1:
        axis.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.18, linewidth=0)


def _bucket_means(line: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Returns the mean value of a curve (N,2) between neighbouring edges; empty ones are interpolated."""
    index = np.clip(np.digitize(line[:, 0], edges) - 1, 0, len(edges) - 2)
    sums = np.bincount(index, weights=line[:, 1], minlength=len(edges) - 1)
    counts = np.bincount(index, minlength=len(edges) - 1)
    centres = (edges[1:] + edges[:-1]) / 2
    filled = counts > 0
    return np.interp(centres, centres[filled], sums[filled] / counts[filled])
