"""The paper's recipes and protocols scaled down to generated street scenes and two CPU cores.

Same rows, same structure, same rules; fewer steps, smaller crops, tiny encoders. Numbers of this scale compare with one
another (does pre-training help? which decoder is ahead?) and never with the paper's.
"""

import math
from dataclasses import replace

from setr.data.reading.datasets import DATASETS
from setr.errors import InputError
from setr.settings.config import MiniatureConfig
from setr.study.protocols import Protocol, overlapping
from setr.study.recipes import Recipe

DATASET = "scenes"  # stands for every data set of the tables


def miniature_recipe(recipe: Recipe, schedule: str, config: MiniatureConfig) -> Recipe:
    """Returns the recipe with the miniature's iterations, batch, crop and learning-rate scale.

    Raises InputError if `schedule` has no number of iterations in params.yaml.
    """
    if schedule not in config.iterations:
        raise InputError(
            "E_CONFIG",
            "miniature.iterations lacks a schedule",
            found=", ".join(config.iterations),
            expected=schedule,
            remedy=f"add {schedule} to miniature.iterations in params.yaml",
        )
    iterations = config.iterations[schedule]
    return replace(
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


def unpublished_recipe(miniature: MiniatureConfig | None) -> Recipe:
    """Returns the recipe of a training that is no cell of the paper's, before its own settings; None: paper scale."""
    if miniature is None:
        return Recipe()
    return Recipe(iterations=1000, crop_size=miniature.crop_size, base_size=None)


def miniature_protocol(protocol: Protocol, config: MiniatureConfig) -> Protocol:
    """Returns the protocol on images of their own size, with windows of the miniature's crop at the paper's overlap."""
    return replace(
        protocol,
        resize=None,
        window=config.crop_size,
        stride=overlapping(config.crop_size),
        num_classes=DATASETS[DATASET].num_classes,
    )
