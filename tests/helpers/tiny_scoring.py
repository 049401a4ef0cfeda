"""What a scoring needs, in memory: a linear model, random images with their labels, a protocol of small windows."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from setr.data.shards import Record, Shards
from setr.study.protocols import Protocol

CLASSES = 5


class Linear(nn.Module):
    """Stride-4 logits of a random linear classifier."""

    num_classes = CLASSES

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, CLASSES, 4, 4)

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.interpolate(self.conv(images), size=images.shape[-2:], mode="bilinear")


def make_shards(
    sizes: Sequence[tuple[int, int]], *, classes: int = CLASSES, labelled: bool = True, worst: int = 255
) -> Shards:
    """Records of random images and labels under a manifest, as Shards gives them."""
    generator = np.random.default_rng(0)
    records = []
    for index, (height, width) in enumerate(sizes):
        image, label = generator.integers(0, 256, (6, 8, 3), np.uint8), generator.integers(0, classes, (5, 7), np.uint8)
        label[0, 0] = worst
        records.append(
            Record(
                f"image-{index:03d}",
                cv2.resize(image, (width, height)),
                cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST),
                "",
            )
        )
    manifest = SimpleNamespace(
        dataset="made-up", split="val", classes=("x",) * classes, ignore_index=255, labelled=labelled
    )

    class Records(list[Record]):
        pass

    shards = Records(records)
    shards.manifest = manifest  # type: ignore[attr-defined]
    return cast(Shards, shards)


PROTOCOL = Protocol("ss", (80, 40), "slide", (32, 32), (20, 20), num_classes=CLASSES)
SIZES = [(32, 64)] * 19 + [(40, 48), (48, 40), (32, 64), (40, 48)]
