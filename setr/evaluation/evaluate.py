"""Scores a model on a data set under a protocol: the same counts on one process or on many."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from setr.data.shards import Record, Shards
from setr.errors import InputError
from setr.evaluation.calibration import BINS, reliability_counts, sample_places
from setr.evaluation.inference import autocast, predict_sampled
from setr.evaluation.metrics import Scores, boundary_areas, confusion_matrix, image_areas, scores
from setr.evaluation.windows import Size, multi_scale_sizes
from setr.models.specification import EncoderSize
from setr.study.protocols import Protocol

# Small images of one size go through the model together. What a block holds depends on the data and the protocol
# alone, never on the number of workers: sums in float32 depend on the batch, and a tie must fall the same way.
BLOCK_PIXELS = 1 << 18
BLOCK_IMAGES = 4


@dataclass(frozen=True)
class ImageRow:
    """The scores of one image in percent; nan where the image has none (see setr.evaluation.metrics)."""

    key: str
    mIoU: float  # noqa: N815 (the field's word)
    pixel_accuracy: float


@dataclass(frozen=True)
class Evaluation:
    """What was counted, the scores it gives, and how it was scored."""

    matrix: np.ndarray  # int64 (K,K), rows = label, columns = prediction
    scores: Scores
    images: int
    protocol: Protocol
    rows: tuple[ImageRow, ...]  # one for each image, in the data set's order
    areas: np.ndarray  # int64 (images, 3, K): intersection, prediction, label; sums of it give any subset's scores
    calibration: np.ndarray  # int64 (3, BINS): pixels, right ones, sum of confidences (setr.evaluation.calibration)

    def worst(self, count: int) -> list[ImageRow]:
        """Returns the images with the lowest mIoU, the worst first; those without labels are left out."""
        scored = [row for row in self.rows if not math.isnan(row.mIoU)]
        return sorted(scored, key=lambda row: (row.mIoU, row.key))[:count]

    def as_dict(self) -> dict[str, Any]:
        """Returns scores, number of images, protocol and its digest for JSON."""
        protocol = {**asdict(self.protocol), "digest": self.protocol.digest()}
        return {"scores": self.scores.as_dict(), "images": self.images, "protocol": protocol}


class _Counts:
    """What has been counted so far; summed over workers as it is."""

    def __init__(self, protocol: Protocol, images: int, device: torch.device | str) -> None:
        """Start at zero for a data set of `images`."""
        self.options = {"num_classes": protocol.num_classes, "ignore_index": protocol.ignore_index}
        classes = protocol.num_classes
        self.matrix = torch.zeros(classes, classes, dtype=torch.int64, device=device)
        self.areas = torch.zeros(images, 3, classes, dtype=torch.int64, device=device)  # see metrics.image_areas
        self.boundary = torch.zeros(3, classes, dtype=torch.int64, device=device)  # see metrics.boundary_areas
        self.calibration = torch.zeros(3, BINS, dtype=torch.int64, device=device)  # see calibration.reliability_counts
        self.keys: dict[int, str] = {}  # by index: the images counted

    def add(
        self, index: int, record: Record, prediction: torch.Tensor, confidence: torch.Tensor, *, boundary: bool
    ) -> None:
        """Counts one image, on the prediction's device; `confidence` (n,) is that of the sampled pixels."""
        label = torch.tensor(record.label).to(prediction.device)
        places = torch.from_numpy(sample_places(*record.label.shape)).to(prediction.device)
        sampled = (prediction.flatten()[places], label.flatten()[places])
        self.calibration += reliability_counts(confidence, *sampled, ignore_index=self.options["ignore_index"])
        matrix = confusion_matrix(prediction, label, where=record.key, **self.options)
        self.matrix += matrix
        self.areas[index] = image_areas(matrix)
        self.keys[index] = record.key
        if boundary:
            areas = boundary_areas(prediction.cpu().numpy(), record.label, **self.options)
            self.boundary += torch.from_numpy(areas).to(self.boundary.device)

    def sum_over_workers(self, failure: Exception | None) -> None:
        """Adds the counts of all workers, in place; raises on every worker if one of them has failed."""
        shared: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(shared, (None if failure is None else str(failure), self.keys))
        failures = [text for text, _ in shared if text is not None]
        if failure is not None:
            raise failure
        if failures:
            raise InputError("E_WORKER", "another worker could not evaluate", found=failures[0])
        for _, keys in shared:
            self.keys.update(keys)
        for counts in (self.matrix, self.areas, self.boundary, self.calibration):
            dist.all_reduce(counts)


def evaluate(
    model: nn.Module,
    shards: Shards,
    protocol: Protocol,
    *,
    device: torch.device | str,
    rank: int = 0,
    world_size: int = 1,
    limit: int | None = None,
    sample: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    precision: str = "float32",
    boundary: bool = False,
) -> Evaluation:
    """Returns the counts and scores of `model` on the first `limit` images (None: all) of a labelled data set.

    `sample` takes about so many of them, spread evenly, in the blocks that they have among all: the same counts.

    With `torch.distributed` initialised, each of `world_size` workers takes its share and all return the same sums;
    without, a worker returns the counts of its share. `progress(done, all)` hears of this worker's images, `precision`
    is float32 | bfloat16, `boundary` adds the boundary IoU (0.04 s for 1024 x 2048 pixels).

    Raises InputError when classes, window or labels do not fit (E_CLASS_COUNT, E_WINDOW_REACH, E_NO_LABELS,
    E_LABEL_RANGE), on all workers when on one.
    """
    check_fit(model, shards, protocol)
    _check_labels(shards, protocol)
    images = len(shards) if limit is None else min(limit, len(shards))
    blocks = _spread(_blocks(shards, protocol, images), sample)[rank::world_size]
    mine = sum(len(block) for block in blocks)
    counts = _Counts(protocol, images, device)
    training = model.training
    model.to(device).eval()
    failure: Exception | None = None
    try:
        with torch.inference_mode(), autocast(device, precision):
            predicted = _predictions(model, shards, protocol, blocks, sampled=True)
            for done, (index, record, prediction, confidence) in enumerate(predicted, start=1):
                assert confidence is not None
                counts.add(index, record, prediction, confidence, boundary=boundary)
                if progress:
                    progress(done, mine)
    except Exception as error:  # the other workers wait at the sum and must hear of it
        failure = error
    finally:
        model.train(training)
    if world_size > 1 and dist.is_initialized():
        counts.sum_over_workers(failure)
    if failure is not None:
        raise failure
    return _evaluation(counts, protocol, boundary=boundary)


def check_fit(model: nn.Module, shards: Shards, protocol: Protocol) -> None:
    """Raises InputError unless model, data set and protocol go together: E_CLASS_COUNT, E_WINDOW_REACH."""
    manifest, where = shards.manifest, _where(shards, protocol)
    classes = {
        "the data set": len(manifest.classes),
        "the protocol": protocol.num_classes,
        "the model": getattr(model, "num_classes", protocol.num_classes),
    }
    if len(set(classes.values())) > 1:
        raise InputError(
            "E_CLASS_COUNT",
            "model, data set and protocol differ in classes",
            where=where,
            found=", ".join(f"{count} in {owner}" for owner, count in classes.items()),
            remedy="score a checkpoint on the data set that it was trained for",
        )
    reach = position_reach(model)
    if protocol.mode == "slide" and reach and (protocol.window[0] > reach[0] or protocol.window[1] > reach[1]):
        raise InputError(
            "E_WINDOW_REACH",
            "the window exceeds the model's position table",
            where=where,
            found=f"{protocol.window[0]}x{protocol.window[1]} pixels",
            expected=f"at most {reach[0]}x{reach[1]}",
            remedy="use the protocol of the crop that the model was trained with",
        )


def _check_labels(shards: Shards, protocol: Protocol) -> None:
    manifest, where = shards.manifest, _where(shards, protocol)
    if not manifest.labelled or len(shards) == 0:
        raise InputError(
            "E_NO_LABELS",
            "there is nothing to score",
            where=where,
            found=f"{len(shards)} images" + ("" if manifest.labelled else " without labels"),
            remedy="choose a split with labels, or write a submission for the test server",
        )
    if manifest.ignore_index != protocol.ignore_index:
        raise InputError(
            "E_IGNORE_INDEX",
            "data set and protocol ignore different labels",
            where=where,
            found=protocol.ignore_index,
            expected=manifest.ignore_index,
        )


def _where(shards: Shards, protocol: Protocol) -> str:
    return f"{shards.manifest.dataset}/{shards.manifest.split}, protocol {protocol.name}"


def position_reach(model: nn.Module) -> Size | None:
    """Returns the pixels (h, w) that the model's position table was made for; None for a model without one."""
    spec = getattr(model, "spec", None)
    if spec is None or not isinstance(spec.encoder, EncoderSize):
        return None
    return (spec.image_size[0], spec.image_size[1])


def predictions(model: nn.Module, shards: Shards, protocol: Protocol) -> Iterator[tuple[int, Record, torch.Tensor]]:
    """Yields index, record and classes (H,W) of each image; the next ones are read while the model works."""
    blocks = _blocks(shards, protocol, len(shards))
    for index, record, classes, _ in _predictions(model, shards, protocol, blocks, sampled=False):
        yield index, record, classes


def _predictions(
    model: nn.Module, shards: Shards, protocol: Protocol, blocks: list[range], *, sampled: bool
) -> Iterator[tuple[int, Record, torch.Tensor, torch.Tensor | None]]:
    """Yields index, record, classes (H,W) and, with `sampled`, the confidences at the image's sample_places."""

    def read(block: range) -> list[tuple[int, Record]]:
        return [(index, shards[index]) for index in block]

    with ThreadPoolExecutor(1) as reader:
        ahead = [reader.submit(read, block) for block in blocks[:1]]
        for position in range(len(blocks)):
            images = ahead.pop().result()
            ahead += [reader.submit(read, block) for block in blocks[position + 1 : position + 2]]
            for group in _same_size(images):
                height, width = group[0][1].image.shape[:2]
                places = sample_places(height, width) if sampled else None
                classes, confidence = predict_sampled(model, [record.image for _, record in group], protocol, places)
                for number, (index, record) in enumerate(group):
                    yield index, record, classes[number], None if confidence is None else confidence[number]


def _blocks(shards: Shards, protocol: Protocol, images: int) -> list[range]:
    """Returns the indices in blocks of neighbours, sized by the first image."""
    if images == 0:
        return []
    height, width = shards[0].image.shape[:2]
    pixels = max(h * w for h, w in multi_scale_sizes((height, width), protocol))
    length = max(1, min(BLOCK_IMAGES, BLOCK_PIXELS // pixels))
    return [range(start, min(start + length, images)) for start in range(0, images, length)]


def _spread(blocks: list[range], images: int | None) -> list[range]:
    """Returns blocks of at least `images` images in all, evenly spread; None: all blocks."""
    if images is None or not blocks:
        return blocks
    count = min(len(blocks), -(-images // len(blocks[0])))
    return [blocks[round(place)] for place in np.linspace(0, len(blocks) - 1, count).tolist()]


def _same_size(images: list[tuple[int, Record]]) -> list[list[tuple[int, Record]]]:
    """Returns the images in groups of one size."""
    groups: dict[tuple[int, ...], list[tuple[int, Record]]] = {}
    for index, record in images:
        groups.setdefault(record.image.shape, []).append((index, record))
    return list(groups.values())


def _evaluation(counts: _Counts, protocol: Protocol, *, boundary: bool) -> Evaluation:
    """Returns the record of what was counted; raises E_NO_LABELS if every pixel was ignored."""
    indices = sorted(counts.keys)
    areas = counts.areas.cpu().numpy()[indices]
    matrix = counts.matrix.cpu().numpy()
    if indices and not matrix.any():
        raise InputError(
            "E_NO_LABELS",
            "every label pixel is ignored",
            found=f"{len(indices)} images of label {protocol.ignore_index} alone",
            remedy="is the label mapping that of this data set, and does the split have labels?",
        )
    return Evaluation(
        matrix=matrix,
        scores=scores(matrix, counts.boundary if boundary else None),
        images=len(indices),
        protocol=protocol,
        rows=tuple(
            ImageRow(counts.keys[index], *_image_scores(image)) for index, image in zip(indices, areas, strict=True)
        ),
        areas=areas,
        calibration=counts.calibration.cpu().numpy(),
    )


def _image_scores(areas: np.ndarray) -> tuple[float, float]:
    """Returns mIoU and pixel accuracy of one image's (3,K) areas in percent."""
    intersection, predicted, labelled = areas.astype(np.float64)
    union = predicted + labelled - intersection
    present = union > 0
    if not labelled.any():
        return float("nan"), float("nan")
    return (
        100.0 * float((intersection[present] / union[present]).mean()),
        100.0 * float(intersection.sum() / labelled.sum()),
    )
