"""Search spaces: what they may hold, what they stand for, and the one line about each mistake."""

import json
from pathlib import Path

import pytest

from setr.errors import InputError
from setr.models.variants import VARIANTS
from setr.planning.space import command_of, planned_of, read_space
from setr.settings.config import Config, load_config
from tests.helpers.environment import PARAMS
from tests.helpers.untrained import write_untrained

BASE = ("training.variant=setr-pup-random", "training.recipe={crop_size: [32, 32], batch_size: 2}")


def config(space: object, *words: str) -> Config:
    return load_config(PARAMS, [*BASE, f"search.space={json.dumps(space)}", *words], section="search")


@pytest.fixture(autouse=True)
def weights(home: Path) -> None:
    write_untrained(home / "weights")


def test_values_are_an_experiment_with_an_identity(home: Path) -> None:
    given = config({"base_lr": {"loguniform": [0.001, 0.1]}, "crop_size": [[32, 32], [64, 64]]}, "search.iterations=8")
    space = read_space(given)
    assert space["base_lr"] == ("loguniform", [0.001, 0.1])
    values = {"base_lr": 0.02, "crop_size": space["crop_size"][1][1]}
    assert values == {"base_lr": 0.02, "crop_size": [64, 64]}
    experiment = planned_of(given, values).experiment
    assert experiment.recipe.base_lr == 0.02
    assert experiment.recipe.crop_size == (64, 64)
    assert experiment.recipe.iterations == 8
    assert planned_of(given, values).identity == planned_of(given, dict(values)).identity
    command = command_of(given, values)
    assert "training.recipe.base_lr=0.02" in command
    assert "iterations" not in command  # the winner takes the full schedule


def test_parts_name_a_variant(home: Path) -> None:
    space = {"decoder": ["naive", "pup", "mla"], "weights": ["21K"], "encoder": ["t-base", "t-large"]}
    given = config(space, "method=grid")
    read_space(given)
    chosen = planned_of(given, {"decoder": "mla", "weights": "21K", "encoder": "t-base"}).experiment.variant
    assert chosen == "setr-mla-base"
    assert VARIANTS[chosen].decoder == "mla"


@pytest.mark.parametrize(
    ("space", "words", "complaint"),
    [
        ({}, (), "nothing to search"),
        ({"learning_rate": [0.1]}, (), r"search\.space\.learning_rate"),
        ({"iterations": [10]}, (), "search.iterations"),
        ({"base_lr": []}, (), "no choices"),
        ({"base_lr": 0.1}, (), "not a range of values"),
        ({"base_lr": {"normal": [0, 1]}}, (), "not a range of values"),
        ({"base_lr": {"uniform": [0.1]}}, (), "not a range"),
        ({"base_lr": {"uniform": [0.2, 0.1]}}, (), "not a range"),
        ({"base_lr": {"loguniform": [0, 0.1]}}, (), "above 0"),
        ({"base_lr": {"uniform": [0.1, 0.2]}}, ("method=grid",), "a grid has no end"),
        ({"batch_size": {"uniform": [1, 4]}}, (), "takes no real numbers"),
        ({"variant": ["setr-pop"]}, (), "unknown variant"),
        ({"variant": ["setr-pup-random"], "decoder": ["pup"]}, (), "a variant and parts"),
        ({"weights": ["9K"]}, (), "no model has these parts"),
        ({"optimizer": ["sgd", "adam"]}, (), "optimizer"),
        ({"base_lr": ["fast"]}, (), "base_lr"),
        ({"crop_size": [[33, 32]]}, (), "E_CROP"),
    ],
)
def test_a_mistake_is_one_line(home: Path, space: object, words: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        read_space(config(space, *words))
    assert "\n" not in str(caught.value)
