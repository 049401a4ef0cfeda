"""Segmenter's linear decoder (ICCV 2021): the encoder's final norm, and one linear layer per patch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from setr.models.decoders.decoder import Asked, Decoder, Heads
from setr.models.specification import HeadSpec

if TYPE_CHECKING:
    from torch import nn

EPS, MMSEG_EPS = 1e-5, 1e-6  # of the final norm: the repository's, and mmsegmentation's


@dataclass(frozen=True)
class SegmenterLinearSpec(HeadSpec):
    """LayerNorm and a linear layer."""

    channels_in: tuple[int, ...]
    norm: bool = True  # LayerNorm, which stands for the encoder's final one
    norm_eps: float = EPS

    def build_head(self, num_classes: int) -> "nn.Module":
        """Returns the module."""
        from setr.models.decoders.segmenter_linear_module import SegmenterLinearHead

        return SegmenterLinearHead(self, num_classes)


def final_norm_eps(asked: Asked) -> float:
    """Returns the eps of the final norm in a flavour."""
    return MMSEG_EPS if asked.rules.initialisation == "mmseg" else EPS


def heads(asked: Asked) -> Heads:
    """Returns the head."""
    widths = asked.channels_in(asked.reading(1))
    return Heads(SegmenterLinearSpec(widths, norm=asked.norm, norm_eps=final_norm_eps(asked)))


SEGMENTER_LINEAR = Decoder("segmenter-linear", SegmenterLinearSpec, layers=(24,), heads=heads)
