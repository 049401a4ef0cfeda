"""Samples made in code for shards, and what tests do with the files."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from setr.data.reading.samples import Sample


def make_samples(folder: Path, count: int, *, suffix: str = ".png") -> list[Sample]:
    """Returns samples whose files it writes."""
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    samples = []
    for number in range(count):
        image, label = folder / f"{number:03d}{suffix}", folder / f"{number:03d}_label.png"
        height = 24 if number % 3 else 20
        cv2.imwrite(str(image), generator.integers(0, 256, (height, 32, 3), dtype=np.uint8))
        cv2.imwrite(str(label), generator.integers(0, 12, (height, 32), dtype=np.uint8))
        samples.append(Sample(f"street/{number:03d}", image, label))
    return samples


def contents(folder: Path) -> dict[str, str]:
    """Returns name -> SHA-256 of every file in a folder, hidden ones too."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def change(path: Path, edit: Callable[[bytes], bytes]) -> None:
    """Replace a read-only file by an edited copy."""
    data = edit(path.read_bytes())
    path.unlink()
    path.write_bytes(data)
