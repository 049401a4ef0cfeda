"""From images to logits, probabilities or label maps: whole image, sliding window, multi-scale with flip.

Shapes: B images, K classes, H W pixels, h w the resolution of a head's logits. A window's logits are kept at the head's
resolution; classes are resized, put together and compared one after another, so that logits of all classes at full
size never exist unless a caller asks for them. The values are those of the plain formulation (resize each window's
logits, average where windows overlap, flip back, resize to the original size), which is mmsegmentation's.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from setr.data.loading.transforms import normalise
from setr.errors import InputError
from setr.evaluation.class_maps import argmax, resize_planes
from setr.evaluation.windows import Size, Window, coverage, multi_scale_sizes, windows
from setr.settings.choices import require_choice
from setr.study.protocols import Protocol

__all__ = [
    "autocast",
    "multi_scale",
    "multi_scale_sizes",
    "predict",
    "predict_batch",
    "predict_sampled",
    "sliding_window",
    "whole",
    "windows",
]

Model = Callable[..., Any]  # a Segmenter, or anything that maps images (B,3,H,W) to logits (B,K,H,W)

# Pixels that go through the model at once: batching windows gains nothing on a CPU, and fills a GPU.
PIXELS_PER_PASS = {"cpu": 1 << 18, "cuda": 1 << 22}
# Bytes of the classes that are resized at once: within a core's cache, or enough to fill a GPU.
BYTES_PER_STEP = {"cpu": 1 << 22, "cuda": 1 << 28}
# Bytes of logits of all classes while probabilities are taken; larger images are worked through in bands of rows.
BYTES_PER_BAND = 1 << 28


@dataclass(frozen=True)
class View:
    """What the model says of a batch of images at one size: each window's logits at the head's resolution."""

    size: Size  # of the images that the model saw
    windows: tuple[Window, ...]
    logits: tuple[Tensor, ...]  # float32 (K,B,h,w), one for each window
    flipped: bool  # the model saw the images mirrored
    align_corners: bool

    @property
    def num_classes(self) -> int:
        """Returns K."""
        return self.logits[0].shape[0]

    @property
    def batch(self) -> int:
        """Returns B."""
        return self.logits[0].shape[1]


@torch.no_grad()
def whole(model: Model, images: Tensor) -> Tensor:
    """Returns logits (B,K,H,W) of normalised images (B,3,H,W), each given to the model as a whole."""
    with _evaluating(model):
        return _full_logits(_run(model, images, [(0, 0, images.shape[-2], images.shape[-1])]))


@torch.no_grad()
def sliding_window(model: Model, images: Tensor, *, window: Size, stride: Size) -> Tensor:
    """Returns logits (B,K,H,W) of normalised images (B,3,H,W): the mean over the windows (h, w pixels) at each pixel.

    Images smaller than the window are one smaller window; nothing is padded.
    """
    with _evaluating(model):
        return _full_logits(_run(model, images, windows(images.shape[-2], images.shape[-1], window, stride)))


@torch.no_grad()
def multi_scale(model: Model, images: Tensor | np.ndarray, *, protocol: Protocol) -> Tensor:
    """Returns probabilities (B,K,H,W): the mean of softmax over the protocol's ratios and flips, at the images' size.

    `images` is uint8 RGB, (H,W,3) or (B,H,W,3), resized as mmsegmentation does (uint8, bilinear), or a normalised
    float tensor (B,3,H,W), whose values are resized.
    """
    with _evaluating(model):
        return _probabilities(model, images, protocol).transpose(0, 1)


def predict(model: Model, image: np.ndarray, protocol: Protocol) -> np.ndarray:
    """Returns the classes (H,W) of a uint8 RGB image (H,W,3); uint8 for up to 256 classes."""
    return predict_batch(model, image[None], protocol)[0].cpu().numpy()


@torch.no_grad()
def predict_batch(model: Model, images: Sequence[np.ndarray] | np.ndarray, protocol: Protocol) -> Tensor:
    """Returns the classes (B,H,W), on the model's device, of uint8 RGB images of one size (B,H,W,3).

    Ties go to the class with the smaller number.
    """
    return predict_sampled(model, images, protocol, None)[0]


@torch.no_grad()
def predict_sampled(
    model: Model, images: Sequence[np.ndarray] | np.ndarray, protocol: Protocol, places: np.ndarray | None
) -> tuple[Tensor, Tensor | None]:
    """Returns what predict_batch does, and the largest probability (B,n) at the pixels of the flat indices `places`.

    Without places there are no probabilities. They cost the softmax of these pixels alone.
    """
    size = (images[0].shape[0], images[0].shape[1])
    index = None if places is None else torch.from_numpy(places).to(_device(model))
    with _evaluating(model):
        if len(protocol.ratios) * (1 + protocol.flip) == 1:
            [resized] = multi_scale_sizes(size, protocol)
            view = _view(model, _resized_tensor(images, resized, _device(model)), protocol)
            seen: list[Tensor] = []
            classes = argmax(_noting(_classes(view, size), index, seen), view.num_classes)
            return classes, torch.stack(seen).softmax(0).amax(0) if seen else None
        probabilities = _probabilities(model, images, protocol)
        classes = argmax(iter(probabilities), len(probabilities))
        if index is None:
            return classes, None
        return classes, probabilities.flatten(2).index_select(2, index).amax(0)


def _noting(planes: Iterator[Tensor], index: Tensor | None, seen: list[Tensor]) -> Iterator[Tensor]:
    """Yields the planes (B,H,W) and adds the values (B,n) of each one at the flat indices to `seen`."""
    for plane in planes:
        if index is not None:
            seen.append(plane.flatten(1).index_select(1, index))
        yield plane


def _view(model: Model, images: Tensor, protocol: Protocol, *, flipped: bool = False) -> View:
    height, width = images.shape[-2:]
    boxes = [(0, 0, height, width)]
    if protocol.mode == "slide":
        boxes = windows(height, width, protocol.window, protocol.stride)
    return _run(model, images.flip(-1) if flipped else images, boxes, flipped=flipped)


def _run(model: Model, images: Tensor, boxes: list[Window], *, flipped: bool = False) -> View:
    """Returns the View of the boxes, which all have one size; several go through the model together on a GPU."""
    y1, x1, y2, x2 = boxes[0]
    together = max(1, PIXELS_PER_PASS.get(images.device.type, 1 << 18) // (len(images) * (y2 - y1) * (x2 - x1)))
    parts: list[Tensor] = []
    for start in range(0, len(boxes), together):
        group = boxes[start : start + together]
        logits = _head_logits(model, torch.cat([images[..., y1:y2, x1:x2] for y1, x1, y2, x2 in group])).float()
        if not bool(torch.isfinite(logits).all()):
            raise InputError(
                "E_NON_FINITE_LOGITS",
                "the model's logits are not finite",
                found="nan or infinity",
                remedy="the training diverged or the weights are damaged: take another checkpoint",
            )
        parts += [part.transpose(0, 1).contiguous() for part in logits.split(len(images))]
    return View(
        size=(images.shape[-2], images.shape[-1]),
        windows=tuple(boxes),
        logits=tuple(parts),
        flipped=flipped,
        align_corners=bool(getattr(model, "align_corners", False)),
    )


def _head_logits(model: Model, images: Tensor) -> Tensor:
    """Returns logits (B,K,h,w) that one bilinear resize to the images' size completes."""
    if hasattr(model, "head_logits"):
        return model.head_logits(images)[0]
    return model(images)


def _full_logits(view: View) -> Tensor:
    """Returns all logits of a view (B,K,H,W)."""
    height, width = view.size
    logits = view.logits[0].new_empty(view.batch, view.num_classes, height, width)
    for index, plane in enumerate(_classes(view, view.size)):
        logits[:, index] = plane
    return logits


def _classes(view: View, size: Size) -> Iterator[Tensor]:
    """Yields the logits (B,H,W) of one class after another, resized to `size`."""
    pixels = view.batch * max(view.size[0] * view.size[1], size[0] * size[1])
    together = max(1, BYTES_PER_STEP.get(view.logits[0].device.type, 1 << 22) // (4 * pixels))
    for first in range(0, view.num_classes, together):
        planes = _assembled(view, first, min(first + together, view.num_classes))
        if view.flipped:
            planes = planes.flip(-1)
        yield from resize_planes(planes, size).unflatten(0, (-1, view.batch))


def _assembled(view: View, first: int, last: int) -> Tensor:
    """Returns the logits of classes first to last, (classes x B, H, W), averaged where windows overlap.

    What no earlier window reached is copied, not added to zeros, and only overlaps are divided, by a count that
    follows from the windows' places.
    """
    parts = (part[first:last].flatten(0, 1) for part in view.logits)
    if len(view.windows) == 1:
        return resize_planes(next(parts), view.size, align_corners=view.align_corners)
    canvas = view.logits[0].new_empty((last - first) * view.batch, *view.size)
    above = left = row = 0  # ends of the rows of windows before this one, and of the windows before it in its row
    for (y1, x1, y2, x2), part in zip(view.windows, parts, strict=True):
        if x1 == 0:
            above, left, row = row, 0, y2
        values = resize_planes(part, (y2 - y1, x2 - x1), align_corners=view.align_corners)
        top, side = max(above - y1, 0), max(left - x1, 0)
        canvas[:, y1 : y1 + top, x1:x2] += values[:, :top]
        canvas[:, y1 + top : y2, x1 : x1 + side] += values[:, top:, :side]
        canvas[:, y1 + top : y2, x1 + side : x2] = values[:, top:, side:]
        left = x2
    for top, bottom, rows in coverage([(y1, y2) for y1, x1, y2, _ in view.windows if x1 == 0]):
        for start, end, columns in coverage([(x1, x2) for y1, x1, _, x2 in view.windows if y1 == 0]):
            if rows * columns > 1:
                canvas[:, top:bottom, start:end] /= rows * columns
    return canvas


def _probabilities(model: Model, images: Tensor | Sequence[np.ndarray] | np.ndarray, protocol: Protocol) -> Tensor:
    """Returns the mean of softmax over ratios and flips, (K,B,H,W)."""
    if isinstance(images, Tensor):
        size = (images.shape[-2], images.shape[-1])
    else:
        images = images[None] if isinstance(images, np.ndarray) and images.ndim == 3 else images
        size = (images[0].shape[0], images[0].shape[1])
    total: Tensor | None = None
    for resized in multi_scale_sizes(size, protocol):
        inputs = _resized_tensor(images, resized, _device(model))
        for flipped in (False, True)[: 1 + protocol.flip]:
            view = _view(model, inputs, protocol, flipped=flipped)
            if total is None:
                total = view.logits[0].new_zeros(view.num_classes, view.batch, *size)
            _add_softmax(total, view)
    assert total is not None
    return total.div_(len(protocol.ratios) * (1 + protocol.flip))


def _add_softmax(total: Tensor, view: View) -> None:
    """Adds the view's softmax to `total` (K,B,H,W), in bands of rows that keep the memory for logits bounded."""
    classes, batch, height, width = total.shape
    rows = min(height, max(1, BYTES_PER_BAND // (4 * classes * batch * width)))
    for top in range(0, height, rows):
        band = total[:, :, top : top + rows]
        logits = torch.empty_like(band)
        for index, plane in enumerate(_classes(view, (height, width))):
            logits[index] = plane[:, top : top + rows]
        logits.sub_(logits.amax(0)).exp_()
        band += logits.div_(logits.sum(0))


def _resized_tensor(images: Tensor | Sequence[np.ndarray] | np.ndarray, size: Size, device: torch.device) -> Tensor:
    """Returns normalised images (B,3,h,w) of the size on the device."""
    if isinstance(images, Tensor):
        if tuple(images.shape[-2:]) == size:
            return images
        return F.interpolate(images, size=size, mode="bilinear", align_corners=False)
    resized = np.empty((len(images), *size, 3), np.uint8)
    for image, target in zip(images, resized, strict=True):
        if image.shape[:2] == size:
            target[:] = image
        else:
            cv2.resize(image, (size[1], size[0]), dst=target, interpolation=cv2.INTER_LINEAR)
    return normalise(torch.from_numpy(resized).to(device))


def _device(model: Model) -> torch.device:
    if isinstance(model, nn.Module):
        for parameter in model.parameters():
            return parameter.device
    return torch.device("cpu")


def autocast(device: torch.device | str, precision: str) -> AbstractContextManager[Any]:
    """Returns the context in which the model computes in `precision`: float32 | bfloat16 (logits stay float32)."""
    require_choice("precision", precision, ("float32", "bfloat16"))
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


@contextmanager
def _evaluating(model: Model) -> Iterator[None]:
    """Puts a module into eval mode and back into the mode it was in."""
    if not isinstance(model, nn.Module) or not model.training:
        yield
        return
    model.eval()
    try:
        yield
    finally:
        model.train()
