"""DPT: four layers reassembled at four resolutions and fused from the deepest up, to half the image's size.

The readout of the class token is `ignore`: decoders read maps, in which it is not.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from setr.errors import InputError
from setr.models.decoders.decoder import Asked, Decoder, Heads
from setr.models.decoders.pyramid import build_neck
from setr.models.specification import HeadSpec

if TYPE_CHECKING:
    from torch import nn

LAYERS = (6, 12, 18, 24)
FACTORS = (4.0, 2.0, 1.0, 0.5)  # of a plain transformer's layers, shallow first; stages keep their size
LARGE_WIDTH = 1024  # from which on the deeper layers are reassembled as wide as they are


@dataclass(frozen=True)
class DPTSpec(HeadSpec):
    """Per map a 1x1 convolution, a change of size and a 3x3 convolution; residual units and fusions of one width."""

    channels_in: tuple[int, ...]
    factors: tuple[float, ...] = FACTORS  # a map's change of size: a whole number, or a half
    reassemble_channels: tuple[int, ...] = (96, 192, 384, 768)  # of each map between the 1x1 and the 3x3
    channels: int = 256
    dropout: float = 0.1
    norm: bool = False  # LayerNorm on every map first; published: none

    def __post_init__(self) -> None:
        """Refuses a number of widths that is not the number of maps."""
        numbers = (len(self.channels_in), len(self.factors), len(self.reassemble_channels))
        if len(set(numbers)) > 1:
            raise InputError(
                "E_OPTION",
                "one width for each map that is read",
                where="dpt: reassemble_channels",
                found=numbers[2],
                expected=numbers[0],
            )

    def build_head(self, num_classes: int) -> "nn.Module":
        """Returns the module."""
        from setr.models.decoders.dpt_module import DPTHead

        return DPTHead(self, num_classes)

    def build_neck(self) -> "nn.Module | None":
        """Returns the LayerNorms."""
        return build_neck(self.channels_in, norm=self.norm, pyramid="none")


def heads(asked: Asked) -> Heads:
    """Returns the head. The last resize is the original's, with aligned corners, but for mmsegmentation's flavour."""
    taps = asked.reading(len(LAYERS))
    widths = asked.channels_in(taps)
    if asked.facts.pyramid:
        factors, reassembled = (1.0,) * len(taps), widths
    else:
        factors, reassembled = FACTORS, _reassembled(widths[-1])
    return Heads(
        DPTSpec(widths, factors, reassembled, channels=asked.width(256)),
        align_corners=asked.rules.initialisation != "mmseg",
    )


def _reassembled(width: int) -> tuple[int, ...]:
    """Returns the published widths of Base and Large, and those in their proportion."""
    divisors = (4, 2, 1, 1) if width >= LARGE_WIDTH else (8, 4, 2, 1)
    return tuple(max(1, width // divisor) for divisor in divisors)


DPT = Decoder("dpt", DPTSpec, layers=LAYERS, heads=heads)
