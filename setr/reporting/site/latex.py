"""Tables as LaTeX (booktabs)."""

import re
import unicodedata
from collections.abc import Sequence

from setr.reporting.numbers.tables import TableReport
from setr.reporting.site.layouts import MINIATURE_CAUTION, coverage, fact_text, sub_columns, texts_of
from setr.study.records import Study
from setr.study.shelf import setr_study


def latex(reports: Sequence[TableReport], study: Study | None = None) -> str:
    """Returns one table (at each scale) of a study (None: SETR's) as LaTeX for the packages booktabs and graphicx."""
    head = "% Needs \\usepackage{booktabs,graphicx}; graphicx shrinks wide tables to the line.\n"
    return head + "\n".join(_latex_table(report, study or setr_study()) for report in reports)


def _latex_table(report: TableReport, study: Study) -> str:
    table = report.table
    lead = len(table.texts) + len(table.facts)
    title = f"Table {_latex(str(table.number))} of {_latex(study.short)}: {_latex(table.title)}"
    spec = "l" * len(table.texts) + "r" * len(table.facts)
    top, bottom, rules = [""] * lead, [_latex(text) for text in [*table.texts, *table.facts.values()]], []
    position = lead
    for column in table.columns:
        words = sub_columns(report, column)
        if words:
            top.append(f"\\multicolumn{{{len(words)}}}{{c}}{{{_latex(column.title)}}}")
            rules.append(f"\\cmidrule(lr){{{position + 1}-{position + len(words)}}}")
        else:
            top.append("")
        spec += "".join("l" if word == "verdict" else "r" for word in words) or "r"
        bottom += [_latex(word) for word in words or (column.title,)]
        position += max(1, len(words))
    lines = [
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{title}. {_latex(_latex_remark(report))}}}",
        "\\medskip",
        f"\\label{{tab:{study.name}-{table.number}-{_latex(report.scale)}}}",
        f"\\resizebox{{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}}{{!}}{{%\n\\begin{{tabular}}{{{spec}}}",
        "\\toprule",
        *([" & ".join(top) + " \\\\", " ".join(rules)] if rules else []),
        " & ".join(bottom) + " \\\\",
        "\\midrule",
    ]
    for row in report.rows:
        line = [*map(_latex, row.row.texts), *(_marked(fact_text(row, fact)) for fact in table.facts)]
        for column in table.columns:
            line += [_marked(text) for text in texts_of(row.cells.get(column.id), column, report)]
        lines.append(" & ".join(line) + " \\\\")
    lines += ["\\bottomrule", "\\end{tabular}}", *_latex_footnotes(report), "\\end{table}", ""]
    return "\n".join(lines)


def _marked(text: str) -> str:
    """Returns a number's text with its footnote letters raised."""
    match = re.fullmatch(r"(.*) \(([a-z]{1,2}(?:, [a-z]{1,2})*)\)", text)
    return _latex(text) if match is None else f"{_latex(match[1])}\\textsuperscript{{{match[2]}}}"


def _latex_remark(report: TableReport) -> str:
    if not report.wanted:
        return ""
    return coverage(report) + (" " + MINIATURE_CAUTION if report.scale == "miniature" else "")


def _latex_footnotes(report: TableReport) -> list[str]:
    if not report.footnotes:
        return []
    text = " ".join(f"({mark}) {text}" for mark, text in report.footnotes)
    return ["\\par\\smallskip", f"{{\\footnotesize {_latex(text)}}}"]


def latex_document(numbers: Sequence[int | str]) -> str:
    """Returns a LaTeX document that sets the files table-<n>.tex beside it."""
    inputs = "\n".join(f"\\input{{table-{one}.tex}}\n\\clearpage" for one in numbers)
    return (
        "\\documentclass{article}\n\\usepackage[a4paper,landscape,margin=15mm]{geometry}\n"
        f"\\usepackage{{booktabs,graphicx}}\n\\begin{{document}}\n{inputs}\n\\end{{document}}\n"
    )


_LATEX = {
    "\\": "\\textbackslash{}",
    "{": "\\{",
    "}": "\\}",
    "$": "\\$",
    "&": "\\&",
    "%": "\\%",
    "#": "\\#",
    "_": "\\_",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "±": "$\\pm$",
    "−": "$-$",
    "–": "--",
    "×": "$\\times$",
    "‡": "$\\ddagger$",
    "Δ": "$\\Delta$",
}


def _latex(text: str) -> str:
    """Returns text with every character that LaTeX would act on, or not know, replaced."""
    out = []
    for character in " ".join(text.split()):
        if character in _LATEX:
            out.append(_LATEX[character])
        elif character.isascii():
            out.append(character)
        else:
            plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
            out.append(_LATEX.get(plain, plain) or "?")
    return "".join(out)
