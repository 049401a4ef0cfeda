"""Pascal Context: 59 classes, or 60 with the background, on the images of VOC 2010.

Two label sources: the original `trainval/*.mat` with 459 labels, and PNGs converted to 0..59 by position in the sorted
list of the 60 kept labels. Their names stand here beside the original ids: the published `59_labels.txt` lists the same
names in another order, and taking it for the converted files names the classes wrongly without changing a score.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from setr.data.reading.published import Published
from setr.data.reading.samples import Dataset, LabelFamily, Listing, allow, keyed, layout_error, pair, stem, voc_color
from setr.data.reading.sources import Files, Source, find_file, find_files, read_bytes
from setr.errors import InputError

# Id among the 459 labels -> name; the classes' order is that of the ids. All other ids are background.
RAW_IDS: dict[int, str] = {
    0: "background",
    2: "aeroplane",
    9: "bag",
    18: "bed",
    19: "bedclothes",
    22: "bench",
    23: "bicycle",
    25: "bird",
    31: "boat",
    33: "book",
    34: "bottle",
    44: "building",
    45: "bus",
    46: "cabinet",
    59: "car",
    65: "cat",
    68: "ceiling",
    72: "chair",
    80: "cloth",
    85: "computer",
    98: "cow",
    104: "cup",
    105: "curtain",
    113: "dog",
    115: "door",
    144: "fence",
    158: "floor",
    159: "flower",
    162: "food",
    187: "grass",
    189: "ground",
    207: "horse",
    220: "keyboard",
    232: "light",
    258: "motorbike",
    259: "mountain",
    260: "mouse",
    284: "person",
    295: "plate",
    296: "platform",
    308: "pottedplant",
    324: "road",
    326: "rock",
    347: "sheep",
    349: "shelves",
    354: "sidewalk",
    355: "sign",
    360: "sky",
    366: "snow",
    368: "sofa",
    397: "table",
    415: "track",
    416: "train",
    420: "tree",
    424: "truck",
    427: "tvmonitor",
    440: "wall",
    445: "water",
    454: "window",
    458: "wood",
}
NUM_RAW_LABELS = 459

_PREFIXES = ("", "VOC2010", "VOCdevkit/VOC2010")
_IMAGE_ARCHIVES = ("VOCtrainval_03-May-2010.tar", "VOCtrainval_03-May-2010.tar.gz")
_MATLAB_ARCHIVES = ("trainval.tar.gz", "trainval.tar")
_LISTS = ("ImageSets/SegmentationContext", "ImageSets/Main")

_FAMILIES = (
    LabelFamily(
        "60 values (0-59, 0 = background)",
        frozenset(range(60)),
        "set data.name=pascal_context (60 classes) or pascal_context_59 (background ignored)",
    ),
    LabelFamily(
        "59 classes already reduced (0-58, 255 ignored)",
        frozenset({*range(59), 255}),
        "set data.name=pascal_context_59_reduced",
    ),
)


def scan(root: Path, split: str, *, matlab: bool = True) -> Listing:
    """Returns one split's listing: the keys of its list file with VOC's images and the .mat labels, else the PNGs."""
    keys = _listed_keys(root, split)
    images = find_files(root, "JPEGImages", archives=_IMAGE_ARCHIVES, prefixes=_PREFIXES)
    if not images.found:
        raise layout_error("Pascal Context", root, split, ["JPEGImages/*.jpg", *_IMAGE_ARCHIVES])
    labels, ending = Files(), ".mat"
    if matlab:
        labels = find_files(root, "trainval", archives=_MATLAB_ARCHIVES, prefixes=_PREFIXES)
    if not labels.found:
        labels, ending = find_files(root, "SegmentationClassContext", prefixes=_PREFIXES), ".png"
    if not labels.found:
        looked_for = ["trainval/*.mat", "trainval.tar.gz", "SegmentationClassContext/*.png"]
        raise layout_error("Pascal Context", root, split, looked_for)
    image_keys = _chosen(keyed(images.found, partial(_key, ending=".jpg"), where=f"{root} (JPEGImages)"), keys)
    label_keys = _chosen(keyed(labels.found, partial(_key, ending=ending), where=f"{root} (labels)"), keys)
    absent = sorted(keys - image_keys.keys() - label_keys.keys())
    if absent:
        raise InputError(
            "E_PAIR_MISSING",
            f"the {split} list names images that are not there",
            where=root,
            found=f"{len(absent)} such as {absent[0]}",
        )
    return pair(image_keys, label_keys, junk=images.junk + labels.junk)


def _key(path: str, *, ending: str) -> str | None:
    return stem(path, ending)


def _chosen(files: dict[str, Source], keys: set[str]) -> dict[str, Source]:
    return {key: source for key, source in files.items() if key in keys}


def _listed_keys(root: Path, split: str) -> set[str]:
    """Returns the keys in the split's list file: Pascal Context's own, or VOC 2010's, which is the same split."""
    for folder in _LISTS:
        source = find_file(root, f"{folder}/{split}.txt", archives=_IMAGE_ARCHIVES, prefixes=_PREFIXES)
        if source is not None:
            try:
                lines = read_bytes(source).decode("utf-8").splitlines()
            except UnicodeDecodeError as error:
                raise InputError("E_FILE_READ", "the list of images is not text", where=source) from error
            return {line.split()[0] for line in lines if line.strip()}
    raise layout_error("Pascal Context", root, split, [f"{folder}/{split}.txt" for folder in _LISTS])


def _wide_map(*, background: int) -> tuple[int, ...]:
    """Returns id among the 459 -> train id; with the background ignored (255) the others move down by one."""
    first = 0 if background == 0 else -1
    position = {raw: index + first for index, raw in enumerate(sorted(RAW_IDS)) if raw != 0}
    return tuple(position.get(raw, background) for raw in range(NUM_RAW_LABELS + 1))


PUBLISHED = Published(dataset="pascal_context", image_size=(375, 500))

PASCAL_CONTEXT = Dataset(
    name="pascal_context",
    classes=tuple(RAW_IDS[raw] for raw in sorted(RAW_IDS)),
    palette=tuple(voc_color(index) for index in range(60)),
    label_map=allow({value: value for value in range(60)}),
    wide_label_map=_wide_map(background=0),
    splits={"train": 4998, "val": 5105},
    scanner=scan,
    family=_FAMILIES[0].name,
    families=_FAMILIES,
    published=PUBLISHED,
)
PASCAL_CONTEXT_59 = replace(
    PASCAL_CONTEXT,
    name="pascal_context_59",
    classes=PASCAL_CONTEXT.classes[1:],
    palette=PASCAL_CONTEXT.palette[1:],
    label_map=allow({0: 255} | {value: value - 1 for value in range(1, 60)}),
    wide_label_map=_wide_map(background=255),
)
# For PNGs that somebody has already shifted down by one; .mat files beside them are passed over.
PASCAL_CONTEXT_59_REDUCED = replace(
    PASCAL_CONTEXT_59,
    name="pascal_context_59_reduced",
    label_map=allow({value: value for value in range(59)} | {255: 255}),
    wide_label_map=(),
    scanner=partial(scan, matlab=False),
    family=_FAMILIES[1].name,
)
