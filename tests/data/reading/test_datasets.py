"""Data sets by name and by settings."""

from pathlib import Path

import pytest

from setr.data.reading.datasets import DATASETS, PUBLISHED, configured_dataset, find_dataset, published_of
from setr.errors import InputError
from setr.settings.config import DataConfig


def test_every_published_data_set_is_there_under_its_own_name() -> None:
    expected = {"scenes", "cityscapes", "ade20k", "pascal_context", "pascal_context_59", "camvid"}
    assert expected <= set(DATASETS)
    assert all(dataset.name == name for name, dataset in DATASETS.items())
    assert {name: DATASETS[name].num_classes for name in sorted(expected)} == {
        "ade20k": 150,
        "camvid": 11,
        "cityscapes": 19,
        "pascal_context": 60,
        "pascal_context_59": 59,
        "scenes": 19,
    }
    assert DATASETS["scenes"].splits == {"train": None, "val": None}


def test_a_misspelt_name_gets_the_nearest() -> None:
    with pytest.raises(InputError, match=r"E_DATASET.*data\.name.*did you mean cityscapes\?"):
        find_dataset("cityscape")
    with pytest.raises(InputError, match=r"E_DATASET.*data\.images"):
        find_dataset("qqq")


def test_settings_choose_a_published_data_set_or_ones_own() -> None:
    dataset, root = configured_dataset(DataConfig(name="camvid", root="/data/camvid"))
    assert (dataset, root) == (DATASETS["camvid"], Path("/data/camvid"))
    dataset, _ = configured_dataset(DataConfig(images="photos", labels="masks", classes=("a", "b")))
    assert (dataset.name, dataset.classes) == ("folder", ("a", "b"))
    dataset, _ = configured_dataset(DataConfig(name="field", images="photos", labels="masks", classes=("a", "b")))
    assert dataset.name == "field"
    with pytest.raises(InputError, match=r"E_DATASET.*both data\.images and data\.labels"):
        configured_dataset(DataConfig(images="photos"))


def test_settings_of_ones_own_data_reach_it() -> None:
    own = {"images": "photos", "labels": "masks", "classes": ("a", "b")}
    palette = ((1, 2, 3), (4, 5, 6))
    dataset, _ = configured_dataset(DataConfig(name="field", **own, palette=palette, label_suffix="_mask.png"))
    assert (dataset.palette, dataset.color_labels) == (palette, True)
    assert dataset.scanner.keywords["settings"].label_suffix == "_mask.png"
    dataset, _ = configured_dataset(DataConfig(name="field", **own, zero_ignored=True))
    assert dataset.label_map[:3] == (255, 0, 1)
    with pytest.raises(InputError, match=r"E_PALETTE"):
        configured_dataset(DataConfig(name="field", **own, palette=palette[:1]))
    with pytest.raises(InputError, match=r"E_DATASET.*data\.zero_ignored"):
        configured_dataset(DataConfig(name="camvid", zero_ignored=True))


def test_a_root_with_class_names_is_a_data_set_by_its_name_alone(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("road\ntree\n")
    dataset, root = configured_dataset(DataConfig(name="mine", root=str(tmp_path)))
    assert (dataset.name, dataset.classes, root) == ("mine", ("road", "tree"), tmp_path)
    assert configured_dataset(DataConfig(name="camvid", root=str(tmp_path)))[0] is DATASETS["camvid"]
    with pytest.raises(InputError, match=r"E_DATASET.*classes\.txt"):
        configured_dataset(DataConfig(name="qqq", root=str(tmp_path / "elsewhere")))


@pytest.mark.parametrize("name", DATASETS)
def test_labels_stored_otherwise_change_neither_recipe_nor_server(name: str) -> None:
    dataset, published = DATASETS[name], published_of(name)
    assert published is not None
    like = DATASETS[published.dataset]
    assert like.published == published
    assert dataset.server == like.server
    assert PUBLISHED[published.dataset] == published
    if dataset.server is not None:
        assert len(dataset.server.ids) == dataset.num_classes


def test_recipes_of_ones_own_data_are_not_published() -> None:
    assert published_of("field") is None
    assert list(PUBLISHED) == ["cityscapes", "ade20k", "pascal_context", "camvid", "scenes"]
