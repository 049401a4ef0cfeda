"""The training benchmark on a CPU, in miniature: its two sides compute the same, and a whole table is printed."""

import subprocess
import sys
from dataclasses import replace

import pytest

from benchmarks import train
from benchmarks.train import ROOT, Case, forward_flop, line, measure
from tests.helpers.environment import environment

SMALL = Case("t-large", "pup", 64, 7, 2, "eager", "cpu", 1, miniature=True)


@pytest.mark.parametrize("decoder", ["naive", "pup", "mla"])
def test_the_published_order_of_operations_gives_the_same_loss(decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(train.OURS, "eager", ("float32", False, False))
    case = replace(SMALL, decoder=decoder)
    published = measure(replace(case, name="published, float32"))
    assert measure(case)["loss"] == pytest.approx(published["loss"], rel=1e-5)


def test_work_is_that_of_the_published_counts() -> None:
    """SETR-PUP-Large at 768x768 with 19 classes: 1102 billion multiply-adds, counted by hand from its layers."""
    case = Case("t-large", "pup", 768, 19, 8, "eager", "cpu", 1)
    assert forward_flop(case) / 2e9 == pytest.approx(1102, rel=0.01)


def test_a_case_that_fails_is_a_row_too() -> None:
    row = line(SMALL, {"failed": "out of memory"}, 1e12)
    assert row.count("|") == 8
    assert "out of memory" in row
    row = line(SMALL, {"seconds": 0.5, "flop": 1e11, "peak_bytes": 2e9}, 1e12)
    assert "| 500.0 | 4.0 | 20.0 % | 2.00 |" in row


@pytest.mark.slow
def test_the_command_prints_a_table_on_a_cpu() -> None:
    words = ("--quick", "--device", "cpu", "--sizes", "t-large", "--decoders", "mla")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.train", *words, "--cases", "eager", "published"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    rows = [row for row in done.stdout.splitlines() if row.startswith("| mla")]
    assert [row.split("|")[3].strip() for row in rows] == ["eager", "published"]
    assert all(row.rstrip().endswith("|") and float(row.split("|")[5]) > 0 for row in rows), done.stdout
