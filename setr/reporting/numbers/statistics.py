"""Means over seeds, and the paired bootstrap over images between two models."""

import statistics as standard
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

SIGNIFICANCE = 0.05  # two-sided


@dataclass(frozen=True)
class Comparison:
    """The difference in mIoU (percentage points) between two models on the same images."""

    first: str
    second: str
    difference: float  # first - second
    low: float  # 95 % interval over images
    high: float
    p_value: float  # two-sided; corrected where several comparisons stand together
    images: int

    @property
    def significant(self) -> bool:
        """Returns whether the difference would hardly come from the choice of images."""
        return self.p_value <= SIGNIFICANCE


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Returns the mean and the standard deviation over seeds (n - 1), None for a single seed."""
    return standard.fmean(values), standard.stdev(values) if len(values) > 1 else None


def mean_iou(areas: np.ndarray) -> np.ndarray:
    """Returns mIoU in percent of areas (..., 3, K): intersection, prediction, label; absent classes do not count."""
    intersection, union = areas[..., 0, :], areas[..., 1, :] + areas[..., 2, :] - areas[..., 0, :]
    present = union > 0
    iou = np.divide(intersection, union, out=np.zeros(union.shape, np.float64), where=present)
    return np.asarray(100.0 * iou.sum(-1) / np.maximum(present.sum(-1), 1))


def paired_bootstrap(
    first: np.ndarray, second: np.ndarray, *, names: tuple[str, str] = ("", ""), resamples: int = 2000, seed: int = 0
) -> Comparison:
    """Returns the difference in mIoU of two models' areas (N,3,K) over the same N images, in the same order.

    Images are drawn with replacement, the same ones for both models; the interval is the middle 95 % of the
    differences, the p-value twice the smaller share on one side of zero. Raises ValueError if the shapes differ.
    """
    if first.shape != second.shape or first.ndim != 3 or first.shape[1] != 3 or not len(first):
        raise ValueError(f"areas of the same images are needed, found {first.shape} and {second.shape}")
    images = len(first)
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(images, np.full(images, 1.0 / images), size=resamples).astype(np.float64)
    one, other = (
        mean_iou((draws @ areas.reshape(images, -1).astype(np.float64)).reshape(resamples, 3, -1))
        for areas in (first, second)
    )
    differences = one - other
    low, high = np.percentile(differences, [2.5, 97.5])
    tail = min((differences <= 0).sum(), (differences >= 0).sum())
    return Comparison(
        first=names[0],
        second=names[1],
        difference=float(mean_iou(first.sum(0)) - mean_iou(second.sum(0))),
        low=float(low),
        high=float(high),
        p_value=float(min(1.0, 2.0 * (tail + 1) / (resamples + 1))),
        images=images,
    )


def compare_with_best(areas: Mapping[str, np.ndarray]) -> list[Comparison]:
    """Returns the comparisons of the model with the highest mIoU with each other one, nearest first.

    `areas` maps a model's name to its areas (N,3,K) over the same images. The p-values are corrected for the number of
    comparisons (Holm).
    """
    if len(areas) < 2:
        return []
    totals = {name: float(mean_iou(one.sum(0))) for name, one in areas.items()}
    best = max(totals, key=lambda name: totals[name])
    found = [paired_bootstrap(areas[best], areas[name], names=(best, name)) for name in areas if name != best]
    corrected: dict[str, float] = {}
    largest = 0.0
    for rank, one in enumerate(sorted(found, key=lambda one: one.p_value)):
        largest = max(largest, min(1.0, one.p_value * (len(found) - rank)))
        corrected[one.second] = largest
    return sorted(
        (replace(one, p_value=corrected[one.second]) for one in found), key=lambda one: (one.difference, one.second)
    )
