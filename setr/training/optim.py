"""Optimiser, parameter groups and the poly learning rate, as the recipe has them."""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from setr.errors import InputError
from setr.study.recipes import Recipe

HEAD_PREFIXES = ("decode_head.", "auxiliary_heads.")  # not the MLA neck: it trains at the encoder's rate
_TABLES = ("encoder.pos_embed", "encoder.cls_token", "encoder.dist_token", "encoder.reg_token")


def build_optimizer(model: nn.Module, recipe: Recipe, *, kernel: str = "fused") -> torch.optim.Optimizer:
    """Returns SGD with momentum or AdamW over `parameter_groups`; `kernel` is fused | foreach | plain.

    Each group carries `names` (its parameters' names, in order) and `lr_multiplier`.
    """
    groups = parameter_groups(model, recipe)
    decay = recipe.weight_decay
    kernels: dict[str, Any] = {"fused": kernel == "fused", "foreach": kernel == "foreach"}
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.base_lr, weight_decay=decay, **kernels)
    return torch.optim.SGD(groups, lr=recipe.base_lr, momentum=recipe.momentum, weight_decay=decay, **kernels)


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Returns the trainable parameters, grouped by learning-rate multiplier and weight decay, in the model's order.

    Heads train at `head_lr_multiplier`. With `layer_decay` d below 1, encoder block i of n trains at d**(n - i) and
    what comes before the blocks at d**(n + 1); an encoder of timm's is in layers as timm groups it. AdamW spares norms,
    biases, position table and class token (and what a family of timm's spares) from weight decay, SGD decays
    everything, as mmsegmentation's recipes for the two do.
    """
    layers, tables = _encoder_layers(model), _spared(model)
    grouped: dict[tuple[float, float], list[tuple[str, nn.Parameter]]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        spared = recipe.optimizer == "adamw" and (parameter.ndim <= 1 or name in tables)
        decay = 0.0 if spared else recipe.weight_decay
        grouped[_multiplier(name, layers, recipe), decay].append((name, parameter))
    if not grouped:
        raise InputError("E_MODEL", "no trainable parameter", remedy="unfreeze some of the model")
    return [
        {
            "params": [parameter for _, parameter in members],
            "names": [name for name, _ in members],
            "lr_multiplier": multiplier,
            "weight_decay": decay,
            "lr": learning_rate(recipe, 0, multiplier=multiplier),
        }
        for (multiplier, decay), members in grouped.items()
    ]


def learning_rate(recipe: Recipe, step: int, *, multiplier: float = 1.0) -> float:
    """Returns the learning rate of the update that follows `step` finished ones, for a group's multiplier.

    Poly: (base - min) * (1 - step / end)**power + min, every group with its own base and the same min (mmcv's and
    mmengine's rule); a group whose base is below min stays at its base. `poly_end` names `end`: the iterations, or
    one less, so that the last update runs at exactly min. Warm-up multiplies by (step + 1) / warmup_steps.
    """
    base = recipe.base_lr * multiplier
    lowest = min(recipe.min_lr, base)
    end = recipe.iterations - (1 if recipe.poly_end == "iterations_minus_one" else 0)
    left = max(0.0, 1.0 - step / max(1, end))
    value = (base - lowest) * left**recipe.poly_power + lowest
    return value * min(1.0, (step + 1) / recipe.warmup_steps) if recipe.warmup_steps else value


def set_learning_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, step: int) -> float:
    """Sets every group's rate for the update that follows `step` finished ones; returns the encoder's."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe, step, multiplier=group["lr_multiplier"])
    return learning_rate(recipe, step)


def group_learning_rates(optimizer: torch.optim.Optimizer) -> list[float]:
    """Returns the rate that each parameter group has now, in their order."""
    return [float(group["lr"]) for group in optimizer.param_groups]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Returns the optimiser's state as {"<state>/<parameter's name>": tensor}, e.g. momentum_buffer/decode_head.x."""
    return {
        f"{key}/{name}": value
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Puts back what optimizer_tensors returned; parameters are found by name, so groups may differ.

    Raises InputError for tensors of parameters that the model does not have, or of another shape.
    """
    by_name = {
        name: (parameter, group)
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
    }
    optimizer.state.clear()
    for entry, value in tensors.items():
        key, _, name = entry.partition("/")
        parameter, group = by_name.get(name, (None, {}))
        if parameter is None or (value.ndim and value.shape != parameter.shape):
            raise InputError(
                "E_CHECKPOINT_KEYS",
                "the optimiser's state is of another model",
                where=entry,
                found=tuple(value.shape),
                expected="no such parameter" if parameter is None else tuple(parameter.shape),
            )
        if value.ndim:
            # In the parameter's own memory order: fused kernels walk both side by side.
            optimizer.state[parameter][key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        else:  # the count of steps, which only fused kernels read on the device
            optimizer.state[parameter][key] = value.to(parameter.device if group.get("fused") else "cpu").clone()


def _multiplier(name: str, layers: Mapping[str, int], recipe: Recipe) -> float:
    if name.startswith(HEAD_PREFIXES):
        return recipe.head_lr_multiplier
    if recipe.layer_decay == 1.0 or name not in layers:
        return 1.0
    return recipe.layer_decay ** (1 + max(layers.values()) - layers[name])


def _encoder_layers(model: nn.Module) -> dict[str, int]:
    """Returns the layer of each parameter of the encoder that has one, from 1; 0 is before the first."""
    encoder: Any = getattr(model, "encoder", None)
    if hasattr(encoder, "layers"):
        return {f"encoder.{name}": layer for name, layer in encoder.layers().items()}
    # A final norm stands after the blocks, everything else of the encoder before them.
    return {
        name: 1 + _block(name)
        for name, _ in model.named_parameters()
        if name.startswith("encoder.") and not name.startswith("encoder.norm.")
    }


def _spared(model: nn.Module) -> set[str]:
    """Returns the names of position tables and tokens."""
    encoder: Any = getattr(model, "encoder", None)
    named = encoder.no_weight_decay() if hasattr(encoder, "layers") else set()
    return {*_TABLES, *(f"encoder.{name}" for name in named)}


def _block(name: str) -> int:
    """Returns the 0-based encoder block of a parameter, -1 for one outside the blocks."""
    match = re.match(r"encoder\.blocks\.(\d+)\.", name)
    return int(match[1]) if match else -1
