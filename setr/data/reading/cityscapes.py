"""Cityscapes: fine and coarse labels, 19 classes, 2048x1024 (www.cityscapes-dataset.com)."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from setr.data.reading.published import Published, Server
from setr.data.reading.samples import Color, Dataset, LabelFamily, Listing, allow, keyed, layout_error, pair, stem
from setr.data.reading.sources import find_files

# id, name, colour of the classes in train-id order (cityscapesscripts/helpers/labels.py).
_LABELS: tuple[tuple[int, str, Color], ...] = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
# Train id -> id: what the test server wants.
TRAIN_ID_TO_ID = tuple(label_id for label_id, _, _ in _LABELS)
_IGNORED_IDS = (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)

# Left out of every listing, with the reason.
DENIED = {"troisdorf_000000_000073": "the published image is all black"}

_IMAGE_ARCHIVES = ("leftImg8bit_trainvaltest.zip", "leftImg8bit_trainextra.zip", "leftImg8bit.zip")
_FINE_ARCHIVES = ("gtFine_trainvaltest.zip", "gtFine.zip")
_COARSE_ARCHIVES = ("gtCoarse.zip",)

_LABEL_ID_MAP = allow(dict.fromkeys(_IGNORED_IDS, 255) | {label_id: i for i, label_id in enumerate(TRAIN_ID_TO_ID)})
_TRAIN_ID_MAP = allow({train_id: train_id for train_id in range(19)} | {255: 255})

_FAMILIES = (
    LabelFamily(
        "labelIds (0-33)", frozenset(range(34)), "set data.name=cityscapes, or take the *_labelTrainIds.png files"
    ),
    LabelFamily(
        "labelTrainIds (0-18, 255)",
        frozenset({*range(19), 255}),
        "set data.name=cityscapes_trainids, or take the *_labelIds.png files",
    ),
)


def scan(root: Path, split: str, *, label_kind: str) -> Listing:
    """Returns one split's listing; images without labels for `test`, coarse labels for `train_extra`.

    Only `*_<label_kind>.png` counts as a label: polygons, instance ids and colour pictures beside it are passed over.
    """
    images = find_files(root, f"leftImg8bit/{split}", archives=_IMAGE_ARCHIVES)
    folder, archives = ("gtCoarse", _COARSE_ARCHIVES) if split == "train_extra" else ("gtFine", _FINE_ARCHIVES)
    where = f"{root} (leftImg8bit/{split})"
    image_keys = keyed(images.found, partial(_key, ending="_leftImg8bit.png"), where=where)
    if not image_keys:
        raise layout_error(
            "Cityscapes", root, split, [f"leftImg8bit/{split}/<city>/*_leftImg8bit.png", *_IMAGE_ARCHIVES]
        )
    if split == "test":
        return pair(image_keys, None, junk=images.junk, denied=DENIED)
    labels = find_files(root, f"{folder}/{split}", archives=archives)
    ending = f"_{folder}_{label_kind}.png"
    label_keys = keyed(labels.found, partial(_key, ending=ending), where=f"{root} ({folder}/{split})")
    if not label_keys:
        raise layout_error("Cityscapes", root, split, [f"{folder}/{split}/<city>/*{ending}", *archives])
    return pair(image_keys, label_keys, junk=images.junk + labels.junk, denied=DENIED)


def _key(path: str, *, ending: str) -> str | None:
    """Returns `aachen_000000_000019`: city, sequence and frame, which no two files share."""
    return stem(path.rsplit("/", 1)[-1], ending)


_SPLITS = {"train": 2975, "val": 500, "test": 1525, "train_extra": 19998}
PUBLISHED = Published(dataset="cityscapes", image_size=(1024, 2048))
_SERVER = Server(
    name="cityscapes",
    ids=TRAIN_ID_TO_ID,
    name_pattern=r"[a-zA-Z-]+_\d{6}_\d{6}[^/]*\.png",
    name_suffix="_gtFine_labelIds.png",
    images=_SPLITS["test"],
    image_size=(1024, 2048),
    remedy="the server wants label ids (7, 8, 11, ...), not train ids",
)

CITYSCAPES = Dataset(
    name="cityscapes",
    classes=tuple(name for _, name, _ in _LABELS),
    palette=tuple(color for _, _, color in _LABELS),
    label_map=_LABEL_ID_MAP,
    splits=_SPLITS,
    scanner=partial(scan, label_kind="labelIds"),
    family=_FAMILIES[0].name,
    families=_FAMILIES,
    published=PUBLISHED,
    server=_SERVER,
)
# For those who have run the authors' conversion script and kept its result only.
CITYSCAPES_TRAIN_IDS = replace(
    CITYSCAPES,
    name="cityscapes_trainids",
    label_map=_TRAIN_ID_MAP,
    scanner=partial(scan, label_kind="labelTrainIds"),
    family=_FAMILIES[1].name,
)
