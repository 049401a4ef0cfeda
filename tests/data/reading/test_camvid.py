"""CamVid's layout and classes."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from setr.data.reading.camvid import CAMVID
from setr.data.reading.images import read_label
from setr.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, names in {"train": ("0001TP_006690", "0001TP_006720"), "val": ("0016E5_07959",)}.items():
        (tmp_path / split).mkdir()
        (tmp_path / f"{split}annot").mkdir()
        for name in names:
            Image.fromarray(np.zeros((6, 8, 3), dtype=np.uint8)).save(tmp_path / split / f"{name}.png")
            values = np.arange(48, dtype=np.uint8).reshape(6, 8) % 12
            Image.fromarray(values).save(tmp_path / f"{split}annot" / f"{name}.png")
    return tmp_path


def test_labels_lie_beside_the_images_under_the_same_names(root: Path) -> None:
    samples = CAMVID.list_samples(root, "train")
    assert [sample.key for sample in samples] == ["0001TP_006690", "0001TP_006720"]
    label = samples[0].label
    assert label == root / "trainannot/0001TP_006690.png"
    train_ids = read_label(root / "trainannot/0001TP_006690.png", CAMVID)
    assert set(np.unique(train_ids)) == {*range(11), 255}


def test_an_archive_stands_for_the_folders(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "CamVid.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*.png")):
            archive.write(file, f"CamVid/{file.relative_to(root).as_posix()}")
    assert [sample.key for sample in CAMVID.list_samples(path, "val")] == ["0016E5_07959"]


def test_what_is_missing_is_named(root: Path) -> None:
    with pytest.raises(InputError, match=r"E_DATA_LAYOUT.*test/\*\.png"):
        CAMVID.list_samples(root, "test")
    (root / "trainannot/0001TP_006690.png").unlink()
    with pytest.raises(InputError, match=r"E_PAIR_MISSING.*0001TP_006690 \(no label\)"):
        CAMVID.list_samples(root, "train")
    (root / "trainannot/0001TP_006720.png").unlink()
    with pytest.raises(InputError, match=r"E_DATA_LAYOUT.*trainannot/\*\.png"):
        CAMVID.list_samples(root, "train")


def test_published_facts() -> None:
    assert CAMVID.splits == {"train": 367, "val": 101, "test": 233}
    assert CAMVID.classes == (
        *("sky", "building", "pole", "road", "pavement", "tree"),
        *("sign symbol", "fence", "car", "pedestrian", "bicyclist"),
    )
    assert CAMVID.palette[0] == (128, 128, 128)
    assert CAMVID.palette[3] == (128, 64, 128)
    assert CAMVID.palette[10] == (0, 128, 192)
    assert CAMVID.label_map[11] == 255
    assert CAMVID.label_map[12] == -1


def test_the_real_data_have_the_published_counts(camvid_root: Path) -> None:
    for split in ("train", "val"):
        assert CAMVID.count_remark(split, CAMVID.scan(camvid_root, split)) == ""
