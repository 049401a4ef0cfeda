"""The data sets by name, and the one that the settings ask for."""

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from setr.data.reading import cityscapes
from setr.data.reading.ade20k import ADE20K, ADE20K_REDUCED
from setr.data.reading.camvid import CAMVID
from setr.data.reading.cityscapes import CITYSCAPES, CITYSCAPES_TRAIN_IDS
from setr.data.reading.folder import FolderSettings, folder_dataset
from setr.data.reading.pascal_context import PASCAL_CONTEXT, PASCAL_CONTEXT_59, PASCAL_CONTEXT_59_REDUCED
from setr.data.reading.published import Published
from setr.data.reading.samples import Dataset
from setr.errors import InputError
from setr.settings.config import DataConfig

CLASSES_FILE = "classes.txt"  # beside images/ and labels/: a data set of one's own that needs no more settings

# The built-in street scenes are written in Cityscapes' layout and label ids, read by its reader, and take its recipe.
_SCENES = replace(
    CITYSCAPES,
    name="scenes",
    splits={"train": None, "val": None},
    published=replace(cityscapes.PUBLISHED, dataset="scenes", image_size=None),
)

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        _SCENES,
        CITYSCAPES,
        CITYSCAPES_TRAIN_IDS,
        ADE20K,
        ADE20K_REDUCED,
        PASCAL_CONTEXT,
        PASCAL_CONTEXT_59,
        PASCAL_CONTEXT_59_REDUCED,
        CAMVID,
    )
}

# Those with recipes and protocols of their own, the built-in one last.
PUBLISHED: dict[str, Published] = {
    dataset.name: dataset.published
    for dataset in sorted(DATASETS.values(), key=lambda dataset: dataset is _SCENES)
    if dataset.published is not None and dataset.published.dataset == dataset.name
}


def published_of(name: str) -> Published | None:
    """Returns what is published of a data set, whatever its labels are stored as; None for one of one's own."""
    return DATASETS[name].published if name in DATASETS else None


def configured_dataset(data: DataConfig) -> tuple[Dataset, Path]:
    """Returns the data set that the settings name, with its root; with `data.images` set, a data set of one's own.

    So is a root with images/, labels/ and classes.txt, under a name that is not built in. The paths of one's own data
    are relative to the working folder. Raises E_DATASET, E_CLASSES, E_PALETTE.
    """
    root = Path(data.root)
    if not data.images and not data.labels:
        if data.name not in DATASETS and (root / CLASSES_FILE).is_file():
            return _own(data.name, data, "images", "labels", data.classes or (str(root / CLASSES_FILE),)), root
        if own := [name for name in ("palette", "zero_ignored") if getattr(data, name)]:
            raise InputError(
                "E_DATASET",
                "a setting for data sets of one's own",
                where=f"data.{own[0]}",
                found=f"data.name={data.name} without data.images and data.labels",
            )
        return find_dataset(data.name), root
    if not data.images or not data.labels:
        raise InputError(
            "E_DATASET",
            "a data set of one's own needs both data.images and data.labels",
            where="data",
            found=f"data.images={data.images!r} data.labels={data.labels!r}",
        )
    name = "folder" if data.name in DATASETS else data.name
    return _own(name, data, data.images, data.labels, data.classes), Path()


def _own(name: str, data: DataConfig, images: str, labels: str, classes: Sequence[str]) -> Dataset:
    return folder_dataset(
        name,
        FolderSettings(images, labels, label_suffix=data.label_suffix),
        classes,
        palette=data.palette,
        zero_ignored=data.zero_ignored,
    )


def find_dataset(name: str) -> Dataset:
    """Returns the data set of that name; raises E_DATASET with the nearest known name."""
    if name in DATASETS:
        return DATASETS[name]
    near = difflib.get_close_matches(name, DATASETS, n=1)
    raise InputError(
        "E_DATASET",
        "unknown data set",
        where="data.name",
        found=name,
        expected=", ".join(DATASETS),
        remedy=f"did you mean {near[0]}?"
        if near
        else "for images of your own set data.images, data.labels and data.classes, or put images/, labels/ and "
        "classes.txt into data.root",
    )
