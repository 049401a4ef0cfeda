"""A published model: weights in safetensors, everything else in JSON, and the class that MLflow serves it with.

MLflow calls `_load_pyfunc` of this installed module, which the published model only names. What is published holds
neither code nor pickles, so reading it executes nothing that came with it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from setr.errors import InputError, IntegrityError
from setr.evaluation.inference import predict_batch
from setr.files.atomic import give_rights, make_folder, write_json
from setr.files.hashing import file_sha256
from setr.models.own_head import own_sources
from setr.models.segmenter import Segmenter, build_model
from setr.models.variants import structure_of
from setr.record.checkpoint import weights_to_score
from setr.record.reading import read_experiment_file, read_scores_file
from setr.study.protocols import Protocol

LOADER = "pipelines.tracking.serving"  # this module, as MLflow imports it
WEIGHTS = "model.safetensors"
DESCRIPTION = "segmenter.json"
EXAMPLE_SIZE = (32, 64)  # pixels


class Served:
    """A segmenter under the protocol that it was scored with first (single scale)."""

    def __init__(self, model: Segmenter, protocol: Protocol, classes: tuple[str, ...]) -> None:
        """Take a model in eval mode; `classes` are the names of the numbers that `predict` returns."""
        self.model, self.protocol, self.classes = model, protocol, classes

    def predict(self, images: Any, params: dict[str, Any] | None = None) -> np.ndarray:
        """Returns the classes (B,H,W), uint8, of uint8 RGB images (B,H,W,3); `params` is not used.

        Raises InputError for anything else than images.
        """
        found = np.asarray(images)
        if found.dtype != np.uint8 or found.ndim != 4 or found.shape[3] != 3 or 0 in found.shape:
            shape = "x".join(map(str, found.shape))
            raise InputError(
                "E_IMAGE", "no images", found=f"{found.dtype} {shape}", expected="uint8 images x H x W x 3"
            )
        with torch.inference_mode():
            return predict_batch(self.model, found, self.protocol).cpu().numpy().astype(np.uint8)


def write_published(folder: Path, out: Path) -> str:
    """Writes what is published of a finished experiment's folder into `out`; returns the weights' SHA-256."""
    record, scores = read_experiment_file(folder), read_scores_file(folder)
    try:
        experiment, protocol = record["experiment"], record["job"]["protocols"][0]
        checkpoint, classes = folder / scores["checkpoint_folder"], scores["classes"]
    except (KeyError, IndexError) as error:
        raise InputError("E_EXPERIMENT", "not the record of a finished experiment", where=folder, found=error) from None
    if sources := own_sources_of(experiment):
        raise InputError(
            "E_PUBLISHED",
            f"the model runs code of its trainer's own, and what is published holds none: {', '.join(sources)}",
            where=folder,
            remedy="python pipelines/export.py writes it as ONNX, which needs none",
        )
    make_folder(out)
    weights = {name: value.contiguous() for name, value in weights_to_score(checkpoint).items()}
    save_file(weights, out / WEIGHTS)
    give_rights(out / WEIGHTS)
    sha256 = file_sha256(out / WEIGHTS)
    model = {
        "variant": experiment["variant"],
        "scale": experiment["scale"],
        "flavour": experiment["recipe"]["flavour"],
        "crop_size": experiment["recipe"]["crop_size"],
    }
    write_json(
        out / DESCRIPTION,
        {
            "format": 1,
            "identity": scores["identity"],
            "checkpoint": scores["checkpoint"],
            "model": model,
            "protocol": protocol,
            "classes": classes,
            "weights": sha256,
        },
    )
    return sha256


def own_sources_of(experiment: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the code of a user's own that the model of an experiment's record runs, by its names."""
    model = experiment.get("model")
    return own_sources(structure_of(model)[0]) if model else ()


def read_published(folder: Path) -> Served:
    """Returns the model that `write_published` wrote; raises InputError or IntegrityError if it is not that."""
    where = folder / DESCRIPTION
    try:
        record = json.loads(where.read_text(encoding="utf-8"))
        protocol, classes, model = Protocol(**record["protocol"]), tuple(map(str, record["classes"])), record["model"]
        expected = record["weights"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError("E_PUBLISHED", "not a published model", where=where, found=error) from None
    if (found := file_sha256(folder / WEIGHTS)) != expected:
        raise IntegrityError(
            "E_PUBLISHED", "the weights are others", where=folder / WEIGHTS, found=found, expected=expected
        )
    segmenter = build_model(
        str(model["variant"]),
        num_classes=len(classes),
        crop_size=tuple(model["crop_size"]),
        scale=model["scale"],
        flavour=model["flavour"],
    )
    segmenter.load_state_dict(load_file(folder / WEIGHTS))
    return Served(segmenter.eval(), protocol, classes)


def _load_pyfunc(data_path: str) -> Served:
    """Returns the model for MLflow, which looks for this name."""
    return read_published(Path(data_path))


def example() -> np.ndarray:
    """Returns an image for the model's page, uint8 (1,H,W,3): drawn, since a data set's own may not be passed on."""
    height, width = EXAMPLE_SIZE
    rows, columns = np.mgrid[0:height, 0:width]
    channels = [rows * 255 // (height - 1), columns * 255 // (width - 1), (rows + columns) % 64 * 4]
    return np.stack(channels, -1).astype(np.uint8)[None]
