"""Counts equal to a plain loop, to mmsegmentation's and to torchmetrics'; boundaries equal to one class at a time."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from setr.data.reading.camvid import CAMVID
from setr.data.reading.images import read_label
from setr.errors import InputError
from setr.evaluation.metrics import boundary_areas, confusion_matrix, image_areas, scores


def plain_matrix(prediction: np.ndarray, label: np.ndarray, num_classes: int, ignore_index: int) -> np.ndarray:
    matrix = np.zeros((num_classes, num_classes), np.int64)
    for guess, truth in zip(prediction.ravel().tolist(), label.ravel().tolist(), strict=True):
        if truth != ignore_index:
            matrix[truth, guess] += 1
    return matrix


def random_maps(seed: int, num_classes: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    label = generator.integers(0, num_classes, shape, dtype=np.uint8)
    prediction = np.where(generator.random(shape) < 0.6, label, generator.integers(0, num_classes, shape))
    label[generator.random(shape) < 0.1] = 255
    return prediction.astype(np.uint8), label


def test_reference_scores(reference: Path) -> None:
    with np.load(reference / "eval_iou_good19.npz") as arrays:
        pairs = [(arrays[f"pred_{index}"], arrays[f"label_{index}"]) for index in range(3)]
        areas, totals, iou, accuracy = (arrays[name] for name in ("areas", "totals", "IoU", "Acc"))
        means = [float(arrays[name]) for name in ("mIoU", "aAcc", "mAcc")]
    matrices = [confusion_matrix(*pair, num_classes=19, ignore_index=255) for pair in pairs]
    for matrix, (intersection, union, predicted, labelled) in zip(matrices, areas, strict=True):
        found = image_areas(matrix)
        assert np.array_equal(found, [intersection, predicted, labelled])
        assert np.array_equal(found[1] + found[2] - found[0], union)
    total = np.sum(matrices, axis=0)
    assert np.array_equal(image_areas(total), totals[[0, 2, 3]])
    result = scores(total)
    np.testing.assert_allclose(result.per_class_iou, 100 * iou, rtol=2e-7)
    np.testing.assert_allclose(result.per_class_accuracy, 100 * accuracy, rtol=2e-7)
    np.testing.assert_allclose(
        [result.mIoU, result.pixel_accuracy, result.mean_accuracy], np.multiply(100, means), rtol=2e-7
    )


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.sampled_from([1, 2, 19, 150, 200, 255]), st.sampled_from([255, 0, 254, -1, 300]))
def test_matrix_equals_a_plain_loop(seed: int, num_classes: int, ignore_index: int) -> None:
    prediction, label = random_maps(seed, num_classes, (7, 11))
    if ignore_index != 255:
        label[label == 255] = max(ignore_index, 0) if ignore_index < 255 else 0
        if ignore_index not in range(num_classes):
            label[label >= num_classes] = 0
    expected = plain_matrix(prediction, label, num_classes, ignore_index)
    options = {"num_classes": num_classes, "ignore_index": ignore_index}
    assert np.array_equal(confusion_matrix(prediction, label, **options), expected)
    assert np.array_equal(confusion_matrix(prediction.astype(np.int32), label.astype(np.int64), **options), expected)
    found = confusion_matrix(torch.from_numpy(prediction), torch.from_numpy(label), **options)
    assert found.dtype == torch.int64
    assert np.array_equal(found.numpy(), expected)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 20))
def test_matrix_is_the_sum_over_any_split(seed: int, rows: int) -> None:
    prediction, label = random_maps(seed, 19, (21, 13))
    parts = [(prediction[:rows], label[:rows]), (prediction[rows:], label[rows:])]
    split = sum(confusion_matrix(*part, num_classes=19) for part in parts)
    assert np.array_equal(split, confusion_matrix(prediction, label, num_classes=19))


def test_read_only_and_strided_maps() -> None:
    prediction, label = random_maps(0, 19, (40, 60))
    label.flags.writeable = False
    expected = plain_matrix(prediction[::-1, ::2], label[::-1, ::2], 19, 255)
    assert np.array_equal(confusion_matrix(prediction[::-1, ::2], label[::-1, ::2], num_classes=19), expected)


def test_counts_stay_exact_beyond_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("setr.evaluation.metrics.EXACT_FLOAT32_COUNT", 100)
    prediction, label = random_maps(1, 5, (40, 60))
    assert np.array_equal(confusion_matrix(prediction, label, num_classes=5), plain_matrix(prediction, label, 5, 255))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_matrix_on_a_gpu() -> None:
    prediction, label = random_maps(2, 150, (64, 64))
    found = confusion_matrix(torch.from_numpy(prediction).cuda(), torch.from_numpy(label).cuda(), num_classes=150)
    assert np.array_equal(found.cpu().numpy(), plain_matrix(prediction, label, 150, 255))


@pytest.mark.parametrize("kind", [np.uint8, np.int64])
def test_values_that_are_no_class_are_refused(kind: type) -> None:
    prediction, label = np.zeros((4, 4), kind), np.zeros((4, 4), kind)
    label[0, 0] = 33
    with pytest.raises(InputError, match=r"E_LABEL_RANGE.*image-7.*found 33"):
        confusion_matrix(prediction, label, num_classes=19, where="image-7")
    label[0, 0] = 255
    prediction[0, 0] = 99  # ignored there
    assert confusion_matrix(prediction, label, num_classes=19).sum() == 15
    prediction[1, 1] = 19
    with pytest.raises(InputError, match=r"E_PREDICTION_RANGE.*found 19"):
        confusion_matrix(prediction, label, num_classes=19)
    with pytest.raises(InputError, match="E_SIZE"):
        confusion_matrix(prediction[:2], label, num_classes=19)


def test_absent_classes() -> None:
    # Class 0 labelled and found; 1 predicted, never labelled; 2 in neither.
    result = scores(np.array([[6, 2, 0], [0, 0, 0], [0, 0, 0]]))
    assert result.per_class_iou[:2] == (75.0, 0.0)
    assert math.isnan(result.per_class_iou[2])
    assert result.mIoU == 37.5
    assert result.per_class_accuracy[0] == 75.0
    assert all(math.isnan(value) for value in result.per_class_accuracy[1:])
    assert result.mean_accuracy == 75.0
    assert result.as_dict()["per_class_iou"] == [75.0, 0.0, None]
    assert scores(np.zeros((3, 3), np.int64)).as_dict()["mIoU"] is None


def test_camvid_scores_equal_torchmetrics(camvid_root: Path) -> None:
    samples = CAMVID.list_samples(camvid_root, "val")[:4]
    labels = np.stack([read_label(sample.label, CAMVID) for sample in samples if sample.label is not None])
    guesses = np.where(labels == 255, 0, labels)
    guesses = np.roll(guesses, 5, axis=2)  # plausible errors along the edges
    result = scores(sum(confusion_matrix(*pair, num_classes=11) for pair in zip(guesses, labels, strict=True)))
    pair = torch.from_numpy(guesses).long(), torch.from_numpy(labels).long()
    iou = MulticlassJaccardIndex(11, average="none", ignore_index=255)(*pair).numpy()
    pixel_accuracy = MulticlassAccuracy(11, average="micro", ignore_index=255)(*pair)
    present = ~np.isnan(result.per_class_iou)
    np.testing.assert_allclose(np.array(result.per_class_iou)[present], 100 * iou[present], rtol=1e-6)
    assert result.mIoU == pytest.approx(100 * float(iou[present].mean()), rel=1e-6)
    assert result.pixel_accuracy == pytest.approx(100 * float(pixel_accuracy), rel=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.02, 0.1]))
def test_boundaries_equal_one_class_at_a_time(seed: int, ratio: float) -> None:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 4, (2, 4, 5), dtype=np.uint8)
    prediction, label = (cv2.resize(small, (45, 33), interpolation=cv2.INTER_NEAREST) for small in coarse)
    label[generator.random(label.shape) < 0.02] = 255
    found = boundary_areas(prediction, label, num_classes=4, dilation_ratio=ratio)
    distance = max(1, round(ratio * math.hypot(33, 45)))
    for index in range(4):
        # The published definition: mask minus the mask eroded `distance` times, with a border of zeros.
        guess, truth = [
            plain_boundary(np.where(label == 255, 255, regions) == index, distance) for regions in (prediction, label)
        ]
        assert found[:, index].tolist() == [int((guess & truth).sum()), int(guess.sum()), int(truth.sum())]


def plain_boundary(mask: np.ndarray, distance: int) -> np.ndarray:
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=distance)
    return mask & (eroded[1:-1, 1:-1] == 0)


def test_boundary_scores() -> None:
    label = np.zeros((40, 40), np.uint8)
    label[:, 20:] = 1
    same = scores(np.eye(3), boundary_areas(label, label, num_classes=3))
    assert same.boundary_iou == 100.0
    assert same.as_dict()["per_class_boundary_iou"] == [100.0, 100.0, None]
    shifted = scores(np.eye(3), boundary_areas(np.roll(label, 1, 1), label, num_classes=3))
    assert shifted.boundary_iou is not None
    assert shifted.boundary_iou < 100.0
