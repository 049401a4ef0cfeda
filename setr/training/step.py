"""One training step: forward, loss, backward, the sums over ranks, the checks on which all agree, update.

The global batch is the recipe's whatever the number of ranks: each rank takes its slice in parts of `micro_batch`
images, and the loss of every part is divided by the global batch's divisor, so the parts add up to the whole's.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from setr.data.loading.loader import Batch
from setr.data.loading.photometric_batch import distort_batch
from setr.data.loading.transforms import normalise
from setr.errors import InputError
from setr.study.recipes import Recipe
from setr.training.distributed import Context
from setr.training.gradients import GradientSum
from setr.training.loss import loss_divisor, segmentation_loss


@dataclass(frozen=True)
class StepResult:
    """What one step found, over the global batch."""

    loss: float  # main + auxiliary_weight x the sum of the auxiliary losses
    main: float
    auxiliary: tuple[float, ...]  # shallow layer first
    gradient_norm: float
    labelled_pixels: int  # 0: nothing to learn from
    replaced: int  # damaged records for which others stood in
    stop: bool  # some rank was asked to stop


class TrainingModule(nn.Module):
    """Model and loss as one module: uint8 batches go in, losses come out."""

    model: Any  # an nn.Module with head_logits

    def __init__(
        self, model: nn.Module, recipe: Recipe, *, ignore_index: int = 255, class_weights: Tensor | None = None
    ) -> None:
        """Wrap a Segmenter (anything with `head_logits`); `class_weights` is (K,)."""
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.ignore_index = ignore_index
        self.class_weights = class_weights

    def forward(self, images: Tensor, labels: Tensor, divisor: Tensor | None) -> Tensor:
        """Return (1 + auxiliary heads,) losses, main first, for uint8 images (b,H,W,3) and labels (b,H,W).

        `divisor` is the global batch's; None divides by what these labels give.
        """
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            main, auxiliary = self.model.head_logits(normalise(images))
        losses = [
            segmentation_loss(
                logits,
                labels,
                ignore_index=self.ignore_index,
                denominator=self.recipe.loss_denominator,
                align_corners=getattr(self.model, "align_corners", False),
                class_weights=self.class_weights,
                ohem_threshold=self.recipe.ohem_threshold,
                divisor=divisor,
            )
            for logits in (main, *auxiliary)
        ]
        return torch.stack(losses)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Sets torch's random numbers (dropout, stochastic depth) to a function of seed, step and rank.

    So a training that resumes needs no generator states, on any number of ranks.
    """
    digest = hashlib.sha256(f"{seed}/{step}/{rank}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def train_step(
    training: TrainingModule,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    context: Context,
    gradients: GradientSum | None = None,
    micro_batch: int | None = None,
    stop: bool = False,
) -> StepResult:
    """Returns the step's losses after updating the parameters with the gradients of the global batch.

    `gradients` sums over the ranks (None: there is one). `micro_batch` images go through at a time; None: all of this
    rank's. Under the denominator `valid`, a global batch without a label is skipped: there is nothing to divide by.
    Raises InputError that names the samples, on every rank and before the update, if loss or gradient is not finite.
    """
    recipe = training.recipe
    images = batch.images.to(context.device, non_blocking=True)
    labels = batch.labels.to(context.device, non_blocking=True)
    if batch.distortion is not None:
        images = distort_batch(images, batch.distortion)
    size = micro_batch or len(labels)
    parts = list(zip(images.split(size), labels.split(size), strict=True))
    divisor, scale = _divisor(labels, training, context, len(parts))
    labelled = (labels != training.ignore_index).sum().double()
    replaced = 0 if batch.damaged is None else int((batch.damaged >= 0).sum())
    flags = torch.tensor([replaced, stop], dtype=torch.float64, device=labelled.device)
    if recipe.loss_denominator == "valid" and divisor is not None and float(divisor) == 0:
        all_replaced, stops = context.sum(flags).tolist()
        return StepResult(0.0, 0.0, (), 0.0, 0, replaced=int(all_replaced), stop=stops > 0)

    found: list[Tensor] = []
    for number, (part_images, part_labels) in enumerate(parts, start=1):
        losses = training(part_images, part_labels, divisor) * scale
        if gradients is not None and number == len(parts):
            gradients.begin()
        (losses[0] + recipe.auxiliary_weight * losses[1:].sum()).backward()
        found.append(losses.detach().double())
    if gradients is not None:
        gradients.finish()
    norm = torch.nn.utils.get_total_norm(
        [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    )

    own = torch.stack(found)
    agreed = torch.cat([own.sum(0), labelled[None], flags])
    *values, labelled_pixels, all_replaced, stops = context.sum(agreed).tolist()
    gradient_norm = float(norm)
    if not math.isfinite(sum(values)) or not math.isfinite(gradient_norm):
        _clear(optimizer, gradients)
        raise _not_finite(own, size, batch, context, gradient_norm)
    optimizer.step()
    _clear(optimizer, gradients)
    main, *auxiliary = values
    loss = main + recipe.auxiliary_weight * math.fsum(auxiliary)
    return StepResult(
        loss, main, tuple(auxiliary), gradient_norm, int(labelled_pixels), replaced=int(all_replaced), stop=stops > 0
    )


def _divisor(labels: Tensor, training: TrainingModule, context: Context, parts: int) -> tuple[Tensor | None, float]:
    """Returns the global batch's divisor, and what each part's loss is multiplied by."""
    denominator = training.recipe.loss_denominator
    if denominator == "valid" and training.recipe.ohem_threshold:
        # How many pixels OHEM keeps is known after the forward only: each part takes its own mean, and those average.
        return None, 1 / (parts * context.world_size)
    divisor = loss_divisor(
        labels,
        ignore_index=training.ignore_index,
        denominator=denominator,
        class_weights=training.class_weights,
    )
    if denominator == "all":
        return divisor * context.world_size, 1.0  # equal slices: no need to ask the others
    return context.sum(divisor), 1.0


def _clear(optimizer: torch.optim.Optimizer, gradients: GradientSum | None) -> None:
    if gradients is None:
        optimizer.zero_grad(set_to_none=True)
    else:
        gradients.zero()


def _not_finite(own: Tensor, size: int, batch: Batch, context: Context, gradient_norm: float) -> InputError:
    """Returns the error that names the samples whose loss was not finite, on any rank; all samples if none was."""
    bad_parts = (~torch.isfinite(own)).any(dim=1).long().cpu()
    samples = torch.as_tensor(batch.samples, dtype=torch.int64)
    flags = bad_parts.repeat_interleave(size)[: len(samples)]
    ranks = context.gather(torch.stack([samples, flags]).to(context.device))
    everywhere = torch.cat([rows.cpu() for rows in ranks], dim=1)
    bad = everywhere[0][everywhere[1] > 0].tolist()
    keys = dict(zip(samples.tolist(), batch.keys, strict=True))
    named = [
        f"{sample} ({keys[sample]})" if sample in keys else str(sample) for sample in bad or everywhere[0].tolist()
    ]
    what = "loss" if bad else f"gradient (norm {gradient_norm})"
    return InputError(
        "E_NOT_FINITE",
        f"the {what} is not finite; stopped before the update",
        where=f"step {batch.step}, samples {', '.join(named)}",
        remedy="look at these samples, or lower recipe.base_lr",
    )
