import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from setr.reporting.numbers.results import Result
from setr.reporting.numbers.tables import build_table
from setr.reporting.site.latex import _latex, latex, latex_document
from setr.study.cells import TABLES

MakeAll = Callable[..., list[Result]]


def test_every_row_has_the_same_number_of_fields(results_of: MakeAll) -> None:
    for number in TABLES:
        text = latex([build_table(number, results_of((2, 6), scale="paper"), scale="paper")])
        body = text[text.index("\\midrule") : text.index("\\bottomrule")]
        counts = {line.replace("\\&", "").count(" & ") for line in body.splitlines()[1:]}
        assert len(counts) == 1
        spec = text[text.index("{tabular}{") + 10 :].split("}")[0]
        assert counts == {len(spec) - 1}


def test_special_characters_are_escaped() -> None:
    assert _latex("50% of $x_1 & {y}\\") == "50\\% of \\$x\\_1 \\& \\{y\\}\\textbackslash{}"
    assert _latex("‡ ±−× ï 漢") == "$\\ddagger$ $\\pm$$-$$\\times$ i ?"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_all_tables_compile(tmp_path: Path, results_of: MakeAll) -> None:
    results = [*results_of((2, 4, 6), seeds=2), *results_of((2, 6), scale="paper")]
    for number in TABLES:
        reports = [build_table(number, results, scale=scale) for scale in ("paper", "miniature")]
        (tmp_path / f"table-{number}.tex").write_text(latex(reports), encoding="utf-8")
    (tmp_path / "tables.tex").write_text(latex_document(list(TABLES)))
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "tables.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "tables.pdf").stat().st_size > 10_000
