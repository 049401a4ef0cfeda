"""The module of Naive, PUP and auxiliary heads."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from setr.models.decoders.blocks import ChannelNorm, ConvNormAct, upsample
from setr.models.decoders.up_head import UpHeadSpec


class UpHead(nn.Module):
    """Naive, PUP or auxiliary head: LayerNorm, then (convolution, BatchNorm, ReLU, resize) stages, 1x1 classifier."""

    def __init__(self, spec: UpHeadSpec, num_classes: int) -> None:
        super().__init__()
        self.spec = spec
        self.norm = ChannelNorm(spec.in_channels) if spec.norm else nn.Identity()
        self.convs = nn.ModuleList(
            ConvNormAct(
                spec.in_channels if index == 0 else spec.channels,
                spec.channels,
                spec.kernel,
                bias=spec.convolution_bias,
            )
            for index in range(len(spec.up_scales))
        )
        width = spec.channels if spec.up_scales else spec.in_channels
        self.classifier = nn.Conv2d(width, num_classes, 1, bias=spec.classifier_bias)

    def forward(self, features: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
        """Return logits (B, K, h', w') that one bilinear resize to `image_size` completes, from the last feature."""
        x = self.norm(features[-1])
        pending = 1  # a resize that waits for a 1x1 convolution to go first
        for stage, scale in zip(self.convs, self.spec.up_scales, strict=True):
            x = stage(x, pending)
            pending = scale
        logits = self.classifier(x)
        # Two resizes follow: by `pending`, then to the image. When the first lands on the image, it is the last one.
        height, width = logits.shape[-2] * pending, logits.shape[-1] * pending
        if not torch.compiler.is_exporting() and (height, width) == tuple(image_size):
            return logits
        return upsample(logits, pending)
