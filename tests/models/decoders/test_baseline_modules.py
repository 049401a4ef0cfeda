"""The baselines' heads against their description written out."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from setr.models.decoders.fcn import FCNHeadSpec
from setr.models.decoders.fcn_module import FCNHead
from setr.models.decoders.semantic_fpn import FPNSpec
from setr.models.decoders.semantic_fpn_modules import FPNNeck, SemanticFPNHead


def stage(module: nn.Module, x: Tensor) -> Tensor:
    return F.relu(module.bn(F.conv2d(x, module.conv.weight, padding=1)))


@pytest.mark.parametrize(("num_convs", "concatenate"), [(2, True), (1, False)])
def test_fcn_head(num_convs: int, concatenate: bool) -> None:
    torch.manual_seed(0)
    head = FCNHead(FCNHeadSpec(12, 8, num_convs, concatenate), 5).eval()
    x = torch.randn(2, 12, 6, 7)
    expected = x
    for module in head.convs:
        expected = stage(module, expected)
    if concatenate:
        expected = stage(head.fuse, torch.cat([x, expected], dim=1))
    torch.testing.assert_close(head([x], (48, 56)), head.classifier(expected))
    assert head.classifier.kernel_size == (1, 1)


def test_fcn_head_drops_channels_in_training() -> None:
    head = FCNHead(FCNHeadSpec(4, 16, 1, False, dropout=0.5), 2).train()
    seen: list[Tensor] = []
    head.classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    head([torch.randn(4, 4, 5, 5)], (40, 40))
    assert (seen[0].flatten(2).abs().sum(dim=2) == 0).any()


@pytest.mark.parametrize("sizes", [((16, 8), (8, 4), (4, 2), (2, 1)), ((15, 9), (8, 5), (4, 3), (2, 2))])
def test_semantic_fpn(sizes: tuple[tuple[int, int], ...]) -> None:
    torch.manual_seed(0)
    spec = FPNSpec((4, 8, 12, 16), channels=6, head_channels=5)
    neck, head = FPNNeck(spec).eval(), SemanticFPNHead(spec, 3).eval()
    features = [torch.randn(2, width, *size) for width, size in zip(spec.in_channels, sizes, strict=True)]
    sums = [lateral(feature) for lateral, feature in zip(neck.laterals, features, strict=True)]
    for level in (2, 1, 0):
        sums[level] = sums[level] + F.interpolate(sums[level + 1], size=sizes[level], mode="nearest")
    pyramid = [output(x) for output, x in zip(neck.outputs, sums, strict=True)]
    for ours, plain in zip(neck(features), pyramid, strict=True):
        torch.testing.assert_close(ours, plain)
    assert [len(branch) for branch in head.branches] == [1, 1, 2, 3]
    total = stage(head.branches[0][0], pyramid[0])
    for level in (1, 2, 3):
        x = pyramid[level]
        for module in head.branches[level]:
            x = stage(module, x)
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        total = total + F.interpolate(x, size=sizes[0], mode="bilinear", align_corners=False)
    logits = head(pyramid, (64, 32))
    assert logits.shape[-2:] == sizes[0]
    torch.testing.assert_close(logits, head.classifier(total), rtol=1e-5, atol=1e-5)


def test_fpn_convolutions_have_bias_and_no_norm() -> None:
    neck = FPNNeck(FPNSpec((4, 8), channels=6))
    assert sorted(name.split(".")[0] for name in neck.state_dict()) == ["laterals"] * 4 + ["outputs"] * 4
    assert not any(isinstance(module, nn.BatchNorm2d) for module in neck.modules())
