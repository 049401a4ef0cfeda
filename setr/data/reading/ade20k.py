"""ADE20K in the scene-parsing form: 150 classes, value 0 of the label files is "other" and ignored.

Names (the first of each synonym list) and order: objectInfo150.txt of the challenge; colours: its color150.mat.
"""

from dataclasses import replace
from pathlib import Path

from setr.data.reading.published import Published, Server
from setr.data.reading.samples import Color, Dataset, LabelFamily, Listing, allow, keyed, layout_error, pair, stem
from setr.data.reading.sources import Files, find_files
from setr.errors import InputError

# Name and colour (RRGGBB) in class order.
_TABLE = """
wall 787878, building b47878, sky 06e6e6, floor 503232, tree 04c803, ceiling 787850, road 8c8c8c, bed cc05ff,
windowpane e6e6e6, grass 04fa07, cabinet e005ff, sidewalk ebff07, person 96053d, earth 787846, door 08ff33,
table ff0652, mountain 8fff8c, plant ccff04, curtain ff3307, chair cc4603, car 0066c8, water 3de6fa,
painting ff0633, sofa 0b66ff, shelf ff0747, house ff09e0, sea 0907e6, mirror dcdcdc, rug ff095c, field 7009ff,
armchair 08ffd6, seat 07ffe0, fence ffb806, desk 0aff47, rock ff290a, wardrobe 07ffff, lamp e0ff08,
bathtub 6608ff, railing ff3d06, cushion ffc207, base ff7a08, box 00ff14, column ff0829, signboard ff0599,
chest of drawers 0633ff, counter eb0cff, sand a09614, sink 00a3ff, skyscraper 8c8c8c, fireplace fa0a0f,
refrigerator 14ff00, grandstand 1fff00, path ff1f00, stairs ffe000, runway 99ff00, case 0000ff, pool table ff4700,
pillow 00ebff, screen door 00adff, stairway 1f00ff, river 0bc8c8, bridge ff5200, bookcase 00fff5, blind 003dff,
coffee table 00ff70, toilet 00ff85, flower ff0000, book ffa300, hill ff6600, bench c2ff00, countertop 008fff,
stove 33ff00, palm 0052ff, kitchen island 00ff29, computer 00ffad, swivel chair 0a00ff, boat adff00, bar 00ff99,
arcade machine ff5c00, hovel ff00ff, bus ff00f5, towel ff0066, light ffad00, truck ff0014, tower ffb8b8,
chandelier 001fff, awning 00ff3d, streetlight 0047ff, booth ff00cc, television receiver 00ffc2, airplane 00ff52,
dirt track 000aff, apparel 0070ff, pole 3300ff, land 00c2ff, bannister 007aff, escalator 00ffa3, ottoman ff9900,
bottle 00ff0a, buffet ff7000, poster 8fff00, stage 5200ff, van a3ff00, ship ffeb00, fountain 08b8aa,
conveyer belt 8500ff, canopy 00ff5c, washer b800ff, plaything ff001f, swimming pool 00b8ff, stool 00d6ff,
barrel ff0070, basket 5cff00, waterfall 00e0ff, tent 70e0ff, bag 46b8a0, minibike a300ff, cradle 9900ff,
oven 47ff00, ball ff00a3, food ffcc00, step ff008f, tank 00ffeb, trade name 85ff00, microwave ff00eb, pot f500ff,
animal ff007a, bicycle fff500, lake 0abed4, dishwasher d6ff00, screen 00ccff, blanket 1400ff, sculpture ffff00,
hood 0099ff, sconce 0029ff, vase 00ffcc, traffic light 2900ff, tray 29ff00, ashcan ad00ff, fan 00f5ff,
pier 4700ff, crt screen 7a00ff, plate 00ffb8, monitor 005cff, bulletin board b8ff00, shower 0085ff,
radiator ffd600, glass 19c2c2, clock 66ff00, flag 5c00ff
"""
_ROWS = tuple(entry.strip().rsplit(" ", 1) for entry in _TABLE.replace("\n", " ").split(","))


def _color(text: str) -> Color:
    return int(text[0:2], 16), int(text[2:4], 16), int(text[4:6], 16)


_ARCHIVES = ("ADEChallengeData2016.zip",)
_TEST_ARCHIVES = ("release_test.zip",)
_PREFIXES = ("", "ADEChallengeData2016")
_FOLDERS = {"train": "training", "val": "validation"}

_FAMILIES = (
    LabelFamily(
        "151 values (0-150, 0 = other)", frozenset(range(151)), "set data.name=ade20k, or take labels already reduced"
    ),
    LabelFamily(
        "150 classes already reduced (0-149, 255 ignored)",
        frozenset({*range(150), 255}),
        "set data.name=ade20k_reduced, or take the labels of ADEChallengeData2016.zip",
    ),
)


def scan(root: Path, split: str) -> Listing:
    """Returns one split's listing; `test` (release_test.zip) has no labels."""
    if split == "test":
        images = find_files(root, "release_test/testing", archives=_TEST_ARCHIVES, prefixes=_PREFIXES)
        keys = keyed(images.found, _image_key, where=f"{root} (release_test/testing)")
        if not keys:
            raise layout_error("ADE20K", root, split, ["release_test/testing/*.jpg", *_TEST_ARCHIVES])
        return pair(keys, None, junk=images.junk)
    folder = _FOLDERS[split]
    images = find_files(root, f"images/{folder}", archives=_ARCHIVES, prefixes=_PREFIXES)
    labels = find_files(root, f"annotations/{folder}", archives=_ARCHIVES, prefixes=_PREFIXES)
    _refuse_full_release(images, root)
    image_keys = keyed(images.found, _image_key, where=f"{root} (images/{folder})")
    label_keys = keyed(labels.found, _label_key, where=f"{root} (annotations/{folder})")
    if not image_keys:
        raise layout_error("ADE20K", root, split, [f"images/{folder}/*.jpg", *_ARCHIVES])
    if not label_keys:
        raise layout_error("ADE20K", root, split, [f"annotations/{folder}/*.png", *_ARCHIVES])
    return pair(image_keys, label_keys, junk=images.junk + labels.junk)


def _image_key(path: str) -> str | None:
    return stem(path, ".jpg")


def _label_key(path: str) -> str | None:
    return stem(path, ".png")


def _refuse_full_release(images: Files, root: Path) -> None:
    """Raise when the root holds the full ADE20K, whose *_seg.png pack object and part numbers into three channels."""
    packed = [path for path in images.found if path.endswith("_seg.png")]
    if packed:
        raise InputError(
            "E_LABEL_FAMILY",
            "this is the full ADE20K with over 3,000 object classes in three-channel labels",
            where=root,
            found=f"{len(packed)} files such as {packed[0]}",
            expected="the scene-parsing form with 150 classes",
            remedy="download ADEChallengeData2016.zip",
        )


_SPLITS = {"train": 20210, "val": 2000, "test": 3352}
PUBLISHED = Published(dataset="ade20k", image_size=(512, 683))
_SERVER = Server(
    name="ade20k",
    ids=tuple(range(1, 151)),
    name_pattern=r"ADE_(test|val)_\d{8}\.png",
    name_suffix=".png",
    images=_SPLITS["test"],
    image_size=None,
    remedy="the server wants classes from 1, where training counts from 0",
)

ADE20K = Dataset(
    name="ade20k",
    classes=tuple(name for name, _ in _ROWS),
    palette=tuple(_color(text) for _, text in _ROWS),
    label_map=allow({0: 255} | {value: value - 1 for value in range(1, 151)}),
    splits=_SPLITS,
    scanner=scan,
    family=_FAMILIES[0].name,
    families=_FAMILIES,
    published=PUBLISHED,
    server=_SERVER,
)
# For labels that somebody has already shifted down by one.
ADE20K_REDUCED = replace(
    ADE20K,
    name="ade20k_reduced",
    label_map=allow({value: value for value in range(150)} | {255: 255}),
    family=_FAMILIES[1].name,
)
