"""What the names and shapes of a checkpoint's tensors tell: sizes, numbers of modules, what the encoder is."""

import re
from collections.abc import Mapping

from setr.errors import InputError

Shapes = Mapping[str, tuple[int, ...]]  # parameter, named as here -> its shape


def dims(shapes: Shapes, name: str, dimensions: int) -> tuple[int, ...]:
    """Returns a tensor's shape; raises InputError if it is missing, empty, or of another number of dimensions."""
    shape = shapes.get(name)
    if shape is None or len(shape) != dimensions or 0 in shape:
        raise InputError(
            "E_CKPT_KEYS",
            "a weight that says how large the model is",
            where=name,
            found="none" if shape is None else shape,
            expected=f"{dimensions} dimensions",
        )
    return shape


def count(shapes: Shapes, pattern: str) -> int:
    """Returns how many modules a list has: the largest index + 1, so that a hole in it shows as missing weights.

    Raises InputError for an index beyond the number of weights: a single name could ask for a billion modules.
    """
    indices = {found[1]: name for name in shapes if (found := re.match(pattern, name))}
    for index, name in indices.items():
        if len(index) > len(str(len(shapes))) or int(index) >= len(shapes):
            raise InputError(
                "E_CKPT_KEYS",
                "a weight counts more modules than the file has weights",
                where=name[:80],
                found=f"{len(shapes)} weights",
            )
    return max((int(index) + 1 for index in indices), default=0)


def on_resnet(shapes: Shapes) -> bool:
    """Returns whether the encoder is a ResNet."""
    return any(name.startswith("encoder.body.") for name in shapes)


def on_transformer(shapes: Shapes, *, neck: bool = False) -> bool:
    """Returns whether the encoder is a transformer, with or without a neck behind it."""
    return not on_resnet(shapes) and neck == any(name.startswith("neck.") for name in shapes)
