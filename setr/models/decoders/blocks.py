"""What decoders are built of, and the two ways in which their modules are filled with random values.

Every head maps features (B, C, h, w) to logits *before the last bilinear step*, which the loss or the segmenter does
by size. That is exact: a 1x1 convolution and a bilinear resize commute (the weights of a resize sum to one), so heads
classify first and upsample after, and a 1x1 convolution between two stages runs before the resize in front of it.

Order: wherever there is one module per layer (`norms.i`, `projections.i`, `extractions.i`, `branches.i`, auxiliary
heads), i counts from the **shallowest** layer, and so do the channels that the MLA classifier reads. mmsegmentation
stores `feat_extract`, `up_convs` and `auxiliary_head` of MLA deepest first, and its classifier reads deepest first.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


class ChannelLinear(nn.Linear):
    """Linear over the channels of (B, C, h, w); no copy for features that come from tokens."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C', h, w), channels_last in memory."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def fitted(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return x (B, C, h, w) resized bilinearly (align_corners False) to `size`; x itself if it has it."""
    # While exporting, sizes are symbols: comparing them would fix the image size for good.
    if not torch.compiler.is_exporting() and tuple(x.shape[-2:]) == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


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
