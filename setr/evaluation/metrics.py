"""Segmentation scores from counts: confusion matrix, IoU, accuracies, boundary IoU.

Counts are int64 and are summed over images and workers before anything is divided. All scores are percent.

Absent classes: a class that occurs neither in the labels nor in the predictions has no IoU (nan) and is left out of the
mean. A class that is predicted but never labelled has IoU 0 and no accuracy (nan). mmsegmentation has the same rules.
"""

import math
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import cv2
import numpy as np
import torch

from setr.errors import InputError

Counts: TypeAlias = np.ndarray | torch.Tensor
Map = TypeVar("Map", np.ndarray, torch.Tensor)

# cv2.calcHist counts in float32, which is exact up to here.
EXACT_FLOAT32_COUNT = 1 << 24


@dataclass(frozen=True)
class Scores:
    """The scores of one confusion matrix in percent; nan where a class has none (see the module's text)."""

    mIoU: float  # noqa: N815 (the field's word)
    pixel_accuracy: float
    mean_accuracy: float
    per_class_iou: tuple[float, ...]
    per_class_accuracy: tuple[float, ...]
    boundary_iou: float | None = None  # mean over classes; None: not computed
    per_class_boundary_iou: tuple[float, ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns the scores for JSON: lists for tuples, None for nan."""
        return {name: _json_value(value) for name, value in vars(self).items()}


def confusion_matrix(
    prediction: Map, label: Map, *, num_classes: int, ignore_index: int = 255, where: object = ""
) -> Map:
    """Returns the int64 (K,K) counts of pixels, rows = label, columns = prediction.

    `prediction` and `label` are integer arrays or tensors of one shape; the matrix comes back as the same kind, on the
    same device. Pixels whose label is `ignore_index` are dropped whatever was predicted there. `where` names the image
    in an error.

    Raises InputError E_LABEL_RANGE for any other label outside [0, K) and E_PREDICTION_RANGE for a prediction outside
    [0, K) at a counted pixel. (mmsegmentation counts on: such labels leave the label areas, while the prediction there
    still enlarges the union, so a wrong label mapping lowers the score without a word.)
    """
    if tuple(prediction.shape) != tuple(label.shape):
        raise InputError(
            "E_SIZE",
            "prediction and label differ in size",
            where=where,
            found=tuple(prediction.shape),
            expected=tuple(label.shape),
        )
    counts: Map | None
    if not isinstance(prediction, torch.Tensor):
        counts = _count(prediction, _as_numpy(label), num_classes, ignore_index)
    elif prediction.device.type != "cpu":
        counts = _count_on_device(prediction, torch.as_tensor(label), num_classes, ignore_index)
    else:
        array = _count(prediction.numpy(), _as_numpy(label), num_classes, ignore_index)
        counts = None if array is None else torch.from_numpy(array)
    if counts is None:
        raise _out_of_range(_as_numpy(prediction), _as_numpy(label), num_classes, ignore_index, where)
    return counts


def scores(matrix: Counts, boundary: Counts | None = None) -> Scores:
    """Returns the scores of a (K,K) confusion matrix and, where given, of the (3,K) sums of boundary_areas."""
    counts = _as_numpy(matrix).astype(np.float64)
    intersection, labelled, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    iou = _percent(intersection, labelled + predicted - intersection)
    accuracy = _percent(intersection, labelled)
    boundary_iou: np.ndarray | None = None
    if boundary is not None:
        common, in_prediction, in_label = _as_numpy(boundary).astype(np.float64)
        boundary_iou = _percent(common, in_prediction + in_label - common)
    return Scores(
        mIoU=_mean(iou),
        pixel_accuracy=float(_percent(intersection.sum(), labelled.sum())),
        mean_accuracy=_mean(accuracy),
        per_class_iou=tuple(iou.tolist()),
        per_class_accuracy=tuple(accuracy.tolist()),
        boundary_iou=None if boundary_iou is None else _mean(boundary_iou),
        per_class_boundary_iou=None if boundary_iou is None else tuple(boundary_iou.tolist()),
    )


def image_areas(matrix: Map) -> Map:
    """Returns the int64 (3,K) areas of a confusion matrix: intersection, prediction, label.

    Scores of any subset of images follow from the sums of these, so they are what a bootstrap over images needs.
    """
    if isinstance(matrix, torch.Tensor):
        return torch.stack([matrix.diagonal(), matrix.sum(0), matrix.sum(1)])
    return np.stack([matrix.diagonal(), matrix.sum(0), matrix.sum(1)])


def boundary_areas(
    prediction: np.ndarray,
    label: np.ndarray,
    *,
    num_classes: int,
    ignore_index: int = 255,
    dilation_ratio: float = 0.02,
) -> np.ndarray:
    """Returns the int64 (3,K) boundary areas of uint8 maps (H,W): intersection, prediction, label.

    The boundary of a class is its mask without the mask eroded by d = max(1, round(ratio x diagonal)) pixels, where the
    outside of the image belongs to no class (Cheng et al. 2021, Boundary IoU). A pixel is in the boundary of its own
    class exactly when the square of side 2d+1 around it holds another class or leaves the image, so one minimum and one
    maximum filter give the boundaries of all classes at once.
    Ignored pixels count as one more region in both maps: they bound their neighbours alike and are never counted.
    """
    counted = label != ignore_index
    # Outside [0, K) and equal in both maps, so that an ignored region is no class even where ignore_index is one.
    outside = np.uint8(255)
    truth = np.where(counted, label, outside).astype(np.uint8)
    guess = np.where(counted, prediction, outside).astype(np.uint8)
    distance = max(1, round(dilation_ratio * math.hypot(*label.shape)))
    at_truth = boundary_mask(truth, distance) & counted
    at_guess = boundary_mask(guess, distance) & counted
    common = at_truth & at_guess & (truth == guess)
    areas = [np.bincount(values, minlength=256) for values in (truth[common], guess[at_guess], truth[at_truth])]
    return np.stack(areas)[:, :num_classes].astype(np.int64)


def boundary_mask(regions: np.ndarray, distance: int) -> np.ndarray:
    """Returns where a uint8 map (H,W) has another value, or the image's end, within `distance` pixels (square)."""
    kernel = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    mask = cv2.erode(regions, kernel) != cv2.dilate(regions, kernel)
    mask[:distance] = mask[-distance:] = True
    mask[:, :distance] = mask[:, -distance:] = True
    return mask


def _count(prediction: np.ndarray, label: np.ndarray, num_classes: int, ignore_index: int) -> np.ndarray | None:
    """Returns the confusion matrix of NumPy arrays, None if a value is no class.

    uint8 pairs go through cv2.calcHist, 15 to 40 times as fast as histograms of masked values.
    """
    if prediction.dtype == np.uint8 and label.dtype == np.uint8 and num_classes <= 256:
        counts = _count_bytes(prediction, label, num_classes)
        if 0 <= ignore_index < num_classes:
            counts[ignore_index] = 0
        ignored = int(np.count_nonzero(label == ignore_index)) if 0 <= ignore_index <= 255 else 0
        return counts if int(counts.sum()) == label.size - ignored else None
    counted = label != ignore_index
    rows, columns = label[counted].astype(np.int64), prediction[counted].astype(np.int64)
    if rows.size and (min(rows.min(), columns.min()) < 0 or max(rows.max(), columns.max()) >= num_classes):
        return None
    return np.bincount(rows * num_classes + columns, minlength=num_classes**2).reshape(num_classes, num_classes)


def _count_bytes(prediction: np.ndarray, label: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns the int64 (K,K) counts of the pairs with both values below K."""
    counts = np.zeros((num_classes, num_classes), np.int64)
    width = max(1, label.shape[-1] if label.ndim else 1)
    pair = [np.ascontiguousarray(array).reshape(-1, width) for array in (label, prediction)]
    rows = max(1, EXACT_FLOAT32_COUNT // width)
    for start in range(0, len(pair[0]), rows):
        strips = [array[start : start + rows] for array in pair]
        histogram = cv2.calcHist(strips, [0, 1], None, [num_classes] * 2, [0, num_classes] * 2)
        counts += histogram.reshape(num_classes, num_classes).astype(np.int64)
    return counts


def _count_on_device(
    prediction: torch.Tensor, label: torch.Tensor, num_classes: int, ignore_index: int
) -> torch.Tensor | None:
    """Returns the confusion matrix by one bincount on the prediction's device, None if a value is no class."""
    rows = label.to(prediction.device).flatten().to(torch.int64)
    columns = prediction.flatten().to(torch.int64)
    cells = num_classes**2  # the bins after the matrix: ignored, refused
    joint = rows * num_classes + columns
    refused = (rows < 0) | (rows >= num_classes) | (columns < 0) | (columns >= num_classes)
    joint = torch.where(refused, cells + 1, joint)
    joint = torch.where(rows == ignore_index, cells, joint)
    bins = torch.bincount(joint, minlength=cells + 2)
    if int(bins[cells + 1]):
        return None
    return bins[:cells].reshape(num_classes, num_classes)


def _out_of_range(
    prediction: np.ndarray, label: np.ndarray, num_classes: int, ignore_index: int, where: object
) -> InputError:
    """Returns the error that names the values which are no class, the label's first."""
    counted = label != ignore_index
    code, what, values = "E_LABEL_RANGE", "label outside the classes", label[counted]
    if not ((values < 0) | (values >= num_classes)).any():
        code, what, values = "E_PREDICTION_RANGE", "prediction outside the classes", prediction[counted]
    found = np.unique(values[(values < 0) | (values >= num_classes)])
    return InputError(
        code,
        what,
        where=where,
        found=", ".join(str(value) for value in found[:8]),
        expected=f"0 to {num_classes - 1}, {ignore_index} = ignored",
        remedy="are label mapping and class count those of this data set?",
    )


def _as_numpy(counts: Counts) -> np.ndarray:
    return counts.cpu().numpy() if isinstance(counts, torch.Tensor) else np.asarray(counts)


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Returns 100 x part / whole, nan where whole is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, 100.0 * part / whole, np.nan)


def _mean(values: np.ndarray) -> float:
    """Returns the mean of the values that are numbers, nan if there are none."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else math.nan


def _json_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_json_value(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
