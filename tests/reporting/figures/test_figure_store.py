"""Which figures a report wants, and that only those of the same checkpoints are shown."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from setr.reporting.figures.drawing import Figure
from setr.reporting.figures.figure_store import Wanted, forget_others, is_made, keep, kept_figures, wanted_figures
from setr.reporting.numbers.results import Result
from setr.study.cells import find_cell

Make = Callable[..., Result]
DRAWN = Figure("pairs", "Title", "Caption", "<svg/>", ("image", "mIoU"), (("val/1", "2.00"),), "Figure 4")


@pytest.fixture
def results(result_of: Make) -> list[Result]:
    """Two SETR models, a PUP that is worse, an FCN, and one without scores."""
    offsets = {"table2/setr-mla/80k": 9, "table2/setr-naive/80k": 2, "table2/setr-pup/80k": -5, "table2/fcn/80k": 0}
    made = [result_of([find_cell(key)], offset=offset) for key, offset in offsets.items()]
    return [*made, result_of([find_cell("table2/hybrid-base/80k")], finished=False)]


def test_the_best_of_each_kind_are_wanted(results: list[Result]) -> None:
    wanted = wanted_figures(results)
    variants = {one.kind: [str(result.of("variant")) for result in one.results] for one in wanted}
    assert variants == {"pairs": ["fcn", "setr-mla"], "inside": ["setr-pup"], "worst": ["setr-mla"]}
    assert [one.name for one in wanted] == [
        "pairs-scenes-miniature",
        "inside-scenes-miniature",
        "worst-scenes-miniature",
    ]
    without_pup = wanted_figures([results[0]])
    assert [(one.kind, one.results[0].of("variant")) for one in without_pup] == [
        ("inside", "setr-mla"),
        ("worst", "setr-mla"),
    ]
    assert wanted_figures([results[-1]]) == []


def test_a_name_that_somebody_chose_stays_in_the_folder(results: list[Result]) -> None:
    odd = dataclasses.replace(results[0], experiment={**results[0].experiment, "dataset": "../../Etc/x"})
    assert Wanted("worst", (odd,)).name == "worst-etc-x-miniature"


def test_kept_figures_come_back(results: list[Result], tmp_path: Path) -> None:
    [pairs, *others] = wanted_figures(results)
    key = pairs.key(data="d")
    assert not is_made(tmp_path, pairs, key)
    keep(tmp_path, pairs, key, [DRAWN])
    assert is_made(tmp_path, pairs, key)
    assert not is_made(tmp_path, pairs, pairs.key(data="e"))
    figures, notes = kept_figures(tmp_path, results)
    shorts = tuple(sorted(one.short for one in pairs.results))
    assert figures == [dataclasses.replace(DRAWN, name="pairs-scenes-miniature-pairs", experiments=shorts)]
    assert notes == []
    forget_others(tmp_path, others)
    assert list(tmp_path.iterdir()) == []
    assert kept_figures(tmp_path / "none", results) == ([], [])


def test_what_does_not_fit_is_named_and_left_out(results: list[Result], tmp_path: Path) -> None:
    [pairs, inside, worst] = wanted_figures(results)
    for one in (pairs, inside, worst):
        keep(tmp_path, one, one.key(), [DRAWN])
    trained_again = [dataclasses.replace(results[3], checkpoint_sha256="0" * 64)]
    path = tmp_path / f"{worst.name}.json"
    record = json.loads(path.read_text())
    record["figures"][0]["svg"] = "<svg onload='alert(1)'/>"
    path.unlink()
    path.write_text(json.dumps(record))
    figures, notes = kept_figures(tmp_path, [*results[:3], *trained_again])
    assert [figure.name for figure in figures] == ["inside-scenes-miniature-pairs"]
    assert ["of another checkpoint" in notes[0].text, "is damaged" in notes[1].text] == [True, True]
