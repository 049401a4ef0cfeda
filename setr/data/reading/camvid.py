"""CamVid in the 11-class form published with SegNet: 480x360, `train/` and `trainannot/` side by side."""

from pathlib import Path

from setr.data.reading.published import Published
from setr.data.reading.samples import Color, Dataset, LabelFamily, Listing, allow, keyed, layout_error, pair, stem
from setr.data.reading.sources import find_files

_CLASSES: tuple[tuple[str, Color], ...] = (
    ("sky", (128, 128, 128)),
    ("building", (128, 0, 0)),
    ("pole", (192, 192, 128)),
    ("road", (128, 64, 128)),
    ("pavement", (60, 40, 222)),
    ("tree", (128, 128, 0)),
    ("sign symbol", (192, 128, 128)),
    ("fence", (64, 64, 128)),
    ("car", (64, 0, 128)),
    ("pedestrian", (64, 64, 0)),
    ("bicyclist", (0, 128, 192)),
)
_UNLABELLED = 11

_ARCHIVES = ("CamVid.zip", "camvid.zip", "CamVid.tar.gz", "camvid.tar.gz")
_PREFIXES = ("", "CamVid", "camvid")

_FAMILIES = (
    LabelFamily("11 classes (0-11)", frozenset({*range(12), 255}), "set data.name=camvid"),
    LabelFamily("32 classes (0-31)", frozenset(range(32)), "take the 11-class labels published with SegNet"),
)


def scan(root: Path, split: str) -> Listing:
    """Returns one split's listing; label files bear the names of their images."""
    images = find_files(root, split, archives=_ARCHIVES, prefixes=_PREFIXES)
    labels = find_files(root, f"{split}annot", archives=_ARCHIVES, prefixes=_PREFIXES)
    image_keys = keyed(images.found, _key, where=f"{root} ({split})")
    label_keys = keyed(labels.found, _key, where=f"{root} ({split}annot)")
    if not image_keys:
        raise layout_error("CamVid", root, split, [f"{split}/*.png"])
    if not label_keys:
        raise layout_error("CamVid", root, split, [f"{split}annot/*.png"])
    return pair(image_keys, label_keys, junk=images.junk + labels.junk)


def _key(path: str) -> str | None:
    return stem(path, ".png")


PUBLISHED = Published(dataset="camvid", image_size=(360, 480))

CAMVID = Dataset(
    name="camvid",
    classes=tuple(name for name, _ in _CLASSES),
    palette=tuple(color for _, color in _CLASSES),
    label_map=allow({value: value for value in range(11)} | {_UNLABELLED: 255, 255: 255}),
    splits={"train": 367, "val": 101, "test": 233},
    scanner=scan,
    family=_FAMILIES[0].name,
    families=_FAMILIES,
    published=PUBLISHED,
)
