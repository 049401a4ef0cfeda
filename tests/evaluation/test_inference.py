"""Logits, probabilities and label maps equal to the plain formulation, and to mmsegmentation's arrays."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from setr.data.loading.transforms import normalise
from setr.errors import InputError
from setr.evaluation import inference
from setr.evaluation.class_maps import argmax, resize_planes
from setr.evaluation.inference import multi_scale, predict, predict_batch, predict_sampled, sliding_window, whole
from setr.evaluation.windows import multi_scale_sizes, windows
from setr.models.weights import import_checkpoint
from setr.study.protocols import Protocol

TOLERANCE = 2e-5  # on logits: separates rounding from another meaning


class Tiny(nn.Module):
    """Stride-8 logits of a random linear classifier, as a Segmenter gives them."""

    align_corners = False

    def __init__(self, num_classes: int = 7) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.num_classes = num_classes
        self.weight = nn.Parameter(torch.randn(num_classes, 3, 8, 8, generator=generator) / 4)

    def head_logits(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        height, width = images.shape[-2:]
        return F.conv2d(F.pad(images, (0, -width % 8, 0, -height % 8)), self.weight, stride=8), []

    def forward(self, images: Tensor) -> Tensor:
        return F.interpolate(self.head_logits(images)[0], size=images.shape[-2:], mode="bilinear")


def plain_sliding_window(model: nn.Module, images: Tensor, window: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    height, width = images.shape[-2:]
    total, count = torch.zeros(()), torch.zeros(1, 1, height, width)
    for y1, x1, y2, x2 in windows(height, width, window, stride):
        total = total + F.pad(model(images[..., y1:y2, x1:x2]), (x1, width - x2, y1, height - y2))
        count[..., y1:y2, x1:x2] += 1
    return total / count


def plain_probabilities(model: nn.Module, image: np.ndarray, protocol: Protocol) -> Tensor:
    """Every view at full size, as mmsegmentation does it: flip back, resize, softmax, mean."""
    views = []
    for height, width in multi_scale_sizes(image.shape[:2], protocol):
        resized = normalise(torch.from_numpy(cv2.resize(image, (width, height)))[None])
        for flipped in (False, True):
            inputs = resized.flip(-1) if flipped else resized
            logits = plain_sliding_window(model, inputs, protocol.window, protocol.stride)
            logits = logits.flip(-1) if flipped else logits
            views.append(F.interpolate(logits, size=image.shape[:2], mode="bilinear").softmax(1))
    return torch.stack(views).mean(0)


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height))


@pytest.fixture
def model() -> Tiny:
    return Tiny()


@pytest.mark.parametrize(
    ("size", "window", "stride"),
    [
        ((107, 160), (64, 48), (40, 32)),
        ((90, 90), (64, 64), (20, 20)),  # more than two windows over a pixel
        ((50, 200), (64, 64), (43, 43)),  # lower than the window
        ((40, 56), (64, 64), (43, 43)),  # smaller than the window
        ((64, 64), (64, 64), (64, 64)),
    ],
)
@torch.no_grad()
def test_sliding_window_equals_pad_and_add(
    model: Tiny, size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int]
) -> None:
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    found = sliding_window(model, images, window=window, stride=stride)
    torch.testing.assert_close(found, plain_sliding_window(model, images, window, stride), atol=4e-6, rtol=1e-6)


@torch.no_grad()
def test_whole_equals_forward_and_restores_the_mode(model: Tiny) -> None:
    images = torch.randn(2, 3, 30, 45)
    model.train()
    torch.testing.assert_close(whole(model, images), model(images), atol=4e-6, rtol=1e-6)
    assert model.training


def test_any_function_is_a_model() -> None:
    images = torch.randn(1, 3, 20, 30)
    found = sliding_window(lambda x: x * 2, images, window=(16, 16), stride=(8, 8))
    torch.testing.assert_close(found, images * 2)


def test_sliding_window_of_mmsegmentation(reference: Path) -> None:
    model, _ = import_checkpoint(reference / "tiny_naive.pth", num_heads=3)
    with np.load(reference / "eval_slide_crop64x48_naive.npz") as arrays:
        images, expected, expected_whole = (torch.from_numpy(arrays[name]) for name in ("input", "slide", "whole"))
        boxes = arrays["windows"].tolist()
    assert [list(box) for box in windows(107, 160, (64, 48), (40, 32))] == boxes
    found = sliding_window(model, images, window=(64, 48), stride=(40, 32))
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(whole(model, images), expected_whole, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("size", [(97, 131), (120, 75), (40, 130)])
@torch.no_grad()
def test_multi_scale_equals_the_plain_formulation(
    model: Tiny, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = Protocol("ms", (200, 110), "slide", (64, 64), (43, 43), (0.5, 1.0, 1.5), True, num_classes=7)
    image = random_image(*size)
    expected = plain_probabilities(model, image, protocol)
    torch.testing.assert_close(multi_scale(model, image, protocol=protocol), expected, atol=2e-5, rtol=0)
    monkeypatch.setattr(inference, "BYTES_PER_BAND", 4 * 7 * size[1] * 19)  # bands of 19 rows
    torch.testing.assert_close(multi_scale(model, image, protocol=protocol), expected, atol=2e-5, rtol=0)
    agreement = (torch.from_numpy(predict(model, image, protocol)) == expected.argmax(1)[0]).float().mean()
    assert agreement > 0.9999


def test_multi_scale_of_normalised_images(model: Tiny) -> None:
    protocol = Protocol("ms", None, "whole", (64, 64), (64, 64), (1.0,), True, short_side="mmseg", num_classes=7)
    image = random_image(64, 96)
    found = multi_scale(model, normalise(torch.from_numpy(image)[None]), protocol=protocol)
    torch.testing.assert_close(found, multi_scale(model, image, protocol=protocol))


@pytest.mark.parametrize("num_classes", [2, 3, 19, 150])
@pytest.mark.parametrize("mode", ["slide", "whole"])
@torch.no_grad()
def test_predict_equals_argmax_of_all_logits(num_classes: int, mode: str) -> None:
    model = Tiny(num_classes)
    protocol = Protocol("ss", (160, 90), mode, (64, 64), (43, 43), num_classes=num_classes)
    image = random_image(75, 111)
    resized = normalise(torch.from_numpy(cv2.resize(image, (133, 90)))[None])
    window = (64, 64) if mode == "slide" else (90, 133)
    logits = sliding_window(model, resized, window=window, stride=(43, 43))
    expected = resize_planes(logits[0], (75, 111)).argmax(0)
    found = predict(model, image, protocol)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected.numpy())
    plain = F.interpolate(logits, size=(75, 111), mode="bilinear").argmax(1)[0]
    assert (torch.from_numpy(found) == plain).float().mean() > 0.999


@pytest.mark.parametrize("ratios", [(1.0,), (0.75, 1.0)])
@torch.no_grad()
def test_sampled_probabilities_are_those_of_all_pixels(model: Tiny, ratios: tuple[float, ...]) -> None:
    flip = len(ratios) > 1
    protocol = Protocol("ss", None, "slide", (32, 32), (20, 20), ratios, flip, short_side="mmseg", num_classes=7)
    images = np.stack([random_image(40, 56, seed) for seed in range(2)])
    places = np.array([0, 57, 999, 40 * 56 - 1])
    classes, confidence = predict_sampled(model, images, protocol, places)
    assert torch.equal(classes, predict_batch(model, images, protocol))
    inputs = normalise(torch.from_numpy(images))
    plain = sliding_window(model, inputs, window=(32, 32), stride=(20, 20)).softmax(1)
    expected = torch.cat([plain_probabilities(model, image, protocol) for image in images]) if flip else plain
    assert confidence is not None
    torch.testing.assert_close(confidence, expected.amax(1).flatten(1)[:, places], atol=2e-5, rtol=0)
    assert predict_sampled(model, images, protocol, None)[1] is None


def test_a_batch_gives_what_its_images_give(model: Tiny) -> None:
    protocol = Protocol("ss", None, "slide", (32, 32), (20, 20), num_classes=7)
    images = np.stack([random_image(40, 56, seed) for seed in range(3)])
    together = predict_batch(model, images, protocol)
    assert together.shape == (3, 40, 56)
    for image, classes in zip(images, together, strict=True):
        assert np.array_equal(predict(model, image, protocol), classes.numpy())


def test_logits_that_are_not_finite_are_refused() -> None:
    protocol = Protocol("ss", None, "whole", (32, 32), (32, 32), num_classes=3)
    with pytest.raises(InputError, match="E_NON_FINITE_LOGITS"):
        predict(lambda images: images / 0, random_image(32, 32), protocol)


@pytest.mark.parametrize(
    ("source", "target"),
    [((8, 12), (32, 48)), ((6, 6), (96, 96)), ((16, 16), (32, 64)), ((30, 41), (97, 55)), ((5, 7), (5, 7))],
)
def test_resize_planes_equals_interpolate(source: tuple[int, int], target: tuple[int, int]) -> None:
    planes = torch.randn(5, *source, generator=torch.Generator().manual_seed(0)) * 5
    expected = F.interpolate(planes[None].double(), size=target, mode="bilinear")[0]
    torch.testing.assert_close(resize_planes(planes, target).double(), expected, atol=2e-4, rtol=0)
    plain = F.interpolate(planes[None], size=target, mode="bilinear")[0]
    torch.testing.assert_close(resize_planes(planes, target), plain, atol=8e-6, rtol=0)
    corners = F.interpolate(planes[None], size=target, mode="bilinear", align_corners=True)[0]
    torch.testing.assert_close(resize_planes(planes, target, align_corners=True), corners, atol=8e-6, rtol=0)


@pytest.mark.parametrize("count", [2, 256, 257])
def test_argmax_takes_the_first_of_equals(count: int) -> None:
    planes = torch.randint(0, 5, (count, 2, 6, 7), generator=torch.Generator().manual_seed(0)).float()
    planes[-1, :, :3] = 9.0  # the last class wins somewhere
    found = argmax(iter(planes), count)
    assert np.array_equal(found.numpy(), planes.numpy().argmax(0))


def test_memory_of_a_prediction_stays_below_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 150 classes no array of the logits at full size is made, neither of the image nor of a window."""
    largest = 0
    original = inference.resize_planes

    def watched(planes: Tensor, size: tuple[int, int], **options: Any) -> Tensor:
        nonlocal largest
        result = original(planes, size, **options)
        largest = max(largest, result.numel())
        return result

    monkeypatch.setattr(inference, "resize_planes", watched)
    protocol = Protocol("ss", None, "slide", (256, 256), (170, 170), num_classes=150)
    predict(Tiny(150), random_image(256, 340), protocol)
    assert 0 < largest <= 150 * 256 * 340 // 8


def test_rows_of_windows_share_no_seam(model: Tiny) -> None:
    """Where windows agree, averaging changes nothing: constant logits stay constant across all seams."""
    found = sliding_window(lambda x: x * 0 + 3, torch.randn(1, 3, 90, 90), window=(64, 64), stride=(20, 20))
    assert all(torch.equal(first, second) for first, second in pairwise(found.flatten(2).unbind(-1)))
