"""The encoder: timm's names, taps without final norm, positions resized at run time, class-token rule, padding."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from setr.errors import InputError
from setr.models.encoder import TappedVisionTransformer, initialise_encoder, resize_positions
from setr.models.segmenter import Segmenter
from setr.models.specification import EncoderSize
from setr.models.variants import ENCODERS, MINIATURES

TINY = EncoderSize("tiny", 32, depth=4, num_heads=2, patch_size=8)


def make(
    *, keep: bool = True, last_tap: int = 3, size: EncoderSize = TINY, **options: object
) -> TappedVisionTransformer:
    torch.manual_seed(0)
    encoder = TappedVisionTransformer(size, (32, 32), keep_class_token=keep, last_tap=last_tap, **options)  # type: ignore[arg-type]
    initialise_encoder(encoder, "authors")
    return encoder.eval()


def plain_bilinear(grid: np.ndarray, h: int, w: int) -> np.ndarray:
    """Bilinear resize of (gh, gw, C) with align_corners False, written out."""

    def weights(source: int, target: int) -> np.ndarray:
        matrix = np.zeros((target, source))
        for row in range(target):
            centre = max((row + 0.5) * source / target - 0.5, 0.0)
            low = int(centre)
            matrix[row, low] += 1 - (centre - low)
            matrix[row, min(low + 1, source - 1)] += centre - low
        return matrix

    return np.einsum("yg,xk,gkc->yxc", weights(grid.shape[0], h), weights(grid.shape[1], w), grid)


def plain_forward(encoder: TappedVisionTransformer, images: Tensor) -> list[Tensor]:
    """Every layer's patch tokens, attention written out, for images of the encoder's own size."""
    x = encoder.patch_embed.proj(images)
    b, c, h, w = x.shape
    x = torch.cat([encoder.cls_token.expand(b, -1, -1), x.flatten(2).transpose(1, 2)], dim=1) + encoder.pos_embed
    if not encoder.keep_class_token:
        x = x[:, 1:]
    outputs = []
    for block in encoder.blocks:
        heads = block.attn.num_heads
        q, k, v = block.attn.qkv(block.norm1(x)).reshape(b, -1, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
        attention = (q @ k.transpose(-2, -1) * (c // heads) ** -0.5).softmax(dim=-1)
        x = x + block.attn.proj((attention @ v).transpose(1, 2).reshape(b, -1, c))
        x = x + block.mlp.fc2(torch.nn.functional.gelu(block.mlp.fc1(block.norm2(x))))
        outputs.append(x[:, -h * w :].transpose(1, 2).reshape(b, c, h, w))
    return outputs


def test_table_1_and_the_miniatures() -> None:
    assert [(e.depth, e.embed_dim, e.num_heads) for e in ENCODERS.values()] == [(12, 768, 12), (24, 1024, 16)]
    assert all(e.patch_size == 16 and e.mlp_ratio == 4 for e in ENCODERS.values())
    large, base = MINIATURES["t-large"], MINIATURES["t-base"]
    assert large.depth > base.depth
    assert large.embed_dim > base.embed_dim
    assert all(e.embed_dim // e.num_heads == 32 for e in (large, base))


def test_parameter_names_are_timms() -> None:
    timm_model = VisionTransformer(img_size=32, patch_size=8, embed_dim=32, depth=4, num_heads=2, num_classes=10)
    theirs = {name for name in timm_model.state_dict() if not name.startswith(("norm.", "head."))}
    assert set(make().state_dict()) == theirs


@pytest.mark.parametrize("decoder", ["naive", "pup", "mla"])
def test_taps_equal_the_reference(decoder: str, reference: Path, reference_model: Callable[[str], Segmenter]) -> None:
    arrays = np.load(reference / f"tiny_{decoder}_64x64.npz")
    with torch.no_grad():
        features = reference_model(decoder).encoder(torch.from_numpy(arrays["input"]), (0, 1, 2, 3))
    for index, feature in enumerate(features):
        np.testing.assert_allclose(feature.numpy(), arrays[f"backbone_{index}"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("keep", [True, False])
def test_taps_equal_the_plain_formulation(keep: bool) -> None:
    encoder = make(keep=keep)
    images = torch.randn(2, 3, 32, 32)
    expected = plain_forward(encoder, images)
    for tap, feature in zip((2, 0, 3), encoder(images, (2, 0, 3)), strict=True):
        torch.testing.assert_close(feature, expected[tap], rtol=0, atol=2e-5)
    assert encoder.blocks[0].attn.fused_attn


@pytest.mark.parametrize("target", [(4, 4), (7, 5), (2, 9), (48, 31), (1, 1), (2, 8)])
def test_positions_resize_in_two_dimensions(target: tuple[int, int]) -> None:
    table = torch.randn(1, 17, 6)
    resized = resize_positions(table, (4, 4), target)
    expected = plain_bilinear(table[0, 1:].numpy().reshape(4, 4, 6), *target).reshape(-1, 6)
    np.testing.assert_allclose(resized[0, 1:].numpy(), expected, rtol=0, atol=1e-6)
    assert torch.equal(resized[:, 0], table[:, 0])


def test_positions_of_a_table_that_is_not_square() -> None:
    table = torch.randn(1, 1 + 2 * 6, 3)
    resized = resize_positions(table, (2, 6), (5, 4))
    expected = plain_bilinear(table[0, 1:].numpy().reshape(2, 6, 3), 5, 4).reshape(-1, 3)
    np.testing.assert_allclose(resized[0, 1:].numpy(), expected, rtol=0, atol=1e-6)


def test_the_same_number_of_patches_in_another_shape_is_resized_unless_asked() -> None:
    table = torch.randn(1, 17, 6)
    assert torch.equal(resize_positions(table, (4, 4), (2, 8), by_count=True), table)
    assert not torch.equal(resize_positions(table, (4, 4), (2, 8)), table)


@pytest.mark.parametrize("size", [(30, 41), (33, 32), (8, 8), (3, 70), (64, 24)])
def test_any_image_size_is_padded_with_zeros_right_and_bottom(size: tuple[int, int]) -> None:
    encoder = make()
    images = torch.randn(1, 3, *size)
    rows, columns = (-(-side // 8) for side in size)
    padded = torch.zeros(1, 3, rows * 8, columns * 8)
    padded[:, :, : size[0], : size[1]] = images
    got, expected = encoder(images, (3,))[0], encoder(padded, (3,))[0]
    assert got.shape == (1, 32, rows, columns)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_class_token_takes_part_or_leaves_before_the_first_layer() -> None:
    images = torch.randn(1, 3, 32, 32)
    for keep in (True, False):
        encoder = make(keep=keep)
        before = encoder(images, (3,))[0]
        with torch.no_grad():
            encoder.cls_token.add_(1.0)
        assert torch.equal(encoder(images, (3,))[0], before) != keep
        assert encoder.cls_token.requires_grad == keep


def test_only_the_layers_up_to_the_last_tap_run() -> None:
    encoder = make(last_tap=2)
    ran: list[int] = []
    for index, block in enumerate(encoder.blocks):
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
    encoder(torch.randn(1, 3, 32, 32), (0, 2))
    assert ran == [0, 1, 2]
    assert not any(parameter.requires_grad for parameter in encoder.blocks[3].parameters())


def test_activation_checkpointing_changes_no_gradient() -> None:
    encoder = make().train()
    images = torch.randn(1, 3, 32, 32)
    gradients = []
    for checkpointing in (False, True):
        encoder.grad_checkpointing = checkpointing
        encoder.zero_grad()
        sum(feature.square().sum() for feature in encoder(images, (1, 3))).backward()
        gradients.append([parameter.grad.clone() for parameter in encoder.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed, rtol=0, atol=1e-6)


@pytest.mark.parametrize("crop", [(30, 32), (32, 0), (32, -8)])
def test_a_crop_that_is_no_multiple_of_the_patch_is_one_line(crop: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=r"crop_size is not a multiple of the patch") as raised:
        TappedVisionTransformer(TINY, crop, keep_class_token=True, last_tap=3)
    assert "\n" not in str(raised.value)


def test_initialisation_follows_its_source() -> None:
    size = EncoderSize("wide", 128, depth=2, num_heads=4, patch_size=8)
    encoder = make(size=size, last_tap=1)
    weights = {name: module for name, module in encoder.named_modules() if isinstance(module, torch.nn.Linear)}
    for module in weights.values():
        assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert not module.bias.any()
    assert encoder.pos_embed.std().item() == pytest.approx(0.02, rel=0.1)
    initialise_encoder(encoder, "mmseg")
    joint = encoder.blocks[0].attn.qkv.weight
    assert joint.abs().max() <= (6 / (4 * 128)) ** 0.5
    assert joint.std().item() == pytest.approx((2 / (4 * 128)) ** 0.5, rel=0.05)
    assert 0 < encoder.blocks[0].mlp.fc1.bias.abs().max() < 1e-5
    assert encoder.patch_embed.proj.weight.std().item() == pytest.approx((2 / (3 * 64)) ** 0.5, rel=0.05)
