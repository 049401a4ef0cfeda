"""A checkpoint opened to predict: its model, the names and colours of its classes, and how images are given to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from setr.data.manifest import MANIFEST_NAME, read_manifest
from setr.data.reading.datasets import DATASETS, PUBLISHED, find_dataset
from setr.data.reading.images import read_image
from setr.data.reading.samples import Color, voc_color
from setr.errors import InputError, IntegrityError
from setr.models.own_code import OwnCode, opened
from setr.models.own_head import own_sources
from setr.models.segmenter import Segmenter
from setr.models.variants import structure_of
from setr.models.weights import import_checkpoint
from setr.record.checkpoint import weights_to_score
from setr.record.checkpoint_names import steps
from setr.record.files import EXPERIMENT, own_name
from setr.record.reading import read_experiment_file
from setr.settings.home import home
from setr.study.experiment import Experiment, model_of
from setr.study.protocols import Protocol, overlapping
from setr.study.published import protocol


@dataclass(frozen=True)
class Opened:
    """A model that is ready to predict, the names and colours of its classes, and how images are given to it."""

    model: Segmenter
    classes: tuple[str, ...]
    palette: tuple[Color, ...]
    protocol: Protocol
    source: str  # what was opened, in words


def open_model(
    path: Path,
    *,
    data: str = "",
    num_heads: int | None = None,
    taps: tuple[int, ...] | None = None,
    allow_code: bool = False,
) -> Opened:
    """Returns the model of a checkpoint: a step folder, the folder of an experiment, or a checkpoint file.

    A file may be an export of this project or a checkpoint of the authors or of mmsegmentation. `data` names the data
    set whose classes and protocol are taken where the checkpoint does not say (guessed from the number of classes),
    `num_heads` and `taps` what a file does not say of its encoder. A model may bring code of its trainer's own: it runs
    with `allow_code`, or where this process uses the very same code anyway; else InputError (E_CODE_NOT_ALLOWED).
    """
    if not path.is_dir():
        model, receipt = import_checkpoint(path, num_heads=num_heads, taps=taps, allow_code=allow_code)
        data = data or _data_set_with(model.num_classes)
        names = _classes(data, model.num_classes)
        return Opened(model, *names, _protocol(model, data), f"{path} ({receipt.format})")
    folder = path if not steps(path) else steps(path)[-1]
    record = _experiment_record(folder)
    experiment = Experiment.from_dict(record["experiment"])
    codes = own_codes_beside(folder, experiment, record)
    with opened(codes, allow_code=allow_code, where=", ".join(str(file) for file in codes.values())):
        weights = weights_to_score(folder)
        # Records of the first version do not say how many classes there are.
        classes = 0 if experiment.model else _num_classes(weights, folder)
        model = Segmenter(model_of(experiment, classes))
    model.load_state_dict(weights)
    names = _stored_classes(record) or _classes(data or experiment.dataset, model.num_classes)
    stored = record.get("job", {}).get("protocols") or []
    resized_as = experiment.dataset if experiment.scale == "paper" else ""  # a miniature sees images as they are
    rules = Protocol(**stored[0]) if stored and not data else _protocol(model, data or resized_as)
    return Opened(model.eval(), *names, rules, f"{folder} ({experiment.variant}, {experiment.dataset})")


def own_codes_beside(folder: Path, experiment: Experiment, record: Mapping[str, Any]) -> dict[OwnCode, Path]:
    """Returns the code of a user's own that an experiment's model runs, with the files that it lies in.

    `folder` is the experiment's or a step's. Raises IntegrityError (E_OWN_CODE) for a file that is missing or is not
    the one that was trained with.
    """
    sources = own_sources(structure_of(experiment.model)[0]) if experiment.model else ()
    root = folder if (folder / EXPERIMENT).is_file() else folder.parent
    expected = record.get("job", {}).get("own_sha256") or {}
    found: dict[OwnCode, Path] = {}
    for source in sources:
        file = root / own_name(source)
        try:
            code = OwnCode(source, file.read_bytes().decode())
        except (OSError, UnicodeDecodeError) as error:
            raise IntegrityError(
                "E_OWN_CODE", "the code that this model runs is not beside it", where=file, found=error
            ) from None
        if code.sha256 != expected.get(source):
            raise IntegrityError(
                "E_OWN_CODE",
                "the code beside the checkpoint is not the one that it was trained with",
                where=file,
                found=code.sha256[:12],
                expected=str(expected.get(source, "a hash in experiment.json"))[:40],
            )
        found[code] = file
    return found


def _experiment_record(folder: Path) -> dict[str, Any]:
    for candidate in (folder / EXPERIMENT, folder.parent / EXPERIMENT):
        if candidate.is_file():
            return read_experiment_file(candidate.parent)
    raise InputError(
        "E_CHECKPOINT_FOLDER",
        f"no {EXPERIMENT} beside the checkpoint",
        where=folder,
        expected="checkpoints/<identity>/step-<step>, or a checkpoint file",
    )


def _num_classes(weights: dict[str, torch.Tensor], folder: Path) -> int:
    for name in ("decode_head.classifier.weight", "decode_head.classifier.bias"):
        if name in weights:
            return weights[name].shape[0]
    raise InputError("E_CHECKPOINT_FOLDER", "the checkpoint has no classifier", where=folder)


def _stored_classes(record: dict[str, Any]) -> tuple[tuple[str, ...], tuple[Color, ...]] | None:
    """Returns class names and colours of the shards that the experiment was trained on, if they are still there.

    A project that was moved has them below its own home, not where the record says that they were.
    """
    for split, written in record.get("job", {}).get("shards", {}).items():
        folder = _shards_now(Path(written), split)
        if folder is not None:
            manifest, _ = read_manifest(folder)
            return tuple(manifest.classes), tuple(manifest.palette)
    return None


def _shards_now(written: Path, split: str) -> Path | None:
    """Returns the folder of a split's shards: below home, as far as the record's path says, else where it was."""
    here = [home().joinpath(*written.parts[start:]) for start in range(1, len(written.parts) - 1)]
    for folder in (*here, written):
        if folder.name == split and (folder / MANIFEST_NAME).is_file():
            return folder
    return None


def _data_set_with(num_classes: int) -> str:
    """Returns the data set that has this number of classes, "" if none has."""
    return next((name for name in PUBLISHED if DATASETS[name].num_classes == num_classes), "")


def _classes(data: str, num_classes: int) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    if data in DATASETS or (data and not _data_set_with(num_classes)):
        dataset = find_dataset(data)
        if dataset.num_classes != num_classes:
            raise InputError(
                "E_CLASS_COUNT",
                "the model has other classes",
                where=f"--data {data}",
                found=f"{num_classes} in the model",
                expected=dataset.num_classes,
            )
        return dataset.classes, dataset.palette
    return tuple(f"class {index}" for index in range(num_classes)), tuple(
        voc_color(index + 1) for index in range(num_classes)
    )


def _protocol(model: Segmenter, data: str) -> Protocol:
    """Returns single scale with the model's crop as the window; the resize is the data set's, or none."""
    window = model.spec.image_size
    resize = protocol(data, "naive", "ss").resize if data in PUBLISHED else None
    return Protocol("predict", resize, "slide", window, overlapping(window), num_classes=model.num_classes)


def load_image(path: Path) -> np.ndarray:
    """Returns an image file as uint8 RGB (H,W,3), turned as its EXIF orientation asks."""
    try:
        return read_image(path)
    except InputError as error:
        if error.code != "E_EXIF_ORIENTATION":
            raise
        # A data set refuses these, because labels may not be turned; a photograph alone is only shown the right way.
        turned = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if turned is None:
            raise
        return cv2.cvtColor(turned, cv2.COLOR_BGR2RGB)
