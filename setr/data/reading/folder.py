"""A data set of one's own: a folder of images, a folder of label PNGs with the same names, and the class names."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from setr.data.reading.class_names import class_names
from setr.data.reading.samples import Color, Dataset, LabelFamily, Listing, allow, keyed, pair, stem, voc_color
from setr.data.reading.sources import Files, Source, check_root, find_files, spelled
from setr.data.reading.splits import divide
from setr.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
VALIDATION_FRACTION = 0.2


@dataclass(frozen=True)
class FolderSettings:
    """Where the files are; paths are relative to the data root, or absolute; an archive may stand for a folder."""

    images: str
    labels: str
    label_suffix: str = ".png"  # what follows the image's name in the label's name, such as _mask.png
    validation_fraction: float = VALIDATION_FRACTION  # only where neither sub-folders nor list files make the splits


def folder_dataset(
    name: str,
    settings: FolderSettings,
    classes: Sequence[str],
    *,
    palette: Sequence[Color] = (),
    zero_ignored: bool = False,
) -> Dataset:
    """Returns the data set of a folder; `classes` are names in label order, or one text file with a name per line.

    Splits are `train` and `val` (splits.py). With `zero_ignored` label 0 means unlabelled and class names
    start at 1. With a palette, labels are pictures in its colours. Raises E_CLASSES and E_PALETTE.
    """
    names = class_names(classes)
    count = len(names)
    if palette:
        _require_palette(palette, count)
    shifted = {0: 255, 255: 255} | {value: value - 1 for value in range(1, count + 1)}
    plain = {value: value for value in range(count)} | {255: 255}
    families = (
        LabelFamily(
            f"classes from 0 (0-{count - 1}, 255 ignored)", frozenset(plain), "leave out the class name for value 0"
        ),
        LabelFamily(
            f"classes from 1 (1-{count}, 0 ignored)",
            frozenset(shifted),
            "set data.zero_ignored=true if value 0 means unlabelled or does not occur, else name the class of value 0 "
            "first in data.classes, for instance 'background'",
        ),
    )
    return Dataset(
        name=name,
        classes=names,
        palette=tuple(palette) or tuple(voc_color(index + 1) for index in range(count)),
        label_map=allow(shifted if zero_ignored else plain),
        splits={"train": None, "val": None},
        scanner=partial(scan, settings=settings),
        color_labels=bool(palette),
        own=True,
        family=families[1 if zero_ignored else 0].name,
        families=families,
    )


def scan(root: Path, split: str, *, settings: FolderSettings) -> Listing:
    """Returns one split's listing; raises E_DATA_ROOT, E_DATA_EMPTY and what `divide` does."""
    images_root, labels_root = spelled(root / settings.images), spelled(root / settings.labels)
    image_files = find_files(check_root(images_root, setting="data.images"), "")
    label_files = find_files(check_root(labels_root, setting="data.labels"), "")
    images, labels, others = _roles(image_files, label_files, images_root, labels_root, settings.label_suffix)
    if not images:
        raise _nothing("image", images_root, f"*{', *'.join(IMAGE_SUFFIXES)}", image_files)
    if not labels:
        raise _nothing(
            "label", labels_root, f"*{settings.label_suffix}", label_files, _likely_suffix(images, label_files)
        )
    divided = divide(images, labels, images_root, fraction=settings.validation_fraction)
    if not divided.images.get(split) and images.keys() & labels.keys():
        raise InputError(
            "E_DATA_EMPTY",
            f"no image falls into split {split}",
            where=images_root,
            found=f"divided {divided.rule}",
            remedy="make sub-folders train/ and val/, or list files train.txt and val.txt",
        )
    if not any(files.keys() & divided.labels.get(name, {}).keys() for name, files in divided.images.items()):
        raise _no_pair(images, labels, label_files, images_root)
    listing = pair(divided.images[split], divided.labels.get(split, {}))
    junk = image_files.junk + label_files.junk
    return replace(listing, junk=junk, rule=divided.rule, outside=divided.outside, others=others)


def _roles(
    image_files: Files, label_files: Files, images_root: Path, labels_root: Path, label_suffix: str
) -> tuple[dict[str, Source], dict[str, Source], tuple[str, ...]]:
    """Returns images and labels by key, and the files that are neither.

    In one folder for both, what bears the labels' suffix is a label; a folder of labels below the images' holds none.
    """
    suffix = unicodedata.normalize("NFC", label_suffix)
    labels = keyed(label_files.found, lambda path: _stem(path, suffix), where=labels_root)
    label_sources = set(labels.values())
    if labels_root == images_root:
        plain = {path: source for path, source in image_files.found.items() if source not in label_sources}
    elif labels_root.is_relative_to(images_root):
        below = f"{labels_root.relative_to(images_root).as_posix()}/"
        plain = {path: source for path, source in image_files.found.items() if not path.startswith(below)}
    else:
        plain = dict(image_files.found)
        if images_root.is_relative_to(labels_root):
            inside = set(plain.values())
            labels = {key: source for key, source in labels.items() if source not in inside}
    images = keyed(plain, lambda path: _stem(path, *IMAGE_SUFFIXES), where=images_root)
    known = set(images.values()) | label_sources
    others = sorted({str(source) for files in (plain, label_files.found) for source in files.values()} - _names(known))
    return images, labels, tuple(others)


def _names(sources: set[Source]) -> set[str]:
    return {str(source) for source in sources}


def _stem(path: str, *suffixes: str) -> str | None:
    return stem(unicodedata.normalize("NFC", path), *suffixes)


def _likely_suffix(images: Mapping[str, Source], label_files: Files) -> str:
    """Returns the setting with which a label would be an image's, or an empty text."""
    for path in label_files.found:
        name = unicodedata.normalize("NFC", path)
        for end in range(len(name) - 1, 0, -1):
            if name[:end] in images and name.lower().endswith(".png"):
                return f"set data.label_suffix={name[end:]}"
    return ""


def _no_pair(
    images: Mapping[str, Source], labels: Mapping[str, Source], label_files: Files, images_root: Path
) -> InputError:
    """Returns the error for images and labels of which no two have the same name."""
    image, label = min(images), min(labels)
    remedy = _likely_suffix(images, label_files) or "give each label the path of its image, or set data.label_suffix"
    if {key.casefold() for key in images} & {key.casefold() for key in labels}:
        remedy = "write capital letters alike in both"
    elif {key.partition("/")[2] for key in images} & {key.partition("/")[2] for key in labels} - {""}:
        remedy = "the first folders differ: name the folders (in an archive: pack the files) below them"
    return InputError(
        "E_PAIR_MISSING",
        "no image and label have the same name",
        where=images_root,
        found=f"images such as {image!r}, labels such as {label!r}",
        remedy=remedy,
    )


def _nothing(what: str, root: Path, expected: str, files: Files, remedy: str = "") -> InputError:
    found = ""
    if files.found:
        found = f"{len(files.found)} files such as {min(files.found)}"
        kinds = "convert them to PNG, or to JPEG if they are photographs"
        remedy = remedy or (
            kinds if what == "image" else "labels are PNG files: convert them, or set data.label_suffix"
        )
    return InputError("E_DATA_EMPTY", f"no {what} found", where=root, found=found, expected=expected, remedy=remedy)


def _require_palette(palette: Sequence[Color], count: int) -> None:
    if len(palette) != count:
        raise InputError(
            "E_PALETTE", "one colour for each class", where="data.palette", found=len(palette), expected=count
        )
    wrong = [color for color in palette if not all(0 <= part <= 255 for part in color)]
    if wrong:
        raise InputError(
            "E_PALETTE", "no colour of 8 bits", where="data.palette", found=list(wrong[0]), expected="0 to 255"
        )
