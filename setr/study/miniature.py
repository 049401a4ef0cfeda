"""The paper's recipes and protocols scaled down to generated street scenes and two CPU cores.

Same rows, same structure, same rules; fewer steps, smaller crops, tiny encoders. Numbers of this scale compare with one
another (does pre-training help? which decoder is ahead?) and never with the paper's.
"""

import math
from dataclasses import replace

from setr.data.reading.datasets import DATASETS, PUBLISHED
from setr.errors import InputError
from setr.settings.config import MiniatureConfig
from setr.study.protocols import Protocol, overlapping
from setr.study.recipes import Recipe
from setr.study.records import Study

DATASET = "scenes"  # stands for every data set of the tables


def stand_in(study: Study, dataset: str) -> str:
    """Returns the data set that a study's miniature trains on in the place of one: the built-in scenes, or itself.

    The scenes stand for published data sets unless the study says otherwise; one of the reader's own is its own.
    """
    named = study.miniature.stands_for(dataset)
    return DATASET if named == dataset and dataset in PUBLISHED else named


def miniature_recipe(recipe: Recipe, schedule: str, config: MiniatureConfig, study: Study | None = None) -> Recipe:
    """Returns the recipe with the miniature's iterations, batch, crop and learning-rate scale.

    Raises InputError if `schedule` has no number of iterations in params.yaml; in another study than SETR's such a
    schedule has as many as its length comes to, and the study's own changes are made last.
    """
    own = study is not None and bool(study.prefix)
    if schedule not in config.iterations and not own:
        raise InputError(
            "E_CONFIG",
            "miniature.iterations lacks a schedule",
            found=", ".join(config.iterations),
            expected=schedule,
            remedy=f"add {schedule} to miniature.iterations in params.yaml",
        )
    iterations = config.iterations.get(schedule) or _scaled(recipe.iterations)
    made = replace(
        recipe,
        iterations=iterations,
        batch_size=config.batch_size,
        crop_size=config.crop_size,
        base_size=None,
        base_lr=recipe.base_lr * config.base_lr_multiplier,
        head_lr_multiplier=config.head_lr_multiplier if recipe.head_lr_multiplier != 1 else 1.0,
        min_lr=config.min_lr,
        evaluate_every=math.ceil(iterations / config.evaluations),
        checkpoint_every=math.ceil(iterations / config.checkpoints),
    )
    changes = dict(study.miniature.recipe) if study else {}
    steps = changes.get("iterations", iterations)
    often = {"evaluate_every": math.ceil(steps / config.evaluations)}
    often["checkpoint_every"] = math.ceil(steps / config.checkpoints)
    return replace(made, **{**often, **changes})


def _scaled(iterations: int) -> int:
    """Returns the steps of a schedule that params.yaml does not name: 120 for each 80,000, a few at least."""
    return min(iterations, max(30, min(150, round(iterations * 120 / 80_000))))


def unpublished_recipe(miniature: MiniatureConfig | None) -> Recipe:
    """Returns the recipe of a training that is no cell of the paper's, before its own settings; None: paper scale."""
    if miniature is None:
        return Recipe()
    return Recipe(iterations=1000, crop_size=miniature.crop_size, base_size=None)


def miniature_protocol(
    protocol: Protocol,
    config: MiniatureConfig,
    *,
    crop_size: tuple[int, int] | None = None,
    classes: int = DATASETS[DATASET].num_classes,
) -> Protocol:
    """Returns the protocol on images of their own size, with windows of the miniature's crop at the paper's overlap."""
    window = crop_size or config.crop_size
    return replace(
        protocol,
        resize=None,
        window=window,
        stride=overlapping(window),
        num_classes=classes,
    )
