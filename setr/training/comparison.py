"""Compares what a replay computed with what the training wrote down; each function says what differs first, or ""."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from setr.record.trace import STEP, Trace, hash_parameters


@dataclass(frozen=True)
class Scale:
    """How far numbers may lie apart that cannot be equal to the bit: another machine, other versions, other threads."""

    relative: float  # of losses and gradient norms
    pixels: float  # share of an image's labelled pixels that may be counted elsewhere

    @classmethod
    def of(cls, precision: str) -> "Scale":
        """Returns the scale of a recipe's precision."""
        return cls(relative=2e-2, pixels=2e-2) if precision == "bfloat16" else cls(relative=1e-4, pixels=2e-3)


@dataclass(frozen=True, eq=False)
class ImageCounts:
    """One image's areas under a protocol, int64 (3, K) (setr.evaluation.metrics): as stored, and as counted now."""

    protocol: str
    key: str
    stored: np.ndarray
    found: np.ndarray
    classes: tuple[str, ...] = ()


def initial_difference(trace: Trace, tensors: Mapping[str, Tensor], *, exact: bool) -> str:
    """Returns which tensor differs before the first step; without `exact`, only names are compared."""
    new, gone = sorted(tensors.keys() - set(trace.tensors)), sorted(set(trace.tensors) - tensors.keys())
    if new or gone:
        return f"initial parameters: {new[0]} is new" if new else f"initial parameters: {gone[0]} is gone"
    if not exact:
        return ""
    return _tensor_difference(trace, trace.parameters[0], hash_parameters(tensors, trace.tensors), "initial parameters")


def compare_step(
    trace: Trace, row: tuple[Any, ...], parameters: np.ndarray | None, *, scale: Scale, exact: bool
) -> str:
    """Returns what differs in one step, a STEP record, and in the hashes of the parameters after it."""
    found = np.array([row], STEP)[0]
    step = int(found["step"])
    stored = trace.steps[step - 1]
    for name, text in (("order", "sample order"), ("draws", "windows, ratios or flips")):
        # What rank 0 takes of a batch depends on the number of ranks; that was compared for as many as there were.
        if found[name] != stored[name] and (exact or name == "order"):
            return f"{text} at step {step}"
    if found["rates"] != stored["rates"]:
        return _apart(f"learning rate at step {step}", stored["learning_rate"], found["learning_rate"])
    for name, text in (("loss", "loss"), ("gradient_norm", "gradient norm")):
        if not _same(float(stored[name]), float(found[name]), 0.0 if exact else scale.relative):
            return _apart(f"{text} at step {step}", stored[name], found[name])
    if exact and parameters is not None:
        return _tensor_difference(trace, trace.parameters[step], parameters, f"parameters after step {step}")
    return ""


def compare_images(images: Sequence[ImageCounts], *, scale: Scale, exact: bool) -> str:
    """Returns the first image and class whose counts differ."""
    if not images:
        return "areas: no image was counted"
    for image in images:
        name = f"areas of image {image.key} ({image.protocol})"
        if image.stored.shape != image.found.shape:
            return f"{name}: {image.stored.shape} -> {image.found.shape}"
        moved = np.abs(image.stored - image.found)
        allowed = 0 if exact else max(1.0, scale.pixels * float(image.stored[2].sum()))
        # Labels are counted without a model: nothing but another rule can change them.
        if moved.max(initial=0) > allowed or moved[2].any():
            row, number = np.unravel_index(int(moved.argmax()), moved.shape)
            kind = ("intersection", "prediction", "label")[int(row)]
            label = image.classes[number] if image.classes else f"class {number}"
            return f"{name}: {label}, {kind} {image.stored[row, number]} -> {image.found[row, number]} pixels"
    return ""


def _tensor_difference(trace: Trace, stored: np.ndarray, found: np.ndarray, what: str) -> str:
    different = np.flatnonzero(stored != found)
    if not len(different):
        return ""
    more = f" and {len(different) - 1} more of {len(stored)}" if len(different) > 1 else ""
    return f"{what}: {trace.tensors[int(different[0])]}{more}"


def _same(stored: float, found: float, relative: float) -> bool:
    return stored == found or abs(stored - found) <= relative * max(abs(stored), abs(found))


def _apart(what: str, stored: float, found: float) -> str:
    return f"{what}: {float(stored)!r} -> {float(found)!r}"
