"""Pictures: colours of classes, black for ignored pixels, panels of the expected shape."""

import numpy as np
import pytest

from setr.data.checking.preview import colorize
from setr.evaluation.qualitative import CORRECT, WRONG, errors, legend, overlay, panel, sheet

PALETTE = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
LABEL = np.array([[0, 1], [2, 255]], np.uint8)


def test_colorize() -> None:
    assert colorize(LABEL, PALETTE).tolist() == [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 0, 0]]]


def test_overlay_leaves_ignored_pixels_alone() -> None:
    image = np.full((2, 2, 3), 100, np.uint8)
    found = overlay(image, LABEL, PALETTE, opacity=0.5)
    assert found[0, 0].tolist() == [178, 50, 50]
    assert found[1, 1].tolist() == [100, 100, 100]


def test_errors() -> None:
    prediction = np.array([[0, 2], [2, 1]], np.uint8)
    assert errors(prediction, LABEL).tolist() == [[list(CORRECT), list(WRONG)], [list(CORRECT), [0, 0, 0]]]


@pytest.mark.parametrize(("height", "expected"), [(None, 40), (20, 20), (80, 80)])
def test_panel_and_sheet(height: int | None, expected: int) -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    label = np.zeros((40, 60), np.uint8)
    width = round(60 * expected / 40)
    full = panel(image, label, label, PALETTE, height=height)
    assert full.shape == (expected + 22, 4 * width + 3 * 6, 3)
    unlabelled = panel(image, label, None, PALETTE, height=height)
    assert unlabelled.shape == (expected + 22, 3 * width + 2 * 6, 3)
    both = sheet([full, unlabelled])
    assert both.shape == (2 * (expected + 22 + 6), 4 * width + 3 * 6, 3)
    assert both[-10, -1].tolist() == [255, 255, 255]


def test_legend_has_every_colour() -> None:
    picture = legend(["road", "sky", "trottoir é"], PALETTE, rows=2)
    assert all((picture == colour).all(-1).any() for colour in PALETTE)
