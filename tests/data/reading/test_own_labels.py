"""The labels of one's own judged together: recognised kinds name the setting that reads them."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from setr.data.checking.doctor import CheckReport, check
from setr.data.reading.folder import FolderSettings, folder_dataset
from setr.data.reading.own_labels import check_labels, settled
from setr.data.reading.samples import Color, Dataset, voc_color
from setr.errors import InputError

Mask = np.ndarray | Image.Image
VOC = [voc_color(index) for index in range(256)]


def grey(*values: int) -> np.ndarray:
    return np.resize(np.array(values, dtype=np.uint8), (4, 12))


def indexed(values: Sequence[int], colors: Sequence[Color]) -> Image.Image:
    picture = Image.fromarray(grey(*values), "P")
    picture.putpalette([part for color in colors for part in color])
    return picture


def bilevel(*values: int) -> Image.Image:
    return Image.fromarray(grey(*values) * 255).convert("1")


def own(classes: int, **settings: object) -> Dataset:
    names = [f"class-{index}" for index in range(classes)]
    return folder_dataset("own", FolderSettings("photos", "masks"), names, **settings)  # type: ignore[arg-type]


def write(root: Path, masks: Sequence[Mask]) -> None:
    for index, mask in enumerate(masks):
        key = f"{'val' if index else 'train'}/{index}"
        for folder in ("photos", "masks"):
            (root / folder / key).parent.mkdir(parents=True, exist_ok=True)
        picture = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
        picture.save(root / f"masks/{key}.png")
        photo = np.random.default_rng(index).integers(0, 256, (4, 12, 3), dtype=np.uint8)
        Image.fromarray(photo).save(root / f"photos/{key}.png")


def both(dataset: Dataset, root: Path) -> tuple[CheckReport, InputError | None]:
    """Returns what --check reports, and what preparing raises before a shard is written."""
    report = check(dataset, root, ("train", "val"))
    samples = [sample for split in ("train", "val") for sample in dataset.list_samples(root, split)]
    try:
        read = settled(dataset, [sample.label for sample in samples if sample.label is not None])
        check_labels(samples, read)
    except InputError as error:
        return report, error
    return report, None


RECOGNISED: dict[str, tuple[int, bool, list[Mask], str]] = {
    "0 and 255": (2, False, [grey(0, 255), grey(0)], r"0 and 255.*data\.palette=\[\[0,0,0\],\[255,255,255\]\]"),
    "0 and 255 with more names": (5, False, [grey(0, 255), grey(0)], r"data\.palette=.*two names"),
    "0 and 255, one name": (1, False, [grey(0, 255), grey(0)], r"data\.palette=.*data\.classes=\[background,class-0\]"),
    "0 and 255, zero ignored": (2, True, [grey(0, 255), grey(0)], r"data\.palette=.*no data\.zero_ignored"),
    "all 255": (2, False, [grey(255), grey(255)], r"data\.palette="),
    "0 and 1 with more names": (3, False, [grey(0, 1), bilevel(0, 1)], r"set data\.classes=\[class-0,class-1\]"),
    "0 and 1, 255 ignored": (4, False, [grey(0, 1, 255), grey(0)], r"0 and 1, for 4 class names"),
    "0 and 1, zero ignored": (3, True, [grey(0, 1), grey(0)], r"data\.classes=\[background,class-0\]"),
    "from 1": (3, False, [grey(1, 2, 3), grey(2)], r"classes from 1.*set data\.zero_ignored=true$"),
    "from 1 with 0": (3, False, [grey(0, 1, 2), grey(3)], r"data\.zero_ignored=true if .*'background'"),
    "from 0, zero ignored": (3, True, [grey(0, 1, 2), grey(1)], r"leave out data\.zero_ignored"),
    "all ignored": (2, True, [grey(0), grey(0)], r"every pixel is ignored.*leave out data\.zero_ignored"),
    "grey levels": (
        3,
        False,
        [grey(0, 128), grey(255)],
        r"data\.palette=\[\[0,0,0\],\[128,128,128\],\[255,255,255\]\]",
    ),
    "one class": (1, False, [grey(0), grey(0)], r"single class.*data\.classes=\[background,class-0\]"),
    "0/1 beside 0/255": (2, False, [grey(0, 1), grey(0, 255)], r"train/0|val/1.*same numbers"),
    "1 bit beside 0/255": (2, False, [bilevel(0, 1), grey(0, 255)], r"some labels hold 0 and 255 and others 0 and 1"),
    "1 bit beside 8 bit with 255": (
        2,
        False,
        [bilevel(0, 1), grey(0, 1, 255)],
        r"1 bit \(grey\) beside 8-bit.*8-bit grey PNG",
    ),
    "black and white in a palette beside 8 bit with 255": (
        2,
        False,
        [indexed([0, 1], [(0,) * 3, (255,) * 3]), grey(0, 1, 255)],
        r"\(palette\) beside 8-bit.*8-bit grey PNG",
    ),
    "palettes sorted anew": (
        3,
        False,
        [indexed([0, 1, 2], VOC[:3]), indexed([0, 1, 2], [VOC[0], VOC[2], VOC[1]])],
        r"colour \(0, 128, 0\) is number 2 in one label and 1 in another.*set data\.palette",
    ),
    "greys packed into a palette": (
        3,
        False,
        [grey(0, 1, 2), indexed([0, 1], [(0, 0, 0), (2, 2, 2)])],
        r"palette of greys.*grey PNG",
    ),
    "white before black": (
        2,
        False,
        [indexed([0, 1], [(255,) * 3, (0,) * 3])] * 2,
        r"palette of greys.*data\.palette=",
    ),
}


@pytest.mark.parametrize("kind", RECOGNISED)
def test_recognised_kinds_are_an_error_that_names_the_setting(tmp_path: Path, kind: str) -> None:
    classes, zero_ignored, masks, message = RECOGNISED[kind]
    write(tmp_path, masks)
    report, error = both(own(classes, zero_ignored=zero_ignored), tmp_path)
    lines = [finding.line() for finding in report.findings if finding.code == "E_LABEL_FAMILY"]
    assert not report.ok
    assert error is not None
    assert error.code == "E_LABEL_FAMILY"
    assert re.search(message, str(error))
    assert any(re.search(message.removesuffix("$"), line) for line in lines)


SOUND: dict[str, tuple[int, bool, list[Mask]]] = {
    "from 0": (3, False, [grey(0, 1, 2), grey(0)]),
    "from 0, 255 ignored": (2, False, [grey(0, 1, 255), grey(0, 255)]),
    "from 1": (2, True, [grey(0, 1, 2), grey(255, 1)]),
    "1 bit": (2, False, [bilevel(0, 1), bilevel(0)]),
    "1 bit beside 8 bit": (2, False, [bilevel(0, 1), grey(0, 1)]),
    "VOC's palette": (3, False, [indexed([0, 1, 2], VOC), indexed([0, 2, 255], VOC)]),
    "palettes of other lengths": (3, False, [indexed([0, 1, 2], VOC[:3]), indexed([0, 2], VOC[:9])]),
    "a ramp of greys beside 8 bit with 255": (
        3,
        False,
        [indexed([0, 1, 2], [(0,) * 3, (90,) * 3, (200,) * 3]), grey(0, 1, 255)],
    ),
    "a ramp of greys": (3, False, [indexed([0, 1, 2], [(0,) * 3, (90,) * 3, (200,) * 3])] * 2),
    "black and white in a palette": (2, False, [indexed([0, 1], [(0,) * 3, (255,) * 3])] * 2),
    "a palette of one colour": (2, False, [indexed([0, 1], [(7, 7, 7)] * 2)] * 2),
    "a class that never occurs": (4, False, [grey(0, 1, 2), grey(0)]),
    "16 bit": (3, False, [grey(0, 1, 2).astype(np.uint16), grey(1)]),
}


@pytest.mark.parametrize("kind", SOUND)
def test_sound_labels_pass(tmp_path: Path, kind: str) -> None:
    classes, zero_ignored, masks = SOUND[kind]
    write(tmp_path, masks)
    report, error = both(own(classes, zero_ignored=zero_ignored), tmp_path)
    assert error is None
    assert report.ok, report.findings


@pytest.mark.parametrize(
    ("classes", "masks", "named"),
    [
        (4, [grey(0, 1, 2), grey(0)], {"train: .*: class-3$", "val: .*: class-1, class-2, class-3$"}),
        (3, [grey(1, 2), grey(1, 2)], {"train: .*: class-0; .*zero_ignored=true", "val: .*: class-0; .*zero_ignored"}),
        (2, [grey(0), grey(0)], {"train: .*: class-1$", "val: .*: class-1$"}),
    ],
)
def test_a_class_that_never_occurs_is_named(tmp_path: Path, classes: int, masks: list[Mask], named: set[str]) -> None:
    write(tmp_path, masks)
    found = [finding.what for finding in check(own(classes), tmp_path, ("train", "val")).findings]
    for pattern in named:
        assert any(re.search(f"^{pattern}", what) for what in found), found


PALETTE = [(10, 20, 30), (1, 1, 1), (200, 0, 0)]


@pytest.mark.parametrize(
    ("masks", "numbers"),
    [
        ([grey(0, 2), grey(0)], True),  # 2 is a class number and no class's grey
        ([grey(0), grey(0, 2)], True),
        ([grey(0, 1), grey(0, 1)], False),  # (1,1,1) is a class's colour: left to the colours
        ([grey(0, 2), indexed([0], PALETTE)], False),
        ([np.dstack([grey(200), grey(0), grey(0)]), grey(0, 2)], False),
    ],
)
def test_a_palette_is_for_display_where_grey_labels_hold_class_numbers(
    tmp_path: Path, masks: list[Mask], numbers: bool
) -> None:
    write(tmp_path, masks)
    dataset = own(3, palette=PALETTE)
    labels = [sample.label for split in ("train", "val") for sample in dataset.list_samples(tmp_path, split)]
    assert settled(dataset, [label for label in labels if label is not None]).shown_colors is numbers


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"palette": [(10, 20, 30)] * 2 + [(1, 1, 1)]}, "E_PALETTE.*same colour"),
        ({"palette": [(0, 0, 256), (0, 0, 1), (0, 0, 2)]}, "E_PALETTE.*8 bits"),
        ({"palette": PALETTE, "zero_ignored": True}, r"E_CONFIG.*data\.zero_ignored"),
    ],
)
def test_a_palette_that_labels_contradict_is_refused(tmp_path: Path, settings: dict[str, object], code: str) -> None:
    write(tmp_path, [indexed([0, 1, 2], PALETTE)] * 2)
    with pytest.raises(InputError, match=f"^{code}"):
        settled(own(3, **settings), [tmp_path / "masks/train/0.png"])
