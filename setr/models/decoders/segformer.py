"""SegFormer's decoder: every map projected to one width, all joined at the first one's size by 1x1 convolutions."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from setr.models.decoders.decoder import Asked, Decoder, Heads
from setr.models.decoders.pyramid import PYRAMIDS, build_neck, require_levels, usual_pyramid
from setr.models.specification import HeadSpec

if TYPE_CHECKING:
    from torch import nn

LAYERS = (6, 12, 18, 24)
# original: NVIDIA's, a linear layer per map, joined deepest first. mmseg: mmsegmentation's, 1x1 convolution, BatchNorm
# and ReLU per map, joined shallow first.
FORMS = ("original", "mmseg")


@dataclass(frozen=True)
class SegFormerSpec(HeadSpec):
    """A projection per map and the joint 1x1 convolution, all of one width; a neck before (pyramid.py)."""

    channels_in: tuple[int, ...]
    channels: int = 256
    dropout: float = 0.1
    form: str = field(default="original", metadata={"choices": FORMS})
    norm: bool = True  # LayerNorm on every map first, which SegFormer's own encoder ends its stages with
    pyramid: str = field(default="none", metadata={"choices": PYRAMIDS})

    def __post_init__(self) -> None:
        """Refuses a pyramid that cannot be made of the maps."""
        require_levels("segformer", self.pyramid, self.channels_in)

    def build_head(self, num_classes: int) -> "nn.Module":
        """Returns the head's module."""
        from setr.models.decoders.segformer_module import SegFormerHead

        return SegFormerHead(self, num_classes)

    def build_neck(self) -> "nn.Module | None":
        """Returns the module that makes the pyramid."""
        return build_neck(self.channels_in, norm=self.norm, pyramid=self.pyramid)


def heads(asked: Asked) -> Heads:
    """Returns the head, mmsegmentation's in its flavour."""
    taps = asked.reading(len(LAYERS))
    return Heads(
        SegFormerSpec(
            asked.channels_in(taps),
            channels=asked.width(256),
            form="mmseg" if asked.rules.initialisation == "mmseg" else "original",
            norm=asked.norm,
            pyramid=usual_pyramid(asked, taps),
        )
    )


SEGFORMER = Decoder("segformer", SegFormerSpec, layers=LAYERS, heads=heads, any_number=True)
