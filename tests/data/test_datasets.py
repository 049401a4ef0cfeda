"""Data sets by name and by settings."""

from pathlib import Path

import pytest

from setr.config import DataConfig
from setr.data.datasets import DATASETS, configured_dataset, find_dataset
from setr.errors import InputError


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
