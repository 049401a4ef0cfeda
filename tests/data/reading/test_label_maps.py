"""The three published label maps, written out a second time: any two entries exchanged in the code fail here.

Nothing below is derived from the code's own tables, nor by a rule: each line is a fact as its source has it.
"""

import numpy as np
import pytest
from PIL import Image

from setr.data.reading.ade20k import ADE20K, ADE20K_REDUCED
from setr.data.reading.cityscapes import CITYSCAPES, CITYSCAPES_TRAIN_IDS, TRAIN_ID_TO_ID
from setr.data.reading.images import read_label
from setr.data.reading.pascal_context import PASCAL_CONTEXT, PASCAL_CONTEXT_59, PASCAL_CONTEXT_59_REDUCED

# id, train id, colour, name: github.com/mcordts/cityscapesScripts, cityscapesscripts/helpers/labels.py. The licence
# plate's id there is -1, and no label file holds it.
CITYSCAPES_LABELS = """
 0 255   0   0   0 unlabeled
 1 255   0   0   0 ego vehicle
 2 255   0   0   0 rectification border
 3 255   0   0   0 out of roi
 4 255   0   0   0 static
 5 255 111  74   0 dynamic
 6 255  81   0  81 ground
 7   0 128  64 128 road
 8   1 244  35 232 sidewalk
 9 255 250 170 160 parking
10 255 230 150 140 rail track
11   2  70  70  70 building
12   3 102 102 156 wall
13   4 190 153 153 fence
14 255 180 165 180 guard rail
15 255 150 100 100 bridge
16 255 150 120  90 tunnel
17   5 153 153 153 pole
18 255 153 153 153 polegroup
19   6 250 170  30 traffic light
20   7 220 220   0 traffic sign
21   8 107 142  35 vegetation
22   9 152 251 152 terrain
23  10  70 130 180 sky
24  11 220  20  60 person
25  12 255   0   0 rider
26  13   0   0 142 car
27  14   0   0  70 truck
28  15   0  60 100 bus
29 255   0   0  90 caravan
30 255   0   0 110 trailer
31  16   0  80 100 train
32  17   0   0 230 motorcycle
33  18 119  11  32 bicycle
"""

# Value on disk, name: objectInfo150.txt of ADEChallengeData2016 (github.com/CSAILVision/sceneparsing), the first of
# each line's synonyms; 90 as mmsegmentation names it (mmseg/datasets/ade.py). Value 0 is "other", ignored.
ADE20K_LABELS = """
1 wall, 2 building, 3 sky, 4 floor, 5 tree, 6 ceiling, 7 road, 8 bed, 9 windowpane, 10 grass,
11 cabinet, 12 sidewalk, 13 person, 14 earth, 15 door, 16 table, 17 mountain, 18 plant, 19 curtain, 20 chair,
21 car, 22 water, 23 painting, 24 sofa, 25 shelf, 26 house, 27 sea, 28 mirror, 29 rug, 30 field,
31 armchair, 32 seat, 33 fence, 34 desk, 35 rock, 36 wardrobe, 37 lamp, 38 bathtub, 39 railing, 40 cushion,
41 base, 42 box, 43 column, 44 signboard, 45 chest of drawers, 46 counter, 47 sand, 48 sink, 49 skyscraper,
50 fireplace, 51 refrigerator, 52 grandstand, 53 path, 54 stairs, 55 runway, 56 case, 57 pool table, 58 pillow,
59 screen door, 60 stairway, 61 river, 62 bridge, 63 bookcase, 64 blind, 65 coffee table, 66 toilet, 67 flower,
68 book, 69 hill, 70 bench, 71 countertop, 72 stove, 73 palm, 74 kitchen island, 75 computer, 76 swivel chair,
77 boat, 78 bar, 79 arcade machine, 80 hovel, 81 bus, 82 towel, 83 light, 84 truck, 85 tower, 86 chandelier,
87 awning, 88 streetlight, 89 booth, 90 television receiver, 91 airplane, 92 dirt track, 93 apparel, 94 pole,
95 land, 96 bannister, 97 escalator, 98 ottoman, 99 bottle, 100 buffet, 101 poster, 102 stage, 103 van, 104 ship,
105 fountain, 106 conveyer belt, 107 canopy, 108 washer, 109 plaything, 110 swimming pool, 111 stool, 112 barrel,
113 basket, 114 waterfall, 115 tent, 116 bag, 117 minibike, 118 cradle, 119 oven, 120 ball, 121 food, 122 step,
123 tank, 124 trade name, 125 microwave, 126 pot, 127 animal, 128 bicycle, 129 lake, 130 dishwasher, 131 screen,
132 blanket, 133 sculpture, 134 hood, 135 sconce, 136 vase, 137 traffic light, 138 tray, 139 ashcan, 140 fan,
141 pier, 142 crt screen, 143 plate, 144 monitor, 145 bulletin board, 146 shower, 147 radiator, 148 glass,
149 clock, 150 flag
"""

# Raw id among the 459, class of the 60, name. Ids: github.com/fudan-zvg/SETR, tools/convert_datasets/pascal_context.py;
# names: the data set's own labels.txt. Background is class 0 of the 60, and ignored with 59.
PASCAL_CONTEXT_LABELS = """
0 0 background, 2 1 aeroplane, 9 2 bag, 18 3 bed, 19 4 bedclothes, 22 5 bench, 23 6 bicycle, 25 7 bird, 31 8 boat,
33 9 book, 34 10 bottle, 44 11 building, 45 12 bus, 46 13 cabinet, 59 14 car, 65 15 cat, 68 16 ceiling, 72 17 chair,
80 18 cloth, 85 19 computer, 98 20 cow, 104 21 cup, 105 22 curtain, 113 23 dog, 115 24 door, 144 25 fence,
158 26 floor, 159 27 flower, 162 28 food, 187 29 grass, 189 30 ground, 207 31 horse, 220 32 keyboard, 232 33 light,
258 34 motorbike, 259 35 mountain, 260 36 mouse, 284 37 person, 295 38 plate, 296 39 platform, 308 40 pottedplant,
324 41 road, 326 42 rock, 347 43 sheep, 349 44 shelves, 354 45 sidewalk, 355 46 sign, 360 47 sky, 366 48 snow,
368 49 sofa, 397 50 table, 415 51 track, 416 52 train, 420 53 tree, 424 54 truck, 427 55 tvmonitor, 440 56 wall,
445 57 water, 454 58 window, 458 59 wood
"""


def rows(text: str, numbers: int, separator: str) -> list[tuple[list[int], str]]:
    """Returns each entry's leading numbers and the name behind them."""
    entries = [entry.split(maxsplit=numbers) for entry in text.replace(",\n", separator).strip().split(separator)]
    return [([int(word) for word in entry[:numbers]], entry[numbers]) for entry in entries]


def test_cityscapes_ids_names_and_colours() -> None:
    labels = rows(CITYSCAPES_LABELS, 5, "\n")
    assert [numbers[0] for numbers, _ in labels] == list(range(34))
    for (label_id, train_id, *color), name in labels:
        assert CITYSCAPES.label_map[label_id] == train_id, name
        if train_id != 255:
            assert (CITYSCAPES.classes[train_id], list(CITYSCAPES.palette[train_id])) == (name, color)
            assert TRAIN_ID_TO_ID[train_id] == label_id
    # What no label file of the data set may hold is refused: -1 (licence plate) is 255 in eight bits.
    assert CITYSCAPES.label_map[34:] == (-1,) * 222
    assert CITYSCAPES_TRAIN_IDS.classes == CITYSCAPES.classes
    assert CITYSCAPES_TRAIN_IDS.label_map == (*range(19), *[-1] * 236, 255)


def test_ade20k_values_and_names() -> None:
    labels = rows(ADE20K_LABELS, 1, ", ")
    assert [numbers[0] for numbers, _ in labels] == list(range(1, 151))
    assert ADE20K.classes == tuple(name for _, name in labels) == ADE20K_REDUCED.classes
    assert ADE20K.label_map == (255, *range(150), *[-1] * 105)
    assert ADE20K_REDUCED.label_map == (*range(150), *[-1] * 105, 255)
    for (value,), name in labels:
        assert ADE20K.classes[ADE20K.label_map[value]] == name


def test_pascal_context_raw_ids_and_names() -> None:
    labels = rows(PASCAL_CONTEXT_LABELS, 2, ", ")
    assert len(labels) == 60
    wide, narrow = [0] * 460, [255] * 460
    for (raw, position), name in labels:
        wide[raw], narrow[raw] = position, position - 1 if position else 255
        assert PASCAL_CONTEXT.classes[PASCAL_CONTEXT.wide_label_map[raw]] == name
        if position:
            assert PASCAL_CONTEXT_59.classes[PASCAL_CONTEXT_59.wide_label_map[raw]] == name
    assert PASCAL_CONTEXT.wide_label_map == tuple(wide)
    assert PASCAL_CONTEXT_59.wide_label_map == tuple(narrow)
    assert PASCAL_CONTEXT.label_map == (*range(60), *[-1] * 196)
    assert PASCAL_CONTEXT_59.label_map == (255, *range(59), *[-1] * 196)
    assert PASCAL_CONTEXT_59_REDUCED.label_map == (*range(59), *[-1] * 196, 255)


@pytest.mark.parametrize(
    ("dataset", "on_disk", "train_ids"),
    [
        # traffic light and sign, motorcycle and bicycle, caravan
        (CITYSCAPES, [19, 20, 32, 33, 29], [6, 7, 17, 18, 255]),
        # other, wall, cabinet, person, flag
        (ADE20K, [0, 1, 11, 13, 150], [255, 0, 10, 12, 149]),
        # background, car, cat, wood of the converted files
        (PASCAL_CONTEXT, [0, 14, 15, 59], [0, 14, 15, 59]),
        (PASCAL_CONTEXT_59, [0, 14, 15, 59], [255, 13, 14, 58]),
    ],
)
def test_a_file_is_read_by_these_maps(tmp_path, dataset, on_disk, train_ids) -> None:
    Image.fromarray(np.array([on_disk], dtype=np.uint8)).save(tmp_path / "a.png")
    assert read_label(tmp_path / "a.png", dataset).tolist() == [train_ids]
