"""Photometric distortion equals mmsegmentation's form, written out step by step."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from setr.data.loading.photometric import DRAWS, Distortion, distort, draw_distortion


def convert(channel: np.ndarray, alpha: float = 1, beta: float = 0) -> np.ndarray:
    """Returns level * alpha + beta in float32, clipped and rounded down."""
    return np.clip(channel.astype(np.float32) * alpha + beta, 0, 255).astype(np.uint8)


def plain_distortion(image_bgr: np.ndarray, steps: Distortion) -> np.ndarray:
    """Returns the distorted BGR image, one step after the other as the reference recipe has them."""
    image = image_bgr
    if steps.brightness is not None:
        image = convert(image, beta=steps.brightness)
    if steps.contrast is not None and steps.contrast_first:
        image = convert(image, alpha=steps.contrast)
    if steps.saturation is not None:
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv[..., 1] = convert(hsv[..., 1], alpha=steps.saturation)
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if steps.hue is not None:
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + steps.hue) % 180
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if steps.contrast is not None and not steps.contrast_first:
        image = convert(image, alpha=steps.contrast)
    return image


@settings(max_examples=150, deadline=None)
@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=DRAWS, max_size=DRAWS))
def test_equals_the_plain_form(uniforms: list[float]) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    steps = draw_distortion(np.array(uniforms))
    expected = plain_distortion(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), steps)
    canvas = np.zeros((60, 70, 3), np.uint8)
    canvas[:40, :50] = rgb
    distort(canvas[:40, :50], steps)  # in place, within a larger image
    np.testing.assert_array_equal(canvas[:40, :50], cv2.cvtColor(expected, cv2.COLOR_BGR2RGB))
    assert not canvas[40:].any()
    assert not canvas[:, 50:].any()


def test_nothing_drawn_changes_nothing() -> None:
    assert draw_distortion(np.full(DRAWS, 0.75)) == Distortion()
    image = np.arange(75, dtype=np.uint8).reshape(5, 5, 3)
    before = image.copy()
    distort(image, Distortion())
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("fraction", "brightness", "contrast", "hue"), [(0.0, -32, 0.5, -18), (1 - 2**-53, 32, 1.5, 17)]
)
def test_ranges_are_the_recipe_s(fraction: float, brightness: float, contrast: float, hue: int) -> None:
    steps = draw_distortion(np.array([0, fraction, 0, fraction, 0, 0, fraction, 0, fraction]))
    assert steps.brightness == pytest.approx(brightness)
    assert steps.contrast == pytest.approx(contrast)
    assert steps.saturation == pytest.approx(contrast)
    assert steps.hue == hue
