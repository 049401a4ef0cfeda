"""How far a model's confidence can be trusted: reliability by confidence, from a fixed sample of each image's pixels.

The confidence of a pixel is the softmax probability of the class predicted there. Counts are whole numbers, so their
sum depends neither on the order of the images nor on the number of workers.
"""

import functools
from typing import TYPE_CHECKING

import numpy as np

from setr.record.values import BINS

if TYPE_CHECKING:  # the report reads these counts and does without PyTorch
    from torch import Tensor

PLACES = 512  # pixels sampled in each image
UNIT = 1 << 20  # confidences are summed in steps of 1 / UNIT


@functools.lru_cache(maxsize=64)
def sample_places(height: int, width: int) -> np.ndarray:
    """Returns the sorted flat indices (n,) of the pixels that are sampled in an image of H x W: the same each time.

    They are drawn without replacement, and n is PLACES, or all pixels of a smaller image.
    """
    pixels = height * width
    if pixels <= PLACES:
        return np.arange(pixels)
    # One pixel at random in each of PLACES equal runs: spread over the image, with no period of their own.
    edges = np.linspace(0, pixels, PLACES + 1).astype(np.int64)
    return edges[:-1] + np.random.default_rng(0).integers(0, edges[1:] - edges[:-1])


def reliability_counts(
    confidence: "Tensor", prediction: "Tensor", label: "Tensor", *, ignore_index: int = 255
) -> "Tensor":
    """Returns int64 (3,BINS): pixels, right ones, and the sum of their confidences in steps of 1 / UNIT.

    All three arguments are (n,) on one device, confidence in [0, 1]; pixels whose label is `ignore_index` do not count.
    """
    counted = label != ignore_index
    steps = (confidence[counted].double() * UNIT).round().long()
    bins = (steps * BINS // UNIT).clamp_(0, BINS - 1)
    right = (prediction[counted] == label[counted]).long()
    counts = steps.new_zeros(3, BINS)
    for row, values in zip(counts, (steps.new_ones(len(steps)), right, steps), strict=True):
        row.index_add_(0, bins, values)
    return counts


def reliability(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns confidence, accuracy (percent, nan for an empty bin) and share of the pixels (percent), each (BINS,)."""
    pixels, right, confidence = np.asarray(counts, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (
            100.0 * confidence / UNIT / pixels,
            100.0 * right / pixels,
            100.0 * pixels / max(float(pixels.sum()), 1.0),
        )


def expected_calibration_error(counts: np.ndarray) -> float | None:
    """Returns the mean distance of confidence and accuracy over the sampled pixels, in points; None without pixels."""
    pixels, right, confidence = np.asarray(counts, np.float64)
    if not pixels.any():
        return None
    return float(100.0 * np.abs(confidence / UNIT - right).sum() / pixels.sum())
