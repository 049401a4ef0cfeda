"""The modules of MLA: neck and head."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from setr.models.decoders.blocks import ChannelNorm, ConvNormAct, upsample
from setr.models.decoders.mla import MLASpec


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
