"""Training recipes by data set and decoder, where the sources differ by name (`flavour`), never mixed.

- `authors`: the values in the configurations released with the paper; the tables use these.
- `paper`: what the paper's text says; where it is silent, the authors' value.
- `mmseg`: mmsegmentation 1.2.2's own re-implementation.
"""

import re
from dataclasses import dataclass, fields
from typing import Any

from setr.data.reading.datasets import PUBLISHED
from setr.errors import InputError
from setr.models.decoders.table import DECODERS
from setr.models.flavours import FLAVOURS
from setr.settings.choices import require_choice
from setr.study.choices import DATASETS
from setr.study.choices import DECODERS as PUBLISHED_DECODERS


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


def recipe(dataset: str, decoder: str, schedule: str, *, flavour: str = "authors") -> Recipe:
    """Returns the published training recipe of a decoder on a data set, e.g. recipe("cityscapes", "pup", "80k").

    Raises InputError for an unknown word, and where a flavour published no recipe (mmseg on Pascal Context).
    """
    require_choice("data set", dataset, DATASETS)
    require_choice("decoder", decoder, PUBLISHED_DECODERS)
    require_choice("flavour", flavour, FLAVOURS)
    steps = iterations(schedule)
    every = max(1, steps // 10)  # 4k of 40k, 8k of 80k, 16k of 160k in the released schedules
    common: dict[str, Any] = {
        "flavour": flavour,
        "iterations": steps,
        "poly_end": "iterations_minus_one" if flavour == "mmseg" else "iterations",
        "evaluate_every": every,
        "checkpoint_every": every,
    }
    published = PUBLISHED[dataset]
    geometry = published.geometry(decoder)
    common |= {
        "batch_size": published.batch_size,
        "crop_size": geometry.crop_size,
        "base_size": geometry.base_size,
    }
    if DECODERS[decoder].output_stride:
        # What mmsegmentation 0.6 trained the baselines with: the paper copied these numbers, in every flavour.
        return Recipe(
            base_lr=published.baseline_lr,
            weight_decay=published.baseline_weight_decay,
            head_lr_multiplier=1.0,
            auxiliary_weight=0.4 if decoder == "fcn" else 0.0,
            **common,
        )
    rates = published.base_lr.get(flavour)
    if rates is None:
        raise InputError(
            "E_RECIPE",
            f"mmsegmentation ships no SETR recipe for {dataset.replace('_', ' ').title()}",
            where=f"{dataset} {decoder}",
            remedy="use flavour authors or paper",
        )
    if decoder not in rates:
        raise InputError("E_RECIPE", "the decoder has no base learning rate", found=decoder, expected=", ".join(rates))
    return Recipe(base_lr=rates[decoder], **common)
