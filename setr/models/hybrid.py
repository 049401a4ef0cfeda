"""ResNets without classifier: the baselines' backbones, and the CNN in front of Hybrid's transformer.

`v1c` is the ResNet with three 3x3 convolutions as stem that mmsegmentation names ResNetV1c (timm: resnet101c,
resnet50c). Where a stage keeps its resolution it dilates instead, and its first block dilates half as much
(contract_dilation). `bit` is the pre-activation ResNet with GroupNorm that Big Transfer's 21k weights need.
"""

from collections.abc import Sequence
from functools import partial

from timm.layers import GroupNormAct, StdConv2d
from timm.models.resnet import Bottleneck, ResNet
from timm.models.resnetv2 import ResNetV2
from torch import Tensor, nn

from setr.models.specification import ResNetSpec


class ResNetEncoder(nn.Module):
    """A timm ResNet (under `body`, timm's names) whose forward returns stage outputs."""

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        self.spec = spec
        self.body: ResNet | ResNetV2 = _v1c(spec) if spec.kind == "v1c" else _bit(spec)

    def forward(self, images: Tensor, taps: Sequence[int]) -> list[Tensor]:
        """Return the outputs (B, C, h, w) of the stages `taps` (0 to 3), in the order asked."""
        body = self.body
        outputs: dict[int, Tensor] = {}
        if isinstance(body, ResNet):
            x = body.maxpool(body.act1(body.bn1(body.conv1(images))))
            for index in range(max(taps) + 1):
                x = getattr(body, f"layer{index + 1}")(x)
                outputs[index] = x
        else:
            x = body.stem(images)
            for index in range(max(taps) + 1):
                x = body.stages[index](x)
                # A pre-activation network owes its last stage a norm; earlier taps are read as they are.
                outputs[index] = body.norm(x) if index == 3 else x
        return [outputs[tap] for tap in taps]


class HybridPatchEmbed(nn.Module):
    """The tokens of Hybrid: one per pixel of the CNN's last map, projected to the hidden size.

    Named as timm's HybridEmbed: `backbone` and `proj` (a 1x1 convolution, the Linear(2048, C) of the authors' class).
    The CNN's stride takes the patch's place.
    """

    def __init__(self, spec: ResNetSpec, embed_dim: int) -> None:
        super().__init__()
        self.backbone = ResNetEncoder(spec)
        self.proj = nn.Conv2d(spec.stage_channels[-1], embed_dim, 1)
        self.stride = spec.output_stride

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C, ceil(H / stride), ceil(W / stride)) for images (B, 3, H, W)."""
        return self.proj(self.backbone(images, (3,))[0])


def _v1c(spec: ResNetSpec) -> ResNet:
    width = spec.base_channels
    return ResNet(
        Bottleneck,  # type: ignore[arg-type]  # timm annotates an instance where it takes the class
        spec.blocks,
        num_classes=0,
        global_pool="",
        output_stride=spec.output_stride,
        stem_type="deep",
        stem_width=width // 2,
        # The width of a bottleneck is planes x base_width / 64: 64 keeps it equal to planes at any size.
        base_width=64,
        channels=(width, 2 * width, 4 * width, 8 * width),
    )


def _bit(spec: ResNetSpec) -> ResNetV2:
    groups = min(32, spec.base_channels)
    return ResNetV2(
        list(spec.blocks),
        channels=spec.stage_channels,
        num_classes=0,
        global_pool="",
        output_stride=spec.output_stride,
        stem_chs=spec.base_channels,
        stem_type="fixed",
        norm_layer=partial(GroupNormAct, num_groups=groups),
        conv_layer=partial(StdConv2d, eps=1e-8),
    )
