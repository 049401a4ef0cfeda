"""Counts a sample of images again and puts the counts beside those that were stored when the checkpoint was scored."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from setr.data.shards import Shards
from setr.errors import InputError, IntegrityError
from setr.evaluation.areas import read_areas
from setr.evaluation.evaluate import evaluate
from setr.study.protocols import Protocol
from setr.training.comparison import ImageCounts

SAMPLE = 8  # images


def recount(
    model: nn.Module,
    shards: Shards,
    protocol: Protocol,
    stored: Path,
    *,
    device: torch.device | str,
    rank: int = 0,
    world_size: int = 1,
    precision: str = "float32",
    sample: int = SAMPLE,
) -> list[ImageCounts]:
    """Returns the counts of about `sample` images, spread over the data set; on every rank those of all ranks.

    `stored` is the file of areas (`keys`, `areas`) that belongs to the protocol's score. Raises IntegrityError
    (E_AREAS) if it is missing, damaged, or of other images.
    """
    areas = _stored_areas(stored)
    evaluation = evaluate(
        model,
        shards,
        protocol,
        device=device,
        rank=rank,
        world_size=world_size,
        precision=precision,
        sample=sample,
    )
    missing = [row.key for row in evaluation.rows if row.key not in areas]
    if missing or len(areas) != len(shards):
        raise _unusable(stored, f"{len(areas)} images, without {missing[0]}" if missing else f"{len(areas)} images")
    classes = tuple(shards.manifest.classes)
    return [
        ImageCounts(protocol.name, row.key, areas[row.key], found, classes)
        for row, found in zip(evaluation.rows, evaluation.areas, strict=True)
    ]


def _stored_areas(path: Path) -> dict[str, np.ndarray]:
    try:
        return dict(zip(*read_areas(path), strict=True))
    except InputError as error:
        raise _unusable(path, error) from None


def _unusable(path: Path, found: object) -> IntegrityError:
    return IntegrityError(
        "E_AREAS",
        "the stored counts of the images cannot be compared",
        where=path,
        found=found,
        remedy="score the checkpoint again",
    )
