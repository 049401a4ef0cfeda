"""What PNG and JPEG files declare, and damage in their bytes."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from setr.data.reading.image_file import Header, check_bytes, check_png_rows, read_header, without_metadata
from setr.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def encoded(image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, image_format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, rows: bytes, *, bits: int = 8, color: int = 0, interlace: int = 0) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def exif(orientation: int, *, order: str = ">") -> bytes:
    start = b"MM\0*" if order == ">" else b"II*\0"
    return start + struct.pack(order + "IHHHIHxxI", 8, 1, 0x0112, 3, 1, orientation, 0)


def with_exif(data: bytes, block: bytes) -> bytes:
    content = b"Exif\0\0" + block
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + data[2:]


def error_code(data: bytes) -> str:
    with pytest.raises(InputError) as caught:
        check_bytes(data, read_header(data, "a file"), "a file")
    assert "\n" not in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded("PNG"), Header("PNG", 40, 24, 8, "RGB")),
        (encoded("JPEG"), Header("JPEG", 40, 24, 8, "RGB")),
        (encoded("JPEG", progressive=True), Header("JPEG", 40, 24, 8, "RGB")),
        (png(3, 2, b"\0\1\2\3" * 2), Header("PNG", 3, 2, 8, "grey")),
        (png(8, 8, b"", bits=4, color=3, interlace=1), Header("PNG", 8, 8, 4, "palette", interlaced=True)),
    ],
)
def test_header_is_read_without_decoding(data: bytes, expected: Header) -> None:
    assert read_header(data, "a file") == expected


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<!DOCTYPE html><html>not found</html>",
        b"GIF89a" + bytes(40),
        encoded("PNG")[:20],
        encoded("JPEG")[:20],
        png(0, 5, b""),
    ],
)
def test_what_is_no_image_names_its_size_and_first_bytes(data: bytes) -> None:
    with pytest.raises(InputError, match=f"E_IMAGE_DECODE.*a file.*{len(data)} bytes, the first ones") as caught:
        read_header(data, "a file")
    assert data[:8].hex(" ") in str(caught.value)


@pytest.mark.parametrize("data", [png(30_000, 30_000, b""), png(8_001, 8_000, b"")])
def test_a_bomb_is_refused_from_its_header(data: bytes) -> None:
    with pytest.raises(InputError, match=r"E_IMAGE_TOO_LARGE.*at most 64000000 pixels"):
        read_header(data, "a file")


def test_whole_files_pass() -> None:
    for data in (encoded("PNG"), encoded("JPEG"), encoded("JPEG", progressive=True), encoded("PNG", optimize=True)):
        check_bytes(data, read_header(data, "a file"), "a file")


def test_truncation_is_found_at_any_length() -> None:
    for data, step in ((encoded("PNG"), 97), (encoded("JPEG"), 31)):
        for length in range(60, len(data) - 1, step):
            with pytest.raises(InputError, match=r"E_IMAGE_DECODE|E_IMAGE_TAIL"):
                check_bytes(data[:length], read_header(data[:length], "a file"), "a file")


def test_missing_end_is_an_error_although_decoders_accept_it() -> None:
    assert error_code(encoded("PNG")[:-12]) == "E_IMAGE_TAIL"
    assert error_code(encoded("JPEG")[:-2]) == "E_IMAGE_TAIL"


def test_one_flipped_bit_in_png_data_is_found() -> None:
    data = encoded("PNG")
    for position in range(41, len(data) - 20, 131):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        assert error_code(bytes(damaged)) == "E_IMAGE_CRC"


def test_rows_left_out_by_the_encoder_are_found() -> None:
    rows = b"".join(b"\0" + bytes(range(8)) for _ in range(8))
    whole, half = png(8, 8, rows), png(8, 8, rows[:36])
    check_png_rows(whole, read_header(whole, "a file"), "a file")
    assert np.asarray(Image.open(io.BytesIO(half)))[4:].sum() == 0  # Pillow leaves them black, without a word
    with pytest.raises(InputError, match=r"E_IMAGE_DECODE.*36 of 72 bytes of pixels"):
        check_png_rows(half, read_header(half, "a file"), "a file")


@pytest.mark.parametrize(("width", "height"), [(1, 1), (5, 3), (8, 8), (9, 17)])
def test_size_of_interlaced_data_is_that_of_its_passes(width: int, height: int) -> None:
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = b""
    for column, row, column_step, row_step in passes:
        columns = len(range(column, width, column_step))
        rows += (b"\0" + bytes(columns)) * len(range(row, height, row_step)) if columns else b""
    data = png(width, height, rows, interlace=1)
    check_png_rows(data, read_header(data, "a file"), "a file")
    assert Image.open(io.BytesIO(data)).convert("L").size == (width, height)
    short = png(width, height, rows[:-1], interlace=1)
    with pytest.raises(InputError, match=r"E_IMAGE_DECODE"):
        check_png_rows(short, read_header(short, "a file"), "a file")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_turned_pictures_are_refused(order: str, orientation: int) -> None:
    block = exif(orientation, order=order)
    assert error_code(with_exif(encoded("JPEG"), block)) == "E_EXIF_ORIENTATION"
    data = encoded("PNG")
    assert error_code(data[:33] + chunk(b"eXIf", block) + data[33:]) == "E_EXIF_ORIENTATION"


def test_orientation_agrees_with_pillow_and_upright_passes() -> None:
    for orientation in (0, 1):
        data = with_exif(encoded("JPEG"), exif(orientation))
        check_bytes(data, read_header(data, "a file"), "a file")
    tags = Image.Exif()
    tags[0x0112] = 6
    assert error_code(encoded("JPEG", exif=tags.tobytes())) == "E_EXIF_ORIENTATION"
    assert error_code(with_exif(encoded("JPEG"), b"II*\0\xff\xff\xff\xff")) == "E_EXIF_ORIENTATION"


def test_metadata_are_cut_out_and_pixels_stay() -> None:
    plain = encoded("JPEG")
    laden = with_exif(plain, exif(1))
    assert without_metadata(laden, read_header(laden, "a file")) == plain
    assert without_metadata(plain, read_header(plain, "a file")) is plain


@pytest.mark.parametrize("kind", ["TIFF", "WEBP", "BMP", "GIF", "PPM"])
def test_another_kind_under_the_name_of_png_is_to_be_converted(kind: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, kind)
    with pytest.raises(InputError, match=r"E_IMAGE_DECODE.*whatever the file's name says.*convert it to PNG"):
        read_header(buffer.getvalue(), "a.png")


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 12\n", "git lfs pull"),
        (b"/annex/objects/MD5E-s9--0a.png\n", "git annex get"),
        (b"../.git/annex/objects/Wx/2f/MD5E-s9--0a.png", "git annex get"),
    ],
)
def test_a_pointer_in_the_place_of_a_file_names_the_command_that_brings_it(text: bytes, command: str) -> None:
    with pytest.raises(InputError, match=rf"E_IMAGE_DECODE.*not there yet.*run {command}"):
        read_header(text, "a.png")
