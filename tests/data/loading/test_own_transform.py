"""A user's own transform: the same samples from any number of processes, and errors that name the sample."""

import multiprocessing
import sys
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from setr.data.loading import transform_processes
from setr.data.loading.loader import Batch, Loader
from setr.data.loading.own_transform import load_transform, transform_with_hash
from setr.data.loading.transforms import Augmentation
from setr.data.reading.camvid import CAMVID
from setr.data.reading.samples import Sample
from setr.data.shards import Shards, open_shards, write_shards
from setr.errors import EnvironmentFailure, InputError, IntegrityError
from tests.helpers.environment import environment

MODULE = "tests.helpers.own_transforms"
SETTINGS = {"batch_size": 4, "seed": 3, "stop_step": 5, "pin_memory": False}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """Returns six prepared samples."""
    folder = tmp_path_factory.mktemp("own")
    generator = np.random.default_rng(0)
    samples = []
    for number in range(6):
        image, label = folder / f"{number}.png", folder / f"{number}_label.png"
        cv2.imwrite(str(image), generator.integers(0, 256, (30, 40, 3), dtype=np.uint8))
        cv2.imwrite(str(label), generator.integers(0, 12, (30, 40), dtype=np.uint8))
        samples.append(Sample(f"key{number}", image, label))
    write_shards(samples, CAMVID, folder / "shards", split="train", workers=1)
    return open_shards(folder / "shards")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the processes that the loader starts import what this one can."""
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])


def batches(shards: Shards, name: str, **options: object) -> list[Batch]:
    transform = transform_with_hash(f"{MODULE}:{name}") if name else ""
    loader = Loader(shards, Augmentation((16, 24)), transform=transform, **{**SETTINGS, **options})
    return [Batch(b.step, b.samples.copy(), b.keys, b.images.clone(), b.labels.clone()) for b in loader]


def equal(found: list[Batch], expected: list[Batch]) -> bool:
    return len(found) == len(expected) and all(
        (one.step, one.keys, one.samples.tolist()) == (other.step, other.keys, other.samples.tolist())
        and torch.equal(one.images, other.images)
        and torch.equal(one.labels, other.labels)
        for one, other in zip(found, expected, strict=True)
    )


def test_processes_give_the_samples_that_one_process_gives(shards: Shards) -> None:
    alone = batches(shards, "noise", threads=0)
    assert equal(batches(shards, "noise", threads=2), alone)
    assert equal(batches(shards, "noise", threads=1, start_step=3), alone[3:])
    plain = batches(shards, "", threads=0)
    assert [batch.keys for batch in plain] == [batch.keys for batch in alone]
    for one, other in zip(alone, plain, strict=True):
        added = one.images.int() - other.images.clamp(max=246).int()
        assert (int(added.min()), int(added.max())) == (0, 8)
        assert 0.02 < float((one.labels != other.labels).float().mean()) < 0.2
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("threads", [0, 1])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "fails_on_sample",
            r"ZeroDivisionError: no such blur.*step 0, sample \d \(key\d, .*own_transforms.py line \d+",
        ),
        ("returns_floats", r"step 0, sample \d.*found float64 \(16, 24, 3\), .*expected uint8 \(16, 24, 3\)"),
    ],
)
def test_errors_name_the_sample(shards: Shards, name: str, message: str, threads: int) -> None:
    with pytest.raises(InputError, match=rf"E_TRANSFORM.*{message}") as caught:
        batches(shards, name, threads=threads)
    assert "\n" not in str(caught.value)
    assert not multiprocessing.active_children()


def test_a_process_that_dies_is_told_and_leaves_no_memory(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    created = []

    class Noted(SharedMemory):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
            created.append(self.name)

    monkeypatch.setattr(transform_processes, "SharedMemory", Noted)
    with pytest.raises(EnvironmentFailure, match=r"E_WORKER.*step 0"):
        batches(shards, "dies", threads=1)
    (name,) = created
    with pytest.raises(FileNotFoundError):
        SharedMemory(name)


@pytest.mark.parametrize("name", [MODULE, f"{MODULE}:missing", f"{MODULE}:NOT_A_FUNCTION", "no_such_module:f", ":f"])
def test_what_is_no_transform_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"E_TRANSFORM.*data\.transform"):
        transform_with_hash(name)


def test_another_source_is_another_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("def f(image, label, generator):\n    return image, label\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    planned = transform_with_hash("mine:f")
    assert planned.startswith("mine:f#sha256:")
    assert load_transform(planned)(1, 2, None) == (1, 2)
    (tmp_path / "mine.py").write_text("def f(image, label, generator):\n    return image, label  # changed\n")
    sys.modules.pop("mine")
    assert transform_with_hash("mine:f") != planned
    with pytest.raises(IntegrityError, match=r"E_TRANSFORM.*planned"):
        load_transform(planned)
    assert transform_with_hash("") == ""
