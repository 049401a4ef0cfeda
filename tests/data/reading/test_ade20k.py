"""ADE20K's scene-parsing layout: zero ignored, grey photographs, a test set without labels."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from setr.data.reading.ade20k import ADE20K, ADE20K_REDUCED
from setr.data.reading.images import read_image, read_label
from setr.errors import InputError


def write(root: Path, folder: str, names: list[str], *, labels: bool = True) -> None:
    for index, name in enumerate(names):
        image = root / "images" / folder / f"{name}.jpg" if labels else root / folder / f"{name}.jpg"
        image.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((10, 14), 40 * index, dtype=np.uint8)
        # Some photographs of ADE20K are grey.
        Image.fromarray(pixels if index == 1 else np.dstack([pixels] * 3)).save(image)
        if labels:
            label = root / "annotations" / folder / f"{name}.png"
            label.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.arange(140, dtype=np.uint8).reshape(10, 14) + 11).save(label)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / "ADEChallengeData2016"
    write(base, "training", ["ADE_train_00000001", "ADE_train_00000002"])
    write(base, "validation", ["ADE_val_00000001"])
    write(tmp_path, "release_test/testing", ["ADE_test_00000001"], labels=False)
    (tmp_path / "release_test/list.txt").write_text("ADE_test_00000001.jpg\n")
    (base / "objectInfo150.txt").write_text("Idx\n")
    return tmp_path


def test_splits_from_the_folder_or_the_one_inside(root: Path) -> None:
    assert [sample.key for sample in ADE20K.list_samples(root, "train")] == ["ADE_train_00000001", "ADE_train_00000002"]
    assert len(ADE20K.list_samples(root / "ADEChallengeData2016", "val")) == 1
    assert len(ADE20K.list_samples(root, "train+val")) == 3
    (sample,) = ADE20K.list_samples(root, "test")
    assert (sample.key, sample.label) == ("ADE_test_00000001", None)


def test_archives_are_read_in_place(root: Path, tmp_path: Path) -> None:
    archives = tmp_path / "archives"
    archives.mkdir()
    for name, start in {"ADEChallengeData2016.zip": "ADEChallengeData2016", "release_test.zip": "release_test"}.items():
        with zipfile.ZipFile(archives / name, "w") as archive:
            for path in sorted((root / start).rglob("*.*")):
                archive.write(path, path.relative_to(root).as_posix())
    for split in ("train", "val", "test"):
        unpacked, packed = ADE20K.list_samples(root, split), ADE20K.list_samples(archives, split)
        assert [sample.key for sample in packed] == [sample.key for sample in unpacked]
        np.testing.assert_array_equal(read_image(packed[0].image), read_image(unpacked[0].image))
    assert len(ADE20K.list_samples(archives / "ADEChallengeData2016.zip", "val")) == 1


def test_grey_photographs_become_rgb(root: Path) -> None:
    image = read_image(ADE20K.list_samples(root, "train")[1].image)
    assert image.shape == (10, 14, 3)
    assert (image[..., 0] == image[..., 2]).all()


def test_zero_is_ignored_and_the_rest_moves_down(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1, 150]], dtype=np.uint8)).save(tmp_path / "a.png")
    assert read_label(tmp_path / "a.png", ADE20K).tolist() == [[255, 0, 149]]


def test_labels_already_reduced_are_told_apart(tmp_path: Path) -> None:
    Image.fromarray(np.array([[255, 0, 149]], dtype=np.uint8)).save(tmp_path / "a.png")
    assert read_label(tmp_path / "a.png", ADE20K_REDUCED).tolist() == [[255, 0, 149]]
    with pytest.raises(InputError, match=r"E_LABEL_RANGE.*255 \(1 px\), expected 0-150.*set data\.name=ade20k_reduced"):
        read_label(tmp_path / "a.png", ADE20K)
    Image.fromarray(np.array([[0, 150]], dtype=np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"E_LABEL_RANGE.*150 \(1 px\).*set data\.name=ade20k,"):
        read_label(tmp_path / "b.png", ADE20K_REDUCED)


def test_the_full_release_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "images/training/a/abbey"
    folder.mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(folder / "ADE_train_00000001.jpg")
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(folder / "ADE_train_00000001_seg.png")
    with pytest.raises(InputError, match=r"E_LABEL_FAMILY.*_seg\.png.*ADEChallengeData2016\.zip"):
        ADE20K.list_samples(tmp_path, "train")


def test_a_three_channel_label_is_refused(root: Path) -> None:
    label = root / "ADEChallengeData2016/annotations/training/ADE_train_00000001.png"
    Image.fromarray(np.zeros((10, 14, 3), dtype=np.uint8)).save(label)
    with pytest.raises(InputError, match=r"E_LABEL_MODE.*RGB 8 bit"):
        read_label(label, ADE20K)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for split, looked_for in {"train": "images/training", "val": "images/validation", "test": "release_test"}.items():
        with pytest.raises(InputError, match=rf"E_DATA_LAYOUT.*{looked_for}"):
            ADE20K.list_samples(tmp_path, split)


def test_published_facts() -> None:
    assert ADE20K.splits == {"train": 20210, "val": 2000, "test": 3352}
    assert ADE20K.published_count("train+val") == 22210
    assert ADE20K.num_classes == 150
    names = {0: "wall", 1: "building", 2: "sky", 12: "person", 20: "car", 44: "chest of drawers", 149: "flag"}
    assert {index: ADE20K.classes[index] for index in names} == names
    colors = {0: (120, 120, 120), 2: (6, 230, 230), 20: (0, 102, 200), 80: (255, 0, 245), 149: (92, 0, 255)}
    assert {index: ADE20K.palette[index] for index in colors} == colors
    # Road and skyscraper share the one colour that the published palette has twice.
    assert len(set(ADE20K.palette)) == 149
    assert [ADE20K.classes[index] for index, color in enumerate(ADE20K.palette) if color == (140, 140, 140)] == [
        "road",
        "skyscraper",
    ]
