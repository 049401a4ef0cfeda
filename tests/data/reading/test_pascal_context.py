"""Pascal Context from both label sources, with 59 and 60 classes, and its names in the order of the ids."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from setr.data.reading.images import read_label, read_sample
from setr.data.reading.pascal_context import PASCAL_CONTEXT, PASCAL_CONTEXT_59, PASCAL_CONTEXT_59_REDUCED, RAW_IDS
from setr.errors import InputError

KEYS = {"train": ("2008_000008", "2008_000015"), "val": ("2008_000002",)}
# 3 = air conditioner and 459 are among the 459 labels, but not among the 60 kept ones.
RAW = np.array([[0, 2, 23, 284], [440, 458, 3, 459]], dtype=np.uint16)
IN_60 = np.array([[0, 1, 6, 37], [56, 59, 0, 0]], dtype=np.uint8)


def write_images(root: Path, *, lists: str) -> Path:
    base = root / "VOCdevkit/VOC2010"
    (base / "JPEGImages").mkdir(parents=True)
    (base / "ImageSets" / lists).mkdir(parents=True)
    for split, keys in KEYS.items():
        (base / "ImageSets" / lists / f"{split}.txt").write_text("".join(f"{key}\n" for key in keys))
        for key in keys:
            Image.fromarray(np.zeros((2, 4, 3), dtype=np.uint8)).save(base / "JPEGImages" / f"{key}.jpg")
    # VOC 2010 holds more images than Pascal Context labels.
    Image.fromarray(np.zeros((2, 4, 3), dtype=np.uint8)).save(base / "JPEGImages/2007_000027.jpg")
    return base


def write_matlab(root: Path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    (root / "trainval").mkdir()
    for key in (key for keys in KEYS.values() for key in keys):
        savemat(root / "trainval" / f"{key}.mat", {"LabelMap": RAW}, do_compression=True)


def write_png(base: Path, values: np.ndarray = IN_60) -> None:
    (base / "SegmentationClassContext").mkdir()
    for key in (key for keys in KEYS.values() for key in keys):
        picture = Image.fromarray(values, "P")
        picture.putpalette(list(range(256)) * 3)
        picture.save(base / "SegmentationClassContext" / f"{key}.png")


def test_original_labels_become_60_or_59_classes(tmp_path: Path) -> None:
    write_images(tmp_path, lists="Main")
    write_matlab(tmp_path)
    samples = PASCAL_CONTEXT.list_samples(tmp_path, "train")
    assert [sample.key for sample in samples] == list(KEYS["train"])
    _, label = read_sample(samples[0], PASCAL_CONTEXT)
    np.testing.assert_array_equal(label, IN_60)
    _, label = read_sample(PASCAL_CONTEXT_59.list_samples(tmp_path, "val")[0], PASCAL_CONTEXT_59)
    np.testing.assert_array_equal(label, np.where(IN_60 == 0, 255, IN_60.astype(int) - 1))


def test_converted_labels_give_the_same_classes_as_the_original_ones(tmp_path: Path) -> None:
    base = write_images(tmp_path, lists="SegmentationContext")
    write_png(base)
    (sample,) = PASCAL_CONTEXT.list_samples(base, "val")
    assert sample.label == base / "SegmentationClassContext/2008_000002.png"
    _, label = read_sample(sample, PASCAL_CONTEXT)
    np.testing.assert_array_equal(label, IN_60)
    _, label = read_sample(PASCAL_CONTEXT_59.list_samples(tmp_path, "val")[0], PASCAL_CONTEXT_59)
    np.testing.assert_array_equal(label, np.where(IN_60 == 0, 255, IN_60.astype(int) - 1))


def test_the_original_labels_win_where_both_are_there(tmp_path: Path) -> None:
    base = write_images(tmp_path, lists="Main")
    write_matlab(tmp_path)
    write_png(base)
    assert str(PASCAL_CONTEXT.list_samples(tmp_path, "val")[0].label).endswith(".mat")
    assert str(PASCAL_CONTEXT_59_REDUCED.list_samples(tmp_path, "val")[0].label).endswith(".png")


def test_official_archives_are_read_in_place(tmp_path: Path) -> None:
    (tmp_path / "unpacked").mkdir()
    write_images(tmp_path / "unpacked", lists="Main")
    write_matlab(tmp_path / "unpacked")
    archives = tmp_path / "archives"
    archives.mkdir()
    with tarfile.open(archives / "VOCtrainval_03-May-2010.tar", "w") as archive:
        archive.add(tmp_path / "unpacked/VOCdevkit", "VOCdevkit")
    with tarfile.open(archives / "trainval.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "unpacked/trainval", "trainval")
    for split in KEYS:
        unpacked = PASCAL_CONTEXT.list_samples(tmp_path / "unpacked", split)
        packed = PASCAL_CONTEXT.list_samples(archives, split)
        assert [sample.key for sample in packed] == [sample.key for sample in unpacked]
        for one, other in zip(unpacked, packed, strict=True):
            np.testing.assert_array_equal(read_sample(one, PASCAL_CONTEXT)[1], read_sample(other, PASCAL_CONTEXT)[1])


def test_labels_of_the_other_family_are_told_apart(tmp_path: Path) -> None:
    base = write_images(tmp_path, lists="Main")
    write_png(base, np.array([[255, 0, 5, 58]] * 2, dtype=np.uint8))
    label = PASCAL_CONTEXT_59.list_samples(tmp_path, "val")[0].label
    assert label is not None
    with pytest.raises(InputError, match=r"E_LABEL_RANGE.*255 \(2 px\).*set data\.name=pascal_context_59_reduced"):
        read_label(label, PASCAL_CONTEXT_59)
    assert read_label(label, PASCAL_CONTEXT_59_REDUCED)[0].tolist() == [255, 0, 5, 58]


def test_ids_beyond_the_459_are_refused(tmp_path: Path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    savemat(tmp_path / "a.mat", {"LabelMap": np.array([[2, 460]], dtype=np.uint16)})
    with pytest.raises(InputError, match=r"E_LABEL_RANGE.*460 \(1 px\), expected 0-459"):
        read_label(tmp_path / "a.mat", PASCAL_CONTEXT)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    base = write_images(tmp_path, lists="Main")
    with pytest.raises(InputError, match=r"E_DATA_LAYOUT.*trainval/\*\.mat or .*SegmentationClassContext"):
        PASCAL_CONTEXT.list_samples(tmp_path, "val")
    write_png(base)
    (base / "SegmentationClassContext/2008_000002.png").unlink()
    with pytest.raises(InputError, match=r"E_PAIR_MISSING.*2008_000002 \(no label\)"):
        PASCAL_CONTEXT.list_samples(tmp_path, "val")
    (base / "JPEGImages/2008_000002.jpg").unlink()
    with pytest.raises(InputError, match=r"E_PAIR_MISSING.*1 such as 2008_000002"):
        PASCAL_CONTEXT.list_samples(tmp_path, "val")
    (base / "ImageSets/Main/val.txt").unlink()
    with pytest.raises(InputError, match=r"E_DATA_LAYOUT.*ImageSets/SegmentationContext/val\.txt"):
        PASCAL_CONTEXT.list_samples(tmp_path, "val")


def test_names_stand_in_the_order_of_their_ids() -> None:
    assert PASCAL_CONTEXT.splits == {"train": 4998, "val": 5105}
    assert (PASCAL_CONTEXT.num_classes, PASCAL_CONTEXT_59.num_classes) == (60, 59)
    assert list(RAW_IDS) == sorted(RAW_IDS)
    positions = {0: "background", 1: "aeroplane", 2: "bag", 6: "bicycle", 14: "car", 37: "person", 55: "tvmonitor"}
    assert {index: PASCAL_CONTEXT.classes[index] for index in positions} == positions
    # The published list of 59 names starts aeroplane, bicycle, bird, boat: by it the second class would be bicycle.
    assert PASCAL_CONTEXT_59.classes[:4] == ("aeroplane", "bag", "bed", "bedclothes")
    assert PASCAL_CONTEXT_59.classes == PASCAL_CONTEXT.classes[1:]
    assert PASCAL_CONTEXT_59.palette == PASCAL_CONTEXT.palette[1:]
    # All 459 labels are numbered alphabetically, so the kept ones are alphabetical too.
    assert list(PASCAL_CONTEXT_59.classes) == sorted(PASCAL_CONTEXT_59.classes)


def test_the_kept_ids_are_the_published_ones() -> None:
    published = (
        "0 2 9 18 19 22 23 25 31 33 34 44 45 46 59 65 68 72 80 85 98 104 105 113 115 144 158 159 162 187 189 207 220 "
        "232 258 259 260 284 295 296 308 324 326 347 349 354 355 360 366 368 397 415 416 420 424 427 440 445 454 458"
    )
    assert list(RAW_IDS) == [int(text) for text in published.split()]
    for raw, position in ((0, 0), (2, 1), (458, 59), (1, 0), (459, 0)):
        assert PASCAL_CONTEXT.wide_label_map[raw] == position
    for raw, position in ((0, 255), (2, 0), (458, 58), (1, 255), (459, 255)):
        assert PASCAL_CONTEXT_59.wide_label_map[raw] == position
