"""Generated records for the report's benchmark and tests; nothing here was measured."""

import dataclasses
import hashlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from setr.models.variants import structure_record, variant_spec
from setr.reporting.numbers.results import Result
from setr.study.cells import Cell, by_training, cells
from setr.study.experiment import Experiment

CLASSES = (
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def make_experiment(
    cell: Cell, *, scale: str = "miniature", seed: int = 0, code: str = "one", **changes: Any
) -> Experiment:
    """Returns the experiment of a cell, with the paper's recipe or a small one."""
    published = cell.published_recipe()
    small = {"40k": 120, "80k": 240}.get(cell.schedule, 300)
    if scale == "miniature":
        published = dataclasses.replace(published, iterations=small, crop_size=(128, 128), base_size=None, batch_size=8)
    values = {
        "dataset": "scenes" if scale == "miniature" else cell.dataset,
        "variant": cell.variant,
        "schedule": cell.schedule,
        "scale": scale,
        "seed": seed,
        "recipe": published,
        "manifest": digest("manifest"),
        "weights": "" if "random" in cell.variant else digest(cell.variant),
        "code": digest(code),
    }
    structure = variant_spec(
        cell.model,
        num_classes=19 if scale == "miniature" else cell.published_protocol().num_classes,
        crop_size=values["recipe"].crop_size,
        scale=scale,
    )
    values["model"] = structure_record(structure)
    return Experiment(**{**values, **changes})


def make_result(
    members: Sequence[Cell],
    *,
    scale: str = "miniature",
    seed: int = 0,
    finished: bool = True,
    offset: float | None = None,
    points: int = 24,
    experiment: dict[str, Any] | None = None,
    **changes: Any,
) -> Result:
    """Returns a result that serves the given cells, which share one training."""
    cell = members[0]
    made = make_experiment(cell, scale=scale, seed=seed, **(experiment or {}))
    chance = random.Random(f"{cell.key} {seed} {scale}")
    paper = next((one.paper for one in members if one.paper is not None), 70.0)
    base = (paper - 42 if paper > 60 else paper - 25) if scale == "miniature" else paper
    score = base + (chance.gauss(0, 0.6) if offset is None else offset)
    total = made.recipe.iterations
    steps = [max(1, round(total * (index + 1) / points)) for index in range(points)]
    scores = {}
    for kind in sorted({one.protocol for one in members}):
        value = score + (1.1 if kind == "ms" else 0.0)
        protocol = next(one for one in members if one.protocol == kind).published_protocol()
        iou: list[float | None] = [max(0.0, min(99.0, value + chance.gauss(0, 18))) for _ in CLASSES]
        iou[16] = None
        scores[kind] = {
            "mIoU": value,
            "pixel_accuracy": min(97.0, value + 35),
            "mean_accuracy": min(95.0, value + 8),
            "per_class_iou": iou,
            "protocol": dataclasses.asdict(protocol),
            "digest": protocol.digest(),
            "manifest": digest("validation"),
            "scoring": digest("scoring"),
        }
    done = steps if finished else steps[: len(steps) // 3]
    loss = [(step, 3.2 / (1 + 4 * step / total) + abs(chance.gauss(0, 0.12))) for step in done]
    accuracy = [(step, score * (1 - 0.75 ** (1 + 8 * step / total))) for step in done[:: max(1, len(done) // 5)]]
    values: dict[str, Any] = {
        "identity": made.identity,
        "cells": tuple(one.key for one in members),
        "experiment": made.as_dict(),
        "scores": scores if finished else {},
        "curves": {
            "loss": loss,
            "loss/main": [(step, value * 0.6) for step, value in loss],
            "learning_rate": [(step, 0.01 * (1 - step / (total + 1)) ** 0.9) for step in done],
            "images_per_second": [(step, 20 + chance.gauss(0, 1)) for step in done],
            "val/mIoU": accuracy,
        },
        "run_id": digest(made.identity)[:32],
        "run_url": f"http://127.0.0.1:5000/#/experiments/1/runs/{digest(made.identity)[:32]}",
        "tags": {
            "setr.identity": made.identity,
            "git.commit": digest("commit")[:40],
            "git.dirty": "false",
            "version.torch": "2.15.0",
        },
        "parameters": 2_400_000 + 1_000 * len(cell.variant) - 1_300_000 * ("base" in cell.variant),
        "checkpoint_sha256": digest("checkpoint" + made.identity),
        "seconds": {"train": 14.2, "evaluate": 3.1},
        "checkpoint": f"checkpoints/{made.identity}/step-{total:08d}",
        "finished": finished,
        "started": 1000.0 + seed,
        "class_names": CLASSES,
    }
    return Result(**{**values, **changes})


def make_results(
    tables: Sequence[int] = (2,), *, scale: str = "miniature", seeds: int = 1, **changes: Any
) -> list[Result]:
    """Returns a result for every training of the tables."""
    groups = by_training(cells(tables)).values()
    return [make_result(members, scale=scale, seed=seed, **changes) for members in groups for seed in range(seeds)]


def make_picture(path: Path, size: tuple[int, int] = (384, 256)) -> Path:
    """Writes a picture of coloured blocks."""
    generator = np.random.default_rng(len(str(path)))
    blocks = generator.integers(40, 220, (size[1] // 32, size[0] // 32, 3), dtype=np.uint8)
    Image.fromarray(blocks.repeat(32, 0).repeat(32, 1)).save(path)
    return path
