"""A transform of the user's own: a Python function that is named in the settings and changes augmented samples.

    def transform(image, label, generator):     # uint8 (h, w, 3) RGB, uint8 (h, w) train ids, numpy.random.Generator
        return image, label                     # of the same shapes and types

Its random numbers are a function of (seed, sample, step), as all of the augmentation is.
"""

import hashlib
import importlib
import importlib.util
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

from setr.data.loading.random_streams import OWN_TRANSFORM_STREAM, generator
from setr.errors import InputError, IntegrityError

Transform = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]

_HASH = "#sha256:"


def transform_with_hash(name: str) -> str:
    """Returns `package.module:function#sha256:...`, the hash being that of the module's file; "" for "".

    What the module imports is not in the hash. Raises InputError (E_TRANSFORM) for what cannot be imported.
    """
    if not name:
        return ""
    module, _, _ = name.partition(":")
    _load(name)
    return f"{name}{_HASH}{_source_sha256(module)}"


def load_transform(transform: str) -> Transform:
    """Returns the function of a `transform_with_hash`; raises IntegrityError (E_TRANSFORM) for another source."""
    name, _, expected = transform.partition(_HASH)
    function = _load(name)
    found = _source_sha256(name.partition(":")[0])
    if expected and found != expected:
        raise IntegrityError(
            "E_TRANSFORM",
            "the module of data.transform is not the one that the experiment was planned with",
            where=name,
            found=found,
            expected=expected,
            remedy="give every node the same file",
        )
    return function


def apply_transform(
    transform: Transform,
    image: np.ndarray,
    label: np.ndarray,
    *,
    seed: int,
    sample: int,
    step: int,
    repeat: int,
    where: str,
) -> None:
    """Change image and label in place; raises InputError (E_TRANSFORM) that names the sample when that fails."""
    numbers = generator(key=(seed, sample), position=(step, repeat), stream=OWN_TRANSFORM_STREAM)
    try:
        changed = transform(image.copy(), label.copy(), numbers)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise InputError(
            "E_TRANSFORM",
            f"data.transform failed: {type(error).__name__}: {error}",
            where=f"step {step}, sample {sample} ({where}), in {place.filename} line {place.lineno}",
        ) from error
    found = _kinds(changed)
    expected = _kinds((image, label))
    if found != expected:
        raise InputError(
            "E_TRANSFORM",
            "data.transform returned something else than it was given",
            where=f"step {step}, sample {sample} ({where})",
            found=found,
            expected=expected,
            remedy="return (image, label) of the same shapes, uint8",
        )
    np.copyto(image, changed[0])
    np.copyto(label, changed[1])


def _kinds(pair: object) -> str:
    if not isinstance(pair, tuple | list):
        return type(pair).__name__
    return ", ".join(
        f"{part.dtype} {part.shape}" if isinstance(part, np.ndarray) else type(part).__name__ for part in pair
    )


def _load(name: str) -> Transform:
    module, separator, function = name.partition(":")
    problem = "" if module and separator and function else "not of the form package.module:function"
    if not problem:
        try:
            found = getattr(importlib.import_module(module), function)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        else:
            if callable(found):
                return found
            problem = "not a function"
    raise InputError(
        "E_TRANSFORM",
        f"cannot use this transform: {problem}",
        where="data.transform",
        found=name,
        remedy="name package.module:function, importable on every node (installed, or on PYTHONPATH)",
    )


def _source_sha256(module: str) -> str:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None or not Path(found.origin).is_file():
        raise InputError("E_TRANSFORM", "this module has no file to hash", where="data.transform", found=module)
    return hashlib.sha256(Path(found.origin).read_bytes()).hexdigest()
