"""What decides a training besides data, model and seed. Which values a table's cells take, its study says."""

import re
from dataclasses import dataclass, fields

from setr.errors import InputError
from setr.models.flavours import FLAVOURS
from setr.settings.choices import require_choice


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training besides data, model and seed."""

    flavour: str = "authors"  # authors | paper | mmseg (where sources differ)
    iterations: int = 80_000  # optimiser steps
    batch_size: int = 8  # images per step over all workers (global)
    crop_size: tuple[int, int] = (768, 768)  # pixels, height x width
    optimizer: str = "sgd"  # sgd | adamw
    base_lr: float = 0.01
    min_lr: float = 1.0e-4
    poly_power: float = 0.9
    poly_end: str = "iterations"  # denominator: iterations (mmcv, authors) | iterations_minus_one (mmengine)
    warmup_steps: int = 0  # linear warm-up (0: none, as in the paper)
    head_lr_multiplier: float = 10.0  # decode and auxiliary heads, not the MLA neck
    layer_decay: float = 1.0  # encoder layer-wise lr decay (1: off)
    momentum: float = 0.9
    weight_decay: float = 0.0
    auxiliary_weight: float = 0.4
    loss_denominator: str = "all"  # all pixels (mmseg 0.6) | valid pixels (torch)
    class_weights: str = "none"  # none | median_frequency (from the manifest's histogram) | inverse_sqrt
    ohem_threshold: float = 0.0  # keep pixels with probability below (0: off)
    ema_decay: float = 0.0  # 0: off
    drop_path: float = 0.0
    base_size: tuple[int, int] | None = (2049, 1025)  # (long, short) pixels before the ratio; None: the image's own
    ratio_range: tuple[float, float] = (0.5, 2.0)
    cat_max_ratio: float = 0.75
    flip_probability: float = 0.5
    photometric: bool = True
    evaluate_every: int = 8_000  # steps
    checkpoint_every: int = 8_000  # steps
    precision: str = "float32"  # float32 | bfloat16 (autocast)

    def __post_init__(self) -> None:
        """Brings equal values to one form (0 and 0.0, list and tuple), so that they give one identity; checks words."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is float:
                object.__setattr__(self, field.name, float(value))
        for name, number in (("crop_size", int), ("base_size", int), ("ratio_range", float)):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(number(item) for item in value))
        for name, allowed in _WORDS.items():
            require_choice(name, getattr(self, name), allowed)


_WORDS: dict[str, tuple[str, ...]] = {
    "flavour": FLAVOURS,
    "optimizer": ("sgd", "adamw"),
    "poly_end": ("iterations", "iterations_minus_one"),
    "loss_denominator": ("all", "valid"),
    "class_weights": ("none", "median_frequency", "inverse_sqrt"),
    "precision": ("float32", "bfloat16"),
}


def iterations(schedule: str) -> int:
    """Returns the optimiser steps of a schedule as the tables write it: 80k -> 80000; plain integers are steps."""
    match = re.fullmatch(r"([1-9]\d*)(k?)", schedule)
    if match is None:
        raise InputError("E_SCHEDULE", "schedule is not a number of steps", found=schedule, expected="40k, 80k or 160k")
    return int(match[1]) * (1000 if match[2] else 1)


def schedule_of(steps: int) -> str:
    """Returns a number of steps as the tables write it: 80000 -> 80k, 1250 -> 1250."""
    return f"{steps // 1000}k" if steps % 1000 == 0 else str(steps)
