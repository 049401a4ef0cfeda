import dataclasses
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest

from setr.reporting.figures import figures_of
from setr.reporting.results import Result
from setr.reporting.tables import build_table

MakeAll = Callable[..., list[Result]]


@pytest.fixture(scope="module")
def results(make_all: MakeAll) -> list[Result]:
    chosen = [one for one in make_all((2,), seeds=2, points=9) if one.of("variant") in ("setr-pup", "setr-mla", "fcn")]
    matrix = (np.eye(19, dtype=np.int64) * 90 + 1).tolist()
    with_matrix = {"ss": {**chosen[0].scores["ss"], "matrix": matrix}}
    return [dataclasses.replace(chosen[0], scores=with_matrix), *chosen[1:]]


@pytest.mark.parametrize("scale", ["miniature", "paper"])
def test_all_figures_are_drawn_once_and_the_same_each_time(
    scale: str, results: list[Result], make_all: MakeAll
) -> None:
    if scale == "paper":
        kept = ("setr-pup", "setr-pup-base")
        results = [one for one in make_all((2,), scale="paper", points=5) if one.of("variant") in kept]
    reports = [build_table(2, results, scale=scale)]
    first, second = figures_of(reports), figures_of(reports)
    names = [figure.name for figure in first]
    assert names[:4] == ["against-paper", "curves-miou", "curves-loss", "per-class-iou"]
    assert ("confusion" in names) == (scale == "miniature")
    for one, again in zip(first, second, strict=True):
        assert one.svg == again.svg
        root = ElementTree.fromstring(one.svg)
        assert root.tag.endswith("svg")
        assert "prefers-color-scheme" in one.svg
        assert len(one.svg) < 250_000
        assert {len(row) for row in one.rows} == {len(one.header)}


def test_nothing_measured_draws_nothing() -> None:
    assert figures_of([build_table(2, [], scale="miniature")]) == []


def test_damaged_curves_and_scores_do_not_stop_the_figures(results: list[Result]) -> None:
    nan = float("nan")
    broken = dataclasses.replace(
        results[0],
        curves={"loss": [(1, nan)], "val/mIoU": [(5, 1.0)]},
        scores={"ss": {"mIoU": 1.0, "per_class_iou": [None, nan]}},
        parameters=None,
    )
    names = [figure.name for figure in figures_of([build_table(2, [broken, *results[1:]], scale="miniature")])]
    assert "curves-miou" in names
