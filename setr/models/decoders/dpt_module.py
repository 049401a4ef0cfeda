"""The module of DPT's head."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from setr.models.decoders.blocks import ConvNormAct, fitted, initialise_head, upsample
from setr.models.decoders.dpt import DPTSpec


class ResidualUnit(nn.Module):
    """Twice ReLU, 3x3 convolution, BatchNorm; and the input added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels, h, w)."""
        inner = self.norm1(self.conv1(F.relu(x)))
        return x + self.norm2(self.conv2(F.relu(inner)))


class Fusion(nn.Module):
    """The deeper result and, through a residual unit, this map; another unit; twice the size; 1x1 convolution."""

    def __init__(self, channels: int, *, deepest: bool) -> None:
        super().__init__()
        self.skip = None if deepest else ResidualUnit(channels)
        self.unit = ResidualUnit(channels)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Return (B, channels, 2h, 2w); `skip` is resized where its size is another."""
        if self.skip is not None and skip is not None:
            x = x + self.skip(fitted(skip, (x.shape[-2], x.shape[-1])))
        # The 1x1 convolution and the resize commute: first the one, on a quarter of the pixels.
        return upsample(self.project(self.unit(x)), 2, align_corners=True)


class DPTHead(nn.Module):
    """Reassembled maps, fused from the deepest up; 3x3 convolution, BatchNorm, ReLU; dropout; classifier."""

    def __init__(self, spec: DPTSpec, num_classes: int) -> None:
        super().__init__()
        levels = tuple(zip(spec.channels_in, spec.reassemble_channels, spec.factors, strict=True))
        channels = spec.channels
        self.projections = nn.ModuleList(nn.Conv2d(width, made, 1) for width, made, _ in levels)
        self.convs = nn.ModuleList(nn.Conv2d(made, channels, 3, padding=1, bias=False) for _, made, _ in levels)
        self.fusions = nn.ModuleList(Fusion(channels, deepest=index == len(levels) - 1) for index in range(len(levels)))
        self.project = ConvNormAct(channels, channels, 3)
        self.dropout = nn.Dropout2d(spec.dropout)
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        initialise_head(self, "mmseg")  # in every flavour; what changes the size stays as PyTorch makes it
        self.resizes = nn.ModuleList(_resize(made, factor) for _, made, factor in levels)

    def forward(self, features: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
        """Return logits (B, K, h, w) at twice the first reassembled map's resolution."""
        steps = zip(self.projections, self.resizes, self.convs, features, strict=True)
        maps = [conv(resize(projection(feature))) for projection, resize, conv, feature in steps]
        x = self.fusions[-1](maps[-1])
        for index in reversed(range(len(maps) - 1)):
            x = self.fusions[index](x, maps[index])
        return self.classifier(self.dropout(self.project(x)))


def _resize(channels: int, factor: float) -> nn.Module:
    if factor == 1:
        return nn.Identity()
    if factor < 1:
        return nn.Conv2d(channels, channels, 3, stride=round(1 / factor), padding=1)
    return nn.ConvTranspose2d(channels, channels, int(factor), stride=int(factor))
