"""What a model computes inside, drawn: the paper's Figures 5 to 10 for one image."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from setr.data.loading.transforms import normalise
from setr.evaluation.introspection import (
    Attention,
    Point,
    attention_of_points,
    decoder_stages,
    encoder_features,
    grid_points,
    position_similarity,
    principal_colours,
    token_grid,
)
from setr.models.encoder import TappedVisionTransformer
from setr.models.segmenter import Segmenter
from setr.reporting.figures.image_grid import ColourScale, Mosaic, coloured, fit, photograph, tile_size

POINT_GRID = (2, 3)  # points down and across where none are chosen
_MAPS, _POSITIONS = "magma", "viridis"
_LAYERS_SHOWN = 12  # of one figure of attention; the paper's T-Large has 24
_POSITION_TILES = 8  # down and across
_RED, _WHITE = (230, 40, 40), (255, 255, 255)
_BRIGHT = 99  # percentile of a map that gets the brightest colour: single tokens draw far more than all others
_OWN_RANGE = ColourScale(_MAPS, "0", "what 1 % of the map's tokens exceed")


@dataclass(frozen=True)
class Seen:
    """An image as a figure shows it, and as the model is given it."""

    image: np.ndarray  # uint8 RGB (H,W,3)
    inputs: torch.Tensor  # normalised (1,3,h,w): the image stretched to the crop that the model was trained for

    @property
    def size(self) -> Point:
        """Returns H and W in pixels."""
        return (self.image.shape[0], self.image.shape[1])


def seen(model: Segmenter, image: np.ndarray) -> Seen:
    """Returns the image at the model's crop size, its aspect not kept (as in the authors' scripts): positions fit."""
    height, width = model.spec.image_size
    shrinks = height * width < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(image, (width, height), interpolation=method)
    device = next(model.parameters()).device
    return Seen(image, normalise(torch.from_numpy(resized)[None].to(device)))


def inside_figures(
    model: Segmenter, image: np.ndarray, points: Sequence[Point] = (), *, each_point: bool = True
) -> list[Mosaic]:
    """Returns the figures of one uint8 RGB image (H,W,3): features and, where the model has them, attention, positions.

    `points` are tokens (row, column), by default a grid of them. With `each_point` every point has its figure of all
    heads and layers, otherwise the first alone. Baselines have features only.
    """
    given = seen(model, image)
    found = [features(model, given)]
    if isinstance(model.encoder, TappedVisionTransformer):
        grid = token_grid(model, (given.inputs.shape[-2], given.inputs.shape[-1]))
        chosen = list(dict.fromkeys(points)) or grid_points(grid, *POINT_GRID)
        attention = attention_of_points(model, given.inputs, chosen)
        found.append(attention_by_point(given, attention))
        shown = range(len(chosen)) if each_point else [_middle(chosen, grid)]
        found += [attention_by_layer(given, attention, number) for number in shown]
        found.append(positions(model))
    return found


def features(model: Segmenter, given: Seen) -> Mosaic:
    """Returns each layer's features and each decoder stage's as the colours of three principal components."""
    named = [(f"Z{layer}", value) for layer, value in enumerate(encoder_features(model, given.inputs), start=1)]
    named += decoder_stages(model, given.inputs)
    names = ["image", *(name for name, _ in named)]
    across = min(6, len(names))
    size = tile_size(given.image, across)
    tiles = [photograph(given.image, size), *(_smooth(principal_colours(value), size) for _, value in named)]
    starts = range(0, len(tiles), across)
    return Mosaic(
        "features",
        "Features by layer",
        "Z: what each layer of the encoder (each stage of a ResNet) gives out; U: the decoder's stages. The first "
        "three principal components are red, green and blue, one range for the three; colours do not carry over from "
        "one picture to the next.",
        [tiles[start : start + across] for start in starts],
        [],
        [],
        size,
        titles=[names[start : start + across] for start in starts],
        answers="Figures 5 and 9",
        header=("stage", "channels", "height", "width"),
        numbers=tuple((name, *map(str, value.shape)) for name, value in named),
    )


def attention_by_point(given: Seen, attention: Attention) -> Mosaic:
    """Returns a row for each point: where it is, attention paid and received in the last layer, and roll-out."""
    size = tile_size(given.image, 4, largest=340)
    tiles = []
    for number, point in enumerate(attention.points):
        maps = (
            attention.paid[-1, :, number].mean(0),
            attention.received[-1, :, number].mean(0),
            attention.rollout[-1, number],
        )
        tiles.append([_marked(given, attention, point, size), *(_map(values, size) for values in maps)])
    last = len(attention.paid)
    return Mosaic(
        "attention-points",
        "Attention of chosen points",
        f"The red square is the token asked about. Paid: how much of each token it takes in, in layer {last}, mean of "
        f"the heads; received: how much each token takes in of it; roll-out: paid through all {last} layers, half of "
        "each token kept by the residual connection. Each map has its own range.",
        tiles,
        [_point_name(given, attention, point) for point in attention.points],
        ["point", "paid", "received", "roll-out"],
        size,
        answers="Figures 6, 8 and 10",
        scale=_OWN_RANGE,
        header=("point", "layer", "share on its most attended token (%)", "mean distance (tokens)"),
        numbers=_distances(given, attention),
    )


def attention_by_layer(given: Seen, attention: Attention, number: int) -> Mosaic:
    """Returns the attention that one point pays: a row for each layer, a column for each head, mean and roll-out."""
    layers, heads = attention.paid.shape[:2]
    count = min(layers, _LAYERS_SHOWN)
    chosen = sorted({round(index * (layers - 1) / max(1, count - 1)) for index in range(count)})
    size = tile_size(given.image, heads + 2, largest=220)
    tiles = [
        [
            *(_map(attention.paid[layer, head, number], size) for head in range(heads)),
            _map(attention.paid[layer, :, number].mean(0), size),
            _map(attention.rollout[layer, number], size),
        ]
        for layer in chosen
    ]
    where = _point_name(given, attention, attention.points[number]).replace("\n", " ")
    return Mosaic(
        f"attention-layers-{number + 1}",
        f"Attention by head and layer: {where}",
        "Attention paid by one token: how much of each other token it takes in. Each map has its own range.",
        tiles,
        [f"layer {layer + 1}" for layer in chosen],
        [*(f"head {head + 1}" if heads <= 6 else str(head + 1) for head in range(heads)), "mean", "roll-out"],
        size,
        answers="Figures 8 and 10",
        scale=_OWN_RANGE,
    )


def positions(model: Segmenter) -> Mosaic:
    """Returns the cosine similarity of position embeddings: a tile for each of some positions, over all positions."""
    similarity = position_similarity(model).cpu().numpy()
    h, w = similarity.shape[:2]
    rows, columns = min(h, _POSITION_TILES), min(w, _POSITION_TILES)
    down = [(2 * index + 1) * h // (2 * rows) for index in range(rows)]
    across = [(2 * index + 1) * w // (2 * columns) for index in range(columns)]
    others = similarity.copy()
    others.reshape(h * w, h * w)[np.diag_indices(h * w)] = similarity.min()
    low, high = float(similarity.min()), float(others.max())
    tiles = [[coloured(similarity[y, x], _POSITIONS, low=low, high=high) for x in across] for y in down]
    side = max(w, 120)
    return Mosaic(
        "positions",
        "Similarity of position embeddings",
        "One picture for a position: the cosine similarity of its embedding with that of every other position. The "
        "colours end at the largest similarity of two different positions.",
        tiles,
        [f"row {y + 1}" for y in down],
        [f"column {x + 1}" for x in across],
        (round(side * h / w), side),
        answers="Figure 7",
        scale=ColourScale(_POSITIONS, f"{low:.2f}", f"{high:.2f}"),
    )


def _middle(points: Sequence[Point], grid: Point) -> int:
    """Returns the number of the point that is nearest to the middle of the grid."""
    far = [abs(row - grid[0] / 2) / grid[0] + abs(column - grid[1] / 2) / grid[1] for row, column in points]
    return far.index(min(far))


def _smooth(colours: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns colours (h,w,3) in [0, 1] as uint8 at a size, bilinear."""
    return cv2.resize((colours * 255).round().astype(np.uint8), (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def _map(values: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    array = values.cpu().numpy()
    return fit(coloured(array, _MAPS, low=0.0, high=float(np.percentile(array, _BRIGHT))), size)


def _box(given: Seen, attention: Attention, point: Point) -> tuple[float, float, float, float]:
    """Returns the place x1, y1, x2, y2 of a token in the image, in pixels of the image."""
    h, w = attention.paid.shape[-2:]
    height, width = given.size
    return (point[1] * width / w, point[0] * height / h, (point[1] + 1) * width / w, (point[0] + 1) * height / h)


def _marked(given: Seen, attention: Attention, point: Point, size: tuple[int, int]) -> np.ndarray:
    picture = photograph(given.image, size)
    down, across = size[0] / given.size[0], size[1] / given.size[1]
    x1, y1, x2, y2 = _box(given, attention, point)
    corners = ((round(x1 * across), round(y1 * down)), (round(x2 * across), round(y2 * down)))
    cv2.rectangle(picture, *corners, _WHITE, 5)
    cv2.rectangle(picture, *corners, _RED, 3)
    return picture


def _point_name(given: Seen, attention: Attention, point: Point) -> str:
    x1, y1, x2, y2 = _box(given, attention, point)
    return f"x {(x1 + x2) / 2:.0f}\ny {(y1 + y2) / 2:.0f}"


def _distances(given: Seen, attention: Attention) -> tuple[tuple[str, ...], ...]:
    """Returns for each point and layer the largest share of the heads' mean, and how far attention reaches."""
    h, w = attention.paid.shape[-2:]
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    found = []
    for number, point in enumerate(attention.points):
        distance = torch.hypot((rows - point[0]).float(), (columns - point[1]).float())
        for layer, values in enumerate(attention.paid[:, :, number].mean(1).cpu(), start=1):
            mean = float((values * distance).sum() / values.sum())
            name = _point_name(given, attention, point).replace("\n", " ")
            found.append((name, str(layer), f"{100 * float(values.max()):.1f}", f"{mean:.1f}"))
    return tuple(found)
