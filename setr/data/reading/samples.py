"""What a data set is: its samples (image, label, key), classes, palette and the meaning of its raw label values."""

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from setr.data.reading.published import Published, Server
from setr.data.reading.sources import Source
from setr.errors import InputError

Color = tuple[int, int, int]  # red, green, blue

NOT_ALLOWED = -1  # in a label map: this raw value has no meaning in this data set
MAX_CLASSES = 254  # 255 is "ignored"; 254 marks values without a meaning while a label is read


@dataclass(frozen=True)
class Sample:
    """One image with its label file (None in a test split) under a key that is unique in the data set."""

    key: str
    image: Source
    label: Source | None = None


@dataclass(frozen=True)
class Listing:
    """Everything found for one split, the good and the bad."""

    samples: tuple[Sample, ...]
    denied: tuple[tuple[str, str], ...] = ()  # key, reason: known bad, left out
    unlabelled: tuple[str, ...] = ()  # keys of images without a label file
    orphans: tuple[str, ...] = ()  # keys of label files without an image
    junk: int = 0  # files an operating system left behind
    rule: str = "as published"  # what divided the images into splits, in words
    outside: tuple[str, ...] = ()  # keys of images that are in no split
    others: tuple[str, ...] = ()  # files that are neither images nor labels by their names


@dataclass(frozen=True)
class LabelFamily:
    """One of the ways in which a data set's label files are known to be stored."""

    name: str
    values: frozenset[int]  # raw values that occur
    setting: str  # what to set to read this family


@dataclass(frozen=True)
class Dataset:
    """A data set: how it is listed, what its labels mean. Picklable; one row of datasets.py's DATASETS."""

    name: str
    classes: tuple[str, ...]
    palette: tuple[Color, ...]
    label_map: tuple[int, ...]  # 256 entries: raw value -> train id, 255 (ignored) or -1 (not allowed)
    splits: Mapping[str, int | None]  # split -> published number of images, None where nothing is published
    scanner: Callable[[Path, str], Listing]
    ignore_index: int = 255
    wide_label_map: tuple[int, ...] = ()  # the same for label arrays with more than 256 ids (.mat)
    color_labels: bool = False  # True: labels are pictures in the palette's colours, black is ignored
    shown_colors: bool = False  # True: the palette is for display, labels hold class numbers all the same
    own: bool = False  # True: of one's own, so that what labels hold is told by nothing but the files
    family: str = ""  # the one of `families` that this data set reads
    families: tuple[LabelFamily, ...] = field(default=(), repr=False)
    published: Published | None = field(default=None, repr=False)  # recipes and protocols
    server: Server | None = field(default=None, repr=False)  # that scores the test split

    def __post_init__(self) -> None:
        """Check that classes, palette and label map fit together."""
        assert len(self.label_map) == 256
        assert 0 < len(self.classes) <= MAX_CLASSES
        assert len(self.palette) == len(self.classes)

    @property
    def read_colors(self) -> tuple[Color, ...] | None:
        """Returns the colours that labels are read by; None: they hold class numbers."""
        return self.palette if self.color_labels and not self.shown_colors else None

    @property
    def num_classes(self) -> int:
        """Returns the number of classes that are trained and scored."""
        return len(self.classes)

    def scan(self, root: Path, split: str) -> Listing:
        """Returns what lies there for one split; `train+val` joins two. Raises E_SPLIT, E_DATA_*, E_NAME, E_DUP_KEY."""
        names = split.split("+")
        unknown = [name for name in names if name not in self.splits]
        if unknown or len(set(names)) < len(names):
            raise InputError(
                "E_SPLIT", f"data set {self.name} has no such split", found=split, expected=", ".join(self.splits)
            )
        return _join([self.scanner(Path(root), name) for name in names], where=f"{root} ({self.name}/{split})")

    def list_samples(self, root: Path, split: str) -> list[Sample]:
        """Returns the split's samples in the order of their keys; raises E_DATA_EMPTY and E_PAIR_MISSING besides."""
        return self.complete(self.scan(root, split), root, split)

    def complete(self, listing: Listing, root: Path, split: str) -> list[Sample]:
        """Returns the samples of a split's listing; raises E_DATA_EMPTY and E_PAIR_MISSING unless it is complete."""
        missing = [
            *(f"{key} (no label)" for key in listing.unlabelled),
            *(f"{key} (no image)" for key in listing.orphans),
        ]
        where = f"{root} ({self.name}/{split})"
        if missing:
            raise InputError(
                "E_PAIR_MISSING",
                "every image needs its label and every label its image",
                where=where,
                found=f"{len(missing)} without a partner: {_some(missing)}",
                remedy="complete or remove them"
                + (f"; files of other kinds were passed over: {_some(listing.others, 3)}" if listing.others else ""),
            )
        if not listing.samples:
            raise InputError("E_DATA_EMPTY", "no image found", where=where, remedy="set data.root, or unpack the data")
        return list(listing.samples)

    def published_count(self, split: str) -> int | None:
        """Returns the number of images that the data set's authors state for a split, or None."""
        counts = [self.splits.get(name) for name in split.split("+")]
        return None if None in counts else sum(count for count in counts if count is not None)

    def count_remark(self, split: str, listing: Listing) -> str:
        """Returns one sentence when the number of images differs from the published one, else an empty text."""
        published, found = self.published_count(split), len(listing.samples) + len(listing.denied)
        if published is None or published == found:
            return ""
        return f"{self.name}/{split} has {found} images, published are {published}"


def keyed(files: Mapping[str, Source], key_of: Callable[[str], str | None], *, where: object) -> dict[str, Source]:
    """Returns key -> source for the files whose path has a key; raises E_NAME and E_DUP_KEY.

    Keys are NFC-normalised: a copy through macOS stores the same name in another form.
    """
    result: dict[str, Source] = {}
    for path, source in files.items():
        key = key_of(path)
        if key is None:
            continue
        key = unicodedata.normalize("NFC", key)
        _check_key(key, where=where)
        if key in result:
            raise InputError(
                "E_DUP_KEY", "two files have the same key", where=where, found=f"{result[key]} and {source}"
            )
        result[key] = source
    return result


def pair(
    images: Mapping[str, Source],
    labels: Mapping[str, Source] | None,
    *,
    junk: int = 0,
    denied: Mapping[str, str] | None = None,
) -> Listing:
    """Returns the listing of images with their labels by key; labels None: a split that has none."""
    reasons = denied or {}
    keys = sorted(key for key in images if key not in reasons)
    left_out = tuple((key, reasons[key]) for key in sorted(images) if key in reasons)
    if labels is None:
        return Listing(tuple(Sample(key, images[key]) for key in keys), left_out, junk=junk)
    return Listing(
        samples=tuple(Sample(key, images[key], labels[key]) for key in keys if key in labels),
        denied=left_out,
        unlabelled=tuple(key for key in keys if key not in labels),
        orphans=tuple(sorted(key for key in labels if key not in images and key not in reasons)),
        junk=junk,
    )


def stem(path: str, *suffixes: str) -> str | None:
    """Returns the path without whichever of the suffixes it ends in (case ignored), or None."""
    for suffix in suffixes:
        if path.lower().endswith(suffix.lower()) and len(PurePosixPath(path).name) > len(suffix):
            return path[: -len(suffix)]
    return None


def layout_error(dataset: str, root: Path, split: str, looked_for: Sequence[str]) -> InputError:
    """Returns the error for a root that does not hold what the data set publishes."""
    if root.is_dir() and not any(root.iterdir()):
        return InputError("E_DATA_EMPTY", "the data root is empty", where=root, expected=" or ".join(looked_for))
    return InputError(
        "E_DATA_LAYOUT",
        f"this is not {dataset} as published: nothing found for split {split}",
        where=root,
        expected=" or ".join(looked_for),
        remedy="set data.root to the folder that holds them",
    )


def allow(mapping: Mapping[int, int]) -> tuple[int, ...]:
    """Returns the 256-entry label map that allows the mapping's raw values and nothing else."""
    return tuple(mapping.get(value, NOT_ALLOWED) for value in range(256))


def voc_color(index: int) -> Color:
    """Returns the PASCAL VOC development kit's colour of a class number: its bits, spread over the three channels."""
    red = green = blue = 0
    for bit in range(8):
        red |= (index >> 0 & 1) << (7 - bit)
        green |= (index >> 1 & 1) << (7 - bit)
        blue |= (index >> 2 & 1) << (7 - bit)
        index >>= 3
    return red, green, blue


def _join(listings: Sequence[Listing], *, where: str) -> Listing:
    if len(listings) == 1:
        return listings[0]
    samples: dict[str, Sample] = {}
    for sample in (sample for listing in listings for sample in listing.samples):
        if sample.key in samples:
            raise InputError(
                "E_DUP_KEY",
                "the same key is in both splits",
                where=where,
                found=f"{samples[sample.key].image} and {sample.image}",
            )
        samples[sample.key] = sample
    return Listing(
        samples=tuple(samples[key] for key in sorted(samples)),
        denied=tuple(entry for listing in listings for entry in listing.denied),
        unlabelled=tuple(key for listing in listings for key in listing.unlabelled),
        orphans=tuple(key for listing in listings for key in listing.orphans),
        junk=sum(listing.junk for listing in listings),
        rule=listings[0].rule,
        outside=listings[0].outside,
        others=listings[0].others,
    )


def _check_key(key: str, *, where: object) -> None:
    problem = ""
    try:
        too_long = any(len(part.encode("utf-8")) > 255 for part in key.split("/"))
    except UnicodeEncodeError:
        problem = "is not UTF-8"
    else:
        if too_long:
            problem = "is longer than 255 bytes"
        elif any(unicodedata.category(letter) in ("Cc", "Cs") for letter in key):
            problem = "holds a control character"
    if problem:
        raise InputError("E_NAME", f"a file name {problem}", where=where, found=repr(key[:100]), remedy="rename it")


def _some(items: Iterable[str], count: int = 5) -> str:
    listed = list(items)
    return ", ".join(listed[:count]) + (", ..." if len(listed) > count else "")
