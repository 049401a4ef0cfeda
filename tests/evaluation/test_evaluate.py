"""The same counts in one process, in shares, and over workers; bad combinations are refused before any work."""

import json
import multiprocessing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch.distributed as dist

from setr.errors import InputError
from setr.evaluation.calibration import sample_places
from setr.evaluation.evaluate import Evaluation, evaluate
from setr.evaluation.inference import predict
from setr.evaluation.metrics import confusion_matrix, scores
from setr.models.segmenter import build_model
from setr.study.protocols import Protocol
from tests.helpers.tiny_scoring import CLASSES, PROTOCOL, SIZES, Linear, make_shards


def test_matrix_is_the_sum_over_images() -> None:
    shards, model = make_shards(SIZES), Linear().eval()
    seen: list[tuple[int, int]] = []
    result = evaluate(
        model, shards, PROTOCOL, device="cpu", boundary=True, progress=lambda done, total: seen.append((done, total))
    )
    matrices = [
        confusion_matrix(predict(model, record.image, PROTOCOL), record.label, num_classes=CLASSES) for record in shards
    ]
    assert np.array_equal(result.matrix, sum(matrices))
    assert result.images == len(shards) == len(result.rows)
    assert [row.key for row in result.rows] == [record.key for record in shards]
    assert np.array_equal(result.areas[:, 2].sum(0), result.matrix.sum(1))
    for row, matrix in zip(result.rows, matrices, strict=True):
        alone = scores(matrix)
        assert (row.mIoU, row.pixel_accuracy) == pytest.approx((alone.mIoU, alone.pixel_accuracy))
    assert seen[-1] == (23, 23)
    places = [sample_places(*record.label.shape) for record in shards]
    labels = [record.label.ravel()[index] for record, index in zip(shards, places, strict=True)]
    assert result.calibration[0].sum() == sum(int((label != 255).sum()) for label in labels)
    worst = result.worst(3)
    assert [row.mIoU for row in worst] == sorted(row.mIoU for row in result.rows)[:3]
    record = json.loads(json.dumps(result.as_dict()))
    assert record["protocol"]["digest"] == PROTOCOL.digest()
    assert record["scores"]["boundary_iou"] < 100


@pytest.mark.parametrize("workers", [2, 3, 7])
def test_shares_add_up_to_the_count(workers: int) -> None:
    shards, model = make_shards(SIZES), Linear()
    alone = evaluate(model, shards, PROTOCOL, device="cpu")
    shares = [evaluate(model, shards, PROTOCOL, device="cpu", rank=rank, world_size=workers) for rank in range(workers)]
    assert np.array_equal(sum(share.matrix for share in shares), alone.matrix)
    assert np.array_equal(sum(share.calibration for share in shares), alone.calibration)
    assert sum(share.images for share in shares) == len(shards)


def test_limit_and_mode() -> None:
    shards, model = make_shards(SIZES), Linear().train()
    result = evaluate(model, shards, PROTOCOL, device="cpu", limit=20)
    assert result.images == 20
    assert model.training
    assert evaluate(model, shards, PROTOCOL, device="cpu", limit=1000).images == 23


def test_bfloat16_scores_nearly_alike() -> None:
    shards, model = make_shards(SIZES[:4]), Linear()
    exact = evaluate(model, shards, PROTOCOL, device="cpu")
    rough = evaluate(model, shards, PROTOCOL, device="cpu", precision="bfloat16")
    assert rough.matrix.sum() == exact.matrix.sum()
    assert abs(rough.matrix - exact.matrix).sum() < 0.1 * exact.matrix.sum()


def test_two_workers_get_the_counts_of_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")  # no second import of torch
    queue = context.Queue()
    processes = [context.Process(target=_worker, args=(rank, str(tmp_path / "store"), queue)) for rank in range(2)]
    for process in processes:
        process.start()
    received = [queue.get(timeout=120) for _ in range(4)]
    for process in processes:
        process.join(30)
    alone = evaluate(Linear(), make_shards(SIZES), PROTOCOL, device="cpu")
    results = [item for item in received if isinstance(item, Evaluation)]
    assert len(results) == 2
    for result in results:
        assert np.array_equal(result.matrix, alone.matrix)
        assert np.array_equal(result.areas, alone.areas)
        assert np.array_equal(result.calibration, alone.calibration)
        assert result.rows == alone.rows
    # One bad label on one worker: both stop, each with one line.
    errors = sorted(item for item in received if isinstance(item, str))
    assert len(errors) == 2
    assert any("image-022" in error and "E_LABEL_RANGE" in error for error in errors)
    assert any(error.startswith("E_WORKER") and "image-022" in error for error in errors)


def _worker(rank: int, store: str, queue: Any) -> None:
    cv2.setNumThreads(0)  # its threads did not survive the fork
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    options: dict[str, Any] = {"device": "cpu", "rank": rank, "world_size": 2}
    queue.put(evaluate(Linear(), make_shards(SIZES), PROTOCOL, **options))
    shards = make_shards(SIZES)
    shards[22].label[:] = 77
    try:
        evaluate(Linear(), shards, PROTOCOL, **options)
    except InputError as error:
        queue.put(str(error))
    dist.destroy_process_group()


def test_combinations_that_do_not_fit_are_refused() -> None:
    model, shards = Linear(), make_shards(SIZES[:2])
    with pytest.raises(InputError, match=r"E_CLASS_COUNT.*4 in the data set, 5 in the protocol, 5 in the model"):
        evaluate(model, make_shards(SIZES[:2], classes=4), PROTOCOL, device="cpu")
    with pytest.raises(InputError, match="E_NO_LABELS"):
        evaluate(model, make_shards(SIZES[:2], labelled=False), PROTOCOL, device="cpu")
    with pytest.raises(InputError, match="E_NO_LABELS"):
        evaluate(model, make_shards([]), PROTOCOL, device="cpu")
    with pytest.raises(InputError, match=r"E_LABEL_RANGE.*image-000.*found 33"):
        evaluate(model, make_shards(SIZES[:2], worst=33), PROTOCOL, device="cpu")
    ignored = make_shards(SIZES[:2])
    for record in ignored:
        record.label[:] = 255
    with pytest.raises(InputError, match=r"E_NO_LABELS.*every label pixel is ignored"):
        evaluate(model, ignored, PROTOCOL, device="cpu")
    with pytest.raises(InputError, match="E_CHOICE"):
        evaluate(model, shards, PROTOCOL, device="cpu", precision="float8")


def test_window_beyond_the_position_table_is_refused() -> None:
    model = build_model("setr-naive-base", num_classes=CLASSES, crop_size=(32, 32), scale="miniature")
    shards = make_shards([(40, 48)] * 2)
    assert evaluate(model, shards, PROTOCOL, device="cpu").images == 2
    wide = Protocol("ss", None, "slide", (32, 48), (20, 20), num_classes=CLASSES)
    with pytest.raises(InputError, match=r"E_WINDOW_REACH.*found 32x48 pixels, expected at most 32x32"):
        evaluate(model, shards, wide, device="cpu")
    # The whole image resizes the table, as at training time.
    whole = Protocol("ss", None, "whole", (32, 32), (32, 32), num_classes=CLASSES)
    assert evaluate(model, shards, whole, device="cpu").images == 2
