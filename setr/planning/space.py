"""The space of a search, from `search.space` in params.yaml: checked before anything runs, and from values to a job.

A name is `variant`, or parts of one (`decoder`, `encoder`, `weights`, `cnn`), `seed`, or a field of the recipe. Its
values are a list of choices, or {uniform: [low, high]} or {loguniform: [low, high]} for a real number.
"""

import dataclasses
import functools
import itertools
import json
from collections.abc import Mapping
from typing import Any

import torch

from setr.errors import InputError
from setr.models.segmenter import build_segmenter
from setr.models.variants import composed, structure_of
from setr.planning.experiments import plan_training
from setr.planning.planned import Planned
from setr.settings.config import Config, TrainingConfig
from setr.study.experiment import canonical_json
from setr.study.recipes import Recipe
from setr.study.shelf import open_study

Domain = tuple[str, list[Any]]  # choice, of values | uniform | loguniform, low and high
Values = Mapping[str, Any]

PARTS = ("decoder", "encoder", "weights", "cnn")  # of a variant; cnn: none, or Hybrid's r-50
NO_CNN = "none"
CORNERS = 1000  # combinations that are checked before a search; the others fail by themselves, and are said to
_RECIPE = {field.name: field for field in dataclasses.fields(Recipe)}
_NOT_SEARCHED = ("iterations",)  # the schedule: search.iterations, and the full one for the winner


def read_space(config: Config) -> dict[str, Domain]:
    """Returns the space, every corner of which is an experiment that can be built.

    Raises InputError for an unknown name, values of the wrong kind, a part that belongs to no variant, a grid without
    end, a crop that the model cannot have.
    """
    space = config.search.space
    if not space:
        raise InputError(
            "E_SPACE", "nothing to search", where="search.space", remedy='e.g. "search.space={base_lr: [0.01, 0.001]}"'
        )
    domains = {name: _domain(name, values, config.search.method) for name, values in space.items()}
    if "variant" in domains and set(PARTS) & domains.keys():
        raise InputError("E_SPACE", "a variant and parts of one", where="search.space", remedy="keep one of the two")
    corners = itertools.product(*(values for _, values in domains.values()))
    for values in itertools.islice(corners, CORNERS):
        entry = planned_of(config, dict(zip(domains, values, strict=True)))
        made, recipe = entry.experiment, entry.experiment.recipe
        _buildable(canonical_json(dict(made.model)), recipe.crop_size)
    return domains


def planned_of(config: Config, values: Values) -> Planned:
    """Returns the experiment that values of the space stand for; what they leave open is the `training` section's."""
    training = _training(config, values)
    recipe = dict(training.recipe)
    if config.search.iterations:
        recipe["iterations"] = config.search.iterations
    return plan_training(dataclasses.replace(config, training=dataclasses.replace(training, recipe=recipe)))


def command_of(config: Config, values: Values) -> str:
    """Returns the command that trains values of the space at the full schedule."""
    training = _training(config, values)
    words = [f"variant={training.variant}", f"data.name={config.data.name}", f"seed={training.seed}"]
    if config.sweep.scale != "miniature":
        words.append(f"sweep.scale={config.sweep.scale}")
    words += [f"training.recipe.{name}={_text(value)}" for name, value in sorted(training.recipe.items())]
    return " ".join(["python pipelines/train.py", *(f'"{word}"' if " " in word else word for word in words)])


@functools.lru_cache(maxsize=256)
def _buildable(structure: str, crop_size: tuple[int, int]) -> None:
    with torch.device("meta"):
        build_segmenter(structure_of(json.loads(structure))[0])


def _training(config: Config, values: Values) -> TrainingConfig:
    recipe = {**config.training.recipe, **{name: value for name, value in values.items() if name in _RECIPE}}
    changes: dict[str, Any] = {"recipe": recipe, "cell": "", "folder": "", "variant": _variant(config, values)}
    if "seed" in values:
        changes["seed"] = values["seed"]
    return dataclasses.replace(config.training, **changes)


def _variant(config: Config, values: Values) -> str:
    """Returns the name of the model that values stand for; parts that they leave open are the training's variant's."""
    if not set(PARTS) & values.keys():
        return str(values.get("variant", config.training.variant))
    base = open_study(config.study).model(config.training.variant)
    usual = {"decoder": base.decoder, "encoder": base.encoder, "weights": base.pre, "cnn": base.cnn or NO_CNN}
    decoder, encoder, weights, cnn = (str(values.get(part, usual[part])) for part in PARTS)
    name = f"{decoder}-{encoder}-{weights}" + ("" if cnn == NO_CNN else f"-{cnn}")
    try:
        made = composed(name)
    except InputError as error:
        raise InputError(
            "E_SPACE", "no model has these parts", where="search.space", found=name, remedy=str(error)
        ) from None
    if made is None:
        expected = "of decoder, encoder, weights and cnn (docs/search.md)"
        raise InputError("E_SPACE", "no model has these parts", where="search.space", found=name, expected=expected)
    return made.name


def _domain(name: str, values: Any, method: str) -> Domain:
    where = f"search.space.{name}"
    known = (*PARTS, "variant", "seed", *_RECIPE)
    if name not in known or name in _NOT_SEARCHED:
        remedy = "set search.iterations" if name in _NOT_SEARCHED else f"known: {', '.join(known)}"
        raise InputError("E_SPACE", "not something to search over", where=where, remedy=remedy)
    if isinstance(values, list):
        if not values:
            raise InputError("E_SPACE", "no choices", where=where, expected="one or more values")
        return "choice", values
    shape = "a list, or {uniform: [low, high]}, or {loguniform: [low, high]}"
    if not isinstance(values, dict) or len(values) != 1 or not {"uniform", "loguniform"} & values.keys():
        raise InputError("E_SPACE", "not a range of values", where=where, found=values, expected=shape)
    [(kind, bounds)] = values.items()
    numbers = isinstance(bounds, list) and len(bounds) == 2 and all(_is_number(bound) for bound in bounds)
    if not numbers or bounds[0] >= bounds[1] or (kind == "loguniform" and bounds[0] <= 0):
        above = " above 0" if kind == "loguniform" else ""
        raise InputError("E_SPACE", "not a range", where=where, found=bounds, expected=f"[low, high]{above}")
    if name not in _RECIPE or _RECIPE[name].type is not float:
        raise InputError("E_SPACE", "takes no real numbers", where=where, remedy="list its choices")
    if method == "grid":
        raise InputError("E_SPACE", "a grid has no end here", where=where, found=kind, expected="a list of choices")
    return kind, [float(bound) for bound in bounds]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return json.dumps(value) if not isinstance(value, str) else value
