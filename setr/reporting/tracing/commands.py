"""The commands that make a result again, from what was recorded of it."""

import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from setr.errors import InputError
from setr.reporting.numbers.results import Result
from setr.settings.config import MiniatureConfig, to_dict
from setr.study.cells import find_cell, study_of
from setr.study.miniature import miniature_recipe, unpublished_recipe
from setr.study.recipes import Recipe
from setr.study.records import SETR_NAME
from setr.study.shelf import known_study, shipped

AGAIN = "again"  # storage path and MLflow experiment of trainings that are done a second time
# Of an own training's recipe, what follows from its length unless it is named (setr/planning/experiments.py).
_FOLLOWS = ("evaluate_every", "checkpoint_every")


def train_command(result: Result) -> str:
    """Returns the command that trains the experiment again, "" if it does not follow from what is recorded.

    It trains beside what is there: neither checkpoint nor tracked run is touched. Every setting of the recipe that is
    not as params.yaml comes is named, and so is the precision, which otherwise follows the device.
    """
    if result.tag("train"):
        return result.tag("train")
    if not result.of("variant"):
        return ""
    words = ["python", "pipelines/train.py"]
    if result.cells:
        words += [*_study_words(result.cells[0]), f"cell={result.cells[0]}"]
    else:
        words += [f"variant={result.of('variant')}", f"data.name={result.of('dataset')}"]
    words += [f"sweep.scale={result.of('scale')}", f"seed={result.of('seed')}"]
    recipe = result.of("recipe", {})
    flavour = recipe.get("flavour", "authors")
    if result.cells and flavour != "authors":
        words.append(f"sweep.flavour={flavour}")
    schedule = str(result.of("schedule"))
    if not result.cells and schedule != f"{recipe.get('iterations')} steps":
        words.append(f"schedule={schedule}")
    workers = result.tags.get("setr.world_size", "1")
    words += [f"training.workers={workers}"] if workers != "1" else []
    return shlex.join(
        [*words, *_recipe_words(result, recipe), f"storage.checkpoints={AGAIN}", f"tracking.experiment={AGAIN}"]
    )


def score_command(result: Result, protocol: str = "") -> str:
    """Returns the command that scores the checkpoint again, "" if no checkpoint is known."""
    if result.tag("score"):
        return result.tag("score")
    if not result.checkpoint:
        return ""
    words = ["python", "pipelines/evaluate.py", f"checkpoint={result.checkpoint}", f"data.name={result.of('dataset')}"]
    return shlex.join([*words, f"protocol={protocol}"] if protocol else words)


def _recipe_words(result: Result, recipe: Mapping[str, Any]) -> list[str]:
    """Returns the overrides by which the recipe differs from what the command would take without them."""
    miniature = _miniature(result)
    usual = to_dict(_usual_recipe(result, miniature))
    different = {name: value for name, value in recipe.items() if value != usual.get(name)}
    if not result.cells:
        different |= {name: recipe[name] for name in _FOLLOWS if name in recipe}
    words = []
    if precision := recipe.get("precision"):
        different.pop("precision", None)
        words.append(f"training.precision={precision}")
    if miniature.crop_size != MiniatureConfig().crop_size:
        words.append(f"miniature.crop_size={_yaml(list(miniature.crop_size))}")
    return [*words, *(f"training.recipe.{name}={_yaml(value)}" for name, value in sorted(different.items()))]


def _miniature(result: Result) -> MiniatureConfig:
    """Returns how params.yaml scales recipes down, with the crop that the cell's score was made in windows of."""
    windows = [score["protocol"]["window"] for score in result.scores.values() if score.get("protocol")]
    if result.of("scale") != "miniature" or not result.cells or not windows:
        return MiniatureConfig()
    height, width = windows[0]
    return MiniatureConfig(crop_size=(height, width))


def _usual_recipe(result: Result, miniature: MiniatureConfig) -> Recipe:
    """Returns the recipe that the command would train by without more words."""
    small = result.of("scale") == "miniature"
    if not result.cells:
        return unpublished_recipe(miniature if small else None)
    cell = find_cell(result.cells[0])
    try:
        published = cell.published_recipe(result.of("recipe", {}).get("flavour", "authors"))
    except InputError:  # a flavour that has no recipe for this cell
        published = cell.published_recipe()
    if small and (cell.schedule in miniature.iterations or cell.study.prefix):
        return miniature_recipe(published, cell.schedule, miniature, cell.study)
    return published


def _study_words(key: str) -> list[str]:
    """Returns the word that names the study of a cell; none for SETR's, and for one that is not known here."""
    name = study_of(key)
    if name == SETR_NAME:
        return []
    try:
        file = known_study(name).file
    except InputError:
        return []
    return [f"study={name if name in shipped() else file}"]


def _yaml(value: Any) -> str:
    """Returns a value as one line that YAML reads back as it is: 1.0e-05, not 1e-05, which it takes for text."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
