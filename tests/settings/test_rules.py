"""Every number has bounds with a reason, and what a field allows loads at both ends."""

import dataclasses
import math
import typing

import pytest

from setr.errors import InputError
from setr.settings.config import Config, check_recipe, load_config
from setr.settings.recipe_rules import RECIPE_RULES
from setr.study.published import DATASETS, recipe
from setr.study.recipes import Recipe


def holds_numbers(hint):
    inner = typing.get_args(hint) or (hint,)
    return any(one in (int, float) or (typing.get_args(one) and holds_numbers(one)) for one in inner)


def numbers(record, where=""):
    """Returns {key: (type, rules)} of every field that holds numbers, alone or in a list or mapping."""
    found = {}
    hints = typing.get_type_hints(record)
    for entry in dataclasses.fields(record):
        key = f"{where}.{entry.name}" if where else entry.name
        if dataclasses.is_dataclass(hints[entry.name]):
            found |= numbers(hints[entry.name], key)
        elif holds_numbers(hints[entry.name]):
            found[key] = (hints[entry.name], dict(entry.metadata))
    return found


SETTINGS = numbers(Config)


@pytest.mark.parametrize("key", SETTINGS)
def test_a_number_has_both_ends_and_a_reason(key):
    _, rules = SETTINGS[key]
    assert {"minimum", "above"} & rules.keys(), key
    assert math.isfinite(rules["maximum"])
    assert len(rules["why"].split()) > 1


@pytest.mark.parametrize("key", [key for key, (hint, _) in SETTINGS.items() if hint in (int, float)])
def test_both_ends_load_and_what_is_beyond_does_not(tmp_path, key):
    hint, rules = SETTINGS[key]
    path = tmp_path / "params.yaml"
    path.write_text("")

    def load(value):
        text = f"{value:.6e}" if hint is float else str(value)
        config = load_config(path, [f"{key}={text}"])
        for name in key.split("."):
            config = getattr(config, name)
        return config

    assert load(rules["maximum"]) == rules["maximum"]
    with pytest.raises(InputError, match=rf"{key}.*at most.*{rules['why'][:8]}"):
        load(rules["maximum"] * 2 + 1)
    if "minimum" in rules:
        assert load(rules["minimum"]) == rules["minimum"]
    with pytest.raises(InputError, match=rf"{key}.*(at least|above)"):
        load(rules.get("above", rules.get("minimum", 0) - 1))


def test_every_number_of_a_recipe_has_rules():
    found = {key for key in numbers(Recipe) if key != "photometric"}
    assert found == set(RECIPE_RULES)
    assert all("why" in rules and "maximum" in rules for rules in RECIPE_RULES.values())


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("decoder", ["naive", "pup", "mla", "fcn", "semantic-fpn"])
def test_published_recipes_keep_the_rules(dataset, decoder):
    check_recipe(dataclasses.asdict(recipe(dataset, decoder, "80k")), "published")


def test_the_defaults_keep_their_own_rules(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("")
    words = [
        f"{key}={value}" for key, value in flat(Config()).items() if isinstance(value, int | float) and key in SETTINGS
    ]
    assert len(words) > 50
    assert load_config(path, words) == Config()


def flat(record, where=""):
    found = {}
    for entry in dataclasses.fields(record):
        key, value = f"{where}.{entry.name}" if where else entry.name, getattr(record, entry.name)
        found |= flat(value, key) if dataclasses.is_dataclass(value) else {key: value}
    return found
