"""How images of one's own are divided: by folders and lists of any spelling, by the hash, or refused."""

import unicodedata
from pathlib import Path

import pytest

from setr.data.reading.sources import Source
from setr.data.reading.splits import Division, divide, split_of
from setr.errors import InputError


def divided(folder: Path, *keys: str, labels: tuple[str, ...] | None = None, **lists: str) -> Division:
    root = folder / "photos"
    root.mkdir(exist_ok=True)
    for name, text in lists.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    images: dict[str, Source] = {key: Path(f"{key}.jpg") for key in keys}
    masks: dict[str, Source] = {key: Path(f"{key}.png") for key in labels or keys}
    return divide(images, masks, root, fraction=0.2)


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("train", "val"),
        ("Train", "Val"),
        ("TRAIN", "VAL"),
        ("training", "validation"),
        ("train2017", "val2017"),
        ("trainset", "validset"),
        ("train_images", "val_images"),
        ("images_train", "images_val"),
        ("Training Data", "Validation Data"),
        ("trn", "dev"),
        ("train", "eval"),
    ],
)
def test_folders_of_a_split_are_known_by_any_spelling(tmp_path: Path, train: str, val: str) -> None:
    found = divided(tmp_path, *(f"{train}/{n}" for n in range(9)), f"{val}/a", f"{val}/b")
    assert set(found.images["val"]) == {f"{val}/a", f"{val}/b"}
    assert len(found.images["train"]) == 9
    assert f"{train}/ is train, {val}/ is val" in found.rule


@pytest.mark.parametrize("name", ["north", "trainers", "valley", "evaluated", "protest", "2017", "images", "pretrain"])
def test_other_folders_are_no_split(name: str) -> None:
    assert split_of(name) is None


def test_labels_may_spell_the_folder_otherwise(tmp_path: Path) -> None:
    found = divided(tmp_path, "Train/a", "valid/b", labels=("training_masks/a", "val/b"))
    assert set(found.labels["train"]) == {"Train/a"}
    assert set(found.labels["val"]) == {"valid/b"}


def test_images_in_no_split_are_named(tmp_path: Path) -> None:
    assert divided(tmp_path, "train/a", "valid/b", "test/c", "d").outside == ("d", "test/c")
    assert divided(tmp_path, "a", "b", "c", train="a\n", val="b\n").outside == ("c",)
    assert divided(tmp_path, "a", "b", "c", train="a\n", val="b\nc\n").outside == ()


@pytest.mark.parametrize("name", ["val", "valid", "Validation", "val_list", "dev", "val2017"])
def test_list_files_are_known_by_any_spelling(tmp_path: Path, name: str) -> None:
    found = divided(tmp_path, "a", "b", "c", **{name: "b\n"})
    assert set(found.images["val"]) == {"b"}
    assert f"{name}.txt" in found.rule


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKD"])
@pytest.mark.parametrize("line", ["{}", "{}.jpg", "./{}.JPG", "  {}.png  "])
def test_a_list_may_spell_letters_composed_or_decomposed(tmp_path: Path, form: str, line: str) -> None:
    keys = ["Köln", "São", "d"]
    lines = [unicodedata.normalize(form, line.format(key)) for key in keys[:2]]
    assert set(divided(tmp_path, *keys, val="\n".join(lines)).images["val"]) == set(keys[:2])


def test_a_list_of_test_images_keeps_them_out(tmp_path: Path) -> None:
    found = divided(tmp_path, "a", "b", "c", val="a\n", test="b\n")
    assert (set(found.images["train"]), found.outside) == ({"c"}, ("b",))


@pytest.mark.parametrize(
    ("keys", "lists", "what"),
    [
        (("train2017/a", "training/b", "val/c"), {}, "two sub-folders for split train"),
        (("x/train/a", "x/val/b"), {}, "lie below other folders"),
        (("train_1", "train_2", "val_1"), {}, "names begin with a split"),
        (("a", "b", "test/c"), {}, "test images lies among the others"),
        (("a", "b"), {"test": "a\n"}, "list of test images"),
        (("a", "b"), {"valid": "a\n", "validation": "b\n"}, "two list files for split val"),
        (("a", "b"), {"photos/val": "a\n"}, "lies in the image folder"),
    ],
)
def test_what_looks_like_a_split_is_never_mixed_by_the_hash(
    tmp_path: Path, keys: tuple[str, ...], lists: dict[str, str], what: str
) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match=rf"^E_SPLIT.*{what}.*call the sub-folders train/ and val/"):
        divided(tmp_path, *keys, **lists)


@pytest.mark.parametrize("keys", [("train_1", "train_2"), ("test/a", "test/b"), ("north/a", "south/b")])
def test_names_that_only_sound_like_one_split_are_divided_by_the_hash(tmp_path: Path, keys: tuple[str, ...]) -> None:
    found = divided(tmp_path, *keys)
    assert found.rule.startswith("by the hash")
    assert [len(found.images[split]) for split in ("train", "val")] == [1, 1]


def test_plain_names_have_precedence_over_other_spellings(tmp_path: Path) -> None:
    found = divided(tmp_path, "train/a", "Train/b", "val/c", "dev/d")
    assert (set(found.images["train"]), set(found.images["val"])) == ({"train/a"}, {"val/c"})
    assert found.outside == ("Train/b", "dev/d")
    listed = divided(tmp_path, "a", "b", val="a\n", valid="b\n")
    assert set(listed.images["val"]) == {"a"}


def test_a_folder_called_train_among_others_leaves_the_split_to_the_lists(tmp_path: Path) -> None:
    found = divided(tmp_path, "car/a", "train/b", "bus/c", val="bus/c\n")
    assert (set(found.images["train"]), set(found.images["val"])) == ({"car/a", "train/b"}, {"bus/c"})
