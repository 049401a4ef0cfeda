"""The distortion of a batch in tensors equals OpenCV's, image by image."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from setr.data.loading.photometric import DRAWS, Distortion, distort, draw_distortion
from setr.data.loading.photometric_batch import BatchDistortion, distort_batch

# What one conversion may differ by where OpenCV's vector path is not ours: it rounds the other way there.
ONE_LEVEL = 1


def both(images: np.ndarray, steps: list[Distortion], device: str = "cpu") -> tuple[np.ndarray, np.ndarray]:
    """Returns the batch as tensors distort it, and as OpenCV distorts each image."""
    expected = images.copy()
    for image, step in zip(expected, steps, strict=True):
        distort(image, step)
    extents = tuple(image.shape[:2] for image in images)
    found = distort_batch(torch.from_numpy(images.copy()).to(device), BatchDistortion(tuple(steps), extents))
    return found.cpu().numpy().astype(int), expected.astype(int)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.floats(0, 1, exclude_max=True), min_size=DRAWS, max_size=DRAWS), min_size=1, max_size=3))
def test_equals_the_form_of_the_cpu(uniforms: list[list[float]]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (len(uniforms), 16, 64, 3), dtype=np.uint8)
    found, expected = both(images, [draw_distortion(np.array(u)) for u in uniforms])
    assert np.abs(found - expected).max() <= ONE_LEVEL
    assert (found != expected).mean() < 0.001


SINGLE = [
    Distortion(brightness=-31.7),
    Distortion(contrast=1.4),
    Distortion(saturation=1.37),
    Distortion(saturation=0.5),
    *(Distortion(hue=hue) for hue in (-18, -1, 0, 7, 17)),
]


@pytest.mark.parametrize("step", SINGLE, ids=str)
def test_every_colour_is_within_a_level_of_opencv(step: Distortion) -> None:
    """All of every fifth level of each channel, and all grey ones."""
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(1, -1, 64, 3)
    grey = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 4, 64, 3)
    for images in (colors, grey):
        found, expected = both(np.ascontiguousarray(images), [step])
        assert np.abs(found - expected).max() <= ONE_LEVEL
        assert (found != expected).mean() < 0.001


def test_padding_stays_and_the_input_too() -> None:
    images = torch.full((2, 8, 8, 3), 100, dtype=torch.uint8)
    steps = (Distortion(brightness=20.0, saturation=1.2), Distortion(hue=3, contrast=0.5))
    found = distort_batch(images, BatchDistortion(steps, ((8, 8), (4, 6))))
    assert (images == 100).all()
    assert (found[0] == 120).all()
    assert (found[1, :4, :6] == 50).all()
    assert (found[1, 4:] == 100).all()
    assert (found[1, :, 6:] == 100).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_agrees_with_the_cpu() -> None:
    images = np.random.default_rng(1).integers(0, 256, (8, 64, 128, 3), dtype=np.uint8)
    steps = [draw_distortion(np.random.default_rng(seed).random(DRAWS)) for seed in range(8)]
    found, _ = both(images, steps, "cuda")
    on_cpu, _ = both(images, steps)
    np.testing.assert_array_equal(found, on_cpu)


def test_opencv_rounds_as_written_here() -> None:
    """Were this to change with another OpenCV, the tolerance above would be what is left."""
    assert cv2.cvtColor(np.full((1, 64, 3), (33, 187, 150), np.uint8), cv2.COLOR_HSV2RGB)[0, 0].tolist()[1] == 150
