"""Label maps from MATLAB files, as Pascal Context publishes them."""

import io

import numpy as np

from setr.data.reading.image_file import MAX_PIXELS
from setr.errors import EnvironmentFailure, InputError

VARIABLE = "LabelMap"


def decode_label_map(data: bytes, where: object) -> np.ndarray:
    """Returns the variable `LabelMap` of a .mat file, (H, W) of an integer type wider than 8 bits."""
    try:
        from scipy.io import loadmat, whosmat
    except ImportError as error:
        raise EnvironmentFailure(
            "E_SCIPY", "reading .mat labels needs scipy", where=where, remedy="pip install 'setr-tables[matlab]'"
        ) from error
    try:
        shapes = {name: shape for name, shape, _ in whosmat(io.BytesIO(data))}
        shape = shapes.get(VARIABLE)
        if shape is None or len(shape) != 2 or not 0 < shape[0] * shape[1] <= MAX_PIXELS:
            raise InputError(
                "E_LABEL_MODE", f"no variable {VARIABLE} of two dimensions", where=where, found=shapes or "nothing"
            )
        values = np.asarray(loadmat(io.BytesIO(data), variable_names=[VARIABLE])[VARIABLE])
    except InputError:
        raise
    except Exception as error:  # scipy's parser raises whatever a damaged byte leads it to
        raise InputError(
            "E_IMAGE_DECODE",
            f"cannot decode the .mat file ({type(error).__name__}: {error})",
            where=where,
            found=f"{len(data)} bytes, the first ones {data[:8].hex(' ') or 'missing'}",
            remedy="copy the file again from its source",
        ) from error
    if values.dtype.kind == "f" and np.array_equal(values, np.trunc(values)):
        values = values.astype(np.int64)
    if values.dtype.kind not in "iu":
        raise InputError("E_LABEL_DTYPE", f"{VARIABLE} does not hold whole numbers", where=where, found=values.dtype)
    return values.astype(np.int64)
