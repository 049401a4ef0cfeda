"""The paper's recipe scaled down: what the settings say replaces what a small training cannot have, the rest stays."""

import dataclasses

import pytest

from setr.errors import InputError
from setr.settings.config import MiniatureConfig
from setr.study.miniature import miniature_protocol, miniature_recipe
from setr.study.protocols import Protocol
from setr.study.published import recipe

CONFIG = MiniatureConfig(
    iterations={"80k": 25},
    batch_size=3,
    crop_size=(30, 45),
    base_lr_multiplier=1.5,
    head_lr_multiplier=7.0,
    min_lr=2.0e-4,
    evaluations=2,
    checkpoints=4,
)


@pytest.mark.parametrize("dataset", ["cityscapes", "ade20k", "pascal_context"])
def test_what_a_small_training_cannot_have_is_replaced_and_nothing_else(dataset: str) -> None:
    published = recipe(dataset, "pup", "80k")
    found = miniature_recipe(published, "80k", CONFIG)
    expected = {
        "iterations": 25,
        "batch_size": 3,
        "crop_size": (30, 45),
        "base_size": None,
        "base_lr": published.base_lr * 1.5,
        "head_lr_multiplier": 1.0 if published.head_lr_multiplier == 1 else 7.0,
        "min_lr": 2.0e-4,
        "evaluate_every": 13,  # so that two evaluations, the last step's among them, are made
        "checkpoint_every": 7,
    }
    changed = {name for name, value in vars(published).items() if getattr(found, name) != value}
    assert changed <= expected.keys()
    assert {name: getattr(found, name) for name in expected} == expected


def test_windows_are_the_crop_and_overlap_as_the_papers_do() -> None:
    published = Protocol(
        name="ss", resize=(2048, 1024), mode="slide", window=(768, 768), stride=(512, 512), num_classes=7
    )
    found = miniature_protocol(published, CONFIG)
    assert (found.resize, found.window, found.stride, found.num_classes) == (None, (30, 45), (20, 30), 19)
    same = dataclasses.replace(
        found, resize=published.resize, window=published.window, stride=published.stride, num_classes=7
    )
    assert same == published


def test_a_schedule_without_steps_is_named() -> None:
    with pytest.raises(InputError, match="add 40k to"):
        miniature_recipe(recipe("cityscapes", "pup", "40k"), "40k", CONFIG)
