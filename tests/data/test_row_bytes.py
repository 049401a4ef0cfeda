"""What is stored of a sample gives its pixels back: to the bit, but for the rounding of a JPEG decoder."""

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from setr.data import row_bytes
from setr.data.row_bytes import pack_image, pack_label, unpack_image, unpack_label
from setr.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)
LABEL = np.random.default_rng(1).integers(0, 9, (6, 10), dtype=np.uint8)


def file_of(pixels: np.ndarray, kind: str, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


def buffer(payload: bytes | np.ndarray) -> pa.Buffer:
    return pa.py_buffer(payload if isinstance(payload, bytes) else payload.tobytes())


@pytest.mark.parametrize("storage", ["raw", "encoded"])
def test_an_image_without_loss_comes_back_to_the_bit(storage: str) -> None:
    data = file_of(PIXELS, "PNG")
    payload, size = pack_image(data, storage=storage, where="a")
    assert size == (6, 10)
    assert (payload == data) if storage == "encoded" else isinstance(payload, np.ndarray)
    assert unpack_image(buffer(payload), size, storage=storage).tolist() == PIXELS.tolist()


def test_a_jpeg_keeps_its_bytes_and_differs_by_rounding_at_most() -> None:
    data = file_of(PIXELS, "JPEG")
    payload, size = pack_image(data, storage="encoded", where="a")
    assert payload == data
    strict, _ = pack_image(data, storage="raw", where="a")
    found = unpack_image(buffer(payload), size, storage="encoded").astype(int)
    assert abs(found - strict).mean() <= 1.0


@pytest.mark.parametrize("mode", ["L", "P"])
def test_images_of_other_modes_decode_to_the_same_in_both_storages(mode: str) -> None:
    data = file_of(PIXELS, "PNG", mode)
    strict, size = pack_image(data, storage="raw", where="a")
    payload, _ = pack_image(data, storage="encoded", where="a")
    assert unpack_image(buffer(payload), size, storage="encoded").tolist() == np.asarray(strict).tolist()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_pixels_that_the_fast_decoder_reads_otherwise_are_stored_without_loss(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, decode = file_of(PIXELS, kind), row_bytes.cv2.imdecode
    strict, size = pack_image(data, storage="raw", where="a")
    for wrong in (lambda *given: decode(*given) ^ 3, lambda *given: decode(*given)[1:], lambda *_: None):
        monkeypatch.setattr(row_bytes.cv2, "imdecode", wrong)
        payload, _ = pack_image(data, storage="encoded", where="a")
        monkeypatch.undo()
        assert payload != data
        assert unpack_image(buffer(payload), size, storage="encoded").tolist() == np.asarray(strict).tolist()


def test_bytes_that_are_no_image_are_refused_where_they_lie() -> None:
    with pytest.raises(InputError, match="this place"):
        pack_image(file_of(PIXELS, "PNG")[:40], storage="encoded", where="this place")


@pytest.mark.parametrize("storage", ["raw", "encoded"])
def test_a_label_comes_back_to_the_bit(storage: str) -> None:
    turned = np.asfortranarray(LABEL)  # its rows do not lie one after another
    payload = pack_label(turned, storage=storage)
    assert unpack_label(buffer(payload), LABEL.shape, storage=storage).tolist() == LABEL.tolist()


@pytest.mark.parametrize("storage", ["raw", "encoded"])
def test_what_does_not_fit_its_size_is_an_error(storage: str) -> None:
    image, _ = pack_image(file_of(PIXELS, "PNG"), storage=storage, where="a")
    with pytest.raises(ValueError, match=r"decode to its size|reshape"):
        unpack_image(buffer(image), (6, 11), storage=storage)
    label = bytearray(buffer(pack_label(LABEL, storage=storage)).to_pybytes())
    with pytest.raises(ValueError, match=r"decompress|reshape"):
        unpack_label(pa.py_buffer(bytes(label[:-7])), LABEL.shape, storage=storage)
