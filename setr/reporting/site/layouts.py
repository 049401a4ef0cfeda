"""Tables as text: Markdown, CSV and JSON of the same reports, and the words that every form of them shares."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from setr.reporting.numbers.column_protocols import score_name
from setr.reporting.numbers.significance import Differences
from setr.reporting.numbers.tables import CellReport, RowReport, TableReport, is_quoted
from setr.reporting.numbers.versions import protocol_digest
from setr.study.cells import Cell
from setr.study.records import Column

MINIATURE_CAUTION = (
    "Miniature scale: tiny encoders, trained for minutes on small images. These numbers compare with one another and "
    "never with the paper's, which come from other data and models of another size. The difference is printed, not "
    "judged."
)
_CSV_FIELDS = (
    "table",
    "row",
    "column",
    "cell",
    "method",
    "metric",
    "protocol",
    "schedule",
    "quoted",
    "paper",
    "ours",
    "spread",
    "seeds",
    "difference",
    "verdict",
    "detail",
    "band_low",
    "band_high",
    "band_origin",
    "remarks",
    "scale",
    "dataset",
    "code",
    "protocol_digest",
    "identities",
    "runs",
)


def number(value: float | None, digits: int = 2) -> str:
    """Returns a number with fixed digits, an en dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"


def signed(value: float | None) -> str:
    """Returns a difference with its sign (a true minus), "" for None."""
    return "" if value is None else f"{value:+.2f}".replace("-", "−")


def ours(cell: CellReport) -> str:
    """Returns our number with its spread over seeds, or in a word why there is none."""
    if cell.measured is None:
        return cell.verdict if cell.cell.runnable else ""
    text = number(cell.measured.mean)
    if cell.measured.spread is not None:
        text += f" ± {cell.measured.spread:.2f} (n={cell.measured.count})"
    return text


def coverage(report: TableReport) -> str:
    """Returns in words how much of a table is there."""
    if not report.wanted:
        return "This table holds no scores to measure."
    tally = ", ".join(f"{count} {verdict}" for verdict, count in report.tally.items())
    counted = " In a / b, a is printed and b counted here." if any(row.facts for row in report.rows) else ""
    return f"{len(report.present)} of {len(report.wanted)} numbers measured ({tally}).{counted}"


def caption(report: TableReport) -> str:
    """Returns the table's number and title."""
    return f"Table {report.table.number}. {report.table.title}"


def judged(report: TableReport) -> bool:
    """Returns whether the table's numbers are of a scale that is compared with the paper's."""
    return report.scale == "paper"


def sub_columns(report: TableReport, column: Column) -> tuple[str, ...]:
    """Returns the titles of a column's parts; none for what is quoted, ours alone where the paper prints nothing."""
    if is_quoted(column):
        return ()
    cells = [row.cells[column.id].cell for row in report.rows if column.id in row.cells]
    if not any(cell.paper is not None or cell.not_found for cell in cells):
        return ("ours",)
    return ("paper", "ours", "Δ", "verdict") if judged(report) else ("paper", "ours", "Δ")


NOT_FOUND = "not found"  # in the place of a value that the paper prints and nobody here has read
Compared = Mapping[str, Sequence[Differences]]  # by scale


def markdown(reports: Sequence[TableReport], compared: Compared | None = None) -> str:
    """Returns one table (at each of its scales, with the scale's comparisons) as GitHub Markdown."""
    parts = [f"# {caption(reports[0])}\n"]
    for report in reports:
        parts.append(f"## {report.scale} scale\n\n{coverage(report)}\n" if report.wanted else "")
        if report.scale == "miniature" and report.wanted:
            parts.append(f"> {MINIATURE_CAUTION}\n")
        parts.append(_markdown_rows(report))
        parts.extend(f"- ({mark}) {_escape_markdown(text)}" for mark, text in report.footnotes)
        for one in (compared or {}).get(report.scale, ()):
            parts.append(_markdown_differences(one))
        if report.missing:
            parts.append("\nMissing: " + ", ".join(f"`{one.cell.key}` ({one.verdict})" for one in report.missing))
        parts.append("")
    parts.append("Notes\n")
    parts.extend(f"- {_escape_markdown(note)}" for note in reports[0].table.notes)
    return "\n".join(parts) + "\n"


def _markdown_differences(compared: Differences) -> str:
    lines = [
        f"\n{_escape_markdown(compared.title)}: {_escape_markdown(compared.best)} against the others "
        f"(paired bootstrap over {compared.images} images, p corrected by Holm)\n",
        "| model | difference in mIoU | 95 % interval | p | |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for row in compared.rows:
        said = "significant" if row.significant else "not significant"
        interval = f"{signed(row.low)} to {signed(row.high)}"
        lines.append(
            f"| {_escape_markdown(row.second)} | {signed(row.difference)} | {interval} | {row.p_value:.3f} | {said} |"
        )
    return "\n".join(lines)


def _markdown_rows(report: TableReport) -> str:
    table = report.table
    header = [*table.texts, *table.facts.values()]
    for column in table.columns:
        header += [f"{column.title} {word}" for word in sub_columns(report, column)] or [column.title]
    lines = [header, ["---"] * len(table.texts) + ["---:"] * (len(header) - len(table.texts))]
    for row in report.rows:
        line = [*row.row.texts, *(fact_text(row, fact) for fact in table.facts)]
        for column in table.columns:
            line += texts_of(row.cells.get(column.id), column, report)
        lines.append(line)
    return "\n".join("| " + " | ".join(_escape_markdown(text) for text in line) + " |" for line in lines) + "\n"


def printed(cell: Cell) -> str:
    """Returns the paper's value, or that it has one which has not been found."""
    return NOT_FOUND if cell.not_found else number(cell.paper)


def texts_of(cell: CellReport | None, column: Column, report: TableReport) -> list[str]:
    """Returns the texts of one cell's parts."""
    words = sub_columns(report, column)
    if cell is None:
        return [""] * max(1, len(words))
    paper = printed(cell.cell) + _superscript(cell.paper_marks)
    if not words:
        return [paper]
    own = "–" if "verdict" in words and cell.measured is None else ours(cell) + _superscript(cell.marks)
    texts = {"paper": paper, "ours": own, "Δ": signed(cell.difference), "verdict": cell.verdict}
    return [texts[word] for word in words]


def _superscript(marks: Sequence[str]) -> str:
    return f" ({', '.join(marks)})" if marks else ""


def fact_text(row: RowReport, fact: str) -> str:
    """Returns a printed fact, with our own count behind it where it is known."""
    value = row.row.facts.get(fact)
    text = "–" if value is None else f"{value:g}" if float(value).is_integer() else f"{value:.2f}"
    if fact in row.facts:
        own = row.facts[fact]
        text += f" / {own:g}" if float(own).is_integer() else f" / {own:.2f}"
    return text + _superscript(row.fact_marks.get(fact, ()))


def records(reports: Sequence[TableReport]) -> list[dict[str, Any]]:
    """Returns one record for each cell of one table, at each of its scales."""
    return [_record(cell, report) for report in reports for cell in report.cells]


def _record(report: CellReport, table: TableReport) -> dict[str, Any]:
    cell, measured, band = report.cell, report.measured, report.band
    used = measured.results if measured else ()
    return {
        "table": cell.table,
        "row": cell.row,
        "column": cell.column,
        "cell": cell.key,
        "method": cell.label,
        "metric": cell.metric,
        "protocol": cell.protocol,
        "schedule": cell.schedule,
        "quoted": cell.quoted,
        "paper": cell.paper,
        "ours": round(measured.mean, 4) if measured else None,
        "spread": round(measured.spread, 4) if measured and measured.spread is not None else None,
        "seeds": measured.count if measured else 0,
        "difference": round(report.difference, 4) if report.difference is not None else None,
        "verdict": report.verdict,
        "detail": report.detail,
        "band_low": round(band.low, 2) if band else None,
        "band_high": round(band.high, 2) if band else None,
        "band_origin": band.origin if band else "",
        "remarks": " ".join(text for mark, text in table.footnotes if mark in report.marks),
        "scale": table.scale,
        "dataset": str(used[0].of("dataset")) if used else cell.dataset,
        "code": str(used[0].of("code")) if used else "",
        "protocol_digest": protocol_digest(used[0], score_name(cell)) if used else "",
        "identities": [one.identity for one in used],
        "runs": [one.run_id for one in used],
    }


def csv_text(reports: Sequence[TableReport]) -> str:
    """Returns one table as CSV, one line for each cell."""
    file = io.StringIO()
    writer = csv.DictWriter(file, _CSV_FIELDS, lineterminator="\n")
    writer.writeheader()
    for record in records(reports):
        writer.writerow({key: _csv_value(value) for key, value in record.items()})
    return file.getvalue()


def json_text(reports: Sequence[TableReport], compared: Compared | None = None) -> str:
    """Returns one table as JSON: its titles, notes, footnotes, one record for each cell, the columns' comparisons."""
    table, compared = reports[0].table, compared or {}
    value = {
        "table": table.number,
        "title": table.title,
        "notes": list(table.notes),
        "scales": [
            {
                "scale": one.scale,
                "footnotes": dict(one.footnotes),
                "cells": records([one]),
                "comparisons": [
                    {**asdict(row), "column": column.title, "significant": row.significant}
                    for column in compared.get(one.scale, ())
                    for row in column.rows
                ],
            }
            for one in reports
        ],
    }
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _csv_value(value: object) -> object:
    """Returns a value as a spreadsheet may open it: a text that would be taken for a formula gets an apostrophe."""
    if isinstance(value, list):
        value = " ".join(str(item) for item in value)
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value


def _escape_markdown(text: str) -> str:
    """Returns text that cannot break a Markdown table or bring HTML into it."""
    for character in "\\`*_[]<>|#":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())
