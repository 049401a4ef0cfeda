"""The words that a recipe, a protocol or a cell may use."""

from setr.data.reading.datasets import PUBLISHED
from setr.models.decoders.table import DECODERS as _DECODERS

DATASETS = tuple(PUBLISHED)
DECODERS = tuple(name for name, decoder in _DECODERS.items() if decoder.published_as == name)
PROTOCOL_KINDS = ("ss", "ms")  # single scale; multi-scale and horizontal flip
