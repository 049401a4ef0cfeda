"""Coloured labels: the same picture gives the same classes, whichever program saved it."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from setr.data.checking.doctor import check
from setr.data.reading.camvid import CAMVID
from setr.data.reading.folder import FolderSettings, folder_dataset
from setr.data.reading.images import decode_raw_label, read_label
from setr.data.reading.samples import Dataset, Sample
from setr.data.shard_index import read_index
from setr.data.shards import open_shards, write_shards
from setr.errors import InputError

PALETTE = ((10, 20, 30), (200, 10, 10), (255, 255, 255))
LABEL = np.array([[0, 1, 2, 255], [2, 2, 1, 0]], dtype=np.uint8)  # 255: black
COLORS = np.array([*PALETTE, *[(0, 0, 0)] * 253], dtype=np.uint8)[LABEL]
BLACK_AND_WHITE = ((0, 0, 0), (255, 255, 255))
MASK = np.array([[0, 1, 1, 0, 1, 0, 0, 1]] * 2, dtype=np.uint8)


def encoded(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def indexed(order: tuple[int, ...], spare: int = 0, **options: object) -> bytes:
    """Returns LABEL as a PNG whose palette holds its four colours in another order, and others behind them."""
    colors = [*PALETTE, (0, 0, 0)]
    place = {number: order.index(number) for number in range(4)}
    indices = np.vectorize(lambda value: place[3 if value == 255 else value])(LABEL).astype(np.uint8)
    picture = Image.fromarray(indices, "P")
    picture.putpalette([part for number in order for part in colors[number]] + [77] * 3 * spare)
    return encoded(picture, **options)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(values: np.ndarray, color: int, bits: int, *chunks: bytes) -> bytes:
    """Returns a PNG written by hand: values (H, W) of `bits` each, packed, with chunks before them."""
    spread = np.unpackbits(values[..., None], axis=2)[..., 8 - bits :].reshape(len(values), -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in spread)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", values.shape[1], len(values), bits, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


RGB = Image.fromarray(COLORS)
WRITERS: dict[str, Callable[[], bytes]] = {
    "RGB": lambda: encoded(RGB),
    "opaque RGBA": lambda: encoded(RGB.convert("RGBA")),
    "quantized by Pillow": lambda: encoded(RGB.quantize(16)),
    "adaptive palette": lambda: encoded(RGB.convert("P", palette=Image.Palette.ADAPTIVE, colors=8)),
    "palette in order": lambda: indexed((0, 1, 2, 3)),
    "palette sorted": lambda: indexed((3, 0, 1, 2)),
    "palette reversed": lambda: indexed((3, 2, 1, 0), bits=8),
    "palette of 256 entries": lambda: indexed((1, 3, 0, 2), spare=252),
    "opaque tRNS": lambda: indexed((2, 0, 3, 1), transparency=bytes([255, 255, 255, 255])),
    "tRNS of an entry that does not occur": lambda: indexed((0, 1, 2, 3), spare=2, transparency=5),
    "RGB with a transparent colour that does not occur": lambda: encoded(RGB, transparency=(1, 2, 3)),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_classes_do_not_depend_on_who_saved_the_file(writer: str) -> None:
    np.testing.assert_array_equal(decode_raw_label(WRITERS[writer](), "a file", palette=PALETTE), LABEL)


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.fromarray(MASK * 255)),
        encoded(Image.fromarray(MASK * 255).convert("1")),
        encoded(Image.fromarray(MASK * 255).convert("RGB")),
        encoded(Image.fromarray(MASK * 255).convert("LA")),
        encoded(Image.fromarray(MASK * 255).convert("RGB").quantize(2)),
        png(MASK * 3, 0, 2),
        png(MASK * 15, 0, 4),
        png(1 - MASK, 3, 1, chunk(b"PLTE", bytes([255, 255, 255, 0, 0, 0]))),
    ],
    ids=["grey", "1 bit", "RGB", "grey+alpha", "quantized", "2 bit", "4 bit", "white first"],
)
def test_black_and_white_masks_are_the_same_in_every_form(data: bytes) -> None:
    np.testing.assert_array_equal(decode_raw_label(data, "a file", palette=BLACK_AND_WHITE), MASK)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (indexed((0, 1, 2, 3), transparency=1), "E_LABEL_MODE.*transparent"),
        (indexed((0, 1, 2, 3), transparency=bytes([255, 128])), "E_LABEL_MODE.*transparent"),
        (encoded(RGB, transparency=PALETTE[1]), "E_LABEL_MODE.*transparent"),
        (encoded(Image.fromarray(np.dstack([COLORS, LABEL]), "RGBA")), "E_LABEL_MODE.*transparent"),
        (png(MASK, 0, 1, chunk(b"tRNS", struct.pack(">H", 1))), "E_LABEL_MODE.*transparent"),
        (png(MASK * 3, 3, 2, chunk(b"PLTE", bytes([10, 20, 30, 200, 10, 10]))), "E_LABEL_MODE.*without a colour"),
        (png(MASK, 3, 1, chunk(b"PLTE", bytes([10, 20, 30, 9, 9, 9]))), r"E_LABEL_RANGE.*\(9, 9, 9\).*leave out"),
        (encoded(Image.fromarray(MASK)), r"E_LABEL_RANGE.*\(1, 1, 1\).*leave out data\.palette"),
        (encoded(Image.fromarray(LABEL.astype(np.uint16) * 257)), "E_LABEL_MODE.*16 bit"),
    ],
)
def test_what_shows_no_class_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(InputError, match=f"^{code}"):
        decode_raw_label(data, "a file", palette=PALETTE)


def own(palette: tuple[tuple[int, int, int], ...] = PALETTE, **settings: bool) -> Dataset:
    names = [f"c{index}" for index in range(len(palette))]
    return folder_dataset("own", FolderSettings("photos", "masks"), names, palette=palette, **settings)


def write(root: Path, *masks: bytes) -> list[Sample]:
    for folder in ("photos", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for index, data in enumerate(masks):
        (root / f"masks/{index}.png").write_bytes(data)
        size = Image.open(io.BytesIO(data)).size
        pixels = np.random.default_rng(index).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"photos/{index}.png")
    return [Sample(str(n), root / f"photos/{n}.png", root / f"masks/{n}.png") for n in range(len(masks))]


def test_mixed_kinds_within_one_data_set_give_the_same_labels(tmp_path: Path) -> None:
    write(tmp_path, *(make() for make in WRITERS.values()))
    report = check(own(), tmp_path, ("train", "val"))
    assert report.ok
    assert sum(split.checked for split in report.splits) == len(WRITERS)
    for split in report.splits:
        assert split.class_pixels == (2 * split.checked, 2 * split.checked, 3 * split.checked)


def test_shards_of_an_earlier_reading_are_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = write(tmp_path, indexed((3, 2, 1, 0), bits=8))
    with monkeypatch.context() as patched:  # as it was once: indices were class numbers
        patched.setattr("setr.data.shard_writer._is_rgb", lambda sample: True)
        patched.setattr("setr.data.shard_writer.parse_raw_label", lambda *_: np.zeros((2, 4), np.uint8))
        write_shards(samples, own(), tmp_path / "shards", split="train", workers=1)
    write_shards(samples, own(), tmp_path / "shards", split="train", workers=1)
    np.testing.assert_array_equal(open_shards(tmp_path / "shards")[0].label, LABEL)


@pytest.mark.parametrize("shown_colors", [False, True])
def test_what_was_read_rightly_before_keeps_its_shards(tmp_path: Path, shown_colors: bool) -> None:
    samples = write(tmp_path, encoded(Image.fromarray(LABEL)) if shown_colors else encoded(RGB))
    dataset = replace(own(), shown_colors=shown_colors)
    write_shards(samples, dataset, tmp_path / "shards", split="train", workers=1)
    # As every version has written it: another value would be another manifest, and other experiments.
    settings = "6cef888f7f659af0b53443c40080effad88cc27ad3d218ec692c7c870106d621"
    assert read_index(tmp_path / "shards/00000.index.json").settings == settings


def test_a_palette_does_not_make_label_numbers_of_a_data_set_colours(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(np.array([CAMVID.palette], dtype=np.uint8))))
    label = read_label(path, replace(CAMVID, color_labels=True))
    np.testing.assert_array_equal(label, [range(11)])
