"""What the page of one experiment shows, as plain values for its template."""

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from setr.errors import InputError
from setr.reporting.figures.charts import Series, line_chart
from setr.reporting.numbers import verdicts
from setr.reporting.numbers.results import Result
from setr.reporting.site.layouts import number
from setr.reporting.tracing.commands import score_command, train_command
from setr.reporting.tracing.trace import Link, links
from setr.study.cells import Cell, find_cell
from setr.study.records import SETR_NAME

_CHARTS = (  # title, metrics, unit
    ("Loss", ("loss", "loss/main"), ""),
    ("Validation mIoU", ("val/mIoU",), "percent"),
    ("Learning rate", ("learning_rate",), ""),
    ("Images per second", ("images_per_second",), ""),
)


@dataclass(frozen=True)
class Picture:
    """One picture in the site's folder."""

    href: str
    caption: str
    alt: str
    short: str


def state_of(result: Result) -> str:
    """Returns finished, unfinished or failed."""
    if result.failure:
        return "failed"
    return "finished" if result.finished else verdicts.UNFINISHED


def experiment_page(
    result: Result,
    pictures: Sequence[Picture],
    siblings: Iterable[Result],
    *,
    study: str = SETR_NAME,
    shown: Collection[str] = (SETR_NAME,),
) -> dict[str, Any]:
    """Returns the values of an experiment's page; `siblings` are the same training under other seeds.

    The page is one of `study`; the site has pages of the studies `shown`.
    """
    cell = main_cell(result)
    return {
        "result": result,
        "state": state_of(result),
        "stats": _stats(result),
        "places": [_place(key, str(result.of("scale")), study, shown) for key in result.cells],
        "siblings": sorted(siblings, key=lambda one: str(one.of("seed")).zfill(9)),
        "charts": _charts(result),
        "pictures": pictures,
        "classes": _classes(result),
        "worst": _worst(result),
        "links": [_safe(link) for link in links(None, result)],
        "commands": [
            (title, command)
            for title, command in (("Train", train_command(result)), ("Score", score_command(result)))
            if command
        ],
        "settings": settings(result, cell),
        "tags": sorted((name, str(value)) for name, value in result.tags.items()),
        "receipts": [json.dumps(receipt, indent=1, sort_keys=True, default=str)[:4000] for receipt in result.weights],
    }


def main_cell(result: Result) -> Cell | None:
    """Returns the first cell of the paper that a result serves, None if it serves none that exists."""
    for key in result.cells:
        try:
            cell = find_cell(key)
        except InputError:
            continue
        if not cell.quoted:
            return cell
    return None


def settings(result: Result, cell: Cell | None) -> dict[str, Any]:
    """Returns the experiment's settings beside those of the paper's recipe, which differ first."""
    here = dict(result.of("recipe", {}))
    paper: dict[str, Any] = {}
    if cell is not None:
        try:
            paper = asdict(cell.published_recipe(str(here.get("flavour"))))
        except InputError:
            paper = asdict(cell.published_recipe())
        paper["dataset"] = cell.dataset
    values = {"dataset": result.of("dataset"), **here}
    rows = [
        {
            "name": name,
            "here": _text(value),
            "paper": _text(paper.get(name)),
            "differs": bool(paper) and _text(value) != _text(paper.get(name)),
        }
        for name, value in values.items()
    ]
    rows.sort(key=lambda row: not row["differs"])
    return {"cell": cell.key if cell else "", "rows": rows, "changed": sum(bool(row["differs"]) for row in rows)}


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return " x ".join(_text(item) for item in value)
    if isinstance(value, float):
        return f"{value:g}"
    return "own" if value is None else str(value)


def _stats(result: Result) -> list[dict[str, str]]:
    found = []
    names = {"mIoU": "mIoU", "pixel_accuracy": "pixel accuracy", "mean_accuracy": "mean accuracy"}
    for protocol in sorted(result.scores, key=lambda name: (name != "ss", name)):
        for metric, title in names.items():
            value = result.score(protocol, metric)
            if value is not None and (metric == "mIoU" or protocol == "ss"):
                found.append({"value": number(value), "title": f"{title}, %, {protocol}"})
    error = result.score("ss", "calibration_error")
    if error is not None:
        found.append({"value": f"{error:.1f}", "title": "calibration error, points, ss"})
    if result.parameters:
        found.append({"value": f"{result.parameters / 1e6:.2f} M", "title": "parameters"})
    if result.gflops:
        found.append({"value": f"{result.gflops:.4g}", "title": "GFLOPs of one crop"})
    total = result.of("recipe", {}).get("iterations", "?")
    found.append({"value": f"{result.last_step}", "title": f"of {total} steps recorded"})
    if result.seconds:
        found.append({"value": f"{sum(result.seconds.values()):.0f} s", "title": "wall clock of the last attempt"})
    return found


def _place(key: str, scale: str, study: str, shown: Collection[str]) -> dict[str, str]:
    """Returns where a cell stands, as seen from the pages of a study."""
    try:
        cell = find_cell(key)
    except InputError:
        return {"key": key, "href": "index.html"}
    if cell.study.name not in shown:
        return {"key": key, "href": "index.html"}
    anchor = f"t{cell.table}-{scale}-{cell.row}-{cell.column}"
    up = "" if cell.study.name == study else ("" if study == SETR_NAME else "../") + cell.study.prefix
    return {"key": key, "href": f"{up}table-{cell.table}.html#{anchor}"}


def _charts(result: Result) -> list[dict[str, Any]]:
    found = []
    for title, metrics, unit in _CHARTS:
        series = [Series(name, result.curves[name]) for name in metrics if result.curves.get(name)]
        svg = line_chart(series, title=title, unit=unit)
        if svg:
            names = [one.name for one in series] if len(series) > 1 else []
            found.append({"title": title, "svg": svg, "names": names})
    return found


def _classes(result: Result) -> dict[str, Any] | None:
    protocol = "ss" if "ss" in result.scores else next(iter(sorted(result.scores)), "")
    values = result.scores.get(protocol, {}).get("per_class_iou") or []
    if not values:
        return None
    names = [*result.class_names, *(f"class {index}" for index in range(len(result.class_names), len(values)))]
    rows = [(name, _finite(value)) for name, value in zip(names, values, strict=False)]
    return {"protocol": protocol, "rows": rows}


def _worst(result: Result) -> list[dict[str, Any]]:
    """Returns the images with the lowest mIoU, single scale; none where they were not recorded."""
    rows = result.scores.get("ss", {}).get("worst_images") or []
    return [
        {"key": str(row.get("key")), "miou": _finite(row.get("mIoU")), "accuracy": _finite(row.get("pixel_accuracy"))}
        for row in rows
        if isinstance(row, Mapping)
    ]


def _finite(value: object) -> float | None:
    """Returns a number that can be shown, None for anything else."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _safe(link: Link) -> Link:
    """Returns a link whose address is one that a browser may follow: http and https only."""
    return link if urlsplit(link.url).scheme in ("http", "https") else Link(link.name, link.value, link.broken)
