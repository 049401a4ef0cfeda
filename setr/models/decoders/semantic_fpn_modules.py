"""The modules of Semantic FPN: neck and head, as mmsegmentation 0.6 has them."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from setr.models.decoders.blocks import ConvNormAct, upsample
from setr.models.decoders.semantic_fpn import FPNSpec


class FPNNeck(nn.Module):
    """Feature pyramid: 1x1 lateral convolutions, nearest top-down sums, 3x3 outputs; all with bias, no norm."""

    def __init__(self, spec: FPNSpec) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(width, spec.channels, 1) for width in spec.in_channels)
        self.outputs = nn.ModuleList(nn.Conv2d(spec.channels, spec.channels, 3, padding=1) for _ in spec.in_channels)
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return one (B, channels, h, w) per stage, shallow first as given."""
        levels = [lateral(feature) for lateral, feature in zip(self.laterals, features, strict=True)]
        for index in reversed(range(len(levels) - 1)):
            size = levels[index].shape[-2:]
            levels[index] = levels[index] + F.interpolate(levels[index + 1], size=size, mode="nearest")
        return [output(level) for output, level in zip(self.outputs, levels, strict=True)]


class Doubling(ConvNormAct):
    """Convolution, BatchNorm, ReLU, bilinear x2."""

    def forward(self, x: Tensor, scale: int = 1) -> Tensor:
        """Return (B, channels, 2h, 2w)."""
        return upsample(super().forward(x, scale), 2)


class SemanticFPNHead(nn.Module):
    """Per level 1, 1, 2, 3 times (3x3 convolution, BatchNorm, ReLU, x2 from stride 8 on); sum; 1x1 classifier."""

    def __init__(self, spec: FPNSpec, num_classes: int) -> None:
        super().__init__()
        width = spec.head_channels
        branches = [nn.Sequential(ConvNormAct(spec.channels, width, 3))]
        for level in range(1, len(spec.in_channels)):
            stages = [Doubling(spec.channels if index == 0 else width, width, 3) for index in range(level)]
            branches.append(nn.Sequential(*stages))
        self.branches = nn.ModuleList(branches)
        self.dropout = nn.Dropout2d(spec.dropout)
        self.classifier = nn.Conv2d(spec.head_channels, num_classes, 1)

    def forward(self, features: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
        """Return logits (B, K, h, w) at the first feature's resolution (stride 4)."""
        levels = [branch(feature) for branch, feature in zip(self.branches, features, strict=True)]
        # An odd side halves upwards, so that doubling it back overshoots by a pixel: resize to the first level.
        size = levels[0].shape[-2:]
        total = levels[0]
        for level in levels[1:]:
            total = total + F.interpolate(level, size=size, mode="bilinear", align_corners=False)
        return self.classifier(self.dropout(total))
