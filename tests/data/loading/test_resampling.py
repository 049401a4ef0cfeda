"""A window resampled on its own equals resize-then-crop."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from setr.data.loading.resampling import Window, image_window, label_window
from setr.data.loading.sizes import keep_ratio_size

MEAN_LEVELS = 0.2  # of 255


def resize_then_crop(image: np.ndarray, window: Window, interpolation: int) -> np.ndarray:
    """Returns the window in the obvious way: the whole image resized, then cut."""
    resized = cv2.resize(image, window.resized[::-1], interpolation=interpolation)
    return resized[window.top : window.top + window.height, window.left : window.left + window.width]


def street(height: int, width: int) -> np.ndarray:
    """Returns a picture (height, width, 3) with edges, gradients and sensor noise of 4 levels."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width]
    picture = np.stack([rows % 256, columns % 256, (rows + columns) // 2 % 256], -1).astype(float)
    for _ in range(40):
        top, left = generator.integers(height), generator.integers(width)
        picture[top : top + 40, left : left + 30] = generator.integers(0, 256, 3)
    return np.clip(picture + generator.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)


@st.composite
def windows(draw: st.DrawFn, height: int, width: int) -> Window:
    """Draws a resize and a window in it."""
    resized = (draw(st.integers(max(1, height // 4), height * 2)), draw(st.integers(max(1, width // 4), width * 2)))
    rows, columns = draw(st.integers(1, min(96, resized[0]))), draw(st.integers(1, min(96, resized[1])))
    top, left = draw(st.integers(0, resized[0] - rows)), draw(st.integers(0, resized[1] - columns))
    return Window(resized, top, left, rows, columns)


@settings(max_examples=200, deadline=None)
@given(windows(173, 310))
def test_labels_are_identical(window: Window) -> None:
    label = np.random.default_rng(1).integers(0, 20, (173, 310), dtype=np.uint8)
    expected = resize_then_crop(label, window, cv2.INTER_NEAREST)
    np.testing.assert_array_equal(label_window(label, window), expected)
    out = np.zeros((200, 200), np.uint8)[: window.height, : window.width]
    label_window(label, window, flip=True, out=out)
    np.testing.assert_array_equal(out, expected[:, ::-1])


@settings(max_examples=200, deadline=None)
@given(windows(173, 310))
def test_every_window_has_its_size_and_no_pixel_is_far_off(window: Window) -> None:
    """A smooth picture shows a misplaced window as a large difference wherever it happens, at the edges too."""
    rows, columns = np.mgrid[:173, :310]
    picture = np.stack([rows, columns * 0.8, (rows + columns) / 2], -1).astype(np.uint8)
    found = image_window(picture, window)
    expected = resize_then_crop(picture, window, cv2.INTER_LINEAR)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("size", [(360, 480), (512, 1024), (333, 501)])
def test_pixels_equal_resize_then_crop(size: tuple[int, int]) -> None:
    picture = street(*size)
    generator = np.random.default_rng(2)
    differences = []
    for _ in range(60):
        ratio = generator.uniform(0.5, 2)
        resized = keep_ratio_size(size, (max(size) * ratio, min(size) * ratio))
        crop = (min(256, resized[0]), min(256, resized[1]))
        top, left = generator.integers(resized[0] - crop[0] + 1), generator.integers(resized[1] - crop[1] + 1)
        window = Window(resized, int(top), int(left), *crop)
        expected = resize_then_crop(picture, window, cv2.INTER_LINEAR)
        differences.append(np.abs(image_window(picture, window).astype(int) - expected).mean())
    assert np.mean(differences) <= MEAN_LEVELS
    assert max(differences) <= 2 * MEAN_LEVELS


def test_no_resize_is_a_view() -> None:
    picture = street(64, 64)
    found = image_window(picture, Window((64, 64), 10, 20, 30, 40))
    assert np.shares_memory(found, picture)
    np.testing.assert_array_equal(found, picture[10:40, 20:60])


def test_keep_ratio_sizes_are_those_of_mmsegmentation(reference: Path) -> None:
    cases = json.loads((reference / "eval_resize_sizes.json").read_text())["test_resize"]
    for case in cases:
        assert list(keep_ratio_size(tuple(case["image"]), tuple(case["scale_wh"]))) == case["resized"], case
