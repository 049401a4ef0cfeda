"""Images and labels from files to arrays: modes, depths, values, sizes."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from setr.data.reading.camvid import CAMVID
from setr.data.reading.cityscapes import CITYSCAPES, CITYSCAPES_TRAIN_IDS
from setr.data.reading.images import (
    decode_image,
    decode_raw_label,
    histogram,
    read_image,
    read_label,
    read_sample,
    source_hash,
    to_train_ids,
    value_ranges,
)
from setr.data.reading.samples import Sample
from setr.errors import EnvironmentFailure, InputError

GENERATOR = np.random.default_rng(1)
RGB = GENERATOR.integers(0, 256, (20, 30, 3), dtype=np.uint8)
LABEL = GENERATOR.integers(0, 12, (20, 30), dtype=np.uint8)


def encoded(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def saved(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_image_is_rgb_as_stored(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.png", encoded(Image.fromarray(RGB)))
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, RGB)


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "LA"])
def test_grey_palette_and_opaque_images_become_rgb(mode: str) -> None:
    picture = Image.fromarray(RGB).convert(mode)
    image = decode_image(encoded(picture), "a file")
    np.testing.assert_array_equal(image, np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (encoded(Image.fromarray(RGB).convert("CMYK"), "JPEG"), "E_IMAGE_MODE"),
        (encoded(Image.fromarray(np.dstack([RGB, LABEL]), "RGBA")), "E_IMAGE_MODE"),
        (encoded(Image.fromarray(LABEL).convert("P"), transparency=0), "E_IMAGE_MODE"),
        (encoded(Image.fromarray(LABEL.astype(np.uint16) * 1000)), "E_IMAGE_DEPTH"),
        (b"", "E_IMAGE_DECODE"),
        (b"<html>404</html>", "E_IMAGE_DECODE"),
        (encoded(Image.fromarray(RGB))[:400], "E_IMAGE_DECODE"),
        (encoded(Image.fromarray(RGB))[:-12], "E_IMAGE_TAIL"),
    ],
)
def test_images_without_a_clear_meaning_are_refused(data: bytes, code: str) -> None:
    with pytest.raises(InputError, match=f"^{code} .*a file") as caught:
        decode_image(data, "a file")
    assert "\n" not in str(caught.value)


def test_sixteen_bit_colour_that_pillow_would_cut_to_eight_is_refused() -> None:
    import cv2

    done, data = cv2.imencode(".png", RGB.astype(np.uint16) * 257)
    assert done
    assert Image.open(io.BytesIO(data.tobytes())).mode == "RGB"
    with pytest.raises(InputError, match=r"E_IMAGE_DEPTH.*RGB 16 bit"):
        decode_image(data.tobytes(), "a file")


def test_a_process_that_accepts_truncated_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(EnvironmentFailure, match=r"E_PILLOW"):
        decode_image(encoded(Image.fromarray(RGB)), "a file")


def test_random_damage_never_escapes_as_another_error() -> None:
    generator = np.random.default_rng(2)
    sources = [encoded(Image.fromarray(RGB)), encoded(Image.fromarray(RGB), "JPEG"), encoded(Image.fromarray(LABEL))]
    for data in sources:
        for _ in range(150):
            damaged = bytearray(data)
            start = int(generator.integers(len(data)))
            damaged[start : start + 8] = generator.bytes(8)
            for decode in (decode_image, decode_raw_label):
                try:
                    decode(bytes(damaged), "a file")
                except InputError as error:
                    assert error.code.startswith(("E_", "W_"))  # noqa: PT017 - most damage raises, some is harmless


def test_palette_label_is_read_as_indices_not_as_grey_levels(tmp_path: Path) -> None:
    picture = Image.fromarray(LABEL, "P")
    picture.putpalette(GENERATOR.integers(0, 256, 768, dtype=np.uint8).tobytes())
    path = saved(tmp_path, "a.png", encoded(picture))
    np.testing.assert_array_equal(read_label(path, CAMVID), np.where(LABEL == 11, 255, LABEL))
    assert not np.array_equal(np.asarray(Image.open(path).convert("L")), LABEL)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_labels_of_few_bits_are_read_unstretched(bits: int) -> None:
    values = (LABEL % 2**bits).astype(np.uint8)
    palette = Image.fromarray(values, "P")
    palette.putpalette(list(range(48)))
    np.testing.assert_array_equal(decode_raw_label(encoded(palette, bits=bits), "a file"), values)
    # Pillow writes no grey PNG of 2 or 4 bits: such a file is made by changing the colour type of the other.
    import struct
    import zlib

    head = struct.pack(">IIBBBBB", 30, 20, bits, 0, 0, 0, 0)
    rows = b"".join(b"\0" + _packed(row, bits) for row in values)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks
    )
    np.testing.assert_array_equal(decode_raw_label(data, "a file"), values)


def _packed(row: np.ndarray, bits: int) -> bytes:
    spread = np.unpackbits(row[:, None], axis=1)[:, 8 - bits :]
    return np.packbits(spread.ravel()).tobytes()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_labels_of_several_channels_are_refused(mode: str) -> None:
    data = encoded(Image.fromarray(LABEL).convert(mode))
    with pytest.raises(InputError, match=r"E_LABEL_MODE.*grey or palette PNG.*labelIds\.png"):
        decode_raw_label(data, "a file")


def test_coloured_labels_are_read_by_an_exact_palette_only(tmp_path: Path) -> None:
    dataset = replace(CAMVID, color_labels=True)
    colors = np.array([*CAMVID.palette, (0, 0, 0)], dtype=np.uint8)[LABEL]
    path = saved(tmp_path, "a.png", encoded(Image.fromarray(colors)))
    np.testing.assert_array_equal(read_label(path, dataset), np.where(LABEL == 11, 255, LABEL))
    colors[0, 0] = (1, 2, 3)
    path.write_bytes(encoded(Image.fromarray(colors)))
    with pytest.raises(InputError, match=r"E_LABEL_RANGE.*1 label colours.*\(1, 2, 3\): 1 px"):
        read_label(path, dataset)


def test_label_saved_as_jpeg_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.png", encoded(Image.fromarray(LABEL), "JPEG", quality=95))
    with pytest.raises(InputError, match=r"E_LABEL_LOSSY.*found JPEG, expected PNG"):
        read_label(path, CAMVID)


def test_sixteen_bit_label_is_checked_before_any_cast(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.png", encoded(Image.fromarray(LABEL.astype(np.uint16) % 10)))
    np.testing.assert_array_equal(read_label(path, CAMVID), LABEL % 10)
    path.write_bytes(encoded(Image.fromarray(LABEL.astype(np.uint16) * 1000)))
    with pytest.raises(InputError, match=r"E_LABEL_DTYPE.*1000 \(\d+ px\)"):
        read_label(path, CAMVID)


@pytest.mark.parametrize("value", [19, 200, 254])
def test_values_outside_the_classes_are_listed_with_their_pixels(tmp_path: Path, value: int) -> None:
    label = LABEL % 11
    label[:2, :3] = value
    path = saved(tmp_path, "a.png", encoded(Image.fromarray(label)))
    with pytest.raises(InputError, match=rf"E_LABEL_RANGE.*a\.png.*found {value} \(6 px\), expected 0-11, 255"):
        read_label(path, CAMVID)


def test_minus_one_does_not_become_ignored() -> None:
    with pytest.raises(InputError, match=r"E_LABEL_DTYPE.*-1 \(4 px\)"):
        to_train_ids(np.full((2, 2), -1, dtype=np.int32), CAMVID, "an array")


def test_values_of_another_family_say_what_to_set(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.png", encoded(Image.fromarray(LABEL + 20)))
    with pytest.raises(InputError, match=r"E_LABEL_RANGE.*fit labelIds \(0-33\): set data.name=cityscapes,"):
        read_label(path, CITYSCAPES_TRAIN_IDS)
    train_ids = LABEL.copy()
    train_ids[0] = 255
    path.write_bytes(encoded(Image.fromarray(train_ids)))
    with pytest.raises(InputError, match=r"E_LABEL_RANGE.*set data.name=cityscapes_trainids"):
        read_label(path, CITYSCAPES)


def test_image_and_label_of_different_sizes_are_refused(tmp_path: Path) -> None:
    image = saved(tmp_path, "image.png", encoded(Image.fromarray(RGB)))
    label = saved(tmp_path, "label.png", encoded(Image.fromarray(LABEL[:, :29])))
    with pytest.raises(InputError, match=r"E_SIZE_MISMATCH.*label\.png.*label 29x20, expected 30x20"):
        read_sample(Sample("a", image, label), CAMVID)


def test_read_sample_returns_both_or_the_image_alone(tmp_path: Path) -> None:
    image = saved(tmp_path, "image.png", encoded(Image.fromarray(RGB)))
    label = saved(tmp_path, "label.png", encoded(Image.fromarray(LABEL)))
    pixels, train_ids = read_sample(Sample("a", image, label), CAMVID)
    assert train_ids is not None
    assert (pixels.shape, train_ids.shape, train_ids.dtype) == ((20, 30, 3), (20, 30), np.uint8)
    assert read_sample(Sample("a", image), CAMVID)[1] is None


def test_source_hash_covers_both_files_and_their_border(tmp_path: Path) -> None:
    image, label = saved(tmp_path, "image.png", b"abc"), saved(tmp_path, "label.png", b"def")
    first = source_hash(Sample("a", image, label))
    assert first == source_hash(Sample("b", image, label))
    image.write_bytes(b"abcd")
    label.write_bytes(b"ef")
    assert first != source_hash(Sample("a", image, label))
    assert source_hash(Sample("a", image)) != source_hash(Sample("a", image, label))


def test_histogram_counts_stored_values() -> None:
    assert histogram(np.array([[0, 3], [3, 255]], dtype=np.uint8)) == {0: 1, 3: 2, 255: 1}
    assert histogram(np.array([[-1, 700]], dtype=np.int32)) == {-1: 1, 700: 1}
    assert value_ranges([0, 1, 2, 7, 255]) == "0-2, 7, 255"


def test_camvid_reads_without_a_copy_of_its_quirks(camvid_root: Path) -> None:
    sample = CAMVID.list_samples(camvid_root, "val")[0]
    image, label = read_sample(sample, CAMVID)
    assert label is not None
    assert image.shape == (360, 480, 3)
    assert set(np.unique(label)) <= {*range(11), 255}
