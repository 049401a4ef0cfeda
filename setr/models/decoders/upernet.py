"""UPerNet: pooled context on the deepest map, a top-down pyramid, all levels joined at the first one's size."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from setr.models.decoders import fcn
from setr.models.decoders.decoder import Asked, Decoder, Heads
from setr.models.decoders.pyramid import PYRAMIDS, build_neck, require_levels, usual_pyramid
from setr.models.specification import HeadSpec

if TYPE_CHECKING:
    from torch import nn

LAYERS = (6, 12, 18, 24)


@dataclass(frozen=True)
class UPerNetSpec(HeadSpec):
    """Pooling branches, laterals, outputs and the joint convolution, all of one width; a neck before (pyramid.py)."""

    channels_in: tuple[int, ...]
    channels: int = 512
    pool_scales: tuple[int, ...] = (1, 2, 3, 6)  # cells along a side that the deepest map is averaged in
    dropout: float = 0.1
    norm: bool = True  # LayerNorm on every map first
    pyramid: str = field(default="none", metadata={"choices": PYRAMIDS})

    def __post_init__(self) -> None:
        """Refuses a pyramid that cannot be made of the maps."""
        require_levels("upernet", self.pyramid, self.channels_in)

    def build_head(self, num_classes: int) -> "nn.Module":
        """Returns the head's module."""
        from setr.models.decoders.upernet_module import UPerNetHead

        return UPerNetHead(self, num_classes)

    def build_neck(self) -> "nn.Module | None":
        """Returns the module that makes the pyramid."""
        return build_neck(self.channels_in, norm=self.norm, pyramid=self.pyramid)


def heads(asked: Asked) -> Heads:
    """Returns the heads: the auxiliary one, an FCN, reads the map before the last as the encoder gives it."""
    taps = asked.reading(len(LAYERS))
    main = UPerNetSpec(
        asked.channels_in(taps), channels=asked.width(512), norm=asked.norm, pyramid=usual_pyramid(asked, taps)
    )
    third = taps[-2:][:1]
    return Heads(main, fcn.auxiliary(asked, third), third)


UPERNET = Decoder("upernet", UPerNetSpec, layers=LAYERS, heads=heads, any_number=True)
