"""The predict command on images, folders, videos and step folders, and its messages."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.predict import list_images, main, passed_over
from setr.data.checking.preview import colorize
from setr.data.reading.cityscapes import CITYSCAPES
from setr.data.reading.datasets import DATASETS
from setr.evaluation.inference import predict
from setr.evaluation.opened import _stored_classes, load_image, open_model
from setr.models.segmenter import build_model
from setr.record.checkpoint import save
from setr.record.files import EXPERIMENT
from setr.study.experiment import Experiment
from setr.study.protocols import Protocol
from setr.study.recipes import Recipe


@pytest.fixture
def step_folder(tmp_path: Path) -> Path:
    """A checkpoint of an untrained miniature as training leaves it, with its experiment beside it."""
    torch.manual_seed(0)
    model = build_model("setr-naive-base", num_classes=19, crop_size=(64, 64), scale="miniature")
    recipe = Recipe(crop_size=(64, 64))
    experiment = Experiment("scenes", "setr-naive-base", "80k", "miniature", 0, recipe, "", "", "")
    root = tmp_path / "checkpoints" / experiment.identity
    info = save(root, 400, {"model": model.state_dict(), "optimizer": {}}, {"identity": experiment.identity})
    protocol = Protocol("ss", (96, 64), "slide", (64, 64), (42, 42), num_classes=19)
    job = {"protocols": [asdict(protocol)]}
    (root / EXPERIMENT).write_text(json.dumps({"experiment": experiment.as_dict(), "job": job}))
    return info.path


def write_picture(path: Path, height: int, width: int) -> np.ndarray:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return image


def test_folder_with_a_step_folder(step_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write_picture(tmp_path / "in" / "first.png", 70, 90)
    write_picture(tmp_path / "in" / "more" / "second.png", 40, 33)
    out = tmp_path / "out"
    assert main([str(step_folder), str(tmp_path / "in"), "-o", str(out), "--device", "cpu"]) == 0
    assert "19 classes" in capsys.readouterr().out
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    kinds = ("colours", "ids", "overlay")
    expected = {f"{name}_{kind}.png" for name in ("first", "more/second") for kind in kinds}
    assert names == expected | {"legend.png", "legend.json"}
    ids = cv2.imread(str(out / "first_ids.png"), cv2.IMREAD_UNCHANGED)
    opened = open_model(step_folder)
    assert np.array_equal(ids, predict(opened.model, first, opened.protocol))
    colours = cv2.cvtColor(cv2.imread(str(out / "first_colours.png")), cv2.COLOR_BGR2RGB)
    assert np.array_equal(colours, colorize(ids, CITYSCAPES.palette))
    assert json.loads((out / "legend.json").read_text())["classes"][0] == {
        "id": 0,
        "name": "road",
        "rgb": [128, 64, 128],
    }
    assert opened.protocol.resize == (96, 64)
    # The experiment's folder stands for its newest step.
    assert open_model(step_folder.parent).source == opened.source


def test_image_with_a_released_checkpoint(reference: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "image.png", 50, 75)
    words = [str(reference / "tiny_naive.pth"), str(tmp_path / "image.png"), "-o", str(tmp_path / "out")]
    assert main([*words, "--num-heads", "3", "--multi-scale", "--precision", "bfloat16", "--device", "cpu"]) == 0
    assert cv2.imread(str(tmp_path / "out" / "image_ids.png"), cv2.IMREAD_UNCHANGED).shape == (50, 75)


def test_video(step_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (96, 64))
    for level in (0, 100, 200):
        writer.write(np.full((64, 96, 3), level, np.uint8))
    writer.release()
    out = tmp_path / "out"
    assert main([str(step_folder), str(path), "-o", str(out), "--device", "cpu"]) == 0
    assert sorted(item.name for item in (out / "clip_ids").iterdir()) == ["000000.png", "000001.png", "000002.png"]
    film = cv2.VideoCapture(str(out / "clip_overlay.mp4"))
    assert int(film.get(cv2.CAP_PROP_FRAME_COUNT)) == 3


def test_messages(step_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_picture(tmp_path / "in" / "good.png", 32, 32)
    (tmp_path / "in" / "bad.png").write_bytes(b"not a picture")
    options = ["-o", str(tmp_path / "out"), "--device", "cpu"]
    assert main([str(step_folder), str(tmp_path / "in"), *options]) == 2
    assert "bad.png" in capsys.readouterr().err
    assert (tmp_path / "out" / "good_ids.png").is_file()
    (tmp_path / "empty").mkdir()
    for checkpoint, source, code in (
        (step_folder, tmp_path / "nothing.png", "E_DATA_EMPTY"),
        (step_folder, tmp_path / "empty", "E_DATA_EMPTY"),
        (tmp_path / "empty", tmp_path / "in", "E_CHECKPOINT_FOLDER"),
    ):
        assert main([str(checkpoint), str(source), *options]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {code}")
    assert main([str(step_folder), str(tmp_path / "in"), *options, "--data", "ade20k"]) == 2
    assert "E_CLASS_COUNT" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".tif", ".webp", ".bmp", ".gif", ".heic", ".TIFF"])
def test_a_picture_of_another_kind_in_a_folder_is_named_and_counts(
    step_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    write_picture(tmp_path / "in" / "good.png", 16, 16)
    (tmp_path / "in" / "sub").mkdir()
    (tmp_path / "in" / "sub" / f"other{suffix}").write_bytes(b"x")
    assert main([str(step_folder), str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--device", "cpu"]) == 2
    shown = capsys.readouterr()
    assert f"other{suffix}" in shown.err
    assert "1 images could not be read" in shown.out
    assert (tmp_path / "out" / "good_ids.png").is_file()


def test_everything_else_in_a_folder_is_passed_over_by_name(tmp_path: Path) -> None:
    write_picture(tmp_path / "in" / "good.PNG", 16, 16)
    write_picture(tmp_path / "away" / "far.png", 16, 16)
    for name in ("notes.txt", "clip.mp4", ".DS_Store", "._good.png"):
        (tmp_path / "in" / name).write_bytes(b"x")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "away")
    (tmp_path / "in" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    left_out = passed_over(tmp_path / "in")
    assert [path.name for path, _ in list_images(tmp_path / "in")] == ["good.PNG"]
    assert [path.name for path in left_out.pictures] == ["lost.png"]
    assert [path.name for path in left_out.others] == ["clip.mp4", "linked", "notes.txt"]


def test_photographs_are_turned_as_they_ask(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (40, 20)).save(tmp_path / "photo.jpg", exif=exif)
    assert load_image(tmp_path / "photo.jpg").shape == (40, 20, 3)


def test_a_moved_project_finds_the_classes_of_its_own_shards(
    tmp_path: Path, tiny_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record's path is that of before the move, whether the old place is gone or holds another data set by now."""
    here = tmp_path / "moved"
    shutil.copytree(tiny_home / "data" / "shards" / "scenes" / "val", here / "data" / "shards" / "scenes" / "val")
    monkeypatch.setenv("SETR_HOME", str(here))
    classes = _stored_classes({"job": {"shards": {"val": "/gone/before/data/shards/scenes/val"}}})
    assert classes is not None
    assert classes[0] == DATASETS["scenes"].classes
    other = tmp_path / "old" / "data" / "shards" / "scenes" / "val"
    shutil.copytree(tiny_home / "data" / "shards" / "own" / "val", other)
    assert _stored_classes({"job": {"shards": {"val": str(other)}}}) == classes
    monkeypatch.setenv("SETR_HOME", str(tmp_path / "empty"))
    found = _stored_classes({"job": {"shards": {"val": str(other)}}})
    assert found is not None
    assert found[0][0] == "kind 0"
    assert _stored_classes({"job": {"shards": {"val": "/gone/before/data/shards/scenes/val"}}}) is None
