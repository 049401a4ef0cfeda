"""The loader's benchmark rows that need no peer: they are computed, and they notice what they are there for."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import loader_facts
from benchmarks.loader_peers import Work
from setr.data.loading.transforms import Augmentation, draw


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """Returns eight smooth images with labels, as the benchmark prepares them."""
    generator = np.random.default_rng(0)
    images, labels = [], []
    for number in range(8):
        images.append(tmp_path / f"{number}.png")
        labels.append(tmp_path / f"{number}_label.png")
        coarse = generator.integers(0, 256, (12, 24, 3), dtype=np.uint8)
        cv2.imwrite(str(images[-1]), cv2.resize(coarse, (192, 96), interpolation=cv2.INTER_CUBIC))
        cv2.imwrite(str(labels[-1]), generator.integers(0, 11, (96, 192), dtype=np.uint8))
    augmentation = Augmentation((64, 64), cat_max_ratio=1, photometric=False)
    return Work(tmp_path, tuple(images), tuple(labels), (96, 192), augmentation, batch_size=4, processes=1)


def test_order_rows_are_met_and_notice_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loader_facts.near_duplicates(steps=600).met
    assert loader_facts.whole_epochs(size=100).found == "0"
    monkeypatch.setattr(
        loader_facts,
        "sample_order",
        lambda *, step, batch_size, size, **_: (step * batch_size + np.arange(batch_size)) % size,
    )
    assert not loader_facts.near_duplicates(steps=600).met
    monkeypatch.setattr(loader_facts, "sample_order", lambda *, step, batch_size, **_: np.zeros(batch_size, int))
    assert not loader_facts.whole_epochs(size=100).met


def test_pixels_are_those_of_resize_then_crop(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    assert loader_facts.pixels(work).met
    # Compared with another crop of images of the same size, they are not.
    fixed = dataclasses.replace(work, augmentation=dataclasses.replace(work.augmentation, ratio_range=(1.5, 1.5)))
    monkeypatch.setattr(loader_facts, "draw", lambda augmentation, **_: draw(augmentation, seed=5, sample=9, step=0))
    assert not loader_facts.pixels(fixed).met


def test_damage_is_counted(work: Work) -> None:
    fact = loader_facts.damaged_shards(work, 25)
    assert fact.met
    assert fact.what.endswith("damaged data sets, not noticed")
