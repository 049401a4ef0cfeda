"""Pictures in rows and columns with their names: one drawing, saved as SVG that follows light and dark, or as PNG."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch

from setr.reporting.figures.drawing import INK, PAPER, SETTINGS, Figure, svg

_DOTS = 144  # pixels of a picture to an inch: twice those of a screen, for sharp ones
_WIDTH = 1500  # pixels that a row of tiles takes, about
_GAP = 6  # pixels between pictures
_TITLE = 38  # pixels between rows of pictures with titles
_LINE = 0.2  # inches of a line of text
_LETTER = 0.086  # inches of a letter, roughly
# Letters (points) that can still be read on a phone, where all is made smaller.
_SETTINGS: Any = {**SETTINGS, "font.size": 10.5, "legend.fontsize": 9.5}
_BAR = (1.6, 0.09)  # inches of a colour scale
# What the SVG writer asks of browsers: hard edges, where these pictures are to be made smaller smoothly.
_HARD_EDGES = "image-rendering:crisp-edges;image-rendering:pixelated"

Colour = Sequence[int]  # red, green, blue


@dataclass(frozen=True)
class ColourScale:
    """The meaning of a colour map's ends."""

    colours: str  # matplotlib's name
    low: str
    high: str


@dataclass(frozen=True)
class Mosaic:
    """Pictures uint8 (h,w,3) in rows, all shown at one size; None leaves a place empty."""

    name: str  # file name without suffix
    title: str
    caption: str
    tiles: Sequence[Sequence[np.ndarray | None]]
    rows: Sequence[str]
    columns: Sequence[str]
    tile: tuple[int, int]  # height, width in pixels
    titles: Sequence[Sequence[str]] = ()  # above each picture, where rows and columns have no names
    answers: str = ""  # the paper's figure
    legends: Sequence[Sequence[tuple[str, Colour]]] = ()  # below one another, names with colours
    scale: ColourScale | None = None
    header: tuple[str, ...] = ()  # the numbers behind it
    numbers: tuple[tuple[str, ...], ...] = field(default=())

    @property
    def down(self) -> int:
        """Returns the pixels from one row to the next."""
        return self.tile[0] + (_TITLE if self.titles else _GAP)

    def figure(self) -> Figure:
        """Returns the drawing for the report."""
        with matplotlib.rc_context(_SETTINGS):
            text = svg(_draw(self)).replace(_HARD_EDGES, "image-rendering:auto")
        return Figure(self.name, self.title, self.caption, text, self.header, self.numbers, self.answers)

    def png(self) -> bytes:
        """Returns the drawing as PNG on white, each picture at its own size."""
        file = io.BytesIO()
        with matplotlib.rc_context(_SETTINGS):
            _draw(self).savefig(file, format="png", dpi=_DOTS, facecolor="white", metadata={"Software": None})
        return file.getvalue()


def tile_size(image: np.ndarray, columns: int, *, largest: int = 420) -> tuple[int, int]:
    """Returns height and width in pixels of tiles with the image's aspect, `columns` of them side by side."""
    across = max(40, min(largest, _WIDTH // columns - _GAP))
    return (max(1, round(across * image.shape[0] / image.shape[1])), across)


def fit(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the picture at a size (h,w): averaged where colours shrink, else its own pixels, as ids need."""
    averaged = picture.ndim == 3 and size[0] * size[1] < picture.shape[0] * picture.shape[1]
    return cv2.resize(picture, (size[1], size[0]), interpolation=cv2.INTER_AREA if averaged else cv2.INTER_NEAREST)


def photograph(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a photograph at a size (h,w), smooth where it grows: its pixels carry no meaning of their own."""
    grows = size[0] * size[1] > image.shape[0] * image.shape[1]
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_CUBIC if grows else cv2.INTER_AREA)


def coloured(values: np.ndarray, colours: str, *, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Returns values (h,w) as colours uint8 (h,w,3), from `low` (None: their least) to `high` (their largest)."""
    least = float(values.min()) if low is None else low
    most = float(values.max()) if high is None else high
    return _colour((values - least) / max(most - least, 1e-12), colours)


def _colour(share: np.ndarray, colours: str) -> np.ndarray:
    return np.asarray(matplotlib.colormaps[colours](np.clip(share, 0, 1), bytes=True)[..., :3])


def _draw(mosaic: Mosaic) -> Canvas:
    picture = _composed(mosaic)
    left = 0.1 + _LETTER * max((len(line) for name in mosaic.rows for line in name.split("\n")), default=0)
    top = 0.08 + _LINE * max((1 + name.count("\n") for name in mosaic.columns), default=bool(mosaic.titles))
    inside = (picture.shape[1] / _DOTS, picture.shape[0] / _DOTS)
    width = left + inside[0] + 0.05
    across = [max(1, int(inside[0] / (_LETTER * max(len(name) for name, _ in one) + 0.5))) for one in mosaic.legends]
    lines = [-(-len(one) // columns) for one, columns in zip(mosaic.legends, across, strict=True)]
    depths = [0.08 + (_LINE + 0.02) * count for count in lines]
    bottom = 0.05 + (0.1 if depths else 0) + sum(depths) + (0.34 if mosaic.scale else 0)
    height = top + inside[1] + bottom
    canvas = Canvas(figsize=(width, height))
    axis = canvas.add_axes((left / width, bottom / height, inside[0] / width, inside[1] / height))
    axis.imshow(picture, interpolation="none", aspect="auto")
    axis.set_xticks(_centres(len(mosaic.columns), mosaic.tile[1], mosaic.tile[1] + _GAP), mosaic.columns)
    axis.set_yticks(_centres(len(mosaic.rows), mosaic.tile[0], mosaic.down), mosaic.rows)
    for row, names in enumerate(mosaic.titles):
        for x, name in zip(_centres(len(names), mosaic.tile[1], mosaic.tile[1] + _GAP), names, strict=True):
            axis.text(x, row * mosaic.down - 5, name, ha="center", va="bottom")
    axis.tick_params(top=False, labeltop=True, bottom=False, labelbottom=False, pad=3)
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    for number, (legend, columns) in enumerate(zip(mosaic.legends, across, strict=True)):
        handles = [
            Patch(facecolor=(red / 255, green / 255, blue / 255), edgecolor=PAPER, linewidth=0.5, label=name)
            for name, (red, green, blue) in legend
        ]
        top = (0.02 + sum(depths[number:])) / height
        canvas.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(left / width, top),
            ncols=columns,
            borderaxespad=0,
            borderpad=0,
            handlelength=1.2,
            handleheight=1.0,
            columnspacing=1.4,
            labelspacing=0.35,
        )
    if mosaic.scale:
        _draw_scale(canvas, mosaic.scale, (left, bottom - 0.24), (width, height))
    return canvas


def _draw_scale(canvas: Canvas, scale: ColourScale, place: tuple[float, float], size: tuple[float, float]) -> None:
    """Draws a colour scale; place (of its left lower corner) and size (of the canvas) are in inches."""
    gap = 0.07 + _LETTER * len(scale.low)
    box = ((place[0] + gap) / size[0], place[1] / size[1], _BAR[0] / size[0], _BAR[1] / size[1])
    axis = canvas.add_axes(box)
    axis.imshow(_colour(np.linspace(0, 1, 256)[None], scale.colours), interpolation="none", aspect="auto")
    axis.set_axis_off()
    for x, words, side in ((-0.03, scale.low, "right"), (1.03, scale.high, "left")):
        axis.text(x, 0.5, words, transform=axis.transAxes, ha=side, va="center", fontsize=9.5, color=INK)


def _composed(mosaic: Mosaic) -> np.ndarray:
    """Returns all tiles as one picture uint8 (H,W,4), transparent between them."""
    height, width = mosaic.tile
    rows, columns = len(mosaic.tiles), max(len(row) for row in mosaic.tiles)
    picture = np.zeros(((rows - 1) * mosaic.down + height, columns * (width + _GAP) - _GAP, 4), np.uint8)
    for row, tiles in enumerate(mosaic.tiles):
        for column, tile in enumerate(tiles):
            if tile is not None:
                y, x = row * mosaic.down, column * (width + _GAP)
                picture[y : y + height, x : x + width, :3] = fit(tile, mosaic.tile)
                picture[y : y + height, x : x + width, 3] = 255
    return picture


def _centres(count: int, side: int, step: int) -> list[float]:
    return [index * step + side / 2 - 0.5 for index in range(count)]
