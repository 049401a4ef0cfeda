"""One sample looked at closely: size, modes, label values, content, and everything that is wrong with it."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from setr.data.reading.image_file import check_png_rows, read_header
from setr.data.reading.images import (
    check_same_size,
    decode_image,
    hash_sources,
    histogram,
    is_wide,
    parse_raw_label,
    to_train_ids,
)
from setr.data.reading.own_labels import LabelFacts, facts_of
from setr.data.reading.samples import Dataset, Sample
from setr.data.reading.sources import Source, read_bytes
from setr.errors import IntegrityError, SetrError

T = TypeVar("T")
_BLOCK = 256  # samples in flight, so that a large data set does not wait in memory


@dataclass
class Inspection:
    """What one sample turned out to be."""

    sample: Sample
    problems: list[SetrError] = field(default_factory=list)
    size: str = ""  # width x height in pixels
    image_mode: str = ""
    label_mode: str = ""
    content: str = ""  # hash of the decoded pixels: finds copies that were saved again
    raw: dict[int, int] = field(default_factory=dict)  # label value as stored -> pixels
    wide: bool = False  # the values are ids of the wide label map
    class_pixels: np.ndarray | None = None  # int64 (256,): pixels of each train id
    facts: LabelFacts | None = None  # of a data set of one's own


def inspect_all(
    samples: Sequence[Sample],
    dataset: Dataset,
    *,
    threads: int = 2,
    source_hashes: Mapping[str, str] | None = None,
) -> Iterator[Inspection]:
    """Yields the inspections in order; decoding and hashing release the interpreter's lock, so threads are enough."""
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        for start in range(0, len(samples), _BLOCK):
            block = samples[start : start + _BLOCK]
            yield from pool.map(lambda sample: inspect(sample, dataset, source_hashes=source_hashes), block)


def inspect(sample: Sample, dataset: Dataset, *, source_hashes: Mapping[str, str] | None = None) -> Inspection:
    """Returns what one sample is; its mistakes are noted, not raised."""
    result = Inspection(sample)
    image_source, label_source = sample.image, sample.label
    image_data = _attempt(result, lambda: read_bytes(image_source))
    label_data = None if label_source is None else _attempt(result, lambda: read_bytes(label_source))
    image = None
    if image_data is not None:
        if source_hashes is not None:
            _attempt(result, lambda: _check_hash(sample, image_data, label_data, source_hashes))
        image = _inspect_image(result, image_data)
    if label_source is not None and label_data is not None:
        _inspect_label(result, label_data, label_source, dataset, image)
    return result


def _inspect_image(result: Inspection, data: bytes) -> np.ndarray | None:
    source = result.sample.image
    header = _attempt(result, lambda: read_header(data, source))
    if header is None:
        return None
    result.size, result.image_mode = f"{header.width}x{header.height}", f"{header.format} {header.mode}"
    image = _attempt(result, lambda: decode_image(data, source))
    if image is not None and header.format == "PNG":
        _attempt(result, lambda: check_png_rows(data, header, source))
    if image is not None:
        result.content = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
    return image


def _inspect_label(result: Inspection, data: bytes, source: Source, dataset: Dataset, image: np.ndarray | None) -> None:
    if source.name.lower().endswith(".mat"):
        result.label_mode = "MATLAB"
    else:
        header = _attempt(result, lambda: read_header(data, source))
        if header is None:
            return
        result.label_mode = f"{header.format} {header.mode}"
    values = _attempt(result, lambda: parse_raw_label(data, source, dataset))
    if values is None:
        return
    result.raw, result.wide = histogram(values), is_wide(values, dataset)
    if dataset.own:
        result.facts = facts_of(result.sample.key, data, values, dataset, source)
    if image is not None:
        _attempt(result, lambda: check_same_size(image, values, result.sample))
    train_ids = _attempt(result, lambda: to_train_ids(values, dataset, source))
    if train_ids is not None:
        result.class_pixels = np.bincount(train_ids.ravel(), minlength=256)


def _check_hash(sample: Sample, image_data: bytes, label_data: bytes | None, expected: Mapping[str, str]) -> None:
    found = hash_sources(image_data, label_data)
    if sample.key in expected and expected[sample.key] != found:
        raise IntegrityError(
            "E_SOURCE_HASH",
            "image or label is no longer the file that was recorded",
            where=sample.image,
            found=found[:16],
            expected=expected[sample.key][:16],
            remedy="copy both files again from their source",
        )


def _attempt(result: Inspection, action: Callable[[], T]) -> T | None:
    """Returns what the action returns; an error that a user can mend is noted instead of raised."""
    try:
        return action()
    except SetrError as error:
        result.problems.append(error)
        return None
