"""Segmenter's mask transformer (ICCV 2021): tokens of the classes beside those of the patches, and their products."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from setr.errors import InputError
from setr.models.decoders.decoder import USUAL_HEAD_WIDTH, Asked, Decoder, Heads
from setr.models.decoders.segmenter_linear import EPS, final_norm_eps
from setr.models.specification import HeadSpec

if TYPE_CHECKING:
    from torch import nn

# How the two matrices in front of the product begin. repository: normal, width^-0.5. mmseg: truncated normal 0.02.
STARTS = ("repository", "mmseg")


@dataclass(frozen=True)
class SegmenterMaskSpec(HeadSpec):
    """Linear layer, transformer layers over patches and classes, their normalised products, LayerNorm over these."""

    channels_in: tuple[int, ...]
    channels: int  # of the transformer layers; published: as many as are read
    depth: int = 2  # transformer layers; Cityscapes' large model has 1
    num_heads: int = field(default=0, metadata={"least": 0})  # of attention; 0: one per 64 channels
    mlp_ratio: float = 4.0
    dropout: float = 0.1  # of attention, projection and MLP
    drop_path: float = 0.0  # of the last layer; earlier ones in proportion, the first 0
    start: str = field(default="repository", metadata={"choices": STARTS})
    norm: bool = True  # LayerNorm on what is read, which stands for the encoder's final one
    norm_eps: float = EPS  # of that norm

    def __post_init__(self) -> None:
        """Refuses heads that do not divide the width."""
        if self.channels % self.heads:
            raise InputError(
                "E_OPTION",
                "the number of attention heads does not divide the width",
                where="segmenter-mask: num_heads",
                found=f"{self.heads} for {self.channels} channels",
            )

    @property
    def heads(self) -> int:
        """Returns the number of attention heads: without one of its own the nearest below that divides the width."""
        if self.num_heads:
            return self.num_heads
        wanted = max(1, self.channels // USUAL_HEAD_WIDTH)
        return next(number for number in range(wanted, 0, -1) if self.channels % number == 0)

    def build_head(self, num_classes: int) -> "nn.Module":
        """Returns the module."""
        from setr.models.decoders.segmenter_mask_module import SegmenterMaskHead

        return SegmenterMaskHead(self, num_classes)


def heads(asked: Asked) -> Heads:
    """Returns the head; mmsegmentation's flavour drops layers where the repository drops values."""
    widths = asked.channels_in(asked.reading(1))
    mmseg = asked.rules.initialisation == "mmseg"
    return Heads(
        SegmenterMaskSpec(
            widths,
            channels=widths[-1],
            dropout=0.0 if mmseg else 0.1,
            drop_path=0.1 if mmseg else 0.0,
            start="mmseg" if mmseg else "repository",
            norm=asked.norm,
            norm_eps=final_norm_eps(asked),
        )
    )


SEGMENTER_MASK = Decoder("segmenter-mask", SegmenterMaskSpec, layers=(24,), heads=heads)
