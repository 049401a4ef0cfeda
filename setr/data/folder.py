"""A data set of one's own: a folder of images, a folder of label PNGs with the same names, and the class names."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from setr.data.samples import MAX_CLASSES, Color, Dataset, LabelFamily, Listing, allow, keyed, pair, stem, voc_color
from setr.data.sources import Source, check_root, find_files, read_bytes
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

    Splits are `train` and `val`: sub-folders `images/train` where they exist, else list files `train.txt`, `val.txt`
    beside the image folder (one alone leaves the rest to the other), else a fixed share of the keys by their hash (an
    image stays in its split when others are added). With `zero_ignored` label 0 means unlabelled and class names start
    at 1. With a palette, labels may be RGB pictures.
    """
    names = _class_names(classes)
    count = len(names)
    if palette and len(palette) != count:
        raise InputError(
            "E_PALETTE", "one colour for each class", where="data.palette", found=len(palette), expected=count
        )
    shifted = {0: 255, 255: 255} | {value: value - 1 for value in range(1, count + 1)}
    plain = {value: value for value in range(count)} | {255: 255}
    families = (
        LabelFamily(
            f"classes from 0 (0-{count - 1}, 255 ignored)", frozenset(plain), "leave out the class name for value 0"
        ),
        LabelFamily(
            f"classes from 1 (1-{count}, 0 ignored)",
            frozenset(shifted),
            "name the class of value 0 first in data.classes, for instance 'background'",
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
        family=families[1 if zero_ignored else 0].name,
        families=families,
    )


def scan(root: Path, split: str, *, settings: FolderSettings) -> Listing:
    """Returns one split's listing, by sub-folders, list files or the hash of the keys."""
    images_root, labels_root = root / settings.images, root / settings.labels
    images, junk = _keyed_files(images_root, IMAGE_SUFFIXES)
    labels, label_junk = _keyed_files(labels_root, (settings.label_suffix,))
    if not images:
        raise InputError("E_DATA_EMPTY", "no image found", where=images_root, expected=f"*{', *'.join(IMAGE_SUFFIXES)}")
    if not labels:
        raise InputError("E_DATA_EMPTY", "no label found", where=labels_root, expected=f"*{settings.label_suffix}")
    if any(key.startswith(("train/", "val/")) for key in images):
        images, labels = _below(images, split), _below(labels, split)
    elif lists := _lists(images_root, images):
        images = {key: images[key] for key in _listed_or_rest(lists, split, images)}
        labels = {key: source for key, source in labels.items() if key in images}
    else:
        # Labels without an image go with the hash of their own key, so that they are still reported.
        chosen = _validation_keys(images.keys() | labels.keys(), settings.validation_fraction)
        images = {key: source for key, source in images.items() if (key in chosen) == (split == "val")}
        labels = {key: source for key, source in labels.items() if (key in chosen) == (split == "val")}
    if not images:
        raise InputError(
            "E_DATA_EMPTY",
            f"no image falls into split {split}",
            where=images_root,
            remedy="make sub-folders train/ and val/, or list files train.txt and val.txt",
        )
    return replace(pair(images, labels), junk=junk + label_junk)


def _keyed_files(root: Path, suffixes: tuple[str, ...]) -> tuple[dict[str, Source], int]:
    files = find_files(check_root(root), "")
    return keyed(files.found, lambda path: stem(path, *suffixes), where=root), files.junk


def _below(files: Mapping[str, Source], split: str) -> dict[str, Source]:
    return {key: source for key, source in files.items() if key.startswith(f"{split}/")}


def _lists(images_root: Path, images: Mapping[str, Source]) -> dict[str, list[str]]:
    """Returns the keys of each split that has a list file; raises E_PAIR_MISSING, E_SPLIT_LEAK for keys in both."""
    lists = {name: listed for name in ("train", "val") if (listed := _listed(images_root, name)) is not None}
    for listed in lists.values():
        _require_listed(listed, images, where=images_root)
    both = sorted(set(lists.get("train", ())) & set(lists.get("val", ())))
    if both:
        raise InputError(
            "E_SPLIT_LEAK",
            "an image is in train.txt and in val.txt",
            where=images_root.parent,
            found=f"{len(both)} such as {both[0]!r}",
            remedy="leave each in one of them",
        )
    return lists


def _listed_or_rest(lists: Mapping[str, list[str]], split: str, images: Mapping[str, Source]) -> list[str]:
    """Returns the keys of a split: those of its list file, or what the other split's leaves over."""
    if split in lists:
        return lists[split]
    (taken,) = lists.values()
    return sorted(images.keys() - set(taken))


def _listed(images: Path, split: str) -> list[str] | None:
    """Returns the keys in `<split>.txt`, or None where there is no such file; suffixes of images may stay on."""
    path = images.parent / f"{split}.txt"
    if not path.is_file():
        return None
    try:
        lines = [line.strip() for line in read_bytes(path).decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise InputError("E_FILE_READ", "the list of images is not text", where=path) from error
    return list(dict.fromkeys(stem(line, *IMAGE_SUFFIXES) or line for line in lines if line))


def _require_listed(listed: Sequence[str], images: Mapping[str, Source], *, where: Path) -> None:
    absent = [key for key in listed if key not in images]
    if absent:
        raise InputError(
            "E_PAIR_MISSING",
            "a list file names images that are not there",
            where=where,
            found=f"{len(absent)} such as {absent[0]!r}",
            remedy="list names relative to the image folder, one per line",
        )


def _validation_keys(keys: set[str], fraction: float) -> set[str]:
    """Returns the keys whose hash falls below the fraction; never none and never all, where there are two or more."""
    shares = {key: int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64 for key in keys}
    ordered = sorted(keys, key=lambda key: (shares[key], key))
    count = sum(share < fraction for share in shares.values())
    return set(ordered[: min(max(count, 1), len(ordered) - 1)])


def _class_names(classes: Sequence[str]) -> tuple[str, ...]:
    names = [str(name).strip() for name in classes]
    if len(names) == 1 and names[0].endswith(".txt"):
        path = Path(names[0])
        if not path.is_file():
            raise InputError("E_CLASSES", "the file of class names does not exist", where="data.classes", found=path)
        names = [line.strip() for line in read_bytes(path).decode("utf-8-sig", "replace").splitlines()]
        names = [name for name in names if name]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if not names or "" in names or repeated or len(names) > MAX_CLASSES:
        raise InputError(
            "E_CLASSES",
            f"class names must be 1 to {MAX_CLASSES} different words",
            where="data.classes",
            found=f"{len(names)} names" + (f", twice: {', '.join(repeated)}" if repeated else ""),
            remedy="list them in the order of the label values, or name a text file with one per line",
        )
    return tuple(names)
