"""A picture of a data set: some images beside their labels in colour, with the classes' names."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from setr.data.reading.images import read_sample
from setr.data.reading.samples import Dataset, Sample
from setr.errors import SetrError

Palette = Sequence[Sequence[int]]  # red, green, blue of each class

_MARGIN = 8  # pixels
_TEXT = 13  # pixels
_BACKGROUND = (255, 255, 255)
_INK = (32, 32, 32)
_IGNORED = (0, 0, 0)
_MAX_LEGEND = 40  # more classes than this: only those that occur


def preview_sheet(samples: Sequence[Sample], dataset: Dataset, *, rows: int = 4, tile_width: int = 320) -> np.ndarray:
    """Returns uint8 (H, W, 3): per row one sample as image, overlay and labels, and below them the classes' colours.

    Samples are spread evenly over the sequence; one that cannot be read shows its error instead.
    """
    step = max(len(samples) / max(rows, 1), 1.0)
    chosen = [samples[int(index * step)] for index in range(min(rows, len(samples)))]
    present: set[int] = set()
    strips = []
    for sample in chosen:
        try:
            image, label = read_sample(sample, dataset)
        except SetrError as error:
            strips.append(_message(f"{sample.key}: {error}", 3 * tile_width + 2 * _MARGIN))
            continue
        present.update([] if label is None else np.unique(label).tolist())
        strips.append(_strip(sample.key, image, label, dataset, tile_width))
    if not strips:
        strips.append(_message("no samples", 3 * tile_width + 2 * _MARGIN))
    classes = range(dataset.num_classes) if dataset.num_classes <= _MAX_LEGEND else sorted(present - {255})
    strips.append(_legend(dataset, list(classes), 3 * tile_width + 2 * _MARGIN))
    return np.asarray(_stack(strips))


def colorize(label: np.ndarray, palette: Palette) -> np.ndarray:
    """Returns a uint8 label (H, W) as uint8 (H, W, 3) in its classes' colours; values without one (255) are black."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(palette)] = np.asarray(palette, np.uint8).reshape(-1, 3)
    return table[label]


def _strip(key: str, image: np.ndarray, label: np.ndarray | None, dataset: Dataset, width: int) -> Image.Image:
    """Returns image, overlay and labels side by side under the sample's key."""
    height = max(round(image.shape[0] * width / image.shape[1]), 1)
    strip = Image.new("RGB", (3 * width + 2 * _MARGIN, height + _TEXT + 4), _BACKGROUND)
    ImageDraw.Draw(strip).text((0, 0), key, fill=_INK, font=_font())
    tiles = [Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)]
    if label is not None:
        colors = Image.fromarray(colorize(label, dataset.palette)).resize((width, height), Image.Resampling.NEAREST)
        known = Image.fromarray(np.where(label == dataset.ignore_index, 0, 140).astype(np.uint8))
        overlay = tiles[0].copy()
        overlay.paste(colors, mask=known.resize((width, height), Image.Resampling.NEAREST))
        tiles += [overlay, colors]
    for column, tile in enumerate(tiles):
        strip.paste(tile, (column * (width + _MARGIN), _TEXT + 4))
    return strip


def _legend(dataset: Dataset, classes: Sequence[int], width: int) -> Image.Image:
    """Returns a swatch and a name for each class, and for ignored pixels, in columns."""
    entries = [(dataset.palette[index], f"{index} {dataset.classes[index]}") for index in classes]
    entries.append((_IGNORED, f"{dataset.ignore_index} ignored"))
    column_width = min(max(int(_font().getlength(name)) for _, name in entries) + _TEXT + 20, width)
    columns = max(width // column_width, 1)
    line = _TEXT + 5
    legend = Image.new("RGB", (width, line * -(-len(entries) // columns) + 2), _BACKGROUND)
    draw = ImageDraw.Draw(legend)
    for position, (color, name) in enumerate(entries):
        left, top = position % columns * column_width, position // columns * line
        draw.rectangle((left, top + 2, left + _TEXT, top + 2 + _TEXT), fill=color, outline=_INK)
        draw.text((left + _TEXT + 6, top + 2), name, fill=_INK, font=_font())
    return legend


def _message(text: str, width: int) -> Image.Image:
    strip = Image.new("RGB", (width, _TEXT + 8), (250, 225, 225))
    ImageDraw.Draw(strip).text((2, 3), text, fill=(120, 0, 0), font=_font())
    return strip


def _stack(strips: Sequence[Image.Image]) -> Image.Image:
    height = sum(strip.height for strip in strips) + _MARGIN * (len(strips) + 1)
    sheet = Image.new("RGB", (strips[0].width + 2 * _MARGIN, height), _BACKGROUND)
    top = _MARGIN
    for strip in strips:
        sheet.paste(strip, (_MARGIN, top))
        top += strip.height + _MARGIN
    return sheet


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=_TEXT)
