"""Batch normalisation whose statistics are those of the images on all workers, on CPUs too.

torch.nn.SyncBatchNorm runs on accelerators only; `SharedBatchNorm` computes the same on any device.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


def share_statistics(model: nn.Module, *, world_size: int, device: str) -> nn.Module:
    """Returns the model with every BatchNorm2d reading all workers' images; parameters keep names and identity."""
    if world_size == 1:
        return model
    if torch.device(device).type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for parent in model.modules():
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, SharedBatchNorm.of(child))
    return model


def slow_momentum(model: nn.Module, *, passes: int) -> None:
    """Makes the running statistics move as far in `passes` forward passes (one step's) as they did in one."""
    if passes == 1:
        return
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is not None:
            module.momentum = 1 - (1 - module.momentum) ** (1 / passes)


class SharedBatchNorm(nn.BatchNorm2d):
    """BatchNorm2d over the batches of all ranks while training; the default process group must be initialised."""

    @classmethod
    def of(cls, module: nn.BatchNorm2d) -> "SharedBatchNorm":
        """Returns the layer with another's parameters, buffers and settings."""
        shared = cls(module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats)
        shared._parameters, shared._buffers = module._parameters, module._buffers
        return shared.train(module.training)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised (B,C,H,W) in its own dtype; statistics are float32 or float64."""
        if not self.training:
            return super().forward(x)
        values = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        out, mean, variance, count = _Normalise.apply(values, self.weight, self.bias, self.eps)
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
            with torch.no_grad():
                # Running variances are unbiased, the ones that normalise are not: as in torch.
                unbiased = variance * (count / (count - 1).clamp_min(1))
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)
        return out.to(x.dtype)


class _Normalise(torch.autograd.Function):
    """y = (x - mean) / std * weight + bias with mean and std over the batches of all ranks."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        channels = x.shape[1]
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), unbiased=False)
        count = torch.full_like(mean, x.numel() / channels)
        parts = [torch.empty(3, channels, dtype=x.dtype, device=x.device) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, torch.stack([mean, variance, count]))
        means, variances, counts = torch.stack(parts, dim=1).double()
        total = counts.sum(0)
        # Deviations are taken from the common mean (Chan et al. 1979): sums of squares would cancel.
        mean = (means * counts).sum(0) / total
        variance = ((variances + (means - mean) ** 2) * counts).sum(0) / total
        mean, variance, total = (value.to(x.dtype) for value in (mean, variance, total))
        inverse = (variance + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, inverse, total)
        count = total[0].clone()
        ctx.mark_non_differentiable(mean, variance, count)
        # With given statistics torch's own kernel makes one pass.
        out = F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)
        return out, mean, variance, count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight, mean, inverse, total = ctx.saved_tensors
        shape = (1, -1, 1, 1)
        centred = x - mean.view(shape)
        sums = torch.stack([gradient.sum((0, 2, 3)), (gradient * centred).sum((0, 2, 3)) * inverse])
        own_bias, own_weight = sums.clone()  # each rank's share: GradientSum adds them up
        dist.all_reduce(sums)
        scale = inverse if weight is None else inverse * weight
        mean_gradient, mean_product = sums / total
        x_gradient = gradient - mean_gradient.view(shape) - centred * (inverse * mean_product).view(shape)
        x_gradient = x_gradient * scale.view(shape)
        return x_gradient, None if weight is None else own_weight, None if weight is None else own_bias, None
