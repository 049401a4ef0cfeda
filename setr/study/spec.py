"""What an experiment is, as values: only what differs from a frozen base, so that new settings change no old spec.

A spec holds the hash of the training data's manifest, the hash of the tensors that the model starts from, the model's
structure, recipe, seed and the user's own transform. Names are not in it: no variant, data set, schedule or scale. Nor
is how often a training is scored and saved: it does not change what is trained.

When a setting is added, its neutral value (at which everything is as it was before) is added to BASE; when one is
renamed or moved, the name it had is kept in WRITTEN_AS. A value of BASE is never changed: it says what a spec means
that leaves the setting out, not what the default is today.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from setr.study.recipes import Recipe

FORMAT = 1

# By record: the value that a setting has where a spec says nothing of it. Settings that are not here are always said.
BASE: Mapping[str, Mapping[str, Any]] = {
    "Recipe": {
        "iterations": 80_000,
        "batch_size": 8,
        "crop_size": [768, 768],
        "optimizer": "sgd",
        "base_lr": 0.01,
        "min_lr": 1.0e-4,
        "poly_power": 0.9,
        "poly_end": "iterations",
        "warmup_steps": 0,
        "head_lr_multiplier": 10.0,
        "layer_decay": 1.0,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "auxiliary_weight": 0.4,
        "loss_denominator": "all",
        "class_weights": "none",
        "ohem_threshold": 0.0,
        "ema_decay": 0.0,
        "drop_path": 0.0,
        "base_size": [2049, 1025],
        "ratio_range": [0.5, 2.0],
        "cat_max_ratio": 0.75,
        "flip_probability": 0.5,
        "photometric": True,
        "precision": "float32",
    },
    "SegmenterSpec": {
        "auxiliary": [],
        "auxiliary_taps": [],
        "cnn": None,
        "align_corners": False,
        "drop_path": 0.0,
        "frozen": False,
    },
    "EncoderSize": {"patch_size": 16, "mlp_ratio": 4.0, "decoder_channels": 256},
    "ResNetSpec": {"output_stride": 32, "base_channels": 64, "kind": "v1c"},
    "TimmSpec": {"options": []},
    "UpHeadSpec": {
        "channels": 256,
        "kernel": 1,
        "up_scales": [1],
        "norm": True,
        "convolution_bias": True,
        "classifier_bias": True,
    },
    "MLASpec": {
        "levels": 4,
        "neck_channels": 256,
        "inner_channels": 128,
        "head_channels": 128,
        "up_scale": 4,
        "classifier_kernel": 3,
        "align_corners": True,
    },
    "FCNHeadSpec": {"channels": 512, "num_convs": 2, "concatenate": True, "dropout": 0.1},
    "FPNSpec": {"channels": 256, "head_channels": 128, "dropout": 0.1},
    "OwnHeadSpec": {"options": []},
    "LinearSpec": {"dropout": 0.1, "batch_norm": True, "norm": True},
    "UPerNetSpec": {"channels": 512, "pool_scales": [1, 2, 3, 6], "dropout": 0.1, "norm": True, "pyramid": "none"},
    "DPTSpec": {
        "factors": [4.0, 2.0, 1.0, 0.5],
        "reassemble_channels": [96, 192, 384, 768],
        "channels": 256,
        "dropout": 0.1,
        "norm": False,
    },
    "SegFormerSpec": {"channels": 256, "dropout": 0.1, "form": "original", "norm": True, "pyramid": "none"},
    "SegmenterLinearSpec": {"norm": True, "norm_eps": 1.0e-5},
    "SegmenterMaskSpec": {
        "depth": 2,
        "num_heads": 0,
        "mlp_ratio": 4.0,
        "dropout": 0.1,
        "drop_path": 0.0,
        "start": "repository",
        "norm": True,
        "norm_eps": 1.0e-5,
    },
}

# Names, and settings that do not change what is trained. A model's random values enter by the style that fills it.
NOT_IN_SPEC: Mapping[str, tuple[str, ...]] = {
    "Recipe": ("flavour", "evaluate_every", "checkpoint_every"),
    "SegmenterSpec": ("flavour",),
    "EncoderSize": ("name",),
    "ResNetSpec": ("name",),
}

# {record: {field as it is called today: as specs write it}}.
WRITTEN_AS: Mapping[str, Mapping[str, str]] = {}


def spec_values(
    *, manifest: str, weights: str, model: Mapping[str, Any], recipe: Recipe, seed: int, transform: str
) -> dict[str, Any]:
    """Returns the spec: nested values that go to JSON, of which the SHA-256 is taken.

    `model` is a structure as setr.models.specification writes it, with its `initialisation`.
    """
    values: dict[str, Any] = {
        "format": FORMAT,
        "data": manifest,
        "weights": weights,
        "model": _without_base(model),
        "recipe": _said("Recipe", _plain(dataclasses.asdict(recipe))),
        "seed": seed,
    }
    return values | ({"transform": transform} if transform else {})


@functools.cache
def base_value(path: str) -> Any:
    """Returns what a spec means that leaves out a setting, by its place (recipe.base_lr); None if it is always said."""
    *_, name = path.split(".")
    of_recipe = "recipe" in path.split(".")
    records = ["Recipe"] if of_recipe else [record for record in BASE if record != "Recipe"]
    return next((BASE[record][name] for record in records if name in BASE[record]), None)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Returns (place, value before, value after) for each value in which two specs differ, e.g. recipe.base_lr."""
    old, new = flat(before), flat(after)
    return [
        (place, old.get(place, base_value(place)), new.get(place, base_value(place)))
        for place in sorted(old.keys() | new.keys())
        if old.get(place, base_value(place)) != new.get(place, base_value(place))
    ]


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested values by their places, joined by dots; records in a list are counted."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        place = f"{prefix}{name}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{place}.")
        elif isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
            found |= flat({str(number): entry for number, entry in enumerate(value)}, f"{place}.")
        else:
            found[place] = value
    return found


def _without_base(value: Any) -> Any:
    if isinstance(value, Mapping):
        kind = str(value.get("type", ""))
        inner = {name: _without_base(entry) for name, entry in value.items() if name != "type"}
        return {**({"type": kind} if kind else {}), **_said(kind, inner)}
    if isinstance(value, list | tuple):
        return [_without_base(entry) for entry in value]
    return value


def _said(record: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a record that a spec says, under the names it says them by."""
    base, left_out = BASE.get(record, {}), NOT_IN_SPEC.get(record, ())
    names = WRITTEN_AS.get(record, {})
    said = {names.get(name, name): value for name, value in values.items() if name not in left_out}
    return {name: value for name, value in said.items() if name not in base or base[name] != value}


def _plain(value: Any) -> Any:
    """Returns a record's value as JSON has it: tuples as lists."""
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
