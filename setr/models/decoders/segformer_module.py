"""The module of SegFormer's decoder, in both forms."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from setr.models.decoders.blocks import ChannelLinear, ConvNormAct, fitted, initialise_head
from setr.models.decoders.segformer import SegFormerSpec


class SegFormerHead(nn.Module):
    """Projections, and one 1x1 convolution (BatchNorm, ReLU) over them at the first map's size; dropout; classifier."""

    def __init__(self, spec: SegFormerSpec, num_classes: int) -> None:
        super().__init__()
        self.deepest_first = spec.form == "original"
        project = ChannelLinear if spec.form == "original" else _convolution
        self.projections = nn.ModuleList(project(width, spec.channels) for width in spec.channels_in)
        self.fuse = ConvNormAct(len(spec.channels_in) * spec.channels, spec.channels, 1)
        self.dropout = nn.Dropout2d(spec.dropout)
        self.classifier = nn.Conv2d(spec.channels, num_classes, 1)
        initialise_head(self, "mmseg")
        if spec.form == "original":
            self.classifier.reset_parameters()  # as PyTorch makes it

    def forward(self, features: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
        """Return logits (B, K, h, w) at the first map's resolution.

        The joint convolution is 1x1, so each map goes through its share of it before the resize, and the sum is what
        the concatenation would give: neither that nor the maps at full width are ever held at the first map's size.
        """
        maps = [project(feature) for project, feature in zip(self.projections, features, strict=True)]
        size = (maps[0].shape[-2], maps[0].shape[-1])
        if self.deepest_first:
            maps.reverse()
        widths = [0]
        for x in maps:
            widths.append(widths[-1] + x.shape[1])
        weight = self.fuse.conv.weight
        shares = [F.conv2d(x, weight[:, a:b]) for x, (a, b) in zip(maps, pairwise(widths), strict=True)]
        total = fitted(shares[0], size)
        for share in shares[1:]:
            total = total + fitted(share, size)
        return self.classifier(self.dropout(F.relu(self.fuse.bn(total), inplace=True)))


def _convolution(in_channels: int, channels: int) -> ConvNormAct:
    return ConvNormAct(in_channels, channels, 1)
