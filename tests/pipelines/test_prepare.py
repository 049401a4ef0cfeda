"""The prepare command on data of one's own: what is said of the split and of classes, and what is left behind."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.inputs.sharding import SPLIT_FILE
from pipelines.prepare import work
from pipelines.terminal.command import exit_status
from setr.data.manifest import read_manifest
from setr.settings.config import load_config
from setr.settings.home import PROJECT


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SETR_HOME", str(tmp_path))
    return tmp_path


def write(home: Path, key: str, *values: int) -> None:
    pixels = np.random.default_rng(len(key) + sum(map(ord, key))).integers(0, 256, (4, 12, 3), dtype=np.uint8)
    label = np.resize(np.array(values, dtype=np.uint8), (4, 12))
    for folder, picture in (("photos", pixels), ("masks", label)):
        path = home / folder / f"{key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)


def prepare(*words: str, check: bool = False) -> int:
    own = ["data.name=mine", "data.images=photos", "data.labels=masks", "data.classes=[a,b,c]", "data.workers=1"]
    arguments = argparse.Namespace(check=check, listed=False)
    return exit_status(lambda: work(load_config(PROJECT / "params.yaml", [*own, *words], section="data"), arguments))


@pytest.mark.parametrize(
    ("keys", "rule"),
    [
        (("Train/a", "Train/b", "Valid/c"), "by sub-folders: Train/ is train, Valid/ is val"),
        (("a", "b", "c"), "by the hash of each name: about 20% is val"),
    ],
)
def test_the_rule_of_the_split_is_printed_and_stored(
    home: Path, capsys: pytest.CaptureFixture[str], keys: tuple[str, ...], rule: str
) -> None:
    for key in keys:
        write(home, key, 0, 1, 2)
    assert prepare() == 0
    assert f"mine: split {rule}" in capsys.readouterr().out
    for split in ("train", "val"):
        folder = home / "data/shards/mine" / split
        record = json.loads((folder / SPLIT_FILE).read_text())
        assert record["rule"].startswith(rule)
        assert (record["split"], record["images"]) == (split, read_manifest(folder)[0].rows)
    assert prepare(check=True) == 0
    assert f"  split {rule}" in capsys.readouterr().out
    assert json.loads((home / "results/data/mine.json").read_text())["splits"][0]["rule"].startswith(rule)


def test_the_rule_is_no_part_of_the_identity(home: Path) -> None:
    write(home, "a", 0, 1, 2)
    write(home, "b", 0, 1, 2)
    hashes = []
    for name in ("val", "validation"):
        (home / f"{name}.txt").write_text("b\n")
        assert prepare() == 0
        hashes.append(read_manifest(home / "data/shards/mine/val")[1])
        (home / f"{name}.txt").unlink()
    assert hashes[0] == hashes[1]


def test_what_is_in_no_split_and_what_never_occurs_is_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for key in ("train/a", "val/b", "test/c"):
        write(home, key, 0, 2)
    (home / "photos/train/d.tif").write_bytes(b"x")
    assert prepare() == 0
    out = capsys.readouterr().out
    assert "note: 1 images are in no split, such as test/c" in out
    assert "note: 1 files are neither image nor label by their names, such as" in out
    assert "warning: mine/train: no label holds b" in out
    assert "warning: mine/val: no label holds b" in out


@pytest.mark.parametrize(
    ("keys", "values", "words", "code"),
    [
        (("train/a", "val/b"), (0, 255), (), "E_LABEL_FAMILY"),
        (("train/a", "val/b"), (1, 2, 3), (), "E_LABEL_FAMILY"),
        (("train/a", "val/b"), (0, 77), (), "E_LABEL_RANGE"),
        (("train/a", "test/b"), (0, 1, 2), (), "E_DATA_EMPTY"),
        (("x/train/a", "x/val/b"), (0, 1, 2), (), "E_SPLIT"),
        (("train/a", "val/b"), (0, 1, 2), ("data.name=../out",), "E_CONFIG"),
        (("train/a", "val/b"), (0, 1, 2), ("data.name=.",), "E_CONFIG"),
    ],
)
def test_a_mistake_is_found_before_the_first_shard(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    keys: tuple[str, ...],
    values: tuple[int, ...],
    words: tuple[str, ...],
    code: str,
) -> None:
    for key in keys:
        write(home, key, *values)
    assert prepare(*words) == 2
    assert f"error: {code} | " in capsys.readouterr().err
    assert sorted(path.name for path in home.iterdir()) == ["masks", "photos"]
