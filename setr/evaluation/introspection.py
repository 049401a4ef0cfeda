"""What a model computes inside, for figures: features, decoder stages, attention, roll-out, position similarity.

Shapes: B images, C channels, h w tokens, T = h*w tokens or 1 + h*w with the class token first, P points. Layers are
counted from 0 here, as in `setr.models.encoder`; the paper's Z^24 is layer 23.

The fused attention kernel does not return its weights, so they are computed again from each layer's queries and keys,
layer by layer and head by head: all maps of T-Large at 768 x 768 would need 8 GB.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from setr.errors import InputError
from setr.models.decoders.blocks import ConvNormAct
from setr.models.decoders.mla_modules import MLANeck
from setr.models.encoder import TappedVisionTransformer
from setr.models.segmenter import Segmenter

Point = tuple[int, int]  # row, column of a token


@dataclass(frozen=True)
class Attention:
    """The attention of P points in every layer; each point's weights over all tokens, class token included, sum to 1.

    The class token's share is what is missing from a map (h,w) to 1.
    """

    points: tuple[Point, ...]
    paid: Tensor  # (layers, heads, P, h, w): the points' rows, how much of each token they take in
    received: Tensor  # (layers, heads, P, h, w): the points' columns, how much each token takes in of them
    rollout: Tensor  # (layers, P, h, w): attention from the points' outputs of a layer back to the image's tokens


def attention_weights(queries: Tensor, keys: Tensor) -> Tensor:
    """Returns softmax(Q K^T / sqrt(d)) (..., T, T) of queries and keys (..., T, d): rows sum to one."""
    return (queries @ keys.transpose(-2, -1) * queries.shape[-1] ** -0.5).softmax(-1)


def roll_out(before: Tensor | None, attention: Tensor) -> Tensor:
    """Returns the roll-out (T,T) after one more layer, whose attention (T,T) is the mean over its heads.

    Half of a token passes a layer by the residual connection: (A + I) / 2, whose rows sum to one as A's do, times what
    was rolled out before; None before the first layer (Abnar & Zuidema 2020, Quantifying Attention Flow, section 3).
    """
    mixed = 0.5 * (attention + torch.eye(len(attention), dtype=attention.dtype, device=attention.device))
    return mixed if before is None else mixed @ before


@torch.no_grad()
def attention_of_points(model: Segmenter, images: Tensor, points: Sequence[Point]) -> Attention:
    """Returns the attention of the tokens `points` (row, column) in every layer for one normalised image (1,3,H,W).

    Raises InputError E_FIGURE for a model without attention, or a point outside its grid.
    """
    encoder = _transformer(model)
    h, w = _grid(encoder, images)
    outside = [point for point in points if not (0 <= point[0] < h and 0 <= point[1] < w)]
    if outside:
        raise InputError(
            "E_FIGURE", "no such token", found=outside[0], expected=f"rows 0 to {h - 1}, columns to {w - 1}"
        )
    prefix = int(encoder.keep_class_token)
    index = torch.tensor([prefix + row * w + column for row, column in points], device=images.device)
    paid: list[Tensor] = []
    received: list[Tensor] = []
    rolled: list[Tensor] = []
    state: Tensor | None = None

    def note(attention: nn.Module, output: Tensor) -> None:
        nonlocal state
        rows, columns, mean = [], [], None
        for weights in _head_weights(attention, output):
            rows.append(weights[index, prefix:])
            columns.append(weights[prefix:, index].T)
            mean = weights if mean is None else mean + weights
        assert mean is not None
        state = roll_out(state, mean / len(rows))
        paid.append(torch.stack(rows))
        received.append(torch.stack(columns))
        rolled.append(state[index, prefix:])

    with _evaluating(model), _hooked([(block.attn.qkv, _after(block.attn, note)) for block in _blocks(encoder)]):
        encoder(images, range(len(encoder.blocks)))
    return Attention(
        points=tuple(points),
        paid=torch.stack(paid).unflatten(-1, (h, w)),
        received=torch.stack(received).unflatten(-1, (h, w)),
        rollout=torch.stack(rolled).unflatten(-1, (h, w)),
    )


@torch.no_grad()
def encoder_features(model: Segmenter, images: Tensor) -> list[Tensor]:
    """Returns the output (C,h,w) of each layer for one normalised image (1,3,H,W); of each stage, for a ResNet."""
    encoder = model.encoder
    layers = len(encoder.blocks) if isinstance(encoder, TappedVisionTransformer) else 4
    with _evaluating(model):
        return [feature[0] for feature in encoder(images, range(layers))]


@torch.no_grad()
def decoder_stages(model: Segmenter, images: Tensor) -> list[tuple[str, Tensor]]:
    """Returns name and features (C,h,w) of each stage of neck and decode head, and the logits (K,h,w), in their order.

    A stage is a convolution with BatchNorm and ReLU before its resize: PUP's U^1 to U^4, the streams of MLA's neck.
    """
    found: list[tuple[str, Tensor]] = []
    if isinstance(model.neck, MLANeck):
        named = [(f"stream {number}", part) for number, part in enumerate(model.neck.extractions, start=1)]
    else:
        parts = [part for part in model.decode_head.modules() if isinstance(part, ConvNormAct)]
        named = [(f"U{number}", part) for number, part in enumerate(parts, start=1)]

    def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda module, inputs, output: found.append((name, output[0].detach().clone()))

    with _evaluating(model), _hooked([(part, keep(name)) for name, part in named]):
        logits = model.head_logits(images)[0]
    return [*found, ("logits", logits[0])]


@torch.no_grad()
def position_similarity(model: Segmenter) -> Tensor:
    """Returns the cosine similarity (h,w,h,w) of each pair of position embeddings, the class token's left out.

    Raises InputError E_FIGURE for a model without a position table.
    """
    encoder = _transformer(model)
    table = F.normalize(encoder.pos_embed[0, 1:].float(), dim=-1)
    return (table @ table.T).unflatten(1, encoder.grid_size).unflatten(0, encoder.grid_size)


def principal_colours(features: Tensor) -> np.ndarray:
    """Returns the first three principal components of features (C,h,w) as colours (h,w,3) in [0, 1].

    The components are those of all positions; one range, from the 1st to the 99th percentile of all three, is stretched
    to [0, 1]. The sign of a component is arbitrary: its largest loading is made positive. Fewer than three channels
    leave the rest at a half; a constant feature is grey.
    """
    values = features.detach().flatten(1).T.double().cpu()
    values = values - values.mean(0)
    _, vectors = torch.linalg.eigh(values.T @ values / max(1, len(values) - 1))
    loadings = vectors.flip(1)[:, :3]
    largest = loadings.gather(0, loadings.abs().argmax(0, keepdim=True))
    components = (values @ (loadings * torch.where(largest < 0, -1.0, 1.0))).numpy()
    low, high = np.percentile(components, (1, 99))
    colours = np.full((len(components), 3), 0.5)
    if high - low > 1e-12:
        colours[:, : components.shape[1]] = np.clip((components - low) / (high - low), 0, 1)
    return colours.reshape(*features.shape[1:], 3)


def grid_points(grid: Point, rows: int, columns: int) -> list[Point]:
    """Returns rows x columns tokens, evenly spread over a grid of h x w, each once."""
    down = [(2 * index + 1) * grid[0] // (2 * rows) for index in range(rows)]
    across = [(2 * index + 1) * grid[1] // (2 * columns) for index in range(columns)]
    return list(dict.fromkeys((row, column) for row in down for column in across))


def token_of(x: float, y: float, size: Point, grid: Point) -> Point:
    """Returns the token (row, column) of a grid (h,w) that holds pixel x, y of an image of `size` (H,W)."""
    return (min(int(y * grid[0] / size[0]), grid[0] - 1), min(int(x * grid[1] / size[1]), grid[1] - 1))


def token_grid(model: Segmenter, size: Point) -> Point:
    """Returns the tokens (h,w) of an image of `size` (H,W pixels)."""
    stride = _transformer(model).size.patch_size
    return (-(-size[0] // stride), -(-size[1] // stride))


def _transformer(model: Segmenter) -> TappedVisionTransformer:
    if not isinstance(model.encoder, TappedVisionTransformer):
        raise InputError("E_FIGURE", "the model has no attention and no positions", expected="a SETR or Hybrid model")
    return model.encoder


def _grid(encoder: TappedVisionTransformer, images: Tensor) -> Point:
    stride = encoder.size.patch_size
    return (-(-images.shape[-2] // stride), -(-images.shape[-1] // stride))


def _blocks(encoder: TappedVisionTransformer) -> list[Any]:
    return list(encoder.blocks)


def _after(attention: nn.Module, note: Callable[[nn.Module, Tensor], None]) -> Callable[[nn.Module, Any, Tensor], None]:
    return lambda module, inputs, output: note(attention, output)


def _head_weights(attention: Any, joint: Tensor) -> Iterator[Tensor]:
    """Yields the weights (T,T) of each head from the joint output (1,T,3C) of timm's query-key-value matrix."""
    queries, keys, _ = joint[0].float().unflatten(-1, (3, attention.num_heads, -1)).permute(1, 2, 0, 3)
    for query, key in zip(attention.q_norm(queries), attention.k_norm(keys), strict=True):
        yield attention_weights(query, key)


@contextmanager
def _hooked(hooks: Sequence[tuple[nn.Module, Callable[..., None]]]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
