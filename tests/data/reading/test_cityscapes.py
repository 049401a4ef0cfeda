"""Cityscapes' layout, ids and colours, on tiny copies with its real names and quirks."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from setr.data.reading.cityscapes import CITYSCAPES, CITYSCAPES_TRAIN_IDS, DENIED, TRAIN_ID_TO_ID
from setr.data.reading.images import read_image, read_label, read_sample
from setr.errors import InputError

GENERATOR = np.random.default_rng(3)
IDS = np.array([0, 4, 7, 8, 11, 17, 23, 26, 33], dtype=np.uint8)


def write(root: Path, split: str, key: str, *, coarse: bool = False, labels: bool = True) -> None:
    """Write one image with everything that Cityscapes puts beside it."""
    city = key.split("_")[0]
    folder = root / "leftImg8bit" / split / city
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(GENERATOR.integers(0, 256, (16, 32, 3), dtype=np.uint8)).save(folder / f"{key}_leftImg8bit.png")
    if not labels:
        return
    kind = "gtCoarse" if coarse else "gtFine"
    folder = root / kind / split / city
    folder.mkdir(parents=True, exist_ok=True)
    ids = GENERATOR.choice(IDS, (16, 32))
    Image.fromarray(ids).save(folder / f"{key}_{kind}_labelIds.png")
    Image.fromarray(ids.astype(np.uint16) * 1000).save(folder / f"{key}_{kind}_instanceIds.png")
    Image.fromarray(np.dstack([ids] * 4), "RGBA").save(folder / f"{key}_{kind}_color.png")
    (folder / f"{key}_{kind}_polygons.json").write_text("{}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for key in ("aachen_000000_000019", "aachen_000001_000019", "zurich_000000_000019"):
        write(tmp_path, "train", key)
    write(tmp_path, "val", "frankfurt_000000_000294")
    for key in ("augsburg_000000_000000", "troisdorf_000000_000073"):
        write(tmp_path, "train_extra", key, coarse=True)
    write(tmp_path, "test", "berlin_000000_000019", labels=True)  # the real package has empty labels here
    (tmp_path / "leftImg8bit/train/aachen/._aachen_000000_000019_leftImg8bit.png").write_bytes(b"\0\5\26\7")
    (tmp_path / "gtFine/train/.DS_Store").write_bytes(b"junk")
    (tmp_path / "README").write_text("Cityscapes")
    return tmp_path


def zipped(folder: Path, archives: Path) -> Path:
    """Pack the unpacked data set into archives of the official names."""
    archives.mkdir()
    parts = {
        "leftImg8bit_trainvaltest.zip": ("leftImg8bit/train/", "leftImg8bit/val/", "leftImg8bit/test/", "README"),
        "leftImg8bit_trainextra.zip": ("leftImg8bit/train_extra/", "README"),
        "gtFine_trainvaltest.zip": ("gtFine/", "README"),
        "gtCoarse.zip": ("gtCoarse/", "README"),
    }
    for name, starts in parts.items():
        with zipfile.ZipFile(archives / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.rglob("*")):
                member = path.relative_to(folder).as_posix()
                if path.is_file() and member.startswith(starts):
                    archive.write(path, member)
    return archives


def test_fine_labels_are_found_among_polygons_instances_and_colours(root: Path) -> None:
    samples = CITYSCAPES.list_samples(root, "train")
    assert [sample.key for sample in samples] == [
        "aachen_000000_000019",
        "aachen_000001_000019",
        "zurich_000000_000019",
    ]
    assert str(samples[0].label).endswith("gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png")
    assert len(CITYSCAPES.list_samples(root, "train+val")) == 4
    listing = CITYSCAPES.scan(root, "train")
    assert listing.junk == 2
    assert CITYSCAPES.count_remark("train", listing) == "cityscapes/train has 3 images, published are 2975"


def test_test_images_have_no_labels(root: Path) -> None:
    (sample,) = CITYSCAPES.list_samples(root, "test")
    assert (sample.key, sample.label) == ("berlin_000000_000019", None)


def test_coarse_labels_leave_out_the_black_image_with_a_reason(root: Path) -> None:
    listing = CITYSCAPES.scan(root, "train_extra")
    (sample,) = listing.samples
    assert str(sample.label).endswith("augsburg_000000_000000_gtCoarse_labelIds.png")
    assert listing.denied == (("troisdorf_000000_000073", "the published image is all black"),)
    assert listing.orphans == ()
    assert set(DENIED) == {"troisdorf_000000_000073"}
    assert "has 2 images" in CITYSCAPES.count_remark("train_extra", listing)


def test_archives_are_read_in_place_and_equal_the_unpacked_files(root: Path, tmp_path: Path) -> None:
    archives = zipped(root, tmp_path / "archives")
    before = sorted(archives.iterdir())
    for split in ("train", "val", "test", "train_extra"):
        unpacked, packed = CITYSCAPES.scan(root, split), CITYSCAPES.scan(archives, split)
        assert [sample.key for sample in packed.samples] == [sample.key for sample in unpacked.samples]
        assert packed.denied == unpacked.denied
        for one, other in zip(unpacked.samples, packed.samples, strict=True):
            np.testing.assert_array_equal(read_image(one.image), read_image(other.image))
            if one.label is not None:
                assert other.label is not None
                np.testing.assert_array_equal(read_label(one.label, CITYSCAPES), read_label(other.label, CITYSCAPES))
    assert sorted(archives.iterdir()) == before


def test_one_part_may_be_unpacked_and_the_other_not(root: Path, tmp_path: Path) -> None:
    archives = zipped(root, tmp_path / "archives")
    (root / "leftImg8bit").rename(archives / "leftImg8bit")
    assert len(CITYSCAPES.list_samples(archives, "train")) == 3


def test_ids_become_train_ids(root: Path) -> None:
    sample = CITYSCAPES.list_samples(root, "train")[0]
    _, label = read_sample(sample, CITYSCAPES)
    assert label is not None
    raw = np.asarray(Image.open(str(sample.label)))
    for train_id, label_id in enumerate(TRAIN_ID_TO_ID):
        assert ((label == train_id) == (raw == label_id)).all()
    assert (label[(raw == 0) | (raw == 4)] == 255).all()


def test_train_ids_are_read_only_when_asked_for(root: Path) -> None:
    with pytest.raises(InputError, match=r"E_DATA_(LAYOUT|EMPTY).*_gtFine_labelTrainIds\.png"):
        CITYSCAPES_TRAIN_IDS.list_samples(root, "train")
    for path in (root / "gtFine/train").rglob("*_labelIds.png"):
        values = np.full((16, 32), 255, dtype=np.uint8)
        values[:4] = 18
        Image.fromarray(values).save(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
    sample = CITYSCAPES_TRAIN_IDS.list_samples(root, "train")[0]
    assert sample.label is not None
    label = read_label(sample.label, CITYSCAPES_TRAIN_IDS)
    assert set(np.unique(label)) == {18, 255}
    assert str(CITYSCAPES.list_samples(root, "train")[0].label).endswith("_labelIds.png")


def test_missing_labels_and_images_are_listed(root: Path) -> None:
    (root / "gtFine/train/aachen/aachen_000001_000019_gtFine_labelIds.png").unlink()
    (root / "leftImg8bit/train/zurich/zurich_000000_000019_leftImg8bit.png").unlink()
    expected = r"E_PAIR_MISSING.*aachen_000001_000019 \(no label\), zurich_000000_000019 \(no image\)"
    with pytest.raises(InputError, match=expected):
        CITYSCAPES.list_samples(root, "train")


def test_a_root_of_something_else_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"E_DATA_ROOT"):
        CITYSCAPES.list_samples(tmp_path / "missing", "train")
    with pytest.raises(InputError, match=r"E_DATA_EMPTY.*leftImg8bit/train/<city>"):
        CITYSCAPES.list_samples(tmp_path, "train")
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match=r"E_DATA_LAYOUT.*leftImg8bit_trainvaltest\.zip.*set data\.root"):
        CITYSCAPES.list_samples(tmp_path, "train")


def test_one_image_is_enough(root: Path) -> None:
    assert len(CITYSCAPES.list_samples(root, "val")) == 1


def test_published_facts() -> None:
    assert CITYSCAPES.splits == {"train": 2975, "val": 500, "test": 1525, "train_extra": 19998}
    assert CITYSCAPES.published_count("train+val") == 3475
    assert TRAIN_ID_TO_ID == (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
    assert [CITYSCAPES.label_map[value] for value in (0, 6, 9, 10, 14, 15, 16, 18, 29, 30)] == [255] * 10
    assert CITYSCAPES.label_map[34] == -1
    assert CITYSCAPES.classes[0] == "road"
    assert CITYSCAPES.classes[10:14] == ("sky", "person", "rider", "car")
    assert CITYSCAPES.classes[18] == "bicycle"
    assert CITYSCAPES.palette[0] == (128, 64, 128)
    assert CITYSCAPES.palette[10] == (70, 130, 180)
    assert CITYSCAPES.palette[16] == (0, 80, 100)
    assert CITYSCAPES.palette[18] == (119, 11, 32)
