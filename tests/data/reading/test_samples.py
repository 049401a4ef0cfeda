"""Keys, pairs, splits and label maps."""

import pickle
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest

from setr.data.reading.archives import ArchiveMember
from setr.data.reading.datasets import DATASETS
from setr.data.reading.samples import NOT_ALLOWED, Dataset, Listing, Sample, allow, keyed, pair, stem, voc_color
from setr.errors import InputError


def files(*names: str) -> dict[str, Path]:
    return {name: Path("/data") / name for name in names}


def dataset_of(**listings: Listing) -> Dataset:
    return Dataset(
        name="toy",
        classes=("a", "b"),
        palette=((0, 0, 0), (255, 0, 0)),
        label_map=allow({0: 0, 1: 1, 255: 255}),
        splits={"train": 3, "val": None, "extra": 2},
        scanner=lambda root, split: listings[split],
    )


def png_key(path: str) -> str | None:
    return stem(path, ".png")


def test_pairs_are_in_the_order_of_their_keys() -> None:
    listing = pair(files("b", "a", "c"), files("c", "a", "d"), denied={"e": "never there"}, junk=2)
    assert [sample.key for sample in listing.samples] == ["a", "c"]
    assert (listing.unlabelled, listing.orphans, listing.junk) == (("b",), ("d",), 2)
    assert pair(files("b", "a"), None).samples == (Sample("a", Path("/data/a")), Sample("b", Path("/data/b")))


def test_denied_samples_are_left_out_with_their_reason() -> None:
    listing = pair(files("a", "bad"), files("a", "bad"), denied={"bad": "all black"})
    assert [sample.key for sample in listing.samples] == ["a"]
    assert listing.denied == (("bad", "all black"),)
    assert not listing.orphans


def test_samples_and_listings_can_be_sent_to_other_processes() -> None:
    sample = Sample("a", ArchiveMember(Path("a.zip"), "a.png"), Path("/data/a.png"))
    assert pickle.loads(pickle.dumps(sample)) == sample
    assert {sample: 1}[sample] == 1
    for dataset in DATASETS.values():
        assert pickle.loads(pickle.dumps(dataset)).name == dataset.name


def test_missing_partners_are_listed() -> None:
    dataset = dataset_of(train=pair(files("a", "b"), files("a", "c")))
    with pytest.raises(InputError, match=r"E_PAIR_MISSING.*2 without a partner: b \(no label\), c \(no image\)"):
        dataset.list_samples(Path("/data"), "train")


def test_an_empty_split_is_an_error() -> None:
    with pytest.raises(InputError, match=r"E_DATA_EMPTY.*toy/train"):
        dataset_of(train=Listing(())).list_samples(Path("/data"), "train")


@pytest.mark.parametrize("split", ["nothing", "train+nothing", "train+train", ""])
def test_unknown_splits_name_the_known_ones(split: str) -> None:
    with pytest.raises(InputError, match=r"E_SPLIT.*train, val, extra"):
        dataset_of(train=Listing(())).list_samples(Path("/data"), split)


def test_splits_can_be_joined_unless_a_key_is_in_both() -> None:
    dataset = dataset_of(train=pair(files("c", "a"), None), val=pair(files("b"), None), extra=pair(files("a"), None))
    assert [sample.key for sample in dataset.list_samples(Path("/data"), "train+val")] == ["a", "b", "c"]
    with pytest.raises(InputError, match=r"E_DUP_KEY.*same key is in both"):
        dataset.list_samples(Path("/data"), "train+extra")


def test_another_number_of_images_than_published_is_said() -> None:
    dataset = dataset_of()
    three = pair(files("a", "b", "bad"), None, denied={"bad": "broken"})
    assert dataset.count_remark("train", three) == ""
    assert dataset.count_remark("train", pair(files("a"), None)) == "toy/train has 1 images, published are 3"
    assert dataset.count_remark("val", three) == ""
    assert dataset.published_count("train+extra") == 5
    assert dataset.published_count("train+val") is None


def test_two_files_of_one_key_are_refused() -> None:
    with pytest.raises(InputError, match=r"E_DUP_KEY.*a\.(jpg|png) and /data/a\.(jpg|png)"):
        keyed(files("a.png", "a.jpg"), lambda path: stem(path, ".png", ".jpg"), where="/data")


def test_composed_and_decomposed_names_are_the_same_key() -> None:
    composed = unicodedata.normalize("NFC", "zürich.png")
    decomposed = unicodedata.normalize("NFD", composed)
    assert composed != decomposed
    assert keyed(files(decomposed), png_key, where="/data").keys() == {"zürich"}
    with pytest.raises(InputError, match=r"E_DUP_KEY"):
        keyed(files(composed, decomposed), png_key, where="/data")


def test_names_that_differ_in_case_stay_apart() -> None:
    assert keyed(files("A.png", "a.png"), png_key, where="/data").keys() == {"A", "a"}


@pytest.mark.parametrize("name", ["a\nb.png", "a\x00b.png", "a\x1b[2Jb.png", "x" * 300 + ".png", "bad\udcff.png"])
def test_names_that_cannot_be_keys_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(InputError, match=r"^E_NAME .*rename it") as caught:
        keyed(files(name), png_key, where="/data")
    assert "\n" not in str(caught.value)
    str(caught.value).encode()


def test_stems() -> None:
    assert stem("a/b_leftImg8bit.png", "_leftImg8bit.png") == "a/b"
    assert stem("a.JPG", ".png", ".jpg") == "a"
    assert stem("a.txt", ".png") is None
    assert stem("a/.png", ".png") is None


def test_label_maps_allow_only_what_they_name() -> None:
    table = allow({0: 255, 7: 0})
    assert (len(table), table[0], table[7], table[8]) == (256, 255, 0, NOT_ALLOWED)
    with pytest.raises(AssertionError):
        replace(dataset_of(), label_map=(0, 1))


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_maps_onto_exactly_its_classes(name: str) -> None:
    dataset = DATASETS[name]
    assert {train_id for train_id in dataset.label_map if train_id not in (NOT_ALLOWED, 255)} == set(
        range(dataset.num_classes)
    )
    assert len(set(dataset.classes)) == dataset.num_classes
    assert all(0 <= value <= 255 for color in dataset.palette for value in color)
    assert dataset.family in [family.name for family in dataset.families]
    own = next(family for family in dataset.families if family.name == dataset.family)
    assert own.values == {value for value, train_id in enumerate(dataset.label_map) if train_id != NOT_ALLOWED}


def test_voc_colors_are_those_of_the_development_kit() -> None:
    assert [voc_color(index) for index in (0, 1, 2, 3, 15, 20)] == [
        (0, 0, 0),
        (128, 0, 0),
        (0, 128, 0),
        (128, 128, 0),
        (192, 128, 128),
        (0, 64, 128),
    ]
    assert len({voc_color(index) for index in range(256)}) == 256
