"""The site with another study beside SETR's: pages of its own, found from the first page."""

import json
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from setr.reporting.numbers.results import Result
from setr.reporting.site.site import build_site
from setr.study.cells import cells, find_cell
from setr.study.records import Study
from setr.study.shelf import open_study

STUDY = """
    title: Decoders <b>on</b> damage
    models:
      pup: {encoder: t-base, decoder: pup}
      mla: {encoder: t-base, decoder: mla}
    tables:
      decoders: {rows: [pup, mla], columns: {low: {data: damage}}}
      paper: {rows: [{model: pup, not_found: [x]}], columns: {x: {data: damage}}}
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    path = tmp_path / "mine.yaml"
    path.write_text(textwrap.dedent(STUDY))
    return open_study(str(path))


def test_each_study_has_its_pages_and_the_first_names_them(
    study: Study, result_of: Callable[..., Result], tmp_path: Path
) -> None:
    mine, setr = cells(["decoders"], study)[:1], [find_cell("table2/setr-pup/80k")]
    results = [result_of(mine), result_of(setr)]
    site = build_site(results, tmp_path / "report", others=[study])
    folder = site.index.parent
    first = site.index.read_text()
    assert 'href="mine/index.html"' in first
    assert "Decoders &lt;b&gt;on&lt;/b&gt; damage" in first
    assert "<b>on</b>" not in first
    table = (folder / "mine" / "table-decoders.html").read_text()
    assert f'href="experiments/{results[0].short}.html"' in table
    assert (folder / "mine" / "experiments" / f"{results[0].short}.html").is_file()
    assert not (folder / "experiments" / f"{results[0].short}.html").exists()
    assert (folder / "experiments" / f"{results[1].short}.html").is_file()
    rows = json.loads((folder / "mine" / "table-decoders.json").read_text())["scales"][0]["cells"]
    assert [(row["cell"], row["ours"] is None) for row in rows] == [
        ("mine/decoders/pup/low", False),
        ("mine/decoders/mla/low", True),
    ]
    assert "not found" in (folder / "mine" / "table-paper.md").read_text()


def test_a_result_of_two_studies_is_in_both(study: Study, result_of: Callable[..., Result], tmp_path: Path) -> None:
    both = result_of([find_cell("table2/setr-pup/80k"), cells(["decoders"], study)[0]])
    folder = build_site([both], tmp_path / "report", others=[study]).index.parent
    for page in (folder / "experiments", folder / "mine" / "experiments"):
        assert (page / f"{both.short}.html").is_file()
    text = (folder / "mine" / "experiments" / f"{both.short}.html").read_text()
    assert "../../table-2.html#" in text
    assert "../table-decoders.html#" in text
