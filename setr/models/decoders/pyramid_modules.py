"""The modules of a pyramid that is made from a plain transformer's layers."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from setr.models.decoders.blocks import ChannelNorm, fitted, upsample


class FeatureToPyramid(nn.Module):
    """Per level: two transposed 2x2 convolutions (BatchNorm and GELU between), one, the map itself, a 2x2 maximum."""

    def __init__(self, channels_in: Sequence[int]) -> None:
        super().__init__()
        first, second = channels_in[:2]
        self.up4 = nn.Sequential(
            nn.ConvTranspose2d(first, first, 2, stride=2),
            nn.BatchNorm2d(first),
            nn.GELU(),
            nn.ConvTranspose2d(first, first, 2, stride=2),
        )
        self.up2 = nn.ConvTranspose2d(second, second, 2, stride=2)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return maps at 4, 2, 1 and 1/2 times the resolution; an odd side halves upwards, so that none vanishes."""
        first, second, third, fourth = features
        return [self.up4(first), self.up2(second), third, F.max_pool2d(fourth, 2, ceil_mode=True)]


class MultiLevel(nn.Module):
    """Per level: 1x1 convolution, bilinear resize, 3x3 convolution; neither norm nor activation."""

    def __init__(self, channels_in: Sequence[int]) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(width, width, 1) for width in channels_in)
        self.outputs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for width in channels_in)
        for convolution in (*self.laterals, *self.outputs):
            nn.init.xavier_uniform_(convolution.weight)
            nn.init.zeros_(convolution.bias)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return maps at 4, 2, 1 and 1/2 times the resolution; an odd side halves upwards, so that none vanishes."""
        first, second, third, fourth = (
            lateral(feature) for lateral, feature in zip(self.laterals, features, strict=True)
        )
        half = ((fourth.shape[-2] + 1) // 2, (fourth.shape[-1] + 1) // 2)
        resized = [upsample(first, 4), upsample(second, 2), third, fitted(fourth, half)]
        return [output(x) for output, x in zip(self.outputs, resized, strict=True)]


_MODULES: dict[str, Callable[[Sequence[int]], nn.Module]] = {
    "feature2pyramid": FeatureToPyramid,
    "multi_level": MultiLevel,
}


class PyramidNeck(nn.Module):
    """LayerNorm on every map, if asked for, and a pyramid of them."""

    def __init__(self, channels_in: Sequence[int], *, norm: bool, pyramid: str) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ChannelNorm(width) if norm else nn.Identity() for width in channels_in)
        self.pyramid = None if pyramid == "none" else _MODULES[pyramid](channels_in)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return one map per feature (B, C, h, w), shallow first as given."""
        maps = [norm(feature) for norm, feature in zip(self.norms, features, strict=True)]
        return maps if self.pyramid is None else self.pyramid(maps)
