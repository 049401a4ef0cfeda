"""The weights stage: published weights are fetched once, and a file that is there is taken as it is."""

import json
from pathlib import Path

import pytest

from pipelines import weights
from setr.files.hashing import file_sha256
from setr.models.variants import VARIANTS
from setr.study.shelf import setr_study


def test_what_is_there_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def fetch(name: str, folder: Path) -> Path:
        fetched.append(name)
        path = folder / f"{name}.bin"
        path.write_bytes(name.encode())
        return path

    monkeypatch.setattr(weights, "fetch_pretrained", fetch)
    rows = {entry.timm_name for row in VARIANTS.values() for entry in (row.pretrained, row.cnn_pretrained) if entry}
    mine = "deit_base_distilled_patch16_384.fb_in1k"
    (tmp_path / f"{mine}.pth").write_bytes(b"put there by hand")
    weights.fetch_weights(tmp_path, setr_study())
    assert sorted(fetched) == sorted(rows - {mine})
    receipt = json.loads((tmp_path / f"{mine}.json").read_text())
    assert (receipt["file"], receipt["sha256"]) == (f"{mine}.pth", file_sha256(tmp_path / f"{mine}.pth"))
    fetched.clear()
    weights.fetch_weights(tmp_path, setr_study())
    assert fetched == []
