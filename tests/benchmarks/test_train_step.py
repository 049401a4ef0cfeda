"""The harness of the training step's benchmark, on steps that cost nothing."""

import math
import sysconfig
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks import train_step_peer
from benchmarks.train_step import PUBLISHED, Case, Run, our_step, problem, report, side_by_side, times_faster
from setr.models.segmenter import build_model
from setr.models.specification import EncoderSize
from setr.study.published import recipe


def test_each_round_takes_one_step_of_everybody_and_the_order_rotates() -> None:
    taken: list[str] = []

    def step(name: str) -> float:
        taken.append(name)
        return float(len(taken))

    runs = side_by_side({name: partial(step, name) for name in "abc"}, rounds=2)

    assert "".join(taken) == "abcabcbca"
    assert [len(run.cpu) for run in runs.values()] == [2, 2, 2]
    assert runs["b"].losses == [2.0, 5.0, 7.0]


def test_ratio_is_the_median_of_the_rounds_ratios() -> None:
    assert times_faster([2.0, 30.0, 3.0], [1.0, 10.0, 0.5]) == 3.0


@pytest.mark.parametrize(
    ("seconds", "loss", "missed"), [(0.4, 5.0, 0), (0.9, 5.0, 1), (0.4, 5.1, 1), (0.9, math.nan, 2)]
)
def test_report_counts_missed_aims_and_different_losses(
    seconds: float, loss: float, missed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = {PUBLISHED: Run([1.0], [1.0], [5.0, 4.0]), "mmseg": Run([seconds], [seconds], [loss, 4.0])}
    assert report("naive", runs) == missed
    assert ("MISSED" in capsys.readouterr().out) == (seconds > 0.5)


def test_a_row_in_bfloat16_has_an_aim_of_its_own_and_may_round(capsys: pytest.CaptureFixture[str]) -> None:
    runs = {PUBLISHED: Run([1.0], [1.0], [5.0, 4.0]), "bfloat16": Run([0.6], [0.6], [5.1, 4.0])}
    assert report("naive-512", runs) == 1  # 1.67 of 1.7
    assert "1.7 x: MISSED |" in capsys.readouterr().out
    assert report("naive", runs) == 0


def test_our_step_trains() -> None:
    images, labels = problem(Case("pup", {}, side=32))
    torch.manual_seed(0)
    sizes = EncoderSize("t", embed_dim=8, depth=4, num_heads=1, patch_size=8, decoder_channels=8)
    model = build_model("setr-pup", num_classes=19, crop_size=(32, 32), flavour="mmseg", sizes=sizes)
    step = our_step(model, recipe("cityscapes", "pup", "80k", flavour="mmseg"), images, labels)

    losses = [step() for _ in range(5)]

    assert labels.unique().tolist()[-1] == 255
    assert losses[-1] < losses[0]


def test_environment_is_made_once_and_shares_this_ones_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []
    monkeypatch.setattr(train_step_peer, "install", calls.append)
    folder = tmp_path / "environment"
    python = train_step_peer.environment(folder)
    (shared,) = folder.rglob("shared_environment.pth")

    assert python.is_file()
    assert sysconfig.get_path("purelib") in shared.read_text().splitlines()
    assert train_step_peer.environment(folder) == python
    assert calls == [python]


def test_environment_leaves_a_folder_of_others_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(SystemExit, match="name another folder"):
        train_step_peer.environment(tmp_path)
    assert (tmp_path / "thesis.txt").is_file()
