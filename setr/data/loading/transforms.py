"""The paper's augmentation: resize by a random ratio, crop, flip, distort colours, pad; each a function of its inputs.

What is random comes from (seed, sample, step) alone: the same crop and colours for any number of threads and workers.
Geometry is window-first: ratio, window and flip are chosen before a pixel is read (the label decides about the window,
by the cat_max_ratio rule), then only the window's source region is resampled.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from setr.data.loading.photometric import DRAWS, Distortion, distort, draw_distortion
from setr.data.loading.random_streams import AUGMENTATION_STREAM, uniforms
from setr.data.loading.resampling import Window, image_window, label_window
from setr.data.loading.sizes import keep_ratio_size
from setr.errors import InputError

MEAN = (123.675, 116.28, 103.53)  # of ImageNet, red green blue, levels of 0..255
STD = (58.395, 57.12, 57.375)
PAD_COLOR = (124, 116, 104)  # the mean in whole levels: at most 0.009 standard deviations from zero once normalised
CROP_DRAWS = 11  # one, and ten more while one class fills the crop; the last is taken as it is


@dataclass(frozen=True)
class Augmentation:
    """How samples are augmented; the fields of a recipe that concern the data."""

    crop_size: tuple[int, int]  # pixels, height x width
    base_size: tuple[int, int] | None = None  # (long, short) pixels before the ratio; None: the image's own size
    ratio_range: tuple[float, float] = (0.5, 2.0)
    cat_max_ratio: float = 0.75  # largest share of one class in a crop, ignored pixels aside; 1: any crop
    flip_probability: float = 0.5
    photometric: bool = True
    ignore_index: int = 255

    def __post_init__(self) -> None:
        """Raise InputError (E_CONFIG) for values that no augmentation can have."""
        low, high = self.ratio_range
        rules = {
            "crop_size": min(self.crop_size) >= 1,
            "base_size": self.base_size is None or min(self.base_size) >= 1,
            "ratio_range": 0 < low <= high < float("inf"),
            "cat_max_ratio": 0 < self.cat_max_ratio <= 1,
            "flip_probability": 0 <= self.flip_probability <= 1,
            "ignore_index": 0 <= self.ignore_index <= 255,
        }
        for name, holds in rules.items():
            if not holds:
                raise InputError("E_CONFIG", f"{name} is out of range", found=getattr(self, name))


@dataclass(frozen=True, eq=False)
class Draw:
    """What was drawn for one sample at one step."""

    ratio: float
    offsets: np.ndarray  # (CROP_DRAWS, 2): vertical and horizontal place of the crop, as fractions of the free play
    flip: bool
    distortion: Distortion


def draw(augmentation: Augmentation, *, seed: int, sample: int, step: int, repeat: int = 0) -> Draw:
    """Returns the random choices for a sample at a step; `repeat` counts its occurrences within one batch."""
    count = 2 + 2 * CROP_DRAWS + DRAWS
    u = uniforms(count, key=(seed, sample), position=(step, repeat), stream=AUGMENTATION_STREAM)
    low, high = augmentation.ratio_range
    return Draw(
        ratio=low + (high - low) * float(u[0]),
        flip=bool(u[1] < augmentation.flip_probability),
        offsets=u[2 : 2 + 2 * CROP_DRAWS].reshape(CROP_DRAWS, 2),
        distortion=draw_distortion(u[2 + 2 * CROP_DRAWS :]) if augmentation.photometric else Distortion(),
    )


def augment(
    image: np.ndarray,
    label: np.ndarray,
    augmentation: Augmentation,
    *,
    seed: int,
    sample: int,
    step: int,
    repeat: int = 0,
    chosen: Draw | None = None,
    out_image: np.ndarray | None = None,
    out_label: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the augmented image, uint8 (h, w, 3) RGB, and label, uint8 (h, w), of the crop size.

    `image` uint8 (H, W, 3) and `label` uint8 (H, W) may be read-only. Both results are written into `out_image` and
    `out_label` if given. Where the resized image is smaller than the crop, right and below are padded: with PAD_COLOR,
    and ignore_index. `chosen` is what to do, if it was drawn before.
    """
    height, width = augmentation.crop_size
    out_image = np.empty((height, width, 3), np.uint8) if out_image is None else out_image
    out_label = np.empty((height, width), np.uint8) if out_label is None else out_label
    chosen = chosen or draw(augmentation, seed=seed, sample=sample, step=step, repeat=repeat)
    resized = resized_size((label.shape[0], label.shape[1]), augmentation, chosen.ratio)
    rows, columns = min(height, resized[0]), min(width, resized[1])
    image_part, label_part = out_image[:rows, :columns], out_label[:rows, :columns]

    window = _place_window(label, augmentation, chosen, resized, label_part)
    pixels = image_window(image, window)
    if chosen.flip:
        cv2.flip(pixels, 1, dst=image_part)
    else:
        np.copyto(image_part, pixels)
    distort(image_part, chosen.distortion)

    if (rows, columns) != (height, width):
        for part in (out_image[rows:], out_image[:rows, columns:]):
            part[...] = PAD_COLOR
        for part in (out_label[rows:], out_label[:rows, columns:]):
            part[...] = augmentation.ignore_index
    return out_image, out_label


def resized_size(size: tuple[int, int], augmentation: Augmentation, ratio: float) -> tuple[int, int]:
    """Returns (height, width) of an image of `size` after the random resize: base size times ratio, ratio kept."""
    base = augmentation.base_size or (max(size), min(size))
    return keep_ratio_size(size, (max(1, int(base[0] * ratio)), max(1, int(base[1] * ratio))))


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Returns float32 (B, 3, H, W) of uint8 (B, H, W, 3) RGB, on the same device: minus MEAN, over STD."""
    mean = torch.tensor(MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(3, 1, 1)
    return images.permute(0, 3, 1, 2).contiguous().float().sub_(mean).div_(std)


def _place_window(
    label: np.ndarray, augmentation: Augmentation, chosen: Draw, resized: tuple[int, int], out: np.ndarray
) -> Window:
    """Returns the first drawn window that the cat_max_ratio rule accepts, and leaves its label in `out`."""
    height, width = out.shape
    for number, (vertical, horizontal) in enumerate(chosen.offsets.tolist()):
        top = int(vertical * (resized[0] - height + 1))
        left = int(horizontal * (resized[1] - width + 1))
        window = Window(resized, top, left, height, width)
        label_window(label, window, flip=chosen.flip, out=out)
        if number == CROP_DRAWS - 1 or _is_varied(out, augmentation):
            break
    return window


def _is_varied(label: np.ndarray, augmentation: Augmentation) -> bool:
    """Returns whether more than one class is in the crop and none of them fills too much; ignored pixels aside."""
    if augmentation.cat_max_ratio >= 1:
        return True
    counts = cv2.calcHist([label], [0], None, [256], [0, 256]).ravel()
    counts[augmentation.ignore_index] = 0
    largest, valid = counts.max(), counts.sum()
    return bool(largest < valid and largest / valid < augmentation.cat_max_ratio)
