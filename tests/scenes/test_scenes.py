"""The built-in street scenes: deterministic, in Cityscapes' layout, with labels that fit the picture."""

import errno
import hashlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from setr.data.datasets import DATASETS
from setr.data.images import read_image, read_label
from setr.errors import EnvironmentFailure, InputError
from setr.scenes import labels, scenes
from setr.scenes.camera import WEATHERS, Camera, Light
from setr.scenes.canvas import Canvas
from setr.scenes.scenes import CITIES, SETTINGS_FILE, render_scene, write_scenes
from setr.scenes.shapes import Dice, Shape
from setr.scenes.strokes import Place
from setr.scenes.things import Thing, far_to_near
from setr.scenes.vehicles import SIZES, vehicle

KNOWN_IDS = {value for name, value in vars(labels).items() if name.isupper()}
IGNORED_IDS = {labels.EGO_VEHICLE, labels.STATIC}
SMALL = {"seed": 5, "train_images": 7, "val_images": 4, "height": 24, "width": 48}


@pytest.fixture(scope="module")
def rendered() -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the first twelve training scenes at 128x64."""
    return [render_scene(seed=0, split="train", index=index, height=64, width=128) for index in range(12)]


def _files(root: Path) -> dict[str, str]:
    paths = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _camera(height: int = 256, width: int = 512) -> Camera:
    return Camera(width, height, 0.8 * width, width / 2, height / 2, eye=1.5, offset=0.0, yaw=0.0, bend=0.0)


def test_same_seed_split_and_index_give_the_same_bytes(rendered: list[tuple[np.ndarray, np.ndarray]]) -> None:
    image, label = render_scene(seed=0, split="train", index=3, height=64, width=128)
    np.testing.assert_array_equal(image, rendered[3][0])
    np.testing.assert_array_equal(label, rendered[3][1])


@pytest.mark.parametrize("other", [{"seed": 1}, {"split": "val"}, {"index": 9}])
def test_another_seed_split_or_index_gives_another_scene(
    rendered: list[tuple[np.ndarray, np.ndarray]], other: dict[str, object]
) -> None:
    chosen = {"seed": 0, "split": "train", "index": 3} | other
    _, label = render_scene(**chosen, height=64, width=128)  # type: ignore[arg-type]
    assert (label != rendered[3][1]).mean() > 0.1


def test_labels_are_cityscapes_ids_and_most_classes_appear(rendered: list[tuple[np.ndarray, np.ndarray]]) -> None:
    found = {int(value) for _, label in rendered for value in np.unique(label)}
    assert found <= KNOWN_IDS
    assert len(found - IGNORED_IDS) >= 15
    assert {labels.POLE, labels.TRAFFIC_SIGN, labels.TRAFFIC_LIGHT, labels.PERSON, labels.RIDER} <= found


def test_pictures_are_neither_flat_nor_burnt_out(rendered: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for image, _ in rendered:
        assert image.dtype == np.uint8
        assert 50 < image.mean() < 190
        assert image.std() > 20


def test_sky_is_above_the_road_and_the_middle_below_is_road(rendered: list[tuple[np.ndarray, np.ndarray]]) -> None:
    rows = np.arange(64)[:, None]
    for _, label in rendered:
        sky, road = label == labels.SKY, label == labels.ROAD
        assert (rows * sky).sum() / max(sky.sum(), 1) < (rows * road).sum() / road.sum()
        assert not sky[40:].any()
    assert np.mean([(label[50:56, 56:72] == labels.ROAD).mean() for _, label in rendered]) > 0.5


@pytest.mark.parametrize(("height", "width"), [(128, 256), (32, 64)])
def test_every_size_shows_the_same_scene(
    rendered: list[tuple[np.ndarray, np.ndarray]], height: int, width: int
) -> None:
    _, label = render_scene(seed=0, split="train", index=1, height=height, width=width)
    assert label.shape == (height, width)
    step = min(height, 64)
    a = label[:: height // step, :: height // step]
    b = rendered[1][1][:: 64 // step, :: 64 // step]
    assert (a == b).mean() > 0.9


@pytest.mark.parametrize(("height", "width"), [(48, 48), (40, 120), (33, 47)])
def test_other_shapes_are_rendered_too(height: int, width: int) -> None:
    image, label = render_scene(seed=2, split="val", index=0, height=height, width=width)
    assert image.shape == (height, width, 3)
    assert label.shape == (height, width)
    assert {labels.SKY, labels.ROAD} <= set(np.unique(label).tolist())


def test_a_car_twice_as_far_away_is_half_as_large_and_stands_higher() -> None:
    light = Light(WEATHERS["clear"], Dice(0))
    boxes = []
    for distance in (10.0, 20.0):
        canvas = Canvas(_camera(), light)
        # Its rear, not its middle, is at that distance.
        place = Place(0.0, distance + SIZES["saloon"][0] / 2)
        saloon = vehicle("saloon", lit=False, braking=False, oncoming=False, lamps=False, variant=1)
        canvas.paint([(saloon, place, 1.0)])
        rows, columns = np.nonzero(canvas.pixels[..., 3] == labels.CAR)
        boxes.append((np.ptp(columns) + 1, rows.max()))
    assert 1.75 < boxes[0][0] / boxes[1][0] < 2.05  # its mirrors are farther away than its rear
    assert boxes[0][1] - 128 == pytest.approx(2 * (boxes[1][1] - 128), abs=2)


def test_what_a_long_vehicle_hides_is_painted_before_it() -> None:
    def thing(x: float, z: float, half_length: float, height: float) -> Thing:
        return Thing(partial(Shape, labels.BUS), Place(x, z), z, 0.5, half_length, height)

    bus = thing(4.0, 20.0, 6.0, 3.0)
    behind, before, farther, nearer = (
        thing(5.2, 18.0, 0.3, 1.7),
        thing(1.5, 24.0, 0.3, 1.7),
        *(thing(0.0, z, 0.3, 1.7) for z in (60.0, 5.0)),
    )
    order = far_to_near([bus, before, nearer, behind, farther], _camera())
    assert [order.index(item) for item in (farther, bus, nearer)] == sorted(
        order.index(item) for item in (farther, bus, nearer)
    )
    assert order.index(behind) < order.index(bus) < order.index(before)


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
