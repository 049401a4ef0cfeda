"""Specs of today, written down as text, against the code as it is: a spec means the same for ever."""

import dataclasses
import json
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from setr.models.spec_json import records
from setr.models.variants import ENCODERS, structure_record, variant_spec
from setr.study import spec
from setr.study.cells import by_training, cells
from setr.study.experiment import Experiment, canonical_json
from setr.study.published import recipe
from setr.study.recipes import Recipe
from setr.study.spec import BASE, NOT_IN_SPEC, base_value, differences

WRITTEN = Path(__file__).with_name("specs.json")  # {name: spec}; it only ever grows


def experiment(variant: str = "setr-pup", made: Recipe | None = None, **changes: object) -> Experiment:
    made = made or recipe("cityscapes", "pup", "80k")
    structure = structure_record(variant_spec(variant, num_classes=19, crop_size=made.crop_size))
    values: dict[str, typing.Any] = {
        "dataset": "cityscapes",
        "variant": variant,
        "schedule": "80k",
        "scale": "paper",
        "seed": 0,
        "recipe": made,
        "manifest": "m",
        "weights": "w",
        "code": "c",
        "tensors": "t",
        "model": structure,
    }
    return Experiment(**{**values, **changes})


def experiments_of_today() -> Iterator[tuple[str, Experiment]]:
    """Yields every training of the tables by name, at the paper's scale and in the three flavours."""
    for flavour in ("authors", "mmseg", "paper"):
        for key, group in by_training(cells()).items():
            if flavour == "mmseg" and key.dataset == "pascal_context" and key.variant.startswith(("setr", "hybrid")):
                continue  # no recipe was published
            made, classes = group[0].published_recipe(flavour), group[0].published_protocol().num_classes
            structure = structure_record(
                variant_spec(key.variant, num_classes=classes, crop_size=made.crop_size, flavour=made.flavour)
            )
            found = Experiment(
                key.dataset, key.variant, key.schedule, "paper", 0, made, "m", "w", "c", tensors="t", model=structure
            )
            yield f"{flavour} {key.dataset} {key.variant} {key.schedule}", found


def test_specs_of_today_are_the_specs_of_ever() -> None:
    written = json.loads(WRITTEN.read_text(encoding="utf-8"))
    now = {name: made.spec for name, made in experiments_of_today()}
    assert {name: now.get(name) for name in written} == written


def test_every_setting_with_a_default_has_its_neutral_value_in_the_base() -> None:
    """A new setting is added to BASE with the value at which everything is as it was before."""
    for record in [Recipe, *records().values()]:
        for field in dataclasses.fields(record):
            if field.default is dataclasses.MISSING or field.name in NOT_IN_SPEC.get(record.__name__, ()):
                continue
            assert field.name in BASE[record.__name__], f"{record.__name__}.{field.name}"


def test_base_is_as_it_was_frozen() -> None:
    text = canonical_json({name: dict(values) for name, values in BASE.items()})
    frozen = json.loads(WRITTEN.with_name("base.json").read_text(encoding="utf-8"))
    now = json.loads(text)
    assert {record: {name: now[record][name] for name in values} for record, values in frozen.items()} == frozen


def test_names_are_not_in_a_spec() -> None:
    one = experiment()
    for names in ({"variant": "renamed"}, {"dataset": "streets"}, {"schedule": "80000"}, {"scale": "miniature"}):
        assert dataclasses.replace(one, **names).spec == one.spec
    renamed = dataclasses.replace(ENCODERS["t-large"], name="t-huge")
    structure = structure_record(variant_spec("setr-pup", num_classes=19, crop_size=(768, 768), sizes=renamed))
    assert experiment(model=structure).spec == one.spec


@pytest.mark.parametrize("change", [{"evaluate_every": 5}, {"checkpoint_every": 7}, {"flavour": "paper"}])
def test_how_often_a_training_is_scored_and_saved_is_not_in_a_spec(change: dict) -> None:
    made = dataclasses.replace(recipe("cityscapes", "pup", "80k"), **change)
    assert experiment(made=made).spec == experiment().spec


def test_everything_else_is() -> None:
    one = experiment()
    changes: list[dict] = [{"manifest": "n"}, {"tensors": "u"}, {"seed": 1}, {"transform": "f.py:g@1"}]
    changes += [
        {"recipe": dataclasses.replace(one.recipe, **{name: value})} for name, value in other_values(one.recipe)
    ]
    specs = [one.spec, *(dataclasses.replace(one, **change).spec for change in changes)]
    assert len(set(specs)) == len(specs)


def other_values(made: Recipe) -> Iterator[tuple[str, object]]:
    words = {"optimizer": "adamw", "poly_end": "iterations_minus_one", "loss_denominator": "valid"}
    words |= {"class_weights": "inverse_sqrt", "precision": "bfloat16"}
    for field in dataclasses.fields(made):
        value = getattr(made, field.name)
        if field.name in NOT_IN_SPEC["Recipe"]:
            continue
        if isinstance(value, str):
            yield field.name, words[field.name]
        elif isinstance(value, tuple):
            yield field.name, tuple(entry + 16 for entry in value)
        else:
            yield field.name, (not value) if isinstance(value, bool) else value + 1


def test_a_new_setting_at_its_neutral_value_changes_no_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    before = experiment().spec
    added = {**BASE, "Recipe": {**BASE["Recipe"], "lookahead": 0}}
    monkeypatch.setattr(spec, "BASE", added)
    said = spec._said("Recipe", {"lookahead": 0, "base_lr": 0.02})
    assert said == {"base_lr": 0.02}
    assert spec._said("Recipe", {"lookahead": 3}) == {"lookahead": 3}
    assert experiment().spec == before


def test_a_default_that_moves_says_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The base is not the default: an experiment that takes another value now has another spec."""
    assert "base_lr" not in experiment(made=dataclasses.replace(Recipe(), base_lr=0.01)).spec_values["recipe"]
    assert experiment(made=dataclasses.replace(Recipe(), base_lr=0.02)).spec_values["recipe"]["base_lr"] == 0.02


def test_a_renamed_setting_is_written_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spec, "WRITTEN_AS", {"Recipe": {"rate": "base_lr"}})
    assert spec._said("Recipe", {"rate": 0.02}) == {"base_lr": 0.02}
    assert spec._said("Recipe", {"rate": 0.01}) == {}


def test_differences_name_place_and_values() -> None:
    one, two = experiment(), experiment(made=dataclasses.replace(recipe("cityscapes", "pup", "80k"), base_lr=0.02))
    assert differences(one.spec_values, two.spec_values) == [("recipe.base_lr", 0.01, 0.02)]
    found = differences(one.spec_values, experiment("setr-pup-base").spec_values)
    assert ("model.encoder.depth", 24, 12) in found
    assert base_value("recipe.momentum") == 0.9
