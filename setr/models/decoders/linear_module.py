"""The module of the linear probe."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from setr.models.decoders.blocks import ChannelNorm, fitted, initialise_head
from setr.models.decoders.linear import LinearSpec


class LinearHead(nn.Module):
    """LayerNorm per map, concatenation at the first map's size, dropout, BatchNorm, 1x1 convolution."""

    def __init__(self, spec: LinearSpec, num_classes: int) -> None:
        super().__init__()
        channels = sum(spec.channels_in)
        self.norms = nn.ModuleList(ChannelNorm(width) if spec.norm else nn.Identity() for width in spec.channels_in)
        self.dropout = nn.Dropout2d(spec.dropout)
        self.batch_norm = nn.BatchNorm2d(channels) if spec.batch_norm else nn.Identity()
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        initialise_head(self, "mmseg")  # the classifier normal 0.01, its bias 0, in every flavour

    def forward(self, features: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
        """Return logits (B, K, h, w) at the first map's resolution."""
        maps = [norm(feature) for norm, feature in zip(self.norms, features, strict=True)]
        size = (maps[0].shape[-2], maps[0].shape[-1])
        joined = torch.cat([fitted(x, size) for x in maps], dim=1) if len(maps) > 1 else maps[0]
        return self.classifier(self.batch_norm(self.dropout(joined)))
