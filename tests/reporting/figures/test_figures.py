import dataclasses
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from setr.evaluation.calibration import BINS, UNIT
from setr.models.variants import VARIANTS, Variant
from setr.reporting.figures.drawing import DECODER_NAMES, Figure, decoder_shown
from setr.reporting.figures.figures import figure_sections, figures_of
from setr.reporting.numbers.results import Result
from setr.reporting.numbers.tables import build_table

MakeAll = Callable[..., list[Result]]


@pytest.fixture(scope="module")
def results(make_all: MakeAll, tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    chosen = [one for one in make_all((2,), seeds=2, points=9) if one.of("variant") in ("setr-pup", "setr-mla", "fcn")]
    folder = tmp_path_factory.mktemp("areas")
    matrix = np.eye(19, dtype=np.int64) * 90 + 1
    np.savez(folder / "areas-ss.npz", keys=np.array(["a"]), areas=np.ones((1, 3, 19), np.int64), matrix=matrix)
    counts = np.zeros((3, BINS), np.int64)
    counts[:, -1] = (1000, 700, int(990 * UNIT))
    return [
        dataclasses.replace(
            one,
            scores={"ss": {**one.scores["ss"], "calibration": counts.tolist()}},
            per_image={"ss": folder / "areas-ss.npz"},
            gflops=1.5 + len(str(one.of("variant"))),
        )
        for one in chosen
    ]


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
    recorded = ["against-gflops", "confusion", "calibration"]
    assert [name for name in names if name in recorded] == (recorded if scale == "miniature" else [])
    assert {"against-parameters", "against-speed"} <= set(names)
    for one, again in zip(first, second, strict=True):
        assert one.svg == again.svg
        root = ElementTree.fromstring(one.svg)
        assert root.tag.endswith("svg")
        assert "prefers-color-scheme" in one.svg
        assert len(one.svg) < 250_000
        assert {len(row) for row in one.rows} == {len(one.header)}


def test_confusion_and_calibration_say_what_was_counted(results: list[Result]) -> None:
    figures = {figure.name: figure for figure in figures_of([build_table(2, results, scale="miniature")])}
    [road, *_] = figures["confusion"].rows
    assert road[:3] == ("road", f"{100 * 91 / 109:.2f}", f"{100 / 109:.2f}")
    header, row = figures["calibration"].header, figures["calibration"].rows[0]
    found = dict(zip(header, row, strict=True))
    assert found["calibration error (points)"] == "29.00"
    assert (found["mean confidence (%)"], found["accuracy (%)"], found["pixels"]) == ("99.00", "70.00", "1000")


def test_the_papers_figures_stand_in_its_order() -> None:
    made = [Figure(name, name, "", "", answers=answers) for name, answers in (("b", "Figures 5 and 9"), ("c", ""))]
    made.append(Figure("a", "a", "", "", answers="Figure 4"))
    sections = [(anchor, [one.name for one in figures]) for anchor, _, figures in figure_sections(made)]
    assert sections == [("numbers", ["c"]), ("paper", ["a", "b"])]
    assert figure_sections([]) == []


def test_nothing_measured_draws_nothing() -> None:
    assert figures_of([build_table(2, [], scale="miniature")]) == []


def test_damaged_curves_and_scores_do_not_stop_the_figures(results: list[Result]) -> None:
    nan = float("nan")
    broken = dataclasses.replace(
        results[0],
        curves={"loss": [(1, nan)], "val/mIoU": [(5, 1.0)]},
        scores={"ss": {"mIoU": 1.0, "per_class_iou": [None, nan], "calibration": [[1]]}},
        per_image={"ss": Path("missing.npz")},
        parameters=None,
    )
    names = [figure.name for figure in figures_of([build_table(2, [broken, *results[1:]], scale="miniature")])]
    assert "curves-miou" in names


def test_figures_show_each_decoder_of_the_tables_and_ones_own_as_another(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {decoder_shown(name) for name in VARIANTS} == set(DECODER_NAMES)
    monkeypatch.setitem(VARIANTS, "setr-pup-own", Variant("setr-pup-own", "concat", "t-large", "R"))
    assert decoder_shown("setr-pup-own") == decoder_shown("removed") == ""
