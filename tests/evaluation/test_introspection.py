"""Attention against timm's plain kernel, roll-out against its definition, stages and colours of tiny models."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from setr.errors import InputError
from setr.evaluation.introspection import (
    attention_of_points,
    attention_weights,
    decoder_stages,
    encoder_features,
    grid_points,
    position_similarity,
    principal_colours,
    token_grid,
    token_of,
)
from setr.models.segmenter import Segmenter, build_model

POINTS = [(0, 0), (2, 1), (3, 3)]


def tiny(variant: str) -> Segmenter:
    torch.manual_seed(3)
    model = build_model(variant, num_classes=5, crop_size=(32, 32), scale="miniature")
    with torch.no_grad():
        for name, parameter in model.encoder.named_parameters():
            if name.endswith("attn.qkv.weight"):
                parameter.mul_(5)  # attention that is not even
    return model


def images() -> Tensor:
    return torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def plain_attention(model: Segmenter, inputs: Tensor) -> list[np.ndarray]:
    """Returns the weights (heads,T,T) of each layer that timm's own unfused attention computes."""
    found: list[np.ndarray] = []
    handles = []
    for block in model.encoder.blocks:
        block.attn.fused_attn = False
        handles.append(
            block.attn.attn_drop.register_forward_hook(
                lambda module, arguments, output: found.append(output[0].double().numpy())
            )
        )
    with torch.no_grad():
        model.eval().encoder(inputs, range(len(model.encoder.blocks)))
    for block, handle in zip(model.encoder.blocks, handles, strict=True):
        handle.remove()
        block.attn.fused_attn = True
    return found


def test_weights_are_a_softmax_of_scaled_products() -> None:
    queries, keys = torch.randn(2, 3, 7, 4, dtype=torch.float64).unbind(0)
    weights = attention_weights(queries, keys)
    expected = np.exp(np.einsum("hqd,hkd->hqk", queries.numpy(), keys.numpy()) / np.sqrt(4))
    expected /= expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(weights.numpy(), expected)
    np.testing.assert_allclose(weights.sum(-1).numpy(), 1.0)


@pytest.mark.parametrize(("variant", "prefix"), [("setr-pup", 1), ("setr-mla", 0), ("hybrid-base", 1)])
def test_attention_is_what_the_layers_compute(variant: str, prefix: int) -> None:
    model = tiny(variant)
    expected = plain_attention(model, images())
    attention = attention_of_points(model, images(), POINTS)
    layers, heads = len(model.encoder.blocks), model.encoder.size.num_heads
    assert attention.paid.shape == attention.received.shape == (layers, heads, 3, 4, 4)
    rows = [prefix + row * 4 + column for row, column in POINTS]
    rolled = np.eye(16 + prefix)
    for layer, weights in enumerate(expected):
        paid, received = attention.paid[layer].flatten(2).numpy(), attention.received[layer].flatten(2).numpy()
        np.testing.assert_allclose(paid, weights[:, rows, prefix:], atol=1e-5)
        np.testing.assert_allclose(received, weights[:, prefix:, rows].transpose(0, 2, 1), atol=1e-5)
        np.testing.assert_allclose(paid.sum(-1), 1 - (weights[:, rows, 0] if prefix else 0), atol=1e-5)
        # Abnar & Zuidema: mean over heads, half the residual, rows to one, product with the layers below.
        mixed = weights.mean(0) + np.eye(len(rolled))
        rolled = mixed / mixed.sum(-1, keepdims=True) @ rolled
        np.testing.assert_allclose(rolled.sum(-1), 1.0)
        np.testing.assert_allclose(attention.rollout[layer].flatten(1).numpy(), rolled[rows][:, prefix:], atol=1e-5)
    assert weights.max() > 1.1 * weights.mean()


def test_models_are_left_as_they_were() -> None:
    model = tiny("setr-naive-base").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attention_of_points(model, images(), POINTS)
    decoder_stages(model, images())
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("variant", "layers", "names"),
    [
        ("setr-naive-base", 4, ["U1", "logits"]),
        ("setr-pup", 6, ["U1", "U2", "U3", "logits"]),
        ("setr-mla", 6, ["stream 1", "stream 2", "stream 3", "stream 4", "logits"]),
        ("fcn", 4, ["U1", "U2", "U3", "logits"]),
    ],
)
def test_features_and_stages(variant: str, layers: int, names: list[str]) -> None:
    model = tiny(variant)
    features, stages = encoder_features(model, images()), decoder_stages(model, images())
    assert len(features) == layers
    assert [name for name, _ in stages] == names
    assert stages[-1][1].shape[0] == 5
    if variant == "setr-pup":
        assert [tuple(value.shape) for _, value in stages[:-1]] == [(32, 4, 4), (32, 8, 8), (32, 16, 16)]
    with torch.no_grad():
        expected = model.eval().head_logits(images())[0][0]
    assert torch.equal(stages[-1][1], expected)


def test_positions_are_like_themselves_and_symmetric() -> None:
    similarity = position_similarity(tiny("setr-pup"))
    assert similarity.shape == (4, 4, 4, 4)
    matrix = similarity.flatten(2).flatten(0, 1)
    assert torch.allclose(matrix.diagonal(), torch.ones(16))
    assert torch.allclose(matrix, matrix.T)


def test_components_are_colours_whose_sign_is_settled() -> None:
    across = torch.linspace(-1, 1, 12).expand(8, 12)
    down = torch.linspace(-1, 1, 8)[:, None].expand(8, 12)
    features = torch.stack([9 * across, 4 * down, 0.1 * across * down, 0 * down])
    colours = principal_colours(features)
    assert colours.shape == (8, 12, 3)
    assert (np.diff(colours[:, :, 0], axis=1) >= 0).all()  # the strongest first, its loading positive
    assert (np.diff(colours[:, :, 1], axis=0) >= 0).all()
    assert (colours.min(), colours.max()) == (0, 1)
    np.testing.assert_allclose(principal_colours(features.flip(0)), colours, atol=1e-9)
    assert (principal_colours(torch.ones(2, 3, 3)) == 0.5).all()


def test_points_of_a_grid_and_of_pixels() -> None:
    model = tiny("setr-naive-base")
    assert token_grid(model, (32, 33)) == (4, 5)
    assert grid_points((4, 6), 2, 3) == [(1, 1), (1, 3), (1, 5), (3, 1), (3, 3), (3, 5)]
    assert grid_points((1, 1), 2, 3) == [(0, 0)]
    assert token_of(0, 0, (100, 200), (4, 4)) == (0, 0)
    assert token_of(199.9, 50, (100, 200), (4, 4)) == (2, 3)


def test_what_has_no_attention_is_refused() -> None:
    model: Any = tiny("fcn")
    for function, arguments in ((attention_of_points, (images(), POINTS)), (position_similarity, ())):
        with pytest.raises(InputError, match=r"E_FIGURE.*no attention"):
            function(model, *arguments)
    with pytest.raises(InputError, match=r"E_FIGURE.*found \(4, 0\)"):
        attention_of_points(tiny("setr-pup"), images(), [(4, 0)])
