"""The counts of single images, as they are stored with a score: read and checked."""

import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from setr.errors import InputError


def read_areas(file: Path) -> tuple[list[str], np.ndarray]:
    """Returns the keys of the scored images and their areas (N,3,K): intersection, prediction, label, in pixels.

    Raises InputError if the file is not one of recorded areas.
    """
    keys, areas = read_arrays(file, "keys", "areas")
    if areas.ndim != 3 or areas.shape[1] != 3 or keys.shape != areas.shape[:1] or areas.dtype.kind not in "iu":
        raise InputError("E_RESULTS", "no scores of single images", where=file, found=f"{areas.dtype} {areas.shape}")
    areas = areas.astype(np.int64)
    if not areas.size or areas.min() < 0:
        raise InputError("E_RESULTS", "no scores of single images", where=file, found="none, or counts below 0")
    return [str(key) for key in keys], areas


def read_matrix(file: Path) -> np.ndarray:
    """Returns the confusion matrix (K,K) of all images, in pixels; raises InputError if the file holds none."""
    [matrix] = read_arrays(file, "matrix")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.dtype.kind not in "iu":
        raise InputError("E_RESULTS", "no confusion matrix", where=file, found=f"{matrix.dtype} {matrix.shape}")
    return np.asarray(matrix, np.int64)


def read_arrays(file: Path, *names: str) -> list[np.ndarray]:
    """Returns arrays of an .npz file; raises InputError if one is missing or the file is damaged."""
    try:
        if not file.is_file():  # a pipe would be waited for
            raise OSError("no such file")
        with np.load(file, allow_pickle=False) as stored:
            return [stored[name] for name in names]
    # What a damaged archive makes zipfile, zlib and NumPy's header parser raise; a header may ask for terabytes.
    except (OSError, ValueError, KeyError, EOFError, TypeError, SyntaxError, NotImplementedError, MemoryError) as error:
        found: BaseException = error
    except (RuntimeError, AttributeError, struct.error, zipfile.BadZipFile, zlib.error) as error:
        found = error
    raise InputError("E_RESULTS", "scores of single images cannot be read", where=file, found=repr(found))
