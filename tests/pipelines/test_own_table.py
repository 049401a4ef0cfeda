"""A table of one's own as docs/own-table.md has it: two files, four commands, no edit of the project."""

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers.environment import ROOT, environment

STUDY = """
title: Decoders on road damage
models:
  mine:   {encoder: t-base, weights: R, decoder: "mine.py:ConcatHead", channels: 8}
  dinov3: {encoder: "timm:vit_small_patch16_dinov3.lvd1689m", weights: R, decoder: "mine.py:ConcatHead", channels: 8}
recipe: {from: setr/ade20k, iterations: 20000}
miniature: {recipe: {iterations: 4, batch_size: 2, crop_size: [32, 64]}}
tables:
  decoders:
    rows: [mine, dinov3]
    columns:
      low:  {data: damage, recipe: {base_lr: 1.0e-3}}
      high: {data: damage, recipe: {base_lr: 1.0e-2}}
    seeds: 3
"""


def pictures(folder: Path) -> None:
    """Writes eight small pictures of two classes with their masks."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for index in range(count):
            mask = (generator.random((48, 96)) > 0.7).astype(np.uint8)
            image = np.where(mask[..., None] > 0, 40, 200).astype(np.uint8).repeat(3, axis=2)
            for kind, array in (("photos", image), ("masks", mask)):
                path = folder / kind / split / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                assert cv2.imwrite(str(path), array)


def own_head() -> str:
    """Returns the decoder's file as docs/own-decoder.md shows it."""
    text = (ROOT / "docs" / "own-decoder.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?class ConcatHead.*?)```", text, flags=re.DOTALL)
    assert found
    return found[1]


@pytest.mark.slow
def test_two_files_and_four_commands_make_a_table(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "decoders.yaml").write_text(STUDY)
    (tmp_path / "study" / "mine.py").write_text(own_head())
    before = set((ROOT / "setr").rglob("*.py"))

    def run(command: str, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, str(ROOT / "pipelines" / f"{command}.py"), *words],
            cwd=tmp_path,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    named = "study=study/decoders.yaml"
    run("prepare", "data.name=damage", "data.images=photos", "data.labels=masks", "data.classes=[road,crack]")
    assert "12 trainings on damage" in run("study", "check", "study/decoders.yaml")
    run("sweep", named)
    run("report", named)

    scores = json.loads((tmp_path / "results/scores.json").read_text())["decoders"]["decoders"]
    assert {row: set(columns) for row, columns in scores.items()} == {
        "mine": {"low", "high"},
        "dinov3": {"low", "high"},
    }
    table = json.loads((tmp_path / "report/decoders/table-decoders.json").read_text())
    assert [cell["seeds"] for cell in table["scales"][0]["cells"]] == [3, 3, 3, 3]
    assert "n=3" in (tmp_path / "report/decoders/table-decoders.tex").read_text()
    assert 'href="decoders/index.html"' in (tmp_path / "report/index.html").read_text()
    assert set((ROOT / "setr").rglob("*.py")) == before
    assert "12 experiments: 12 done" in run("sweep", named, "--plan")
