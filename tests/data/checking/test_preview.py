"""The picture of a data set."""

from pathlib import Path

import numpy as np
from PIL import Image

from setr.data.checking.preview import colorize, preview_sheet
from setr.data.reading.ade20k import ADE20K
from setr.data.reading.camvid import CAMVID
from setr.data.reading.samples import Sample


def sample(folder: Path, key: str, value: int) -> Sample:
    image, label = folder / f"{key}.png", folder / f"{key}_label.png"
    Image.fromarray(np.full((30, 40, 3), 200, dtype=np.uint8)).save(image)
    Image.fromarray(np.full((30, 40), value, dtype=np.uint8)).save(label)
    return Sample(key, image, label)


def test_labels_are_shown_in_the_classes_colours() -> None:
    colors = colorize(np.array([[0, 10, 255]], dtype=np.uint8), CAMVID.palette)
    assert colors.tolist() == [[[128, 128, 128], [0, 128, 192], [0, 0, 0]]]


def test_each_row_shows_image_overlay_and_labels(tmp_path: Path) -> None:
    sheet = preview_sheet([sample(tmp_path, "a", 3), sample(tmp_path, "b", 11)], CAMVID, rows=2, tile_width=80)
    assert sheet.dtype == np.uint8
    assert sheet.shape[1:] == (3 * 80 + 2 * 8 + 16, 3)
    middle = 8 + 17 + 30
    assert sheet[middle, 8 + 40].tolist() == [200, 200, 200]
    assert sheet[middle, 8 + 88 * 2 + 40].tolist() == [128, 64, 128]
    overlay = sheet[middle, 8 + 88 + 40].astype(int)
    assert (np.abs(overlay - [160, 125, 160]) <= 2).all()
    assert (sheet == (64, 0, 128)).all(axis=2).any()  # the legend has every class, a car too


def test_a_legend_of_many_classes_has_those_that_occur(tmp_path: Path) -> None:
    few = preview_sheet([sample(tmp_path, "a", 21)], ADE20K, rows=1, tile_width=80)
    assert few.shape[0] < 200
    assert (few == ADE20K.palette[20]).all(axis=2).any()


def test_samples_without_labels_or_with_errors_are_shown_as_such(tmp_path: Path) -> None:
    broken = Sample("broken", tmp_path / "missing.png", None)
    plain = Sample("plain", sample(tmp_path, "a", 0).image)
    sheet = preview_sheet([plain, broken], CAMVID, rows=5, tile_width=60)
    assert (sheet == (250, 225, 225)).all(axis=2).any()
    assert preview_sheet([], CAMVID, tile_width=60).ndim == 3
