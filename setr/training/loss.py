"""Pixel cross-entropy of logits at a head's own resolution: upsampled to the labels' size, exactly, without the memory.

Shapes: B images, K classes, h w the head's pixels, H W the labels' pixels.

A 150-class map at 512 x 512 is 157 MB, and upsample-then-cross-entropy holds three of them. Bilinear upsampling is a
product with two narrow matrices, so `_StripCrossEntropy` walks strips of output rows that stay in the processor's
cache: upsample by two small matrix products, exponentials in place, the gradient in place of those, and its adjoint
products back to h x w. It computes what the plain formulation computes, to rounding.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from setr.errors import InputError

STRIP_BYTES = {"cpu": 1 << 20, "cuda": 1 << 27}  # one strip of upsampled logits; on a CPU it stays in a core's cache
OHEM_KEPT_AT_LEAST = 1 / 16  # of the labelled pixels, however confident the model is
# Exponentials of anything above this keep full float32 precision in a sum whose largest term may be absent.
_SAFE_SHIFT = -80.0


def segmentation_loss(
    head_logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int = 255,
    denominator: str = "all",
    align_corners: bool = False,
    class_weights: Tensor | None = None,
    ohem_threshold: float = 0.0,
    strips: bool | None = None,
    divisor: Tensor | float | None = None,
) -> Tensor:
    """Returns the scalar cross-entropy of (B,K,h,w) logits, upsampled to the (B,H,W) labels; float32 or float64.

    `denominator` divides the sum over labelled pixels by `all` pixels (mmsegmentation: ignored ones count) or by the
    `valid` ones (torch; with class weights, by their sum); `divisor` replaces it, for a batch that is one of several.
    `ohem_threshold` keeps the pixels whose true class has a lower probability, and at least a sixteenth of them.
    `strips` chooses the formulation; None takes strips where they win (`strips_win`), the plain one under OHEM.
    A batch without a labelled pixel has loss 0. Raises InputError for labels outside the classes (on a CPU; on a GPU
    the device's own check stops the process).
    """
    _check(head_logits, labels, ignore_index)
    if strips is None:
        strips = not ohem_threshold and strips_win(head_logits, labels)
    dtype = torch.float64 if head_logits.dtype == torch.float64 else torch.float32
    weights = class_weights.to(device=head_logits.device, dtype=dtype) if class_weights is not None else None
    # Half-precision products would lose what float32 logits are kept for.
    with torch.autocast(head_logits.device.type, enabled=False):
        logits = head_logits.to(dtype)
        if ohem_threshold:
            total, kept = _hard_pixels(logits, labels, ignore_index, align_corners, weights, ohem_threshold)
            if divisor is None:
                divisor = kept if denominator == "valid" else float(labels.numel())
        elif strips:
            total = _StripCrossEntropy.apply(logits, labels, weights, ignore_index, align_corners)
        else:
            total = _plain(logits, labels, ignore_index, align_corners, weights, reduction="sum")
        if divisor is None:
            divisor = loss_divisor(labels, ignore_index=ignore_index, denominator=denominator, class_weights=weights)
        if isinstance(divisor, Tensor):
            divisor = divisor.to(device=total.device, dtype=dtype).clamp_min(torch.finfo(dtype).tiny)
        return total / divisor


def strips_win(head_logits: Tensor, labels: Tensor) -> bool:
    """Returns whether the loss is walked in strips: where that is faster on a CPU, where it saves memory on a GPU.

    On a CPU strips are 1.9 to 10 times faster from 11 classes and twice the pixels on, and 2 times slower without
    upsampling (`python -m benchmarks.loss`). On a GPU the plain passes are quick, and only from classes x pixel ratio
    of about 300 are they the larger part of a head's memory.
    """
    pixel_ratio = labels[0].numel() / head_logits[0, 0].numel()
    if head_logits.device.type == "cpu":
        return pixel_ratio >= 2
    return head_logits.shape[1] * pixel_ratio > 300


def loss_divisor(
    labels: Tensor, *, ignore_index: int = 255, denominator: str = "all", class_weights: Tensor | None = None
) -> Tensor:
    """Returns what the summed loss of these labels is divided by, a float64 scalar; divisors of parts add up."""
    if denominator == "all":
        return torch.tensor(float(labels.numel()), dtype=torch.float64, device=labels.device)
    valid = labels != ignore_index
    if class_weights is None:
        return valid.sum().double()
    return class_weights.to(labels.device).double()[labels[valid].long()].sum()


def class_weights(kind: str, histogram: Sequence[int]) -> Tensor | None:
    """Returns (K,) float32 weights from the pixels of each class: none -> None, median_frequency, inverse_sqrt.

    Classes without a pixel weigh 1. `inverse_sqrt` is scaled to a mean of 1 over the classes that occur.
    """
    if kind == "none":
        return None
    counts = torch.as_tensor(list(histogram), dtype=torch.float64)
    present = counts > 0
    if not present.any():
        raise InputError("E_CLASS_WEIGHTS", "class weights need labelled pixels", found="none in the histogram")
    weights = torch.ones_like(counts)
    if kind == "median_frequency":
        weights[present] = counts[present].quantile(0.5) / counts[present]
    else:
        weights[present] = counts[present].rsqrt() / counts[present].rsqrt().mean()
    return weights.float()


def _check(logits: Tensor, labels: Tensor, ignore_index: int) -> None:
    if logits.ndim != 4 or labels.ndim != 3 or logits.shape[0] != labels.shape[0]:
        raise InputError(
            "E_LOSS_SHAPE",
            "logits and labels do not belong together",
            found=f"{tuple(logits.shape)} and {tuple(labels.shape)}",
            expected="(B,K,h,w) and (B,H,W)",
        )
    if labels.device.type == "cpu" and labels.numel():
        highest = int(labels.masked_fill(labels == ignore_index, 0).max())
        if highest >= logits.shape[1]:
            raise InputError(
                "E_LABEL_RANGE",
                "label outside the classes",
                found=highest,
                expected=f"0 to {logits.shape[1] - 1}, or {ignore_index} (ignored)",
            )


def _upsample(logits: Tensor, labels: Tensor, align_corners: bool) -> Tensor:
    if logits.shape[-2:] == labels.shape[-2:]:
        return logits
    return F.interpolate(logits, size=tuple(labels.shape[-2:]), mode="bilinear", align_corners=align_corners)


def _plain(
    logits: Tensor, labels: Tensor, ignore_index: int, align_corners: bool, weights: Tensor | None, *, reduction: str
) -> Tensor:
    """Returns the cross-entropy by its plain formulation: what every other path is measured against."""
    upsampled = _upsample(logits, labels, align_corners)
    return F.cross_entropy(upsampled, labels.long(), weight=weights, ignore_index=ignore_index, reduction=reduction)


def _hard_pixels(
    logits: Tensor, labels: Tensor, ignore_index: int, align_corners: bool, weights: Tensor | None, threshold: float
) -> tuple[Tensor, Tensor]:
    """Returns the summed loss of the pixels that OHEM keeps, and their number."""
    losses = _plain(logits, labels, ignore_index, align_corners, None, reduction="none")
    valid = labels != ignore_index
    # Cross-entropy is -log(probability): least probable means largest loss.
    with torch.no_grad():
        found = losses[valid]
        at_least = math.ceil(found.numel() * OHEM_KEPT_AT_LEAST)
        bound = -math.log(threshold)
        if at_least:
            bound = min(bound, float(found.topk(at_least, sorted=False).values.min()))
        kept = valid & (losses >= bound)
    if weights is not None:
        losses = losses * weights[labels.masked_fill(~valid, 0).long()]
    return (losses * kept).sum(), kept.sum()


@dataclass(frozen=True)
class _Span:
    """A run of output pixels along one axis, the input pixels it reads, and the matrix between them, both ways."""

    start: int
    stop: int
    first: int
    last: int
    forward: Tensor  # (stop - start, last - first)
    backward: Tensor  # its transpose, contiguous


@functools.lru_cache(maxsize=64)
def _spans(
    size_in: int, size_out: int, step: int, align_corners: bool, dtype: torch.dtype, device: str
) -> tuple[_Span, ...]:
    """Returns the axis' interpolation matrix cut into spans of `step` output pixels, zero columns left out."""
    # Interpolating the identity gives the very weights that the plain formulation uses.
    identity = torch.eye(size_in, dtype=dtype).view(1, size_in, size_in, 1)
    matrix = F.interpolate(identity, size=(size_out, 1), mode="bilinear", align_corners=align_corners)
    matrix = matrix[0, :, :, 0].t()
    spans = []
    for start in range(0, size_out, step):
        rows = matrix[start : start + step]
        used = rows.abs().sum(0).nonzero().ravel()
        first, last = int(used[0]), int(used[-1]) + 1
        part = rows[:, first:last].to(device)
        stop = start + rows.shape[0]
        spans.append(_Span(start, stop, first, last, part.contiguous(), part.t().contiguous()))
    return tuple(spans)


class _StripCrossEntropy(torch.autograd.Function):
    """The summed cross-entropy of upsampled logits; the gradient is formed on the way and kept at low resolution."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, weights: Tensor | None, ignore_index: int, align_corners: bool
    ) -> Tensor:
        want_gradient = bool(ctx.needs_input_grad[0])
        total, gradient = _walk_strips(logits, labels, weights, ignore_index, align_corners, want_gradient)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        (saved,) = ctx.saved_tensors
        return saved * gradient, None, None, None, None


@torch.no_grad()
def _walk_strips(
    logits: Tensor, labels: Tensor, weights: Tensor | None, ignore_index: int, align_corners: bool, want_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """Returns the summed loss and its gradient (B,K,h,w) for float32 or float64 logits."""
    B, K, h, w = logits.shape
    H, W = labels.shape[-2:]
    dtype, device = logits.dtype, logits.device
    budget = STRIP_BYTES.get(device.type, STRIP_BYTES["cuda"])
    height = max(1, min(H, budget // (K * W * dtype.itemsize)))
    # Wide enough for an efficient product, narrow enough that most of its inner dimension is not zeros.
    width = max(64, min(128, 16 * W // w))
    rows = _spans(h, H, height, align_corners, dtype, str(device))
    columns = _spans(w, W, width, align_corners, dtype, str(device))

    # Softmax is the same for logits shifted per pixel. Shifting at low resolution by the largest class bounds every
    # upsampled logit by 0, which saves two passes over each strip.
    low = logits.permute(0, 2, 1, 3)
    low = (low - low.amax(dim=2, keepdim=True)).contiguous()
    # (Reading the answer back from a GPU would stall it for longer than the two passes take.)
    is_safe = device.type == "cpu" and bool(low.amin() > _SAFE_SHIFT)
    gradient = torch.zeros_like(low) if want_gradient else None
    narrow = torch.empty(height, K * w, dtype=dtype, device=device)
    wide = torch.empty(height * K, W, dtype=dtype, device=device)
    sums = []
    for image in range(B):
        source = low[image].view(h, K * w)
        for row in rows:
            n = row.stop - row.start
            target = labels[image, row.start : row.stop].long().unsqueeze(1)
            valid = target != ignore_index
            if device.type == "cpu" and not valid.any():
                continue
            target = target.masked_fill(~valid, 0)
            scale = valid.to(dtype) if weights is None else weights[target] * valid
            torch.mm(row.forward, source[row.first : row.last], out=narrow[:n])
            half, full = narrow[:n].view(n * K, w), wide[: n * K]
            for column in columns:
                torch.mm(half[:, column.first : column.last], column.backward, out=full[:, column.start : column.stop])
            values = full.view(n, K, W)
            if not is_safe:
                values -= values.amax(dim=1, keepdim=True)
            chosen = values.gather(1, target)
            total = values.exp_().sum(dim=1, keepdim=True)
            sums.append(((total.log() - chosen) * scale).sum())
            if gradient is None:
                continue
            # d loss / d logit = softmax - one-hot
            values.mul_(scale / total).scatter_add_(1, target, -scale)
            half.zero_()
            for column in columns:
                half[:, column.first : column.last].addmm_(full[:, column.start : column.stop], column.forward)
            gradient[image].view(h, K * w)[row.first : row.last].addmm_(row.backward, narrow[:n])
    loss = torch.stack(sums).double().sum().to(dtype) if sums else torch.zeros((), dtype=dtype, device=device)
    return loss, gradient.permute(0, 2, 1, 3) if gradient is not None else None
