"""Augmentation against the recipe done step by step: resize the whole image, crop, flip, distort, pad."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from setr.data.loading.photometric import distort
from setr.data.loading.transforms import (
    CROP_DRAWS,
    MEAN,
    PAD_COLOR,
    STD,
    Augmentation,
    augment,
    draw,
    normalise,
    resized_size,
)
from setr.data.reading.camvid import CAMVID
from setr.data.reading.images import read_sample
from setr.errors import InputError


def augment_step_by_step(
    image: np.ndarray, label: np.ndarray, augmentation: Augmentation, *, seed: int, sample: int, step: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns image and label after the usual order of work on whole images."""
    chosen = draw(augmentation, seed=seed, sample=sample, step=step)
    resized = resized_size(label.shape, augmentation, chosen.ratio)
    image = cv2.resize(image, resized[::-1], interpolation=cv2.INTER_LINEAR)
    label = cv2.resize(label, resized[::-1], interpolation=cv2.INTER_NEAREST)
    height, width = (min(crop, size) for crop, size in zip(augmentation.crop_size, resized, strict=True))
    for number, (vertical, horizontal) in enumerate(chosen.offsets):
        top, left = int(vertical * (resized[0] - height + 1)), int(horizontal * (resized[1] - width + 1))
        part = label[top : top + height, left : left + width]
        values, counts = np.unique(part, return_counts=True)
        counts = counts[values != augmentation.ignore_index]
        if (len(counts) > 1 and counts.max() / counts.sum() < augmentation.cat_max_ratio) or number == CROP_DRAWS - 1:
            break
    image, label = image[top : top + height, left : left + width].copy(), part
    if chosen.flip:
        image, label = image[:, ::-1].copy(), label[:, ::-1]
    distort(image, chosen.distortion)
    padding = ((0, augmentation.crop_size[0] - height), (0, augmentation.crop_size[1] - width))
    label = np.pad(label, padding, constant_values=augmentation.ignore_index)
    channels = [np.pad(image[..., c], padding, constant_values=PAD_COLOR[c]) for c in range(3)]
    return np.stack(channels, -1), label


def blocks(height: int = 90, width: int = 140) -> tuple[np.ndarray, np.ndarray]:
    """Returns an image of noise and a label of four quarters, one of them ignored."""
    generator = np.random.default_rng(3)
    label = np.zeros((height, width), np.uint8)
    label[: height // 2, : width // 2] = 1
    label[height // 2 :, width // 2 :] = 2
    label[height // 2 :, : width // 2] = 255
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8), label


@settings(max_examples=60, deadline=None)
@given(
    crop=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    base=st.none() | st.tuples(st.integers(40, 300), st.integers(40, 300)),
    step=st.integers(0, 2**40),
)
def test_labels_equal_the_step_by_step_form(crop: tuple[int, int], base: tuple[int, int] | None, step: int) -> None:
    image, label = blocks()
    augmentation = Augmentation(crop, base_size=base, photometric=False)
    found_image, found = augment(image, label, augmentation, seed=1, sample=2, step=step)
    expected_image, expected = augment_step_by_step(image, label, augmentation, seed=1, sample=2, step=step)
    np.testing.assert_array_equal(found, expected)
    assert found_image.shape == (*crop, 3)
    padding = (expected_image == PAD_COLOR).all(-1) & (expected == 255)
    np.testing.assert_array_equal(padding, (found_image == PAD_COLOR).all(-1) & (found == 255))


def test_real_images_differ_by_at_most_a_fifth_of_a_level(camvid_root: Path) -> None:
    differences = []
    for base in (None, (1024, 768)):
        augmentation = Augmentation((256, 256), base_size=base, photometric=False)
        for number, sample in enumerate(CAMVID.list_samples(camvid_root, "val")[::25]):
            image, label = read_sample(sample, CAMVID)
            assert label is not None
            for step in range(6):
                found = augment(image, label, augmentation, seed=0, sample=number, step=step)
                expected = augment_step_by_step(image, label, augmentation, seed=0, sample=number, step=step)
                np.testing.assert_array_equal(found[1], expected[1])
                differences.append(np.abs(found[0].astype(int) - expected[0]).mean())
    assert np.mean(differences) <= 0.2


def test_the_same_numbers_give_the_same_sample_whatever_was_done_before() -> None:
    image, label = blocks()
    augmentation = Augmentation((64, 64))
    first = augment(image, label, augmentation, seed=5, sample=7, step=9)
    augment(image, label, augmentation, seed=5, sample=8, step=9)
    image.setflags(write=False)
    label.setflags(write=False)
    again = augment(image, label, augmentation, seed=5, sample=7, step=9)
    for left, right in zip(first, again, strict=True):
        np.testing.assert_array_equal(left, right)
    others = [
        {"seed": 6, "sample": 7, "step": 9},
        {"seed": 5, "sample": 6, "step": 9},
        {"seed": 5, "sample": 7, "step": 8},
    ]
    for other in [*others, {"seed": 5, "sample": 7, "step": 9, "repeat": 1}]:
        assert not np.array_equal(augment(image, label, augmentation, **other)[0], first[0]), other


def test_draws_follow_the_recipe() -> None:
    augmentation = Augmentation((8, 8), ratio_range=(0.5, 2.0), flip_probability=0.5)
    draws = [draw(augmentation, seed=0, sample=sample, step=3) for sample in range(2000)]
    ratios = np.array([chosen.ratio for chosen in draws])
    assert 0.5 <= ratios.min() < 0.51
    assert 1.99 < ratios.max() < 2.0
    assert ratios.mean() == pytest.approx(1.25, abs=0.03)
    assert np.mean([chosen.flip for chosen in draws]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([chosen.distortion.hue is None for chosen in draws]) == pytest.approx(0.5, abs=0.05)
    offsets = np.stack([chosen.offsets for chosen in draws])
    assert offsets.shape == (2000, CROP_DRAWS, 2)
    assert np.abs(np.corrcoef(offsets.reshape(2000, -1).T) - np.eye(2 * CROP_DRAWS)).max() < 0.1


def test_crops_of_one_class_are_drawn_again() -> None:
    image, label = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    label[:, 56:] = 1
    fixed = {"ratio_range": (1.0, 1.0), "flip_probability": 0.0, "photometric": False}
    strict = [augment(image, label, Augmentation((16, 16), **fixed), seed=0, sample=s, step=0)[1] for s in range(200)]
    free = Augmentation((16, 16), cat_max_ratio=1, **fixed)
    loose = [augment(image, label, free, seed=0, sample=s, step=0)[1] for s in range(200)]
    varied = [np.mean([0 < crop.mean() < 0.75 for crop in crops]) for crops in (strict, loose)]
    assert varied[0] > 0.5
    assert varied[1] < 0.25


@pytest.mark.parametrize(
    ("size", "base", "expected"),
    [
        ((1024, 2048), (2049, 1025), (1025, 2049)),
        ((375, 500), (520, 520), (390, 520)),  # the long side, as Pascal Context is trained
        ((512, 683), (2048, 512), (512, 683)),
        ((360, 480), None, (360, 480)),
    ],
)
def test_base_sizes(size: tuple[int, int], base: tuple[int, int] | None, expected: tuple[int, int]) -> None:
    assert resized_size(size, Augmentation((8, 8), base_size=base), 1.0) == expected


def test_normalise_is_mean_and_standard_deviation() -> None:
    images = torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8)
    found = normalise(images)
    assert found.shape == (2, 3, 5, 7)
    assert found.dtype == torch.float32
    expected = (images.double() - torch.tensor(MEAN, dtype=torch.double)) / torch.tensor(STD, dtype=torch.double)
    torch.testing.assert_close(found.double(), expected.permute(0, 3, 1, 2), atol=1e-5, rtol=0)
    padding = normalise(torch.tensor(PAD_COLOR, dtype=torch.uint8).view(1, 1, 1, 3))
    assert padding.abs().max() < 0.009


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop_size": (0, 8)},
        {"base_size": (0, 4)},
        {"ratio_range": (0.0, 1.0)},
        {"ratio_range": (2.0, 0.5)},
        {"ratio_range": (0.5, float("nan"))},
        {"cat_max_ratio": 0.0},
        {"flip_probability": 1.5},
        {"ignore_index": 256},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"E_CONFIG.*{next(iter(wrong))}"):
        Augmentation(**{"crop_size": (8, 8), **wrong})
