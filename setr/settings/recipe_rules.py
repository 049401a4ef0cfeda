"""What the numbers of a training recipe may be: the rules of `training.recipe.*` and of the values of a search.

By the field's name in setr.study.recipes.Recipe; a test holds the two together.
"""

from collections.abc import Mapping

from setr.settings.rules import Rules, above, between

_STEPS = between(1, 10_000_000, "years of training")
_SHARE = between(0.0, 1.0, "a share")
_BELOW_ONE = between(0.0, 0.999_999, "at 1 nothing is left")
_RATE = "no training survives such a rate"

RECIPE_RULES: Mapping[str, Rules] = {
    "iterations": _STEPS,
    "batch_size": between(1, 65_536, "images of one step"),
    "crop_size": between(8, 8192, "beyond any published crop"),
    "base_lr": above(0.0, 100.0, _RATE),
    "min_lr": between(0.0, 100.0, _RATE),
    "poly_power": between(0.0, 100.0, "the rate would be gone at once"),
    "warmup_steps": between(0, 10_000_000, "years of training"),
    "head_lr_multiplier": between(0.0, 1e6, _RATE),
    "layer_decay": above(0.0, 1.0, "a share"),
    "momentum": _BELOW_ONE,
    "weight_decay": between(0.0, 10.0, "weights would be gone in a few steps"),
    "auxiliary_weight": between(0.0, 1000.0, "the main loss would not count"),
    "ohem_threshold": _SHARE,
    "ema_decay": _BELOW_ONE,
    "drop_path": _BELOW_ONE,
    "base_size": between(8, 65_536, "beyond any published image"),
    "ratio_range": between(0.01, 100.0, "nothing is left of the image"),
    "cat_max_ratio": above(0.0, 1.0, "a share"),
    "flip_probability": _SHARE,
    "evaluate_every": between(1, 10_000_000, "years of training"),
    "checkpoint_every": between(1, 10_000_000, "years of training"),
}
