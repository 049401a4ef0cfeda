"""PNG and JPEG files before they are decoded: what they declare, and whether their bytes are whole.

Pillow skips the checksums of PNG data, accepts a file without its end or with too few rows, and ignores the EXIF
orientation; each would be a wrong picture or a wrong label that nothing later notices.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from setr.errors import InputError

MAX_PIXELS = 64_000_000  # height x width that a header may declare
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"

_PNG_KINDS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey+alpha", 6: "RGBA"}
_PNG_CHANNELS = {"grey": 1, "RGB": 3, "palette": 1, "grey+alpha": 2, "RGBA": 4}
_JPEG_KINDS = {1: "grey", 3: "RGB", 4: "CMYK"}
# Files of other kinds by the bytes at an offset.
_PICTURES = (
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "BigTIFF"),
    (0, b"BM", "BMP"),
    (0, b"GIF8", "GIF"),
    (8, b"WEBP", "WebP"),
    (0, b"8BPS", "Photoshop"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftypavif", "AVIF"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"P6", "PPM"),
    (0, b"P5", "PGM"),
)
# What version control leaves in the place of a large file: first bytes -> its name, the command that brings the file.
_POINTERS = {
    b"version https://git-lfs": ("Git LFS", "git lfs pull"),
    b"/annex/objects/": ("git-annex", "git annex get"),
    b"../.git/annex/objects/": ("git-annex", "git annex get"),
}
_ORIENTATION_TAG = 0x0112
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_APPLICATION = range(0xE0, 0xF0)
_JFIF, _EXIF, _ADOBE = 0xE0, 0xE1, 0xEE
# First column, first row, column step and row step of the seven passes of an interlaced PNG.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@dataclass(frozen=True)
class Header:
    """What an image file says about itself."""

    format: str  # PNG | JPEG
    width: int  # pixels
    height: int  # pixels
    bits: int  # per channel
    kind: str  # grey | grey+alpha | RGB | RGBA | palette | CMYK
    interlaced: bool = False

    @property
    def mode(self) -> str:
        """Returns kind and depth in one word, such as `RGB 8 bit`."""
        return f"{self.kind} {self.bits} bit"


def read_header(data: bytes, where: object) -> Header:
    """Returns what the file declares; raises E_IMAGE_DECODE for anything but PNG and JPEG, E_IMAGE_TOO_LARGE."""
    if data.startswith(PNG_SIGNATURE):
        header = _png_header(data, where)
    elif data.startswith(JPEG_SIGNATURE):
        header = _jpeg_header(data, where)
    else:
        raise _other_kind(data, where)
    if header.width < 1 or header.height < 1:
        raise undecodable(data, where, "declares no pixels")
    if header.width * header.height > MAX_PIXELS:
        raise InputError(
            "E_IMAGE_TOO_LARGE",
            "the image declares too many pixels (width x height)",
            where=where,
            found=f"{header.width}x{header.height}",
            expected=f"at most {MAX_PIXELS} pixels",
            remedy="cut it into smaller images",
        )
    return header


def check_bytes(data: bytes, header: Header, where: object) -> None:
    """Raise E_IMAGE_CRC, E_IMAGE_DECODE, E_IMAGE_TAIL or E_EXIF_ORIENTATION unless the file is whole and upright."""
    exif = None
    if header.format == "PNG":
        for kind, content in _png_chunks(data, where):
            if kind == b"eXIf":
                exif = content
    else:
        # Data of a scan can hold neither marker, so after the last scan there must be an end.
        if data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda"):
            raise _tail(data, where, "the end of the JPEG (EOI) is missing")
        for marker, start, end in _jpeg_segments(data):
            if marker == _EXIF and data[start + 4 : start + 10] == b"Exif\0\0":
                exif = data[start + 10 : end]
    orientation = 1 if exif is None else _orientation(exif)
    if orientation != 1:
        raise InputError(
            "E_EXIF_ORIENTATION",
            "the file asks to be turned when shown, so image and label may disagree",
            where=where,
            found=f"orientation {orientation}" if orientation else "a damaged EXIF block",
            expected="1 or none",
            remedy="turn the pixels and drop the tag: a photograph with ImageMagick (mogrify -auto-orient -strip), a "
            "label with a program that keeps its numbers (Pillow: ImageOps.exif_transpose); then compare both",
        )


def check_png_rows(data: bytes, header: Header, where: object) -> None:
    """Raise E_IMAGE_DECODE when the PNG's compressed data hold fewer rows than declared, which decoders leave black."""
    packed = b"".join(content for kind, content in _png_chunks(data, where) if kind == b"IDAT")
    expected = _png_data_bytes(header)
    try:
        found = len(zlib.decompressobj().decompress(packed, expected))
    except zlib.error as error:
        raise undecodable(data, where, str(error)) from error
    if found < expected:
        raise undecodable(data, where, f"{found} of {expected} bytes of pixels")


def palette_of(data: bytes, where: object) -> tuple[np.ndarray, np.ndarray]:
    """Returns the colours, uint8 (N, 3), of a PNG's own palette and how opaque each is, uint8 (N,)."""
    stored, transparency = _before_pixels(data, where, b"PLTE"), _before_pixels(data, where, b"tRNS")
    colors = np.frombuffer(stored[: len(stored) // 3 * 3], dtype=np.uint8).reshape(-1, 3)
    alpha = np.full(len(colors), 255, dtype=np.uint8)
    stated = np.frombuffer(transparency[: len(colors)], dtype=np.uint8)
    alpha[: len(stated)] = stated
    return colors, alpha


def transparent_color(data: bytes, header: Header, where: object) -> tuple[int, int, int] | None:
    """Returns the colour that a grey or RGB PNG of at most 8 bits declares to be transparent, or None."""
    stored = _before_pixels(data, where, b"tRNS")
    samples = [value for (value,) in struct.iter_unpack(">H", stored[: len(stored) // 2 * 2])]
    if header.kind not in ("grey", "RGB") or len(samples) < _PNG_CHANNELS[header.kind]:
        return None
    levels = [value * (255 // (2**header.bits - 1)) for value in samples]
    return (levels[0],) * 3 if header.kind == "grey" else (levels[0], levels[1], levels[2])


def _before_pixels(data: bytes, where: object, wanted: bytes) -> bytes:
    """Returns the content of the first chunk of a kind before the pixels; empty where there is none."""
    for kind, content in _png_chunks(data, where):
        if kind == wanted:
            return content
        if kind == b"IDAT":
            break
    return b""


def without_metadata(data: bytes, header: Header) -> bytes:
    """Returns the file without the JPEG segments that do not decide pixels: Pillow parses them, and warns or fails."""
    if header.format != "JPEG":
        return data
    parts, kept_from = [], 0
    for marker, start, end in _jpeg_segments(data):
        if marker in _APPLICATION and marker not in (_JFIF, _ADOBE):
            parts.append(data[kept_from:start])
            kept_from = end
    return b"".join([*parts, data[kept_from:]]) if parts else data


def undecodable(data: bytes, where: object, what: str) -> InputError:
    """Returns the error for bytes that are not a whole image, with their number and the first eight."""
    return InputError(
        "E_IMAGE_DECODE",
        f"cannot decode the file: {what}",
        where=where,
        found=f"{len(data)} bytes, the first ones {data[:8].hex(' ') or 'missing'}",
        expected="a whole PNG or JPEG",
        remedy="copy the file again from its source",
    )


def _other_kind(data: bytes, where: object) -> InputError:
    """Returns the error for a file that is neither PNG nor JPEG, with what it is where its first bytes tell."""
    for start, what in _POINTERS.items():
        if data.startswith(start):
            return InputError(
                "E_IMAGE_DECODE",
                f"the file is not there yet: this is a pointer of {what[0]}",
                where=where,
                found=f"{len(data)} bytes of text",
                remedy=f"run {what[1]} in its repository",
            )
    for offset, mark, name in _PICTURES:
        if data[offset : offset + len(mark)] == mark:
            return InputError(
                "E_IMAGE_DECODE",
                "neither PNG nor JPEG, whatever the file's name says",
                where=where,
                found=f"{len(data)} bytes, the first ones {data[:8].hex(' ')}: {name}",
                expected="a whole PNG or JPEG",
                remedy="convert it to PNG",
            )
    return undecodable(data, where, "neither PNG nor JPEG")


def _png_header(data: bytes, where: object) -> Header:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise undecodable(data, where, "PNG without its header")
    width, height, bits, color, _, _, interlace = struct.unpack(">IIBBBBB", data[16:29])
    if color not in _PNG_KINDS or bits not in (1, 2, 4, 8, 16):
        raise undecodable(data, where, "PNG with an unknown colour type or depth")
    return Header("PNG", width, height, bits, _PNG_KINDS[color], interlaced=interlace == 1)


def _jpeg_header(data: bytes, where: object) -> Header:
    for marker, start, end in _jpeg_segments(data):
        # SOF0 to SOF15; C4, C8 and CC are other tables.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and end - start >= 10:
            bits, height, width, channels = struct.unpack(">BHHB", data[start + 4 : start + 10])
            if channels not in _JPEG_KINDS:
                raise undecodable(data, where, f"JPEG with {channels} channels")
            return Header("JPEG", width, height, bits, _JPEG_KINDS[channels])
    raise undecodable(data, where, "JPEG without a frame header")


def _png_chunks(data: bytes, where: object) -> Iterator[tuple[bytes, bytes]]:
    """Yields kind and content of each chunk up to IEND, its checksum compared."""
    position = len(PNG_SIGNATURE)
    view = memoryview(data)
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if end > len(data):
            raise undecodable(data, where, "the file is truncated within a PNG chunk")
        kind = data[position + 4 : position + 8]
        if zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise InputError(
                "E_IMAGE_CRC",
                f"checksum of PNG chunk {kind!r} is wrong: the file is damaged",
                where=where,
                found=f"byte {position} of {len(data)}",
                remedy="copy the file again from its source",
            )
        yield kind, data[position + 8 : end - 4]
        if kind == b"IEND":
            return
        position = end
    raise _tail(data, where, "the end of the PNG (IEND) is missing")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields marker, start and end of the segments before the first scan; stops where the structure ends."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # stands alone, without a length
            position += 2
            continue
        if marker in (_START_OF_SCAN, _END_OF_IMAGE):
            return
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if end > len(data) or end < position + 4:
            return
        yield marker, position, end
        position = end


def _orientation(exif: bytes) -> int:
    """Returns the orientation (1: upright, or not stated) in an EXIF block's first directory; 0 for a damaged block."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return 0
    (start,) = struct.unpack(order + "I", exif[4:8])
    if start + 2 > len(exif):
        return 0
    (count,) = struct.unpack(order + "H", exif[start : start + 2])
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if entry + 12 > len(exif):
            return 0
        tag, _, _, value = struct.unpack(order + "HHIH", exif[entry : entry + 10])
        if tag == _ORIENTATION_TAG:
            return value or 1  # 0 is written for "unknown"
    return 1


def _png_data_bytes(header: Header) -> int:
    """Returns the bytes of the filtered rows: each row has one byte for its filter."""
    bits = header.bits * _PNG_CHANNELS[header.kind]
    if not header.interlaced:
        return header.height * (1 + -(-header.width * bits // 8))
    total = 0
    for column, row, column_step, row_step in _ADAM7:
        width, height = -(-(header.width - column) // column_step), -(-(header.height - row) // row_step)
        if width > 0 and height > 0:
            total += height * (1 + -(-width * bits // 8))
    return total


def _tail(data: bytes, where: object, what: str) -> InputError:
    return InputError(
        "E_IMAGE_TAIL", what, where=where, found=f"{len(data)} bytes", remedy="copy the file again from its source"
    )
