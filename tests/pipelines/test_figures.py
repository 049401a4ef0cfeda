"""Figures of one image by the command, and the report's from what a trained experiment left."""

import dataclasses
import shutil
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.figures import main
from pipelines.tracking.recording import finished_result
from setr.planning.planned import Planned
from setr.reporting.figures.drawn import draw, worst_places
from setr.reporting.figures.figure_store import PAIRS, Wanted, kept_figures
from setr.reporting.numbers.results import Result, save_results
from setr.reporting.site.site import build_site

STORAGE = ("storage.results=drawn", "storage.checkpoints=trained")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo of mine.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    return path


@pytest.fixture
def drawn(trained: Planned, home: Path) -> tuple[Path, Result]:
    """Returns the folder of figures and the result of the trained experiment, recorded as a sweep does."""
    shutil.rmtree(home / "drawn", ignore_errors=True)
    result = dataclasses.replace(finished_result(trained), checkpoint=f"elsewhere/{trained.identity}/step-00000004")
    save_results(home / "drawn" / "runs" / f"{trained.identity}.json", [result])
    return home / "drawn" / "figures", result


def test_figures_of_an_image(trained: Planned, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = [str(trained.folder), str(photo), "-o", str(out), "--device", "cpu"]
    assert main([*words, "--points", "0,0", "59.5,39"]) == 0
    assert "6 figures of photo of mine.png" in capsys.readouterr().out
    names = {"prediction", "features", "attention-points", "attention-layers-1", "attention-layers-2", "positions"}
    assert {path.name for path in out.iterdir()} == {"index.html", *(f"{name}.png" for name in names)}
    page = (out / "index.html").read_text()
    assert all(f'src="{name}.png"' in page for name in names)
    assert cv2.imread(str(out / "attention-points.png")).shape[1] > 600
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert main([*words, "--points", "0,0", "59.5,39"]) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_what_cannot_be_drawn_is_said_in_one_line(
    trained: Planned, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, out = str(trained.folder), ["-o", str(tmp_path / "out")]
    for words, code in (
        ([checkpoint], "E_COMMAND"),
        ([checkpoint, str(tmp_path / "none.png")], "E_DATA_EMPTY"),
        ([str(tmp_path), str(photo)], "E_CHECKPOINT_FOLDER"),
        ([checkpoint, str(photo), "--points", "60,0"], "E_COMMAND"),
        ([checkpoint, str(photo), "--points", "here"], "E_COMMAND"),
    ):
        assert main([*words, *out]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {code}"), line


def test_the_report_gets_figures_once(drawn: tuple[Path, Result], capsys: pytest.CaptureFixture[str]) -> None:
    folder, result = drawn
    assert main(["--report", "--device", "cpu", *STORAGE]) == 0
    assert "2 of 2 groups" in capsys.readouterr().out
    first = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert sorted(first) == ["inside-scenes-miniature.json", "worst-scenes-miniature.json"]
    started = time.process_time()
    assert main(["--report", "--device", "cpu", *STORAGE]) == 0
    assert time.process_time() - started < 2
    assert "0 of 2 groups" in capsys.readouterr().out
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == first
    # Drawn again from nothing, the bytes are the same.
    shutil.rmtree(folder)
    assert main(["--report", "--device", "cpu", *STORAGE]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: data for name, (data, _) in first.items()
    }

    figures, notes = kept_figures(folder, [result])
    assert (len(figures), notes) == (5, [])
    assert all(f"on scenes, {result.of('scale')} scale" in figure.caption for figure in figures)
    site = build_site([result], folder.parent / "report", drawn=figures)
    page = (site.index.parent / "figures.html").read_text()
    for figure in figures:
        assert (site.index.parent / f"figures/{figure.name}.svg").read_text() == figure.svg
        assert f"figures/{figure.name}.svg" in page
    assert page.count(f'href="experiments/{result.short}.html"') == len(figures)
    assert (site.index.parent / f"experiments/{result.short}.html").is_file()
    assert not build_site([result], folder.parent / "report", drawn=figures).rebuilt
    assert build_site([result], folder.parent / "report", drawn=figures[1:]).rebuilt


def test_a_checkpoint_that_is_gone_has_no_figures(
    drawn: tuple[Path, Result], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, result = drawn
    (folder / "left-over.json").parent.mkdir()
    (folder / "left-over.json").write_text("{}")
    assert main(["--report", "storage.results=drawn", "storage.checkpoints=nowhere"]) == 0
    said = capsys.readouterr()
    assert f"no figures of {result.short}" in said.err
    assert [path.name for path in folder.iterdir()] == ["left-over.json"], "which no command has written"


def test_pairs_and_worst_images_are_the_recorded_ones(trained: Planned, home: Path) -> None:
    result = finished_result(trained)
    val = home / "data/shards/scenes/val"
    [figure] = draw(Wanted(PAIRS, (result, result)), val, "cpu")
    assert len(figure.numbers) == 3  # the split has no more
    assert all(first == second for _, first, second in figure.numbers)
    recorded = result.scores["ss"]["worst_images"]
    scores = {key: f"{first:.2f}" for key, first in ((row["key"], row["mIoU"]) for row in recorded)}
    assert {key: first for key, first, _ in figure.numbers} == scores
    assert result.gflops is not None
    assert result.gflops > 0
    with np.load(result.per_image["ss"]) as stored:
        assert stored["matrix"].sum() == stored["areas"][:, 2].sum()
    shown = {place: figure.numbers[place][0] for place in worst_places(result, 3)}
    assert list(shown.values()) == [row["key"] for row in recorded]
    assert worst_places(dataclasses.replace(result, per_image={}), 3) == []
