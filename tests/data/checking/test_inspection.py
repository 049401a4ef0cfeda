"""One sample looked at closely."""

from pathlib import Path

import numpy as np
from PIL import Image

from setr.data.checking.inspection import inspect, inspect_all
from setr.data.reading.camvid import CAMVID
from setr.data.reading.samples import Sample


def sample(folder: Path, key: str, values: np.ndarray, shape: tuple[int, ...]) -> Sample:
    image, label = folder / f"{key}.png", folder / f"{key}_label.png"
    Image.fromarray(np.full(shape, 9, dtype=np.uint8)).save(image)
    Image.fromarray(values).save(label)
    return Sample(key, image, label)


def test_a_sound_sample_has_facts_and_no_problems(tmp_path: Path) -> None:
    result = inspect(sample(tmp_path, "a", np.array([[0, 3], [3, 11]], dtype=np.uint8), (2, 2, 3)), CAMVID)
    assert result.problems == []
    assert (result.size, result.image_mode, result.label_mode) == ("2x2", "PNG RGB 8 bit", "PNG grey 8 bit")
    assert result.raw == {0: 1, 3: 2, 11: 1}
    assert result.class_pixels is not None
    assert result.class_pixels[[0, 3, 255]].tolist() == [1, 2, 1]


def test_content_is_that_of_the_pixels_not_of_the_file(tmp_path: Path) -> None:
    label = np.zeros((2, 2), dtype=np.uint8)
    one, two = sample(tmp_path, "a", label, (2, 2, 3)), sample(tmp_path, "b", label, (2, 2))
    assert inspect(one, CAMVID).content == inspect(two, CAMVID).content
    assert inspect(sample(tmp_path, "c", label, (1, 4, 3)), CAMVID).content != inspect(one, CAMVID).content


def test_every_problem_of_a_sample_is_kept(tmp_path: Path) -> None:
    result = inspect(sample(tmp_path, "a", np.array([[0, 99]], dtype=np.uint8), (2, 2, 3)), CAMVID)
    assert [problem.code for problem in result.problems] == ["E_SIZE_MISMATCH", "E_LABEL_RANGE"]
    assert result.class_pixels is None
    missing = Sample("b", tmp_path / "no.png", tmp_path / "none.png")
    assert [problem.code for problem in inspect(missing, CAMVID).problems] == ["E_FILE_READ", "E_FILE_READ"]


def test_results_come_in_order_from_any_number_of_threads(tmp_path: Path) -> None:
    label = np.zeros((2, 2), dtype=np.uint8)
    samples = [sample(tmp_path, f"s{index}", label, (2, 2, 3)) for index in range(9)]
    for threads in (1, 3):
        assert [found.sample.key for found in inspect_all(samples, CAMVID, threads=threads)] == [s.key for s in samples]
    assert list(inspect_all([], CAMVID)) == []
