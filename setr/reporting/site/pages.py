"""What each page of the site shows, as plain values for its template."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from setr.reporting.numbers import verdicts
from setr.reporting.numbers.results import Result
from setr.reporting.numbers.significance import Differences
from setr.reporting.numbers.tables import CellReport, TableReport, build_table, is_quoted
from setr.reporting.site.experiment_page import Picture, state_of
from setr.reporting.site.layouts import coverage, judged, number, printed, sub_columns
from setr.study.records import Study

_GALLERY_PICTURES = 4  # of one decoder on the first page


@dataclass(frozen=True)
class ColumnLayout:
    """One column of scores in a table: where its cells start, and the titles of its sub-columns."""

    id: str
    title: str
    quoted: bool
    first: int
    words: tuple[str, ...]


@dataclass(frozen=True)
class TableLayout:
    """One table at one scale."""

    report: TableReport
    anchor: str
    lead: tuple[str, ...]
    columns: tuple[ColumnLayout, ...]
    judged: bool
    coverage: str
    has_quoted: bool
    bands: tuple[CellReport, ...]
    refused: tuple[CellReport, ...]
    comparisons: tuple[Differences, ...]


def table_layout(report: TableReport, comparisons: Sequence[Differences]) -> TableLayout:
    """Returns how a table is laid out."""
    table = report.table
    lead = (*table.texts, *table.facts.values())
    columns, first = [], len(lead)
    for column in table.columns:
        words = sub_columns(report, column)
        columns.append(ColumnLayout(column.id, column.title, is_quoted(column), first, words))
        first += max(1, len(words))
    return TableLayout(
        report=report,
        anchor=f"t{table.number}-{report.scale}",
        lead=lead,
        columns=tuple(columns),
        judged=judged(report),
        coverage=coverage(report) if report.wanted else "",
        has_quoted=any(not row.row.variant for row in report.rows) and bool(report.wanted),
        bands=tuple(cell for cell in report.present if cell.band is not None),
        refused=tuple(cell for cell in report.present if cell.verdict == verdicts.NOT_COMPARABLE),
        comparisons=tuple(comparisons),
    )


def table_card(reports: Sequence[TableReport]) -> dict[str, Any]:
    """Returns what the first page says about one table; the scale with the most numbers counts."""
    best = max(reports, key=lambda report: len(report.present))
    tally = {verdict: count for verdict, count in best.tally.items() if verdict != verdicts.MINIATURE or best.present}
    return {
        "number": best.table.number,
        "title": best.table.title,
        "wanted": len(best.wanted),
        "present": len(best.present),
        "words": ", ".join(f"{count} {verdict}" for verdict, count in tally.items()),
    }


def study_card(study: Study, results: Sequence[Result]) -> dict[str, Any]:
    """Returns what the first page says about another study."""
    return {
        "href": f"{study.name}/index.html",
        "name": study.short,
        "title": study.title,
        "experiments": len(results),
        "tables": len(study.tables),
    }


def experiment_row(result: Result) -> dict[str, Any]:
    """Returns one line of the list of experiments."""
    protocol = "ss" if "ss" in result.scores else next(iter(sorted(result.scores)), "")
    return {
        **{name: str(result.of(name)) for name in ("variant", "schedule", "dataset", "scale", "seed")},
        "short": result.short,
        "cells": " ".join((*result.cells, result.identity)),
        "miou": result.score(protocol, "mIoU"),
        "pixel_accuracy": result.score(protocol, "pixel_accuracy"),
        "step": result.last_step,
        "state": state_of(result),
    }


def filters(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the choices above the list of experiments, those that would change nothing left out."""
    titles = {"scale": "Scale", "dataset": "Data set", "variant": "Model", "state": "State"}
    found = []
    for name, title in titles.items():
        options = sorted({str(row[name]) for row in rows})
        if len(options) > 1:
            found.append({"name": name, "title": title, "options": options})
    return found


def gallery(reports: Sequence[TableReport], pictures: Mapping[str, Sequence[Picture]]) -> list[dict[str, Any]]:
    """Returns for each decoder the pictures of its best model that has some, four at most."""
    names = {"naive": "Naïve", "pup": "PUP", "mla": "MLA", "fcn": "Dilated FCN", "semantic-fpn": "Semantic FPN"}
    best: dict[str, CellReport] = {}
    for report in reports:
        for cell in report.present:
            assert cell.measured is not None
            if cell.cell.metric != "mIoU" or not pictures.get(cell.measured.results[0].identity):
                continue
            decoder = cell.cell.model.decoder
            earlier = best.get(decoder)
            if earlier is None or (earlier.measured and cell.measured.mean > earlier.measured.mean):
                best[decoder] = cell
    found = []
    for decoder, title in ({**{decoder: decoder for decoder in best}, **names}).items():
        if decoder in best and (measured := best[decoder].measured) is not None:
            shown = pictures[measured.results[0].identity][:_GALLERY_PICTURES]
            found.append({"title": title, "pictures": list(shown)})
    return found


def svg_size(text: str) -> tuple[int, int]:
    """Returns the width and height of an SVG in CSS pixels."""
    head = text[: text.index(">", text.index("<svg"))]
    sides = [head.partition(f'{name}="')[2].partition('pt"')[0] for name in ("width", "height")]
    return round(float(sides[0]) * 4 / 3), round(float(sides[1]) * 4 / 3)


def template_filters() -> dict[str, Callable[..., object]]:
    """Returns the filters that the templates use."""
    tones = {
        verdicts.REPRODUCED: ("good", "✓"),
        verdicts.WITHIN: ("near", "≈"),
        verdicts.OFF: ("bad", "✗"),
        verdicts.NOT_COMPARABLE: ("near", "≠"),
        verdicts.UNFINISHED: ("blue", "…"),
        verdicts.NOT_RUN: ("", "○"),
        "finished": ("good", "✓"),
        "failed": ("bad", "✗"),
    }
    return {
        "number": number,
        "printed": printed,
        "signed": lambda value: "" if value is None else f"{value:+.2f}".replace("-", "−"),
        "fact": lambda value: "–" if value is None else f"{value:g}" if float(value).is_integer() else f"{value:.2f}",
        "data": lambda value: "" if value is None else f"{value}",
        "tone": lambda verdict: tones.get(verdict, ("", ""))[0],
        "sign": lambda verdict: tones.get(verdict, ("", "·"))[1],
        "size": lambda figure, side: svg_size(figure.svg)[side],
    }


def all_tables(
    study: Study, results: Sequence[Result], scales: Sequence[str], facts: Mapping[str, float]
) -> dict[int | str, list[TableReport]]:
    """Returns each table at each scale that has numbers for it, at one scale if there are none."""
    found: dict[int | str, list[TableReport]] = {}
    for table in study.tables:
        reports = [build_table(table.id, results, scale=scale, facts=facts, study=study) for scale in scales]
        found[table.number] = [report for report in reports if report.present] or reports[:1]
    return found


def inline(file: Path) -> Markup:
    """Returns a style sheet or a script as it is put into every page."""
    return Markup(file.read_text(encoding="utf-8"))
