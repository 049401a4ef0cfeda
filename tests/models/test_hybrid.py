"""ResNets at a chosen stride and Hybrid's tokens: timm's names, dilations, sizes."""

from dataclasses import replace

import pytest
import timm
import torch
from torch import nn

from setr.models.hybrid import HybridPatchEmbed, ResNetEncoder
from setr.models.segmenter import Segmenter
from setr.models.specification import EncoderSize, ResNetSpec
from setr.models.variants import R50, R101, variant_spec

SMALL = ResNetSpec("small", (1, 2, 2, 2), base_channels=8)


@pytest.mark.parametrize(
    ("spec", "timm_name"),
    [
        (R50, "resnet50c"),
        (R101, "resnet101c"),
        (replace(R101, kind="bit"), "resnetv2_101x1_bit"),
    ],
)
def test_state_dict_takes_timms_weights(spec: ResNetSpec, timm_name: str) -> None:
    with torch.device("meta"):
        ours = ResNetEncoder(spec).body.state_dict()
        theirs = timm.create_model(timm_name, num_classes=0).state_dict()
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in theirs.items()}


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("kind", ["v1c", "bit"])
def test_stages_stop_shrinking_at_the_stride(stride: int, kind: str) -> None:
    encoder = ResNetEncoder(replace(SMALL, output_stride=stride, kind=kind)).eval()
    with torch.no_grad():
        features = encoder(torch.randn(1, 3, 64, 96), (0, 1, 2, 3))
    strides = [min(stage, stride) for stage in (4, 8, 16, 32)]
    assert [tuple(f.shape[1:]) for f in features] == [
        (channels, 64 // s, 96 // s) for channels, s in zip((32, 64, 128, 256), strides, strict=True)
    ]


def test_the_first_block_of_a_dilated_stage_dilates_half_as_much() -> None:
    body = ResNetEncoder(replace(SMALL, output_stride=8)).body
    dilations = [[block.conv2.dilation[0] for block in getattr(body, f"layer{stage}")] for stage in (1, 2, 3, 4)]
    assert dilations == [[1], [1, 1], [1, 2], [2, 4]]
    strides = [[block.conv2.stride[0] for block in getattr(body, f"layer{stage}")] for stage in (1, 2, 3, 4)]
    assert strides == [[1], [2, 1], [1, 1], [1, 1]]
    assert all(block.conv1.stride == (1, 1) for block in body.layer2)
    stem = [module for module in body.conv1 if isinstance(module, nn.Conv2d)]
    assert [(conv.out_channels, conv.kernel_size, conv.stride[0]) for conv in stem] == [
        (4, (3, 3), 2),
        (4, (3, 3), 1),
        (8, (3, 3), 1),
    ]


def test_dilation_computes_the_strided_features_in_between() -> None:
    """At stride 8 the features at even positions before the first dilated 3x3 are those of the strided network."""
    torch.manual_seed(0)
    dilated = ResNetEncoder(replace(SMALL, blocks=(1, 1, 1, 1), output_stride=16)).eval()
    strided = ResNetEncoder(replace(SMALL, blocks=(1, 1, 1, 1))).eval()
    strided.load_state_dict(dilated.state_dict())
    with torch.no_grad():
        images = torch.randn(1, 3, 64, 64)
        torch.testing.assert_close(dilated(images, (3,))[0][..., ::2, ::2], strided(images, (3,))[0])


def test_only_the_stages_up_to_the_last_tap_run() -> None:
    encoder = ResNetEncoder(SMALL).eval()
    encoder.body.layer4.register_forward_hook(lambda *_: pytest.fail("stage 4 ran"))
    encoder(torch.randn(1, 3, 64, 64), (2,))


@pytest.mark.parametrize("size", [(64, 96), (50, 33), (16, 16)])
def test_hybrid_makes_a_token_of_each_pixel_of_the_last_map(size: tuple[int, int]) -> None:
    embed = HybridPatchEmbed(replace(SMALL, output_stride=16), 24).eval()
    with torch.no_grad():
        tokens = embed(torch.randn(1, 3, *size))
    assert tokens.shape == (1, 24, -(-size[0] // 16), -(-size[1] // 16))
    assert embed.proj.weight.shape == (24, 256, 1, 1)


@pytest.mark.parametrize("variant", ["hybrid-base-random", "hybrid-base", "hybrid-deit"])
@pytest.mark.parametrize(("crop", "side"), [(768, 48), (512, 32), (480, 30)])
def test_hybrid_is_a_resnet_50_at_stride_16_under_t_base(variant: str, crop: int, side: int) -> None:
    """The paper's section 4.1: "ResNet-50 based FCN encoder" at output stride 16; crop / 16 tokens a side."""
    spec = variant_spec(variant, num_classes=19, crop_size=(crop, crop))
    assert spec.cnn is not None
    assert (spec.cnn.output_stride, spec.cnn.blocks, spec.cnn.base_channels) == (16, (3, 4, 6, 3), 64)
    assert isinstance(spec.encoder, EncoderSize)
    assert (spec.encoder.embed_dim, spec.encoder.depth, spec.encoder.num_heads) == (768, 12, 12)
    with torch.device("meta"):
        model = Segmenter(spec)
        grid = model.encoder.patch_embed(torch.empty(1, 3, crop, crop))
    assert grid.shape == (1, 768, side, side)
    assert model.encoder.pos_embed.shape == (1, 1 + side * side, 768)
