"""How the pixels of a row are stored: `raw` as they are, `encoded` as the original JPEG or PNG bytes.

A label PNG costs half as much to decode as a JPEG image, so labels are never stored as images: raw, or lz4.
"""

import cv2
import numpy as np
import pyarrow as pa

from setr.data.manifest import Storage
from setr.data.reading.images import decode_image

_DECODE_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_LABEL_CODEC = "lz4_raw"
_JPEG_MEAN_LEVELS = 1.0  # two JPEG decoders may round differently; lossless formats must agree exactly
_JPEG_START = b"\xff\xd8"

Payload = bytes | np.ndarray


def pack_image(data: bytes, *, storage: Storage, where: object) -> tuple[Payload, tuple[int, int]]:
    """Returns what is stored for the bytes of an image file, and the image's (height, width).

    The file is decoded strictly in any case. Original bytes are kept only if the fast decoder used for reading agrees
    with the strict one; otherwise (grey profiles, odd subsampling) the pixels are stored as a PNG, without loss.
    """
    image = decode_image(data, where)
    size = (image.shape[0], image.shape[1])
    if storage == "raw":
        return np.ascontiguousarray(image), size
    read_again = cv2.imdecode(np.frombuffer(data, np.uint8), _DECODE_FLAGS)
    if read_again is not None and read_again.shape == image.shape:
        difference = float(cv2.norm(read_again, image, cv2.NORM_L1)) / image.size
        if difference <= (_JPEG_MEAN_LEVELS if data.startswith(_JPEG_START) else 0.0):
            return data, size
    done, png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert done
    return png.tobytes(), size


def pack_label(label: np.ndarray, *, storage: Storage) -> Payload:
    """Returns what is stored for a label, uint8 (H, W)."""
    label = np.ascontiguousarray(label)
    if storage == "raw":
        return label
    return pa.compress(label, codec=_LABEL_CODEC, asbytes=True)


def unpack_image(payload: pa.Buffer, size: tuple[int, int], *, storage: Storage) -> np.ndarray:
    """Returns uint8 (H, W, 3) RGB, a read-only view for raw storage; raises ValueError when it does not fit."""
    if storage == "raw":
        return np.frombuffer(payload, np.uint8).reshape(*size, 3)
    image = cv2.imdecode(np.frombuffer(payload, np.uint8), _DECODE_FLAGS)
    if image is None or image.shape != (*size, 3):
        raise ValueError("the image does not decode to its size")
    return image


def unpack_label(payload: pa.Buffer, size: tuple[int, int], *, storage: Storage) -> np.ndarray:
    """Returns uint8 (H, W) train ids, a read-only view for raw storage; raises ValueError when it does not fit."""
    if storage == "encoded":
        try:
            payload = pa.decompress(payload, decompressed_size=size[0] * size[1], codec=_LABEL_CODEC)
        except OSError as error:  # what pyarrow raises for a damaged block
            raise ValueError(f"the label does not decompress: {error}") from error
    return np.frombuffer(payload, np.uint8).reshape(size)
