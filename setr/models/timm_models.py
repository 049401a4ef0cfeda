"""timm's models by name: the one that a TimmSpec means, or one line that says why there is none."""

import difflib
import functools
import re
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn

from setr.errors import InputError
from setr.models.specification import TimmSpec

# What decides where a model comes from, what it is used for, or follows from the crop; the rest is structure.
NOT_OPTIONS = frozenset(
    {
        "cache_dir",
        "checkpoint_path",
        "drop_path_rate",
        "dynamic_img_size",
        "exportable",
        "feature_cfg",
        "feature_cls",
        "features_only",
        "img_size",
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


@dataclass(frozen=True)
class SizeArguments:
    """Which arguments make a model take images of the size that is wanted, and whether it then takes any other."""

    names: tuple[str, ...]
    any_size: bool

    def values(self, size: tuple[int, int]) -> dict[str, Any]:
        """Returns the arguments for images of H x W pixels."""
        return {name: size if name == "img_size" else True for name in self.names}


# What families differ in, the best first: positions made for the size and resized to others, made for the size alone,
# and none at all.
_TRIED = (("img_size", "dynamic_img_size"), ("img_size",), ())


@functools.lru_cache(maxsize=256)
def size_arguments(encoder: TimmSpec, multiple: int) -> SizeArguments:
    """Returns what the model itself answers when it is tried, without memory, on two sizes that are no default.

    `multiple`: pixels of which the sides of an image are a multiple. Raises InputError for a model that takes neither.
    """
    size, other = (4 * multiple, 6 * multiple), (3 * multiple, 7 * multiple)
    found = None
    for names in _TRIED:
        arguments = SizeArguments(names, any_size=True)
        try:
            model = on_meta(encoder, **arguments.values(size)).eval()
        except NotTakenError:
            continue
        if _takes(model, size):
            if _takes(model, other):
                return arguments
            found = found or SizeArguments(names, any_size=False)
    if found is None:
        raise InputError(
            "E_ENCODER",
            "the model takes no images but of its default size",
            found=encoder.name,
            expected="a model that takes img_size, or images of any size",
        )
    return found


@torch.no_grad()
def _takes(model: Any, size: tuple[int, int]) -> bool:
    """Returns whether the first map can be read for images of H x W pixels."""
    try:
        read_maps(model, torch.empty(2, 3, *size, device="meta"), [0])
    except Exception:  # families fail in ways of their own: assertions, shapes, reshapes
        return False
    return True


def read_maps(model: Any, images: Tensor, indices: list[int]) -> list[Tensor]:
    """Returns the maps (B, C, h, w) of timm's `indices`, ascending; layers after the last do not run."""
    return model.forward_intermediates(
        images, indices=indices, norm=False, stop_early=True, output_fmt="NCHW", intermediates_only=True
    )


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
