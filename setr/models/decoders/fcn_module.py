"""The module of the dilated FCN's head and auxiliary head, as mmsegmentation 0.6 has it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from setr.models.decoders.blocks import ConvNormAct
from setr.models.decoders.fcn import FCNHeadSpec


class FCNHead(nn.Module):
    """The head of the dilated FCN and its auxiliary head."""

    def __init__(self, spec: FCNHeadSpec, num_classes: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            *(
                ConvNormAct(spec.in_channels if index == 0 else spec.channels, spec.channels, 3)
                for index in range(spec.num_convs)
            )
        )
        self.fuse = ConvNormAct(spec.in_channels + spec.channels, spec.channels, 3) if spec.concatenate else None
        self.dropout = nn.Dropout2d(spec.dropout)
        self.classifier = nn.Conv2d(spec.channels, num_classes, 1)

    def forward(self, features: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
        """Return logits (B, K, h, w) at the last feature's resolution."""
        x = self.convs(features[-1])
        if self.fuse is not None:
            x = self.fuse(torch.cat([features[-1], x], dim=1))
        return self.classifier(self.dropout(x))
