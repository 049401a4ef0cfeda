"""Bytes that changed are named, and so are images that get another score than the recorded one."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from setr.errors import InputError
from setr.evaluation import metrics
from setr.evaluation.areas import read_areas
from setr.evaluation.metrics import image_areas
from setr.record.checkpoint import save
from setr.reporting.numbers.results import Result
from setr.reporting.numbers.statistics import mean_iou
from setr.reporting.tracing.rehash import compare_images, sums_to_score, verified_text, verify_bytes, verify_validation
from setr.reporting.tracing.trace import Link
from setr.study.cells import find_cell
from setr.study.code import scoring_code

KEYS = [f"val/{index}" for index in range(6)]


@pytest.fixture
def stored(result_of: Callable[..., Result], tmp_path: Path) -> Result:
    made = result_of([find_cell("table2/setr-pup/80k")], experiment={"weights": hashlib.sha256(b"w").hexdigest()})
    tensors = {"model": {"a": torch.ones(2)}, "optimizer": {"a": torch.zeros(2)}}
    info = save(tmp_path / "run", 5, tensors, {"identity": made.identity})
    (tmp_path / "w.safetensors").write_bytes(b"w")
    return dataclasses.replace(made, checkpoint=str(info.path), checkpoint_sha256=info.sha256)


def test_bytes_are_hashed_again(stored: Result, tmp_path: Path) -> None:
    weights = [tmp_path / "w.safetensors"]
    checkpoint, data, weight = verify_bytes(stored, shards=tmp_path / "no-data", weights=weights)
    assert (checkpoint.broken, checkpoint.value) == ("", stored.checkpoint_sha256)
    assert "E_MANIFEST" in data.broken
    assert not weight.broken
    weights[0].write_bytes(b"v")
    assert "recorded was" in verify_bytes(stored, shards=tmp_path, weights=weights)[2].broken
    assert "E_MANIFEST" in verify_validation(stored, "ss", tmp_path / "no-data").broken


def test_a_changed_checkpoint_is_named(stored: Result, tmp_path: Path) -> None:
    file = Path(stored.checkpoint or "") / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.chmod(0o644)
    file.write_bytes(bytes(data))
    assert "model.safetensors" in verify_bytes(stored, shards=tmp_path)[0].broken
    moved = dataclasses.replace(stored, checkpoint_sha256="0" * 64)
    assert verify_bytes(dataclasses.replace(moved, checkpoint=None), shards=tmp_path)[0].broken.startswith("E_")


def test_a_checkpoint_with_another_hash_is_named(stored: Result, tmp_path: Path) -> None:
    other = dataclasses.replace(stored, checkpoint_sha256="0" * 64)
    assert verify_bytes(other, shards=tmp_path)[0].broken == f"recorded was {'0' * 64}"


@pytest.fixture
def areas() -> np.ndarray:
    generator = np.random.default_rng(0)
    label = generator.integers(1000, 3000, (6, 4))
    return np.stack([label // 2, label, label], 1).astype(np.int64)


def test_images_that_get_the_recorded_counts(areas: np.ndarray) -> None:
    link = compare_images(KEYS, areas, KEYS[2:4], areas[2:4])
    assert not link.broken
    assert link.value == f"2 of 6, mIoU {float(mean_iou(areas[2:4].sum(0))):.4f}: every count as recorded"


def test_a_tipped_tie_is_told_and_a_changed_image_is_broken(areas: np.ndarray) -> None:
    now = areas.copy()
    now[3, 0, 1] += 2
    tipped = compare_images(KEYS, areas, KEYS, now)
    assert not tipped.broken
    assert "most in val/3" in tipped.value
    now[3, :2, 1] += 500
    assert "most in val/3; mIoU recorded" in compare_images(KEYS, areas, KEYS, now).broken


def test_other_images_labels_and_classes_are_named(areas: np.ndarray) -> None:
    assert "image val/9 has no recorded" in compare_images(KEYS, areas, ["val/9"], areas[:1]).broken
    now = areas.copy()
    now[1, 2, 0] += 1
    assert "image val/1 has another label" in compare_images(KEYS, areas, KEYS, now).broken
    assert "3 classes" in compare_images(KEYS, areas, KEYS, areas[..., :3]).broken


def test_a_score_has_to_follow_from_its_images_by_the_code_that_scores(
    stored: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = np.random.default_rng(0).integers(0, 900, (6, 4, 4))
    areas, matrix = np.stack([image_areas(one) for one in counts]), counts.sum(0)

    def link(score: float, counts: np.ndarray = matrix, scoring: str = "") -> Link:
        record = {"mIoU": score, "scoring": scoring or scoring_code()}
        return sums_to_score(dataclasses.replace(stored, scores={"ss": record}), "ss", areas, counts)

    summed = metrics.scores(matrix).mIoU
    assert not link(summed).broken
    assert link(summed + 0.5).broken == f"recorded was {summed + 0.5}"
    assert "by other scoring code (aaaaaaaaaaaa)" in link(summed + 0.5, scoring="a" * 64).broken
    assert "not those of the sum" in link(summed, matrix + 1).broken
    was = metrics.scores
    monkeypatch.setattr(metrics, "scores", lambda matrix: dataclasses.replace(was(matrix), mIoU=12.5))
    assert not link(12.5).broken  # a metric that was mended is what the evaluation now has


@pytest.mark.parametrize("content", [b"", b"PK no archive", None])
def test_files_that_hold_no_areas_are_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "areas-ss.npz"
    if content is None:
        np.savez(file, keys=np.array(["a"]), areas=np.zeros((2, 3, 4)))
    else:
        file.write_bytes(content)
    with pytest.raises(InputError, match="E_RESULTS"):
        read_areas(file)


def test_what_was_verified_is_one_line_each() -> None:
    text = verified_text([Link("run", "a\nb"), Link("diff", "", "gone\x1b[31m")])
    assert text.splitlines() == ["verify run: ok; a b", "verify diff: BROKEN: gone?[31m"]
