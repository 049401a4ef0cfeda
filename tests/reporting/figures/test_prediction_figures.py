"""Pairs, worst images and one prediction: colours of agreement, numbers, legends."""

import numpy as np
import pytest

from setr.evaluation.metrics import confusion_matrix, scores
from setr.reporting.figures.prediction_figures import Example, Names, pairs, prediction, worst

NAMES = Names("cityscapes", ("road", "car", "sky"), ((128, 64, 128), (0, 0, 142), (70, 130, 180)))
IMAGE = np.full((2, 4, 3), 90, np.uint8)
LABEL = np.array([[0, 0, 1, 1], [0, 0, 1, 255]], np.uint8)
FIRST = np.array([[0, 0, 1, 0], [0, 1, 0, 0]], np.uint8)
SECOND = np.array([[0, 1, 1, 1], [0, 1, 1, 1]], np.uint8)


def test_pairs_show_who_is_right_where() -> None:
    figure = pairs([Example("val/a", IMAGE, LABEL, (FIRST, SECOND))], NAMES, ("fcn", "setr"))
    [[_, truth, first, second, difference]] = figure.tiles
    assert figure.answers == "Figure 4"
    assert truth[0, 0].tolist() == [128, 64, 128]
    assert (first[1, 1] == NAMES.palette[1]).all()
    assert (second[0, 1] == NAMES.palette[1]).all()
    colours = dict(figure.legends[1])
    expected = [
        ["both right", "only fcn right", "both right", "only setr right"],
        ["both right", "both wrong", "only setr right", "not labelled"],
    ]
    assert difference.tolist() == [[list(colours[word]) for word in row] for row in expected]
    assert [name for name, _ in figure.legends[0]] == ["road", "car"]
    [(key, mine, theirs)] = figure.numbers
    assert key == "val/a"
    for shown, values in ((mine, FIRST), (theirs, SECOND)):
        assert float(shown) == pytest.approx(scores(confusion_matrix(values, LABEL, num_classes=3)).mIoU, abs=0.005)


def test_worst_images_carry_their_score() -> None:
    figure = worst([Example("val/a", IMAGE, LABEL, (FIRST,))], NAMES, "setr")
    matrix = scores(confusion_matrix(FIRST, LABEL, num_classes=3))
    assert figure.rows == [f"{matrix.mIoU:.1f} %"]
    assert figure.numbers == (("val/a", f"{matrix.mIoU:.2f}", f"{matrix.pixel_accuracy:.2f}"),)
    assert figure.tiles[0][3][1, 3].tolist() == [0, 0, 0]


def test_prediction_lists_the_classes_by_their_share() -> None:
    figure = prediction(IMAGE, FIRST, NAMES)
    assert [row[0] for row in figure.numbers] == ["road", "car"]
    assert [row[1] for row in figure.numbers] == ["75.00", "25.00"]
    assert figure.tiles[0][2].shape[:2] == figure.tile
