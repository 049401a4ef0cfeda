"""How a training is carried out on a device: what decides speed and memory, and results by their rounding at most.

None of it belongs to an experiment's identity; the `start` event says what was used.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from setr.models.encoder import run_block
from setr.settings.run import RunSettings


def prepare_model(model: nn.Module, settings: RunSettings) -> None:
    """Makes the model ready to train as `settings` (of `on_device`) say; parameters keep names and identity.

    On a GPU float32 means float32: convolutions do not round their inputs to TF32, which PyTorch lets them by default.
    """
    torch.backends.cudnn.allow_tf32 = False
    for part in model.children():
        if settings.channels_last and not _holds_tokens(part):
            part.to(memory_format=torch.channels_last)
    encoder: Any = getattr(model, "encoder", None)
    if _can_recompute(encoder):
        encoder.set_grad_checkpointing(settings.activation_checkpointing)
    if _has_layers(encoder) and settings.compile:
        encoder.run_training_block = _compiled(len(encoder.blocks))


def release_model(model: nn.Module) -> None:
    """Takes back what only a training needs: a trained model runs its layers as they are."""
    encoder: Any = getattr(model, "encoder", None)
    if _can_recompute(encoder):
        encoder.set_grad_checkpointing(False)
    if _has_layers(encoder):
        encoder.run_training_block = run_block


def _can_recompute(part: object) -> bool:
    """Returns whether a part of a model is an encoder whose layers can be recomputed in the backward pass."""
    return hasattr(part, "set_grad_checkpointing")


def _has_layers(part: object) -> bool:
    """Returns whether a part of a model is an encoder whose layers can be compiled one by one."""
    return hasattr(part, "run_training_block")


def _holds_tokens(part: object) -> bool:
    """Returns whether a part of a model computes on tokens, whose order in memory channels_last would only disturb."""
    return _has_layers(part) or getattr(part, "plain", False)


def _compiled(layers: int) -> Callable[[nn.Module, Tensor], Tensor]:
    """Returns run_block compiled: one graph for all layers, unless they differ in their stochastic depth."""
    import torch._dynamo

    # One entry for each such difference; beyond the limit layers would silently run as they are.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 2 * layers)
    return torch.compile(run_block, dynamic=False)
