"""Linear: BatchNorm and a 1x1 convolution on the last layer, the probe of DINOv2 and DINOv3.

Given several layers it concatenates them, as DINOv2's larger probe does.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from setr.models.decoders.decoder import Asked, Decoder, Heads
from setr.models.specification import HeadSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class LinearSpec(HeadSpec):
    """Dropout of whole channels, BatchNorm, 1x1 convolution; a LayerNorm on each map first."""

    channels_in: tuple[int, ...]
    dropout: float = 0.1
    batch_norm: bool = True
    norm: bool = True  # LayerNorm, which stands for the encoder's final one

    def build_head(self, num_classes: int) -> "nn.Module":
        """Returns the module."""
        from setr.models.decoders.linear_module import LinearHead

        return LinearHead(self, num_classes)


def heads(asked: Asked) -> Heads:
    """Returns the head."""
    return Heads(LinearSpec(asked.channels_in(asked.reading(1)), norm=asked.norm))


LINEAR = Decoder("linear", LinearSpec, layers=(24,), heads=heads, any_number=True)
