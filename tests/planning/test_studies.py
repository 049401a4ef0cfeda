"""Studies of one's own, planned: data, recipes, splits and seeds of each cell; names do not count."""

import shutil
import textwrap
from pathlib import Path

import pytest

from setr.errors import InputError, InputErrors
from setr.planning.experiments import plan_models, plan_sweep
from setr.planning.planned import Planned
from setr.settings.config import Config, load_config
from setr.study.cells import find_cell
from setr.study.shelf import open_study
from tests.helpers.environment import PARAMS

STUDY = """
    title: Mine
    models:
      pup: {encoder: t-base, weights: R, decoder: pup}
      probe: {encoder: t-base, weights: R, decoder: linear, frozen: true}
    recipe: {from: setr/ade20k, iterations: 20000}
    miniature: {recipe: {crop_size: [32, 32], batch_size: 2}}
    tables:
      one:
        rows: [pup, probe]
        columns:
          a: {data: scenes}
          b: {data: scenes, recipe: {base_lr: 0.5}}
        seeds: 2
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(textwrap.dedent(STUDY))
    return path


def settings(study: Path, *words: str) -> Config:
    return load_config(PARAMS, [f"study={study}", *words], section="sweep")


def plan(study: Path, *words: str) -> list[Planned]:
    return plan_sweep(settings(study, *words), lenient=True)


def test_each_cell_is_an_experiment_with_its_own_recipe_and_seeds(home: Path, study: Path) -> None:
    found = plan(study)
    assert [(entry.cells, entry.experiment.seed) for entry in found][:3] == [
        (("mine/one/pup/a",), 0),
        (("mine/one/pup/a",), 1),
        (("mine/one/pup/b",), 0),
    ]
    assert len(found) == 8
    recipe = found[2].experiment.recipe
    assert (recipe.base_lr, recipe.crop_size, recipe.batch_size, recipe.iterations) == (0.5, (32, 32), 2, 30)
    assert found[0].protocols[0].window == (32, 32)
    assert [entry.experiment.model["frozen"] for entry in found[::4]] == [False, True]


def test_seeds_and_cells_of_the_settings_win(home: Path, study: Path) -> None:
    assert len(plan(study, "seeds=1")) == 4
    assert [entry.cells for entry in plan(study, "seeds=1", "cells=[one/pup/b]")] == [("mine/one/pup/b",)]
    assert len(plan(study, "seeds=1", "variants=[probe]")) == 2
    with pytest.raises(InputError, match="study mine has no such table"):
        plan(study, "tables=[2]")


def test_names_do_not_matter_to_results(home: Path, study: Path, tmp_path: Path) -> None:
    other = tmp_path / "yours.yaml"
    other.write_text(study.read_text().replace("pup:", "renamed:").replace("[pup,", "[renamed,"))
    assert [entry.identity for entry in plan(study)] == [entry.identity for entry in plan(other)]


def test_two_splits_joined_are_trained_on_where_a_column_says_so(home: Path, study: Path) -> None:
    shards = home / "data" / "shards" / "scenes"
    shutil.copytree(shards / "val", shards / "train+val")
    study.write_text(study.read_text().replace("b: {data: scenes,", "b: {data: scenes, train: train+val,"))
    plain, joined = plan(study, "seeds=1")[:2]
    assert plain.experiment.manifest != joined.experiment.manifest
    assert joined.experiment.manifest == joined.validation
    assert joined.job(settings(study), home / "stop")["shards"]["train"].endswith("scenes/train+val")


def test_data_that_is_not_there_is_said_and_published_sets_have_stand_ins(home: Path, study: Path) -> None:
    study.write_text(study.read_text().replace("a: {data: scenes}", "a: {data: damage}"))
    assert plan(study, "seeds=1")[0].missing == ("data set damage",)
    study.write_text(study.read_text().replace("data: damage", "data: cityscapes"))
    assert plan(study, "seeds=1")[0].experiment.dataset == "scenes"


def test_an_encoder_of_one_size_is_scored_in_windows_of_it(home: Path, study: Path) -> None:
    beit = 'encoder: "timm:beit_base_patch16_224.in22k_ft_in22k"'
    text = study.read_text().replace("pup: {encoder: t-base", "pup: {" + beit)
    study.write_text(text)
    assert plan(study, "seeds=1", "variants=[pup]")[0].protocols[0].mode == "slide"
    study.write_text(text.replace("a: {data: scenes}", "a: {data: scenes, protocol: {mode: whole}}"))
    with pytest.raises(InputError, match=r"E_PROTOCOL.*crop's size alone.*mode whole"):
        plan(study, "seeds=1", "variants=[pup]")


def test_every_model_that_cannot_be_is_told_with_its_line(home: Path, study: Path) -> None:
    text = (
        study.read_text()
        .replace("decoder: pup}", "decoder: pup, chanels: 3}")
        .replace("frozen: true}", "layers: [99]}")
    )
    study.write_text(text)
    config = settings(study)
    found, mistakes = plan_models(config, open_study(config.study))
    assert not found
    assert [str(one).split(" | ")[2] for one in mistakes] == [f"{study}:4 models.pup", f"{study}:5 models.probe"]
    assert "chanels" in str(mistakes[0])
    assert "[99]" in str(mistakes[1])


def test_two_protocols_of_one_training_have_two_names(home: Path, study: Path) -> None:
    """Else one would be scored, and its number would stand in both columns."""
    before, after = "b: {data: scenes, recipe: {base_lr: 0.5}}", "b: {data: scenes, protocol: {mode: whole}}"
    text = study.read_text().replace(before, after)
    study.write_text(text)
    [entry] = plan(study, "seeds=1", "variants=[pup]")
    assert entry.cells == ("mine/one/pup/a", "mine/one/pup/b")
    modes = {protocol.name: protocol.mode for protocol in entry.protocols}
    assert sorted(modes.values()) == ["slide", "whole"]
    whole = find_cell("mine/one/pup/b")
    assert modes[whole.protocol] == "whole"
    assert modes["ss"] == "slide"
    study.write_text(text.replace("{mode: whole}", "{mode: whole, name: ss}"))
    with pytest.raises(InputErrors, match="a protocol cannot be called that"):
        plan(study)


def test_classes_of_ones_own_data_are_those_of_the_split_that_is_trained_on(home: Path, study: Path) -> None:
    shards = home / "data" / "shards"
    shutil.copytree(shards / "scenes" / "train", shards / "mine" / "train+val")
    shutil.copytree(shards / "scenes" / "val", shards / "mine" / "val")
    study.write_text(study.read_text().replace("a: {data: scenes}", "a: {data: mine, train: train+val}"))
    entry = plan(study, "seeds=1")[0]
    assert not entry.missing
    assert entry.protocols[0].num_classes == 19
