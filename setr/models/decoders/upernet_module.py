"""The module of UPerNet's head, as mmsegmentation 1.2 has it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from setr.models.decoders.blocks import ConvNormAct, fitted, initialise_head
from setr.models.decoders.upernet import UPerNetSpec


class PooledBranch(ConvNormAct):
    """Average over `cells` x `cells` parts of the map, then 1x1 convolution, BatchNorm, ReLU."""

    def __init__(self, in_channels: int, channels: int, cells: int) -> None:
        super().__init__(in_channels, channels, 1)
        self.cells = cells

    def forward(self, x: Tensor, scale: int = 1) -> Tensor:
        """Return (B, channels, cells, cells).

        One image pooled to one cell is one value per channel, which has no variance: it takes the running statistics.
        """
        x = self.conv(averaged(x, self.cells))
        # SyncBatchNorm counts the other ranks' values, too.
        alone = self.training and x.shape[0] * self.cells**2 == 1 and not isinstance(self.bn, nn.SyncBatchNorm)
        if alone:
            bn = self.bn
            x = F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, training=False, eps=bn.eps)
        else:
            x = self.bn(x)
        return F.relu(x, inplace=True)


class UPerNetHead(nn.Module):
    """Pyramid pooling, top-down sums, 3x3 convolutions on all levels but the deepest, one over them all."""

    def __init__(self, spec: UPerNetSpec, num_classes: int) -> None:
        super().__init__()
        *others, deepest = spec.channels_in
        channels = spec.channels
        self.pools = nn.ModuleList(PooledBranch(deepest, channels, cells) for cells in spec.pool_scales)
        self.context = ConvNormAct(deepest + len(spec.pool_scales) * channels, channels, 3)
        self.laterals = nn.ModuleList(ConvNormAct(width, channels, 1) for width in others)
        self.outputs = nn.ModuleList(ConvNormAct(channels, channels, 3) for _ in others)
        self.fuse = ConvNormAct(len(spec.channels_in) * channels, channels, 3)
        self.dropout = nn.Dropout2d(spec.dropout)
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        initialise_head(self, "mmseg")  # whose head this is, in every flavour

    def forward(self, features: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
        """Return logits (B, K, h, w) at the first map's resolution."""
        *others, deepest = features
        pooled = [fitted(branch(deepest), _size(deepest)) for branch in self.pools]
        levels = [lateral(feature) for lateral, feature in zip(self.laterals, others, strict=True)]
        levels.append(self.context(torch.cat([deepest, *pooled], dim=1)))
        for index in reversed(range(len(others))):
            levels[index] = levels[index] + fitted(levels[index + 1], _size(levels[index]))
        outputs = [output(level) for output, level in zip(self.outputs, levels, strict=False)]
        joined = torch.cat([fitted(x, _size(levels[0])) for x in (*outputs, levels[-1])], dim=1)
        return self.classifier(self.dropout(self.fuse(joined)))


def averaged(x: Tensor, cells: int) -> Tensor:
    """Return x (B, C, h, w) averaged over `cells` x `cells` parts, which overlap where they do not divide a side."""
    if not torch.compiler.is_exporting():
        return F.adaptive_avg_pool2d(x, cells)
    # The same as two matrix products: ONNX's translation of the pooling goes wrong where the sides are symbols.
    rows, columns = _shares(x, x.shape[-2], cells), _shares(x, x.shape[-1], cells)
    return rows @ x @ columns.transpose(0, 1)


def _shares(x: Tensor, side: int, cells: int) -> Tensor:
    """Return (cells, side): what each position along a side gives to each cell's average."""
    cell = torch.arange(cells, device=x.device).unsqueeze(1)
    start, end = cell * side // cells, ((cell + 1) * side + cells - 1) // cells
    position = torch.arange(side, device=x.device)
    inside = (position >= start) & (position < end)
    return inside.to(x.dtype) / (end - start)


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]
