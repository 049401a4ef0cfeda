"""The command writes the formats asked for and reports how they compare."""

import json
from pathlib import Path

import pytest

from pipelines.export import main


def test_exports_a_released_checkpoint(reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main([str(reference / "tiny_naive.pth"), "--num-heads", "3", "-o", str(tmp_path), "--to", "safetensors"])
    assert status == 0
    assert "0.0e+00" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "model.json").read_text())["about"]["classes"]) == 6


def test_an_error_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "absent.pth"), "-o", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: E_CKPT_NOT_FOUND")
