"""The built-in street scenes as they are written: in Cityscapes' layout, all or nothing."""

import errno
import hashlib
from pathlib import Path

import numpy as np
import pytest

from setr.data.reading.datasets import DATASETS
from setr.data.reading.images import read_image, read_label
from setr.errors import EnvironmentFailure, InputError
from setr.scenes import scenes
from setr.scenes.scenes import CITIES, SETTINGS_FILE, render_scene, write_scenes

SMALL = {"seed": 5, "train_images": 7, "val_images": 4, "height": 24, "width": 48}


def _files(root: Path) -> dict[str, str]:
    paths = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_layout_and_names_are_those_of_cityscapes_and_the_reader_reads_them(tmp_path: Path) -> None:
    root = tmp_path / "with a space"
    seen: list[tuple[int, int]] = []
    write_scenes(root, **SMALL, progress=lambda done, total: seen.append((done, total)))
    dataset = DATASETS["scenes"]
    cities = {}
    for split, number in (("train", 7), ("val", 4)):
        samples = dataset.list_samples(root, split)
        assert len(samples) == number
        cities[split] = {path.parent.name for path in (root / "leftImg8bit" / split).rglob("*_leftImg8bit.png")}
        for sample in samples:
            image, label = read_image(sample.image), read_label(sample.label, dataset)
            assert image.shape == (24, 48, 3)
            assert set(np.unique(label).tolist()) <= {*range(19), 255}
    city = CITIES["train"][0].name
    expected, _ = render_scene(seed=5, split="train", index=0, height=24, width=48)
    written = read_image(root / "leftImg8bit" / "train" / city / f"{city}_000000_000019_leftImg8bit.png")
    np.testing.assert_array_equal(written, expected)
    assert (root / "gtFine" / "train" / city / f"{city}_000001_000019_gtFine_labelIds.png").is_file()
    assert not cities["train"] & cities["val"]
    assert seen[-1] == (11, 11)
    assert sorted(seen) == seen


def test_files_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    write_scenes(tmp_path / "one", **SMALL)
    write_scenes(tmp_path / "two", **SMALL, workers=2)
    assert _files(tmp_path / "one") == _files(tmp_path / "two")


def test_own_scenes_are_replaced_and_other_folders_are_not(tmp_path: Path) -> None:
    root = tmp_path / "scenes"
    write_scenes(root, **SMALL)
    write_scenes(root, **SMALL | {"train_images": 1, "val_images": 1})
    assert len(_files(root)) == 5  # two images, two labels, the settings
    (root / SETTINGS_FILE).unlink()
    before = _files(root)
    with pytest.raises(InputError, match="E_SCENES"):
        write_scenes(root, **SMALL)
    assert _files(root) == before


def test_a_full_disk_is_one_line_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def fill_up(path: Path, pixels: np.ndarray) -> None:
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        written.append(path)

    monkeypatch.setattr(scenes, "_write_png", fill_up)
    with pytest.raises(EnvironmentFailure, match="No space left") as failure:
        write_scenes(tmp_path / "scenes", **SMALL)
    assert "\n" not in str(failure.value)
    assert str(tmp_path / "scenes") in str(failure.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EnvironmentFailure, match="E_STORAGE"):
        write_scenes(tmp_path / "file" / "scenes", **SMALL)


def test_interruption_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / "scenes", **SMALL, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"split": "test"}, {"height": 8}, {"index": -1}])
def test_scenes_that_do_not_exist_are_refused(wrong: dict[str, object]) -> None:
    chosen: dict[str, object] = {"seed": 0, "split": "train", "index": 0, "height": 32, "width": 64}
    with pytest.raises(InputError, match="E_SCENES"):
        render_scene(**chosen | wrong)  # type: ignore[arg-type]
