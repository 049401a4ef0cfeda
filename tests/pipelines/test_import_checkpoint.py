"""The command prints what became of the tensors and writes the model with its receipt."""

import argparse
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from pipelines.import_checkpoint import _arguments, work
from pipelines.terminal.receipt_lines import describe, receipt_table
from setr.errors import InputError
from setr.models.weights import import_checkpoint
from setr.settings.config import Config


def run(*words: str) -> None:
    parser = argparse.ArgumentParser()
    _arguments(parser)
    parser.add_argument("words", nargs="*")
    work(Config(), parser.parse_intermixed_args([*words, "--no-tracking"], argparse.Namespace(overrides=[])))


def test_description_and_short_table(reference: Path) -> None:
    model, receipt = import_checkpoint(reference / "tiny_mla.pth", num_heads=3)
    said = describe(model, receipt)
    assert "mla with 6 classes" in said
    assert "3 heads (given)" in said
    assert "reads layers 1, 2, 3, 4" in said
    console = Console(file=io.StringIO(), width=120)
    console.print(receipt_table(receipt))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "float16 to float32" in text
    assert len(text.splitlines()) < 12


def test_writes_the_model_and_its_receipt(reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model.safetensors"
    run(str(reference / "tiny_pup.pth"), "--num-heads", "3", "--taps", "0,1,2,3", "-o", str(out))
    assert "converted" in capsys.readouterr().out
    receipt = json.loads(out.with_suffix(".receipt.json").read_text())
    assert receipt["counts"]["missing"] == 0
    assert receipt["settings"]["taps_from"] == "given"
    assert import_checkpoint(out)[0].num_classes == 6


def test_refuses_what_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "no.pth").write_text("no checkpoint")
    with pytest.raises(InputError, match="E_CKPT_FORMAT"):
        run(str(tmp_path / "no.pth"))
