"""Samples and shards of a few small images."""

from pathlib import Path

import pytest

from setr.data.reading.camvid import CAMVID
from setr.data.reading.samples import Sample
from setr.data.shards import write_shards
from tests.helpers.made_shards import make_samples


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Returns ten samples of two sizes, as PNG files."""
    return make_samples(tmp_path / "source", 10)


@pytest.fixture
def folder(tmp_path: Path, samples: list[Sample]) -> Path:
    """Returns a prepared folder with three shards."""
    write_shards(samples, CAMVID, tmp_path / "shards", split="train", rows_per_shard=4, workers=1)
    return tmp_path / "shards"
