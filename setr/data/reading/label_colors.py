"""Coloured labels: the colours that a PNG shows, whatever way it stores them, as class numbers.

The same picture may be saved as RGB, with a palette in any order and length, or in grey where all colours are grey;
which of them is the program's choice. So indices count for nothing here, and the file's own palette is read.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image

from setr.data.reading.image_file import Header, palette_of, transparent_color
from setr.data.reading.samples import Color
from setr.errors import InputError

IGNORED = 255


def classes_of_colors(
    image: Image.Image, data: bytes, header: Header, palette: tuple[Color, ...], where: object
) -> np.ndarray:
    """Returns class numbers, uint8 (H, W), of a decoded PNG in the palette's colours; other black is 255, ignored.

    Raises E_LABEL_MODE for transparent pixels and indices without a colour, E_LABEL_RANGE for unknown colours.
    """
    packed = shown_colors(image, data, header, where)
    numbers = {0: IGNORED} | {pack(color): index for index, color in enumerate(palette)}
    colors, positions, counts = np.unique(packed, return_inverse=True, return_counts=True)
    unknown = [(color, n) for color, n in zip(colors.tolist(), counts.tolist(), strict=True) if color not in numbers]
    if unknown:
        listed = ", ".join(f"{unpack(color)}: {n} px" for color, n in unknown[:5])
        advice = "complete the palette, or save the labels without smoothing"
        if header.kind in ("grey", "palette"):
            advice += "; if the file's numbers are the classes and not its colours, leave out data.palette"
        raise InputError(
            "E_LABEL_RANGE",
            f"{len(unknown)} label colours are in no class's palette",
            where=where,
            found=listed,
            expected=_some_colors(numbers),
            remedy=advice,
        )
    return np.array([numbers[color] for color in colors.tolist()], dtype=np.uint8)[positions].reshape(packed.shape)


def shown_colors(image: Image.Image, data: bytes, header: Header, where: object) -> np.ndarray:
    """Returns the colours that a decoded PNG of 8 bits or fewer shows, int32 (H, W) as red, green, blue in 24 bits."""
    if header.kind == "palette":
        return _through_palette(np.asarray(image), data, where)
    if header.kind in ("RGBA", "grey+alpha"):
        rgba = np.asarray(image.convert("RGBA"))
        if rgba[..., 3].min() < 255:
            raise _transparent(where, int((rgba[..., 3] < 255).sum()))
    packed = _packed(np.asarray(image.convert("RGB")))
    transparent = transparent_color(data, header, where)
    if transparent is not None and (hidden := int((packed == pack(transparent)).sum())):
        raise _transparent(where, hidden)
    return packed


def used_palette(indices: Iterable[int], data: bytes, where: object) -> dict[int, int]:
    """Returns index -> packed colour of those indices that have a colour in a PNG's own palette."""
    colors, _ = palette_of(data, where)
    packed = _packed(colors)
    return {index: int(packed[index]) for index in indices if index < len(packed)}


def pack(color: tuple[int, ...]) -> int:
    """Returns red, green and blue as one number of 24 bits."""
    return (color[0] << 16) | (color[1] << 8) | color[2]


def unpack(color: int) -> Color:
    """Returns the red, green and blue of a number of 24 bits."""
    return color >> 16, color >> 8 & 255, color & 255


def _through_palette(indices: np.ndarray, data: bytes, where: object) -> np.ndarray:
    colors, alpha = palette_of(data, where)
    counts = np.bincount(indices.ravel(), minlength=256)
    if beyond := int(counts[len(colors) :].sum()):
        raise InputError(
            "E_LABEL_MODE",
            "a coloured label has indices without a colour in its palette",
            where=where,
            found=f"{beyond} px with an index of {len(colors)} or more",
            remedy="save the label as RGB PNG from its source",
        )
    if hidden := int(counts[: len(colors)][alpha < 255].sum()):
        raise _transparent(where, hidden)
    return _packed(colors)[indices]


def _packed(colors: np.ndarray) -> np.ndarray:
    parts = colors.astype(np.int32)
    return (parts[..., 0] << 16) | (parts[..., 1] << 8) | parts[..., 2]


def _some_colors(numbers: Mapping[int, int]) -> str:
    shown = [f"{unpack(color)}" for color in sorted(numbers, key=lambda color: numbers[color])]
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")


def _transparent(where: object, pixels: int) -> InputError:
    return InputError(
        "E_LABEL_MODE",
        "a coloured label is transparent in places, where its colour is whatever the program left there",
        where=where,
        found=f"{pixels} px",
        expected="opaque pixels",
        remedy="put it on black (ignored) or on a class's colour, and save it as RGB PNG",
    )
