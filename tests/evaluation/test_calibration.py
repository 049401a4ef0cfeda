"""Reliability counts against their definition, and the sample that they are taken of."""

import numpy as np
import pytest
import torch

from setr.evaluation.calibration import (
    BINS,
    PLACES,
    expected_calibration_error,
    reliability,
    reliability_counts,
    sample_places,
)


def test_sample_is_spread_over_the_image_and_always_the_same() -> None:
    places = sample_places(128, 256)
    assert len(places) == PLACES == len(set(places.tolist()))
    assert (np.diff(places) > 0).all()
    assert np.histogram(places, bins=8, range=(0, 128 * 256))[0].tolist() == [PLACES // 8] * 8
    columns = np.histogram(places % 256, bins=4, range=(0, 256))[0]
    assert columns.min() > 0.8 * columns.max()
    sample_places.cache_clear()
    assert np.array_equal(sample_places(128, 256), places)
    assert sample_places(3, 5).tolist() == list(range(15))


def test_counts_are_those_of_the_definition() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.2, 1.0, 4000)
    confidence[:3] = (1.0, 0.0, 0.5)
    label = generator.integers(0, 4, 4000).astype(np.uint8)
    prediction = np.where(generator.uniform(size=4000) < confidence**2, label, (label + 1) % 4).astype(np.uint8)
    label[::10] = 255
    tensors = [torch.from_numpy(values) for values in (confidence, prediction, label)]
    counts = reliability_counts(*tensors)
    counted = label != 255
    error = 0.0
    for number in range(BINS):
        low, high = number / BINS, (number + 1) / BINS
        mine = counted & (confidence >= low) & ((confidence < high) | (number == BINS - 1))
        right = prediction[mine] == label[mine]
        assert counts[0, number] == mine.sum()
        assert counts[1, number] == right.sum()
        if mine.any():
            error += mine.sum() * abs(confidence[mine].mean() - right.mean()) / counted.sum()
    assert expected_calibration_error(counts.numpy()) == pytest.approx(100 * error, abs=1e-3)
    halves = [reliability_counts(*(part[cut] for part in tensors)) for cut in (slice(0, 1777), slice(1777, None))]
    assert torch.equal(halves[0] + halves[1], counts)
    sure, accuracy, share = reliability(counts.numpy())
    assert share.sum() == pytest.approx(100)
    assert (sure[5:] > accuracy[5:]).all()  # drawn too sure


def test_no_pixels_have_no_error() -> None:
    empty = np.zeros((3, BINS), np.int64)
    assert expected_calibration_error(empty) is None
    assert np.isnan(reliability(empty)[1]).all()
