"""What is kept of an evaluation: scores and what they are scores of, areas by image, a picture, the model's size."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from setr.data.shards import Shards
from setr.evaluation.calibration import expected_calibration_error
from setr.evaluation.evaluate import Evaluation
from setr.evaluation.inference import predict
from setr.evaluation.qualitative import panel, sheet
from setr.files.atomic import new_file, write_file
from setr.models.counting import gflops
from setr.models.own_check import needs_values
from setr.models.segmenter import Segmenter
from setr.models.variants import structure_of
from setr.record.lease import Lease
from setr.settings.config import to_dict
from setr.study.code import scoring_code
from setr.study.experiment import Experiment
from setr.study.protocols import Protocol

PICTURE_ROWS = 4  # validation images in the picture


WORST_IMAGES = 10  # named beside the scores


def size_of(experiment: Experiment) -> tuple[int, float]:
    """Returns the model's parameters, and 1e9 floating point operations of one crop's logits.

    Nothing is computed, but where a head of a user's own needs values.
    """
    spec = structure_of(experiment.model)[0]
    with torch.device("cpu" if needs_values(spec) else "meta"):
        model = Segmenter(spec)
    return sum(parameter.numel() for parameter in model.parameters()), gflops(model, experiment.recipe.crop_size)


def score_record(evaluation: Evaluation, manifest: str, *, tags: Mapping[str, str]) -> dict[str, Any]:
    """Returns one protocol's scores as they are stored: in percent, with what they are scores of.

    `tags` say where the code that scored came from (setr.record.lineage.origin): the training may be older.

    Protocol, its digest, and the hash of the manifest of the images belong to a score as the identity to a training.
    """
    return {
        **evaluation.scores.as_dict(),
        "images": evaluation.images,
        "manifest": manifest,
        "worst_images": [dataclasses.asdict(row) for row in evaluation.worst(WORST_IMAGES)],
        "calibration_error": expected_calibration_error(evaluation.calibration),
        "calibration": evaluation.calibration.tolist(),
        "protocol": to_dict(evaluation.protocol),
        "digest": evaluation.protocol.digest(),
        "scoring": scoring_code(),
        "tags": dict(tags),
    }


def save_areas(evaluation: Evaluation, path: Path, *, owner: Lease | None = None) -> None:
    """Writes each image's intersections and areas by class, and the confusion matrix of all (rows: label).

    From the areas differences between variants are tested. Neither is small enough to be text: 150 classes make 22,500
    counts, and every image 450.
    """
    keys = np.array([row.key for row in evaluation.rows])
    with new_file(path, owner=owner, read_only=False) as file:
        np.savez_compressed(file, keys=keys, areas=evaluation.areas, matrix=evaluation.matrix)


def save_picture(
    model: Segmenter, shards: Shards, protocol: Protocol, path: Path, *, owner: Lease | None = None
) -> None:
    """Writes a PNG of evenly spread images with ground truth, prediction and errors beside them."""
    rows = []
    for index in np.linspace(0, len(shards) - 1, min(PICTURE_ROWS, len(shards))).astype(int):
        record = shards[int(index)]
        prediction = predict(model, record.image, protocol)
        rows.append(panel(record.image, prediction, record.label, shards.manifest.palette))
    png = cv2.imencode(".png", cv2.cvtColor(sheet(rows), cv2.COLOR_RGB2BGR))[1]
    write_file(path, png.tobytes(), owner=owner, read_only=False)
