"""Which images of one's own train and which validate: by sub-folders, by list files, or by the hash of their names.

Folders and lists are known by many spellings (Train, training, train2017, valid, validation, dev). What looks like a
split and cannot be followed is refused: images that somebody set aside never train because of a spelling.
"""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from setr.data.reading.samples import stem
from setr.data.reading.sources import Source, read_bytes
from setr.errors import InputError

_WORDS = {
    "train": "training|train|trn",
    "val": "validation|validate|valid|val|dev|evaluation|eval",
    "test": "testing|test|tst",
}
_BESIDE = r"(?:set|split|data|images?|imgs?|photos?|labels?|masks?|annotations?|annot|list|files|\d{1,4})"
_SPLIT_NAMES = {
    split: re.compile(rf"(?:{_BESIDE}[ _.-]*)*(?:{words})(?:[ _.-]*{_BESIDE})*", re.IGNORECASE)
    for split, words in _WORDS.items()
}
_PREFIXES = {split: re.compile(rf"(?:{words})\d*[ _.-]", re.IGNORECASE) for split, words in _WORDS.items()}
_REMEDY = (
    "call the sub-folders train/ and val/, or put train.txt and val.txt beside the image folder, one name per line"
)


@dataclass(frozen=True)
class Division:
    """How the images of one's own are divided, and into what."""

    rule: str  # in words
    images: Mapping[str, Mapping[str, Source]]  # split -> key -> file
    labels: Mapping[str, Mapping[str, Source]]
    outside: tuple[str, ...] = ()  # keys of images that are in no split


def split_of(name: str) -> str | None:
    """Returns the split that a folder's or list's name stands for: train, val, test, or None."""
    return next((split for split, pattern in _SPLIT_NAMES.items() if pattern.fullmatch(name)), None)


def divide(
    images: Mapping[str, Source], labels: Mapping[str, Source], images_root: Path, *, fraction: float
) -> Division:
    """Returns the division of all images; raises E_SPLIT, E_SPLIT_LEAK and E_PAIR_MISSING for what is no clear split.

    Sub-folders for train and val come first, then list files beside the image folder, then the hash of the names.
    """
    folders = _folders(images)
    lists = _list_files(images_root)
    test_list = lists.pop("test", None)
    if folders.keys() >= {"train", "val"} or (folders.keys() & {"train", "val"} and not lists):
        return _by_folders(images, labels, folders, lists, images_root)
    if lists:
        return _by_lists(images, labels, lists, test_list, images_root)
    if test_list:
        raise _refused("a list of test images and none of train or val", images_root.parent, test_list.name)
    _refuse_hidden_split(images, folders, images_root)
    return _by_hash(images, labels, fraction)


def _by_folders(
    images: Mapping[str, Source],
    labels: Mapping[str, Source],
    folders: Mapping[str, Sequence[str]],
    lists: Mapping[str, Path],
    images_root: Path,
) -> Division:
    named: dict[str, str] = {}
    for split in folders.keys() & {"train", "val"}:
        names = folders[split]
        if len(names) > 1 and split not in names:
            raise _refused(f"two sub-folders for split {split}", images_root, ", ".join(f"{name}/" for name in names))
        named[split] = split if split in names else names[0]
    label_folders = _folders(labels)
    chosen: dict[str, dict[str, Source]] = {}
    for split, name in named.items():
        # Labels may spell it otherwise than images: masks/training/ for photos/Train/.
        candidates = label_folders.get(split, [])
        other = name if name in candidates or len(candidates) != 1 else candidates[0]
        chosen[split] = {
            name + key[len(other) :]: source for key, source in labels.items() if key.startswith(f"{other}/")
        }
    taken = {split: _below(images, name) for split, name in named.items()}
    inside = {key for keys in taken.values() for key in keys}
    rule = "by sub-folders: " + ", ".join(f"{name}/ is {split}" for split, name in sorted(named.items()))
    if lists:
        rule += f"; {' and '.join(sorted(path.name for path in lists.values()))} beside them not used"
    return Division(rule, taken, chosen, tuple(sorted(images.keys() - inside)))


def _by_lists(
    images: Mapping[str, Source],
    labels: Mapping[str, Source],
    lists: Mapping[str, Path],
    test_list: Path | None,
    images_root: Path,
) -> Division:
    listed = {split: _listed(path) for split, path in lists.items()}
    for split, keys in listed.items():
        _require_listed(keys, images, where=f"{lists[split]} (images: {images_root})")
    names = {split: path.name for split, path in lists.items()}
    both = sorted(set(listed.get("train", ())) & set(listed.get("val", ())))
    if both:
        raise InputError(
            "E_SPLIT_LEAK",
            f"an image is in {names['train']} and in {names['val']}",
            where=images_root.parent,
            found=f"{len(both)} such as {both[0]!r}",
            remedy="leave each in one of them",
        )
    rule = "by list files " + " and ".join(sorted(names.values()))
    if len(listed) == 1:
        (split,) = listed
        rest = "val" if split == "train" else "train"
        aside = set() if test_list is None else set(_listed(test_list))
        listed[rest] = sorted(images.keys() - set(listed[split]) - aside)
        rule = f"by list file {names[split]}; the rest is {rest}" + (f", without {test_list.name}" if test_list else "")
    taken = {split: {key: images[key] for key in keys} for split, keys in listed.items()}
    inside = {key for keys in taken.values() for key in keys}
    chosen = {split: {key: labels[key] for key in keys if key in labels} for split, keys in taken.items()}
    return Division(rule, taken, chosen, tuple(sorted(images.keys() - inside)))


def _by_hash(images: Mapping[str, Source], labels: Mapping[str, Source], fraction: float) -> Division:
    # Labels without an image go with the hash of their own key, so that they are still reported.
    validate = _validation_keys(images.keys() | labels.keys(), fraction)

    def part(files: Mapping[str, Source], split: str) -> dict[str, Source]:
        return {key: source for key, source in files.items() if (key in validate) == (split == "val")}

    rule = f"by the hash of each name: about {fraction:.0%} is val (no sub-folders train/ and val/, no list files)"
    return Division(
        rule,
        {split: part(images, split) for split in ("train", "val")},
        {split: part(labels, split) for split in ("train", "val")},
    )


def _folders(files: Iterable[str]) -> dict[str, list[str]]:
    """Returns split -> the first folders in the keys whose names stand for it."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in sorted({key.split("/")[0] for key in files if "/" in key}):
        if split := split_of(name):
            found[split].append(name)
    return dict(found)


def _refuse_hidden_split(images: Mapping[str, Source], folders: Mapping[str, Sequence[str]], root: Path) -> None:
    """Raise E_SPLIT where names speak of a split that the hash would mix: deeper folders, file names, a test folder."""
    deeper = {part: split for key in images for part in key.split("/")[1:-1] if (split := split_of(part))}
    if {"train", "val"} <= set(deeper.values()):
        raise _refused("folders of a split lie below other folders", root, ", ".join(sorted(deeper)))
    if "test" in folders and any(split_of(key.split("/")[0]) != "test" for key in images):
        raise _refused("a folder of test images lies among the others", root, f"{folders['test'][0]}/")
    prefixes = [
        next((split for split, pattern in _PREFIXES.items() if pattern.match(key.rsplit("/", 1)[-1])), None)
        for key in images
    ]
    if None not in prefixes and {"train", "val"} <= set(prefixes):
        raise _refused("the files' names begin with a split", root, f"such as {min(images)!r} and {max(images)!r}")
    inside = sorted(key for key in _texts(root) if split_of(PurePosixPath(key).stem) in ("train", "val"))
    if inside:
        raise _refused("a list of a split lies in the image folder, not beside it", root, inside[0])


def _texts(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*.txt")] if folder.is_dir() else []


def _list_files(images_root: Path) -> dict[str, Path]:
    """Returns split (test too) -> list file beside the image folder; raises E_SPLIT for two files of one split."""
    found: dict[str, Path] = {}
    for name in sorted(_texts(images_root.parent)):
        path = images_root.parent / name
        split = split_of(path.stem)
        if split is None or not path.is_file():
            continue
        if path.stem == split:  # the plain name has precedence
            found[split] = path
            continue
        if split in found and found[split].stem == split:
            continue
        if split in found:
            raise _refused(f"two list files for split {split}", images_root.parent, f"{found[split].name} and {name}")
        found[split] = path
    return found


def _listed(path: Path) -> list[str]:
    """Returns the keys in a list file; suffixes of images may stay on."""
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(
            "E_FILE_READ", "the list of images is not UTF-8 text", where=path, remedy="save it as UTF-8"
        ) from error
    # Composed letters, as keys are: a list written on macOS may spell the same name in decomposed ones.
    names = [unicodedata.normalize("NFC", line.strip()).removeprefix("./") for line in lines]
    return list(dict.fromkeys(stem(name, ".png", ".jpg", ".jpeg") or name for name in names if name))


def _require_listed(listed: Sequence[str], images: Mapping[str, Source], *, where: str) -> None:
    absent = [key for key in listed if key not in images]
    if absent:
        raise InputError(
            "E_PAIR_MISSING",
            "a list file names images that are not there",
            where=where,
            found=f"{len(absent)} such as {absent[0]!r}",
            expected=f"names such as {min(images)!r}",
            remedy="list names relative to the image folder, one per line",
        )


def _below(files: Mapping[str, Source], folder: str) -> dict[str, Source]:
    return {key: source for key, source in files.items() if key.startswith(f"{folder}/")}


def _validation_keys(keys: set[str], fraction: float) -> set[str]:
    """Returns the keys whose hash falls below the fraction; never none and never all, where there are two or more."""
    shares = {key: int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64 for key in keys}
    ordered = sorted(keys, key=lambda key: (shares[key], key))
    count = sum(share < fraction for share in shares.values())
    return set(ordered[: min(max(count, 1), len(ordered) - 1)])


def _refused(what: str, where: Path, found: str) -> InputError:
    return InputError("E_SPLIT", what, where=where, found=found, remedy=_REMEDY)
