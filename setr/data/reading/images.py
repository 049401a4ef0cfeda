"""Images and labels from files to arrays, strictly: what decoders pass over in silence is an error here.

Pillow saturates 16 bits to white, stretches 4-bit grey values over 0..255 and turns palette indices into grey levels
when asked for them; none of it happens here.
"""

import hashlib
import io
import struct
import zlib
from collections.abc import Iterable, Mapping
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageFile

from setr.data.reading.image_file import Header, check_bytes, check_png_rows, read_header, undecodable, without_metadata
from setr.data.reading.label_colors import classes_of_colors
from setr.data.reading.samples import NOT_ALLOWED, Color, Dataset, Sample
from setr.data.reading.sources import Source, read_bytes
from setr.errors import EnvironmentFailure, InputError

_UNKNOWN = 254  # stands for "not allowed" in the 8-bit look-up table


def read_image(source: Source) -> np.ndarray:
    """Returns an image file as uint8 (H, W, 3) RGB; raises E_IMAGE_* and E_EXIF_ORIENTATION."""
    return decode_image(read_bytes(source), source)


def read_label(source: Source, dataset: Dataset) -> np.ndarray:
    """Returns a label file as uint8 (H, W) train ids, 255 = ignored; raises E_LABEL_* and E_IMAGE_*."""
    return to_train_ids(read_raw_label(source, dataset), dataset, source)


def read_sample(sample: Sample, dataset: Dataset) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns image (H, W, 3) and label (H, W) of one sample (None without one); raises E_SIZE_MISMATCH besides."""
    image = read_image(sample.image)
    if sample.label is None:
        return image, None
    label = read_label(sample.label, dataset)
    check_same_size(image, label, sample)
    return image, label


def check_same_size(image: np.ndarray, label: np.ndarray, sample: Sample) -> None:
    """Raise E_SIZE_MISMATCH unless image and label have the same height and width."""
    if image.shape[:2] != label.shape[:2]:
        raise InputError(
            "E_SIZE_MISMATCH",
            "label and image differ in size (width x height)",
            where=sample.label,
            found=f"label {label.shape[1]}x{label.shape[0]}",
            expected=f"{image.shape[1]}x{image.shape[0]} as {sample.image}",
            remedy="pair them rightly; labels are never resized silently",
        )


def source_hash(sample: Sample) -> str:
    """Returns the SHA-256 over the bytes of a sample's image file and label file, as they lie on disk."""
    return hash_sources(read_bytes(sample.image), None if sample.label is None else read_bytes(sample.label))


def hash_sources(image_data: bytes, label_data: bytes | None) -> str:
    """Returns the SHA-256, in hex, over the two files' lengths and bytes; a missing label counts as an empty one."""
    digest = hashlib.sha256()
    for data in (image_data, label_data or b""):
        digest.update(struct.pack("<Q", len(data)))
        digest.update(data)
    return digest.hexdigest()


def decode_image(data: bytes, where: object) -> np.ndarray:
    """Returns the bytes of an image file as uint8 (H, W, 3) RGB; grey, palette and opaque alpha are converted."""
    header = read_header(data, where)
    if header.bits > 8:
        raise InputError(
            "E_IMAGE_DEPTH",
            "the image has more than 8 bits per channel",
            where=where,
            found=header.mode,
            expected="8 bit",
            remedy="convert it with a tone mapping of your choice; a plain conversion saturates to white",
        )
    if header.kind == "CMYK":
        raise _image_mode(
            where, header, "CMYK has no fixed meaning as RGB", "convert it to RGB with its colour profile"
        )
    image = _decode(data, header, where)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        if np.asarray(rgba)[..., 3].min() < 255:
            raise _image_mode(
                where, header, "the image is transparent in places", "put it on a background and save RGB"
            )
        image = rgba
    return np.asarray(image.convert("RGB"))


def read_raw_label(source: Source, dataset: Dataset) -> np.ndarray:
    """Returns a label file's own values, (H, W) of an integer type, before any mapping."""
    return parse_raw_label(read_bytes(source), source, dataset)


def parse_raw_label(data: bytes, source: Source, dataset: Dataset) -> np.ndarray:
    """Returns the values in a label file's bytes; the file's name says whether it is a .mat file."""
    if source.name.lower().endswith(".mat"):
        from setr.data.reading.matlab import decode_label_map  # the only reader that needs scipy

        return decode_label_map(data, source)
    return decode_raw_label(data, source, palette=dataset.read_colors)


def decode_raw_label(data: bytes, where: object, *, palette: tuple[Color, ...] | None = None) -> np.ndarray:
    """Returns the values of a label PNG, (H, W) uint8 or uint16; with a palette, the colours shown as class numbers."""
    header = read_header(data, where)
    if header.format != "PNG":
        raise InputError(
            "E_LABEL_LOSSY",
            "a label saved as JPEG has wrong values along every edge",
            where=where,
            found=header.format,
            expected="PNG",
            remedy="export the labels as PNG again; they cannot be repaired",
        )
    if palette is not None and header.bits <= 8:
        image = _decode(data, header, where)
        check_png_rows(data, header, where)
        return classes_of_colors(image, data, header, palette, where)
    if palette is None and header.kind in ("grey", "palette"):
        image = _decode(data, header, where)
        check_png_rows(data, header, where)
        values = np.asarray(image)  # palette: the indices themselves
        if header.kind == "grey" and header.bits < 8:
            return _unscaled(values, header.bits)
        return values
    if palette is not None:
        raise InputError(
            "E_LABEL_MODE",
            "a coloured label has more than 8 bits per channel",
            where=where,
            found=header.mode,
            expected="8 bit",
            remedy="save it with 8 bits per channel, in the colours of data.palette",
        )
    raise InputError(
        "E_LABEL_MODE",
        "a label must hold one class number per pixel",
        where=where,
        found=header.mode,
        expected="grey or palette PNG",
        remedy="take the single-channel label files (Cityscapes *_labelIds.png, ADE20K annotations/, not *_seg); for "
        "coloured labels of your own give data.palette; save grey ones without an alpha channel",
    )


def to_train_ids(values: np.ndarray, dataset: Dataset, where: object) -> np.ndarray:
    """Returns raw label values (H, W) as uint8 train ids, 255 = ignored; raises E_LABEL_DTYPE and E_LABEL_RANGE."""
    if dataset.read_colors is not None:
        return values  # class numbers already, whatever label numbers would mean
    table = dataset.wide_label_map if is_wide(values, dataset) else dataset.label_map
    if values.dtype != np.uint8:
        # Before any cast: 18000 would wrap to 80, and -1 would become 255, "ignored".
        low, high = int(values.min(initial=0)), int(values.max(initial=0))
        if low < 0 or high >= len(table):
            code = "E_LABEL_DTYPE" if table is dataset.label_map else "E_LABEL_RANGE"
            raise _label_range(code, histogram(values), dataset, table, where)
    if values.dtype == np.uint8 and values.ndim == 2 and len(table) == 256:
        ids = cv2.LUT(values, _table(table))  # ten times faster than picking
    else:
        ids = _table(table).take(values)
    if (ids == _UNKNOWN).any():
        raise _label_range("E_LABEL_RANGE", histogram(values), dataset, table, where)
    return ids


def histogram(values: np.ndarray) -> dict[int, int]:
    """Returns raw value -> number of pixels."""
    if values.dtype == np.uint8:
        counts = np.bincount(values.ravel(), minlength=256)
        return {value: int(counts[value]) for value in np.flatnonzero(counts).tolist()}
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def family_remedy(found: Mapping[int, int], dataset: Dataset) -> str:
    """Returns what to set if the values are those of another known family of the data set's labels, else advice."""
    for family in dataset.families:
        if family.name != dataset.family and family.values.issuperset(found):
            return f"these values fit {family.name}: {family.setting}"
    return "correct the labels (smoothing and resizing make such values) or the list of classes"


def is_wide(values: np.ndarray, dataset: Dataset) -> bool:
    """Returns whether raw label values are ids of the data set's wide label map, as in .mat files."""
    return bool(dataset.wide_label_map) and values.dtype != np.uint8


def value_ranges(values: Iterable[int]) -> str:
    """Returns sorted numbers in short: 0-33, 255."""
    spans: list[list[int]] = []
    for value in values:
        if spans and value == spans[-1][1] + 1:
            spans[-1][1] = value
        else:
            spans.append([value, value])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)


def _label_range(
    code: str, counts: Mapping[int, int], dataset: Dataset, table: tuple[int, ...], where: object
) -> InputError:
    wrong = {value: n for value, n in counts.items() if not 0 <= value < len(table) or table[value] == NOT_ALLOWED}
    listed = ", ".join(f"{value} ({n} px)" for value, n in sorted(wrong.items())[:8])
    more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
    return InputError(
        code,
        f"label values without a meaning in {dataset.name}",
        where=where,
        found=listed + more,
        expected=value_ranges(value for value, train_id in enumerate(table) if train_id != NOT_ALLOWED),
        remedy=family_remedy(counts, dataset),
    )


@lru_cache(maxsize=32)
def _table(label_map: tuple[int, ...]) -> np.ndarray:
    table = np.array([_UNKNOWN if train_id == NOT_ALLOWED else train_id for train_id in label_map], dtype=np.uint8)
    table.setflags(write=False)
    return table


def _unscaled(values: np.ndarray, bits: int) -> np.ndarray:
    """Returns grey values of 1, 2 or 4 bits as they are stored: Pillow stretches them to 0..255."""
    if bits == 1:
        return values.astype(np.uint8)
    return values // np.uint8(255 // (2**bits - 1))


def _decode(data: bytes, header: Header, where: object) -> Image.Image:
    """Returns the decoded picture after the checks that Pillow leaves out."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise EnvironmentFailure(
            "E_PILLOW", "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, half images would pass", remedy="leave it off"
        )
    check_bytes(data, header, where)
    try:
        image = Image.open(io.BytesIO(without_metadata(data, header)), formats=("PNG", "JPEG"))
        image.load()
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        raise undecodable(data, where, str(error)) from error
    if image.size != (header.width, header.height):
        raise undecodable(data, where, f"decodes to {image.size}, declares {(header.width, header.height)}")
    return image


def _image_mode(where: object, header: Header, what: str, remedy: str) -> InputError:
    return InputError(
        "E_IMAGE_MODE", what, where=where, found=header.mode, expected="RGB, grey or palette, opaque", remedy=remedy
    )
