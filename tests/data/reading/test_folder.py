"""A data set of one's own."""

import pickle
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from setr.data.reading.folder import FolderSettings, folder_dataset
from setr.data.reading.images import read_label, read_sample
from setr.data.reading.samples import Dataset
from setr.errors import InputError

CLASSES = ("ground", "crop", "weed")


def write(root: Path, *names: str, suffix: str = ".jpg", label_suffix: str = ".png") -> None:
    for name in names:
        image, label = root / "photos" / f"{name}{suffix}", root / "masks" / f"{name}{label_suffix}"
        image.parent.mkdir(parents=True, exist_ok=True)
        label.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 6, 3), dtype=np.uint8)).save(image)
        Image.fromarray(np.array([[0, 1, 2, 255, 0, 1]] * 4, dtype=np.uint8)).save(label)


def own(**settings: str | float) -> Dataset:
    return folder_dataset("field", FolderSettings("photos", "masks", **settings), CLASSES)


def keys(dataset: Dataset, root: Path, split: str) -> list[str]:
    return [sample.key for sample in dataset.list_samples(root, split)]


def test_two_folders_and_names_are_enough(tmp_path: Path) -> None:
    write(tmp_path, *(f"image{index:02}" for index in range(20)))
    train, val = keys(own(), tmp_path, "train"), keys(own(), tmp_path, "val")
    assert sorted(train + val) == [f"image{index:02}" for index in range(20)]
    assert 1 <= len(val) <= 8
    _, label = read_sample(own().list_samples(tmp_path, "train")[0], own())
    assert label is not None
    assert label[0].tolist() == [0, 1, 2, 255, 0, 1]


def test_an_image_keeps_its_split_when_others_are_added(tmp_path: Path) -> None:
    write(tmp_path, *(f"a{index}" for index in range(30)))
    before = set(keys(own(), tmp_path, "val"))
    write(tmp_path, *(f"b{index}" for index in range(30)))
    after = set(keys(own(), tmp_path, "val"))
    assert {key for key in after if key.startswith("a")} == before


@pytest.mark.parametrize("count", [2, 3])
def test_few_images_still_give_both_splits(tmp_path: Path, count: int) -> None:
    write(tmp_path, *(f"x{index}" for index in range(count)))
    assert keys(own(), tmp_path, "train")
    assert keys(own(), tmp_path, "val")


def test_one_image_trains_and_the_empty_validation_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "only")
    assert keys(own(), tmp_path, "train") == ["only"]
    with pytest.raises(InputError, match=r"E_DATA_EMPTY.*split val.*train\.txt and val\.txt"):
        own().list_samples(tmp_path, "val")


def test_sub_folders_make_the_splits(tmp_path: Path) -> None:
    write(tmp_path, "train/a", "train/deep/b", "val/a")
    assert keys(own(), tmp_path, "train") == ["train/a", "train/deep/b"]
    assert keys(own(), tmp_path, "val") == ["val/a"]


def test_list_files_make_the_splits(tmp_path: Path) -> None:
    write(tmp_path, "a", "b", "sub/c")
    (tmp_path / "train.txt").write_text("sub/c.jpg\n\na\n")
    (tmp_path / "val.txt").write_text("b\n")
    assert keys(own(), tmp_path, "train") == ["a", "sub/c"]
    assert keys(own(), tmp_path, "val") == ["b"]
    (tmp_path / "val.txt").write_text("b\nmissing.jpg\n")
    with pytest.raises(InputError, match=r"E_PAIR_MISSING.*1 such as 'missing'"):
        own().list_samples(tmp_path, "val")


@pytest.mark.parametrize(("name", "other"), [("train", "val"), ("val", "train")])
def test_one_list_file_leaves_the_rest_to_the_other_split(tmp_path: Path, name: str, other: str) -> None:
    write(tmp_path, "a", "b", "sub/c")
    (tmp_path / f"{name}.txt").write_text("sub/c\na\n")
    assert keys(own(), tmp_path, name) == ["a", "sub/c"]
    assert keys(own(), tmp_path, other) == ["b"]
    (tmp_path / f"{name}.txt").write_text("a\nb\nsub/c\n")
    with pytest.raises(InputError, match=rf"E_DATA_EMPTY.*no image falls into split {other}"):
        own().list_samples(tmp_path, other)


def test_an_image_in_both_lists_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a", "b", "c")
    (tmp_path / "train.txt").write_text("a\nb\n")
    (tmp_path / "val.txt").write_text("b\nc\n")
    for split in ("train", "val"):
        with pytest.raises(InputError, match=r"E_SPLIT_LEAK.*1 such as 'b'"):
            own().list_samples(tmp_path, split)


def test_labels_may_have_a_suffix_and_archives_stand_for_folders(tmp_path: Path) -> None:
    write(tmp_path, "a", "b", suffix=".PNG", label_suffix="_mask.png")
    assert len(keys(own(label_suffix="_mask.png"), tmp_path, "train")) == 1
    for folder in ("photos", "masks"):
        with zipfile.ZipFile(tmp_path / f"{folder}.zip", "w") as archive:
            for path in (tmp_path / folder).iterdir():
                archive.write(path, path.name)
    packed = folder_dataset("field", FolderSettings("photos.zip", "masks.zip", label_suffix="_mask.png"), CLASSES)
    assert keys(packed, tmp_path, "train") == keys(own(label_suffix="_mask.png"), tmp_path, "train")


def test_missing_labels_and_images_are_listed(tmp_path: Path) -> None:
    write(tmp_path, "train/a", "train/b", "val/c")
    (tmp_path / "masks/train/a.png").unlink()
    (tmp_path / "photos/train/b.jpg").unlink()
    with pytest.raises(InputError, match=r"E_PAIR_MISSING.*train/a \(no label\), train/b \(no image\)"):
        own().list_samples(tmp_path, "train")


def test_an_image_of_two_formats_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a")
    write(tmp_path, "a", suffix=".png")
    with pytest.raises(InputError, match=r"E_DUP_KEY"):
        own().list_samples(tmp_path, "train")


def test_images_and_labels_may_share_a_folder_or_lie_below_each_other(tmp_path: Path) -> None:
    write(tmp_path, "a", "b", label_suffix="_mask.png", suffix=".png")
    for path in (tmp_path / "masks").iterdir():
        (tmp_path / "photos" / path.name).write_bytes(path.read_bytes())
    shared = folder_dataset("field", FolderSettings("photos", "photos", label_suffix="_mask.png"), CLASSES)
    assert sorted(keys(shared, tmp_path, "train") + keys(shared, tmp_path, "val")) == ["a", "b"]
    (tmp_path / "masks").rename(tmp_path / "photos/masks")
    for path in (tmp_path / "photos").glob("*_mask.png"):
        path.unlink()
    below = folder_dataset("field", FolderSettings("photos", "photos/masks", label_suffix="_mask.png"), CLASSES)
    assert sorted(keys(below, tmp_path, "train") + keys(below, tmp_path, "val")) == ["a", "b"]


def test_files_of_other_kinds_are_listed(tmp_path: Path) -> None:
    write(tmp_path, "a", "b")
    for name in ("photos/c.tif", "masks/c.bmp", "masks/notes.txt", "photos/.DS_Store"):
        (tmp_path / name).write_bytes(b"x")
    listing = own().scan(tmp_path, "train")
    assert [Path(name).name for name in listing.others] == ["c.bmp", "notes.txt", "c.tif"]
    assert listing.junk == 1


@pytest.mark.parametrize(
    ("images", "labels", "settings", "remedy"),
    [
        (["a.jpg", "b.jpg"], ["a_mask.png", "b_mask.png"], {}, r"E_PAIR_MISSING.*set data\.label_suffix=_mask\.png"),
        (["a.jpg"], ["a_mask.png"], {"label_suffix": "_mask"}, r"E_DATA_EMPTY.*set data\.label_suffix=_mask\.png"),
        (["IMG_1.jpg", "IMG_2.jpg"], ["img_1.png", "img_2.png"], {}, "E_PAIR_MISSING.*capital letters"),
        (["in/a.jpg", "in/b.jpg"], ["out/a.png", "out/b.png"], {}, "E_PAIR_MISSING.*first folders differ"),
        (["a.tif", "b.tif"], ["a.png"], {}, r"E_DATA_EMPTY.*2 files such as a\.tif.*convert"),
    ],
)
def test_names_that_never_meet_say_why(
    tmp_path: Path, images: list[str], labels: list[str], settings: dict[str, str], remedy: str
) -> None:
    for name in (*(f"photos/{name}" for name in images), *(f"masks/{name}" for name in labels)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=f"^{remedy}"):
        own(**settings).list_samples(tmp_path, "train")


def test_the_folders_may_be_spelled_in_another_form_than_on_disk(tmp_path: Path) -> None:
    write(tmp_path, "a", "b")
    (tmp_path / "photos").rename(tmp_path / unicodedata.normalize("NFD", "Bäume"))
    dataset = folder_dataset("field", FolderSettings(unicodedata.normalize("NFC", "Bäume"), "masks"), CLASSES)
    assert len(keys(dataset, tmp_path, "train")) == 1


def test_empty_and_missing_folders_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"E_DATA_ROOT.*photos"):
        own().list_samples(tmp_path, "train")
    (tmp_path / "photos").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(InputError, match=r"E_DATA_EMPTY.*no image"):
        own().list_samples(tmp_path, "train")
    Image.fromarray(np.zeros((4, 6, 3), dtype=np.uint8)).save(tmp_path / "photos/a.png")
    with pytest.raises(InputError, match=r"E_DATA_EMPTY.*no label"):
        own().list_samples(tmp_path, "train")


def test_a_value_without_a_name_says_what_to_do(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1, 3]], dtype=np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"E_LABEL_RANGE.*3 \(1 px\), expected 0-2, 255.*name the class of value 0"):
        read_label(tmp_path / "a.png", own())
    from_one = folder_dataset("field", FolderSettings("photos", "masks"), CLASSES, zero_ignored=True)
    assert read_label(tmp_path / "a.png", from_one).tolist() == [[255, 0, 2]]


def test_coloured_labels_need_a_palette(tmp_path: Path) -> None:
    Image.fromarray(np.array([[(0, 0, 0), (0, 255, 0), (9, 9, 9)]], dtype=np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"E_LABEL_MODE.*palette"):
        read_label(tmp_path / "a.png", own())
    palette = [(9, 9, 9), (0, 255, 0), (255, 0, 0)]
    colored = folder_dataset("field", FolderSettings("photos", "masks"), CLASSES, palette=palette)
    assert read_label(tmp_path / "a.png", colored).tolist() == [[255, 1, 0]]
    with pytest.raises(InputError, match=r"E_PALETTE"):
        folder_dataset("field", FolderSettings("photos", "masks"), CLASSES, palette=palette[:2])


def test_class_names_come_from_the_settings_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("ground\n\n crop \nweed\n")
    assert folder_dataset("field", FolderSettings("photos", "masks"), [str(file)]).classes == CLASSES
    for classes, message in (
        ((), "found 0 names"),
        (("a", "a"), "twice: a"),
        (("",), "found 1 names"),
        ([str(tmp_path / "missing.txt")], "does not exist"),
        ([str(index) for index in range(255)], "found 255 names"),
    ):
        with pytest.raises(InputError, match=rf"E_CLASSES.*{message}"):
            folder_dataset("field", FolderSettings("photos", "masks"), classes)


def test_it_is_a_data_set_like_the_others(tmp_path: Path) -> None:
    write(tmp_path, "a", "b")
    dataset = own()
    assert keys(pickle.loads(pickle.dumps(dataset)), tmp_path, "val") == keys(dataset, tmp_path, "val")
    assert dataset.splits == {"train": None, "val": None}
    assert len(set(dataset.palette)) == 3
