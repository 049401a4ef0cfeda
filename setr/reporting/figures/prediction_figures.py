"""Predictions drawn: pairs of a baseline and SETR (the paper's Figures 2 to 4), the worst images, one overlay."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from setr.data.checking.preview import colorize
from setr.evaluation.qualitative import CORRECT, IGNORED, WRONG, Palette, errors, overlay
from setr.reporting.figures.image_grid import Colour, Mosaic, fit, photograph, tile_size
from setr.reporting.numbers.statistics import mean_iou

_BOTH_RIGHT, _FIRST_RIGHT, _SECOND_RIGHT, _BOTH_WRONG = CORRECT, (230, 159, 0), (0, 114, 178), (40, 40, 40)
_UNLABELLED = (255, 255, 255)  # not black, as what neither got right is nearly so
_PAPER_FIGURES = {"ade20k": "Figure 2", "pascal_context": "Figure 3", "cityscapes": "Figure 4", "scenes": "Figure 4"}


@dataclass(frozen=True)
class Example:
    """A labelled image, and what one or two models say of it; maps are uint8 (H,W)."""

    key: str
    image: np.ndarray  # uint8 RGB (H,W,3)
    label: np.ndarray
    predictions: tuple[np.ndarray, ...]

    def mean_iou(self, prediction: np.ndarray, num_classes: int, ignore_index: int) -> float:
        """Returns the mIoU of this image alone in percent."""
        counted = self.label != ignore_index
        truth, guess = self.label[counted], prediction[counted]
        areas = [np.bincount(part, minlength=num_classes) for part in (truth[truth == guess], guess, truth)]
        return float(mean_iou(np.stack(areas).astype(np.float64)))


@dataclass(frozen=True)
class Names:
    """What is written beside the pictures of one data set."""

    dataset: str
    classes: Sequence[str]
    palette: Palette
    ignore_index: int = 255


def pairs(examples: Sequence[Example], names: Names, models: tuple[str, str]) -> Mosaic:
    """Returns image, ground truth, the predictions of a baseline and of SETR, and where they differ, row by row."""
    size = tile_size(examples[0].image, 5)
    tiles, numbers = [], []
    for one in examples:
        first, second = one.predictions
        pictures = [colorize(values, names.palette) for values in (one.label, first, second)]
        tiles.append([photograph(one.image, size), *pictures, _difference(one, names.ignore_index)])
        scores = [one.mean_iou(values, len(names.classes), names.ignore_index) for values in one.predictions]
        numbers.append((one.key, *(f"{score:.2f}" for score in scores)))
    kinds = [
        ("both right", _BOTH_RIGHT),
        (f"only {models[0]} right", _FIRST_RIGHT),
        (f"only {models[1]} right", _SECOND_RIGHT),
        ("both wrong", _BOTH_WRONG),
        ("not labelled", _UNLABELLED),
    ]
    return Mosaic(
        "pairs",
        f"{models[0]} and {models[1]} on the same images",
        "Validation images evenly spread over the split, not chosen by hand.",
        tiles,
        [str(number) for number in range(1, len(tiles) + 1)],
        ["image", "ground truth", *models, "difference"],
        size,
        answers=_PAPER_FIGURES.get(names.dataset, "Figures 2 to 4"),
        legends=[_legend(examples, names), kinds],
        header=("image", *(f"mIoU of {model} (%)" for model in models)),
        numbers=tuple(numbers),
    )


def worst(examples: Sequence[Example], names: Names, model: str) -> Mosaic:
    """Returns image, ground truth, prediction and errors of the images with the lowest mIoU, row by row."""
    size = tile_size(examples[0].image, 4)
    tiles, rows, numbers = [], [], []
    for one in examples:
        [prediction] = one.predictions
        pictures = [colorize(values, names.palette) for values in (one.label, prediction)]
        wrong = errors(prediction, one.label, ignore_index=names.ignore_index)
        tiles.append([photograph(one.image, size), *pictures, wrong])
        score = one.mean_iou(prediction, len(names.classes), names.ignore_index)
        rows.append(f"{score:.1f} %")
        counted = one.label != names.ignore_index
        right = 100.0 * float((prediction == one.label)[counted].mean()) if counted.any() else float("nan")
        numbers.append((one.key, f"{score:.2f}", f"{right:.2f}"))
    return Mosaic(
        "worst-images",
        f"Where {model} fails",
        "The validation images with the lowest mIoU, which stands at the left of each.",
        tiles,
        rows,
        ["image", "ground truth", "prediction", "errors"],
        size,
        legends=[_legend(examples, names), [("right", CORRECT), ("wrong", WRONG), ("not labelled", IGNORED)]],
        header=("image", "mIoU (%)", "pixel accuracy (%)"),
        numbers=tuple(numbers),
    )


def prediction(image: np.ndarray, classes: np.ndarray, names: Names) -> Mosaic:
    """Returns image, prediction and overlay of one image, with the share of each class."""
    size = tile_size(image, 3, largest=640)
    shown = photograph(image, size)
    example = Example("", image, classes, (classes,))
    shares = np.bincount(classes.ravel(), minlength=len(names.classes)) * 100.0 / classes.size
    order = [index for index in np.argsort(-shares, kind="stable") if shares[index] > 0]
    return Mosaic(
        "prediction",
        "Prediction",
        "The class of each pixel, and the same laid over the image.",
        [[shown, colorize(classes, names.palette), overlay(shown, fit(classes, size), names.palette)]],
        [],
        ["image", "prediction", "overlay"],
        size,
        legends=[_legend([example], names)],
        header=("class", "share of the pixels (%)"),
        numbers=tuple((names.classes[index], f"{shares[index]:.2f}") for index in order),
    )


def _difference(one: Example, ignore_index: int) -> np.ndarray:
    first, second = (values == one.label for values in one.predictions)
    kinds = np.where(one.label == ignore_index, 4, 2 * first + second)
    table = np.asarray([_BOTH_WRONG, _SECOND_RIGHT, _FIRST_RIGHT, _BOTH_RIGHT, _UNLABELLED], np.uint8)
    return table[kinds]


def _legend(examples: Sequence[Example], names: Names) -> list[tuple[str, Colour]]:
    """Returns name and colour of the classes that occur in the pictures, in the data set's order."""
    maps = [values for one in examples for values in (one.label, *one.predictions)]
    there = np.bincount(np.concatenate([np.unique(values) for values in maps]), minlength=256)
    return [(name, tuple(names.palette[index])) for index, name in enumerate(names.classes) if there[index]]
