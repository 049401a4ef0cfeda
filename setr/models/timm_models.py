"""timm's models by name: the one that a TimmSpec means, or one line that says why there is none."""

import difflib
import re
from typing import Any

import timm
import torch
from torch import nn

from setr.errors import InputError
from setr.models.specification import TimmSpec

# What decides where a model comes from or what it is used for; the rest of `create_model`'s arguments is structure.
NOT_OPTIONS = frozenset(
    {
        "cache_dir",
        "checkpoint_path",
        "drop_path_rate",
        "exportable",
        "feature_cfg",
        "feature_cls",
        "features_only",
        "in_chans",
        "kwargs_filter",
        "model_cfg",
        "model_cls",
        "model_name",
        "no_jit",
        "num_classes",
        "out_indices",
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "pretrained_filter_fn",
        "pretrained_model_args",
        "pretrained_strict",
        "pruned",
        "scriptable",
    }
)
MOST_LAYERS = 1_000  # that an option may ask for, stages summed


class NotTakenError(Exception):
    """A model does not take an argument that was tried on it."""


def created(encoder: TimmSpec, **arguments: Any) -> nn.Module:
    """Returns timm's model without classifier, random values in it, on the default device; `arguments` add to its own.

    Raises InputError for a name that timm does not have, an option that the model does not know, and a model whose
    layers cannot be read; NotTakenError where `arguments` may be why it cannot be made.
    """
    _require_name(encoder.name)
    options = dict(encoder.options)
    _require_options(encoder, options)
    try:
        model = timm.create_model(encoder.name, pretrained=False, **{"num_classes": 0, **arguments, **options})
    except Exception as error:  # whatever a family's constructor stumbles over
        if arguments:
            raise NotTakenError(str(error)) from None
        raise _not_made(encoder, error) from None
    if not hasattr(model, "forward_intermediates"):
        raise InputError(
            "E_ENCODER",
            "timm cannot read this model layer by layer",
            found=encoder.name,
            expected="a model with forward_intermediates",
        )
    return model


def on_meta(encoder: TimmSpec, **arguments: Any) -> nn.Module:
    """Returns what `created` returns, without memory."""
    with torch.device("meta"):
        return created(encoder, **arguments)


def _require_name(name: str) -> None:
    if re.fullmatch(r"[A-Za-z0-9_.\-]+", name) and timm.is_model(name):
        try:
            if timm.get_pretrained_cfg(name) is not None:
                return
        except RuntimeError:
            pass  # the architecture is known, the tag is not
    known = timm.list_models() + timm.list_pretrained()
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    raise InputError(
        "E_ENCODER_NAME",
        "timm has no model of that name",
        found=name,
        expected=" or ".join(near) if near else "a name of timm.list_pretrained()",
    )


def _require_options(encoder: TimmSpec, options: dict[str, Any]) -> None:
    refused = sorted(NOT_OPTIONS & options.keys())
    if refused:
        raise InputError(
            "E_ENCODER_OPTION",
            "not an option of an encoder",
            where=encoder.name,
            found=", ".join(refused),
            expected="arguments of the model's structure",
        )
    layers = sum(_summed(options.get(name, 0)) for name in ("depth", "depths", "layers", "stages"))
    if layers > MOST_LAYERS:
        raise InputError(
            "E_ENCODER_OPTION", "too many layers", where=encoder.name, found=layers, expected=f"up to {MOST_LAYERS}"
        )


def _summed(value: Any) -> int:
    if isinstance(value, tuple | list):
        return sum(_summed(entry) for entry in value)
    return value if isinstance(value, int) else 0


def _not_made(encoder: TimmSpec, error: Exception) -> InputError:
    return InputError(
        "E_ENCODER_OPTION",
        "timm cannot make the model with these options",
        where=encoder.name,
        found=f"{str(error).partition(chr(10))[0]} ({', '.join(f'{name}={value}' for name, value in encoder.options)})",
        expected="arguments that timm.create_model takes for it",
    )
