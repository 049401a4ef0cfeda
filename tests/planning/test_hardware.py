"""Torch is asked for GPUs where there may be some, and only there."""

from pathlib import Path

import pytest
import torch

from setr.planning import hardware


@pytest.mark.parametrize("device", ["nvidia0", "kfd", "dxg", "nvmap"])
def test_a_device_file_says_that_there_may_be_a_gpu(device: str, tmp_path: Path) -> None:
    (tmp_path / "nvidiactl").touch()  # of a driver that found no card
    (tmp_path / "null").touch()
    assert not hardware.may_have_gpu(tmp_path)
    (tmp_path / device).touch()
    assert hardware.may_have_gpu(tmp_path)


def test_torch_counts_them_where_there_may_be_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    monkeypatch.setattr(hardware, "may_have_gpu", lambda: True)
    assert (hardware.gpu_count(), hardware.has_bfloat16()) == (3, True)
    monkeypatch.setattr(hardware, "may_have_gpu", lambda: False)
    assert (hardware.gpu_count(), hardware.has_bfloat16()) == (0, False)
