"""SETR's decoders and auxiliary heads: Naive, PUP (progressive upsampling) and MLA (multi-level aggregation).

Every head maps features (B, C, h, w) to logits *before the last bilinear step*, which the loss or the segmenter does
by size. That is exact: a 1x1 convolution and a bilinear resize commute (the weights of a resize sum to one), so heads
classify first and upsample after, and a 1x1 convolution between two stages runs before the resize in front of it.

Order: wherever there is one module per layer (`norms.i`, `projections.i`, `extractions.i`, `branches.i`, auxiliary
heads), i counts from the **shallowest** layer, and so do the channels that the MLA classifier reads. mmsegmentation
stores `feat_extract`, `up_convs` and `auxiliary_head` of MLA deepest first, and its classifier reads deepest first.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from setr.models.specification import MLASpec, UpHeadSpec


class ConvNormAct(nn.Module):
    """Convolution, BatchNorm (eps 1e-5), ReLU, under the names `conv` and `bn`."""

    def __init__(self, in_channels: int, channels: int, kernel: int, *, bias: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=bias)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor, scale: int = 1) -> Tensor:
        """Return relu(bn(conv(upsample(x, scale)))), the convolution first where the two commute (1x1)."""
        x = upsample(self.conv(x), scale) if self.conv.kernel_size == (1, 1) else self.conv(upsample(x, scale))
        return F.relu(self.bn(x), inplace=True)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm (eps 1e-6) over the channels of (B, C, h, w); no copy for features that come from tokens."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, h, w), channels_last in memory."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


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


class MLANeck(nn.Module):
    """Per layer LayerNorm and 1x1 convolution, sums from the deepest layer to the shallowest, 3x3 on every sum."""

    def __init__(self, spec: MLASpec) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ChannelNorm(spec.in_channels) for _ in range(spec.levels))
        self.projections = nn.ModuleList(
            ConvNormAct(spec.in_channels, spec.neck_channels, 1) for _ in range(spec.levels)
        )
        self.extractions = nn.ModuleList(
            ConvNormAct(spec.neck_channels, spec.neck_channels, 3) for _ in range(spec.levels)
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return one (B, neck_channels, h, w) per feature (B, C, h, w), shallow first as given."""
        streams = [
            projection(norm(feature))
            for norm, projection, feature in zip(self.norms, self.projections, features, strict=True)
        ]
        for index in reversed(range(len(streams) - 1)):
            streams[index] = streams[index] + streams[index + 1]
        return [extraction(stream) for extraction, stream in zip(self.extractions, streams, strict=True)]


class MLAHead(nn.Module):
    """Two 3x3 convolutions per stream, resize, concatenation (shallow first), classifier."""

    def __init__(self, spec: MLASpec, num_classes: int) -> None:
        super().__init__()
        self.spec = spec
        self.branches = nn.ModuleList(
            nn.Sequential(
                ConvNormAct(spec.neck_channels, spec.inner_channels, 3),
                ConvNormAct(spec.inner_channels, spec.head_channels, 3),
            )
            for _ in range(spec.levels)
        )
        self.classifier = nn.Conv2d(
            spec.levels * spec.head_channels,
            num_classes,
            spec.classifier_kernel,
            padding=spec.classifier_kernel // 2,
        )

    def forward(self, features: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
        """Return logits (B, K, h', w') that one bilinear resize to `image_size` completes."""
        x = torch.cat([branch(feature) for branch, feature in zip(self.branches, features, strict=True)], dim=1)
        scale, align_corners = self.spec.up_scale, self.spec.align_corners
        if self.spec.classifier_kernel == 1:
            return upsample(self.classifier(x), scale, align_corners=align_corners)
        return self.classifier(upsample(x, scale, align_corners=align_corners))


def upsample(x: Tensor, scale: int, *, align_corners: bool = False) -> Tensor:
    """Return x (B, C, h, w) resized bilinearly to (B, C, h * scale, w * scale); x itself for scale 1."""
    if scale == 1:
        return x
    size = (x.shape[-2] * scale, x.shape[-1] * scale)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


def initialise_head(head: nn.Module, style: str) -> None:
    """Fill a head or neck with random values: `authors` keeps PyTorch's; `mmseg` Kaiming, classifier normal 0.01."""
    if style != "mmseg":
        return
    for name, module in head.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        if name.endswith("classifier"):
            nn.init.normal_(module.weight, std=0.01)
        else:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
