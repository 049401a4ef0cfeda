"""Maps of four resolutions from a plain transformer's four layers, for decoders that were made for stages.

What stands between the encoder and such a decoder: a LayerNorm on every map (`norm`), then one of PYRAMIDS. Both are a
neck: they learn at the encoder's rate, and the auxiliary heads read what the encoder gives.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from setr.errors import InputError
from setr.models.decoders.decoder import Asked

if TYPE_CHECKING:
    from torch import nn

# feature2pyramid: transposed convolutions and a pooling, as BEiT, MAE and EVA-02 have it. multi_level: 1x1, resize and
# 3x3 convolutions, as mmsegmentation's ViT and DeiT have it. none: the maps as they are.
PYRAMIDS = ("feature2pyramid", "multi_level", "none")
LEVELS = 4  # of both: x4, x2, x1, x1/2


def usual_pyramid(asked: Asked, taps: Sequence[int]) -> str:
    """Returns the pyramid that an encoder needs: none where it has stages, or where other than four maps are read."""
    return "none" if asked.facts.pyramid or len(taps) != LEVELS else PYRAMIDS[0]


def require_levels(decoder: str, pyramid: str, channels_in: Sequence[int]) -> None:
    """Raises InputError for a pyramid that is none, or for another number of maps than it makes."""
    if pyramid not in PYRAMIDS:
        raise InputError("E_OPTION", "unknown pyramid", where=decoder, found=pyramid, expected=", ".join(PYRAMIDS))
    if pyramid != "none" and len(channels_in) != LEVELS:
        raise InputError(
            "E_OPTION",
            "a pyramid is made of four maps",
            where=f"{decoder}: pyramid {pyramid}",
            found=len(channels_in),
            expected=LEVELS,
            remedy="read four layers, or take pyramid: none",
        )


def build_neck(channels_in: Sequence[int], *, norm: bool, pyramid: str) -> "nn.Module | None":
    """Returns the module, None if there is nothing to do."""
    if not norm and pyramid == "none":
        return None
    from setr.models.decoders.pyramid_modules import PyramidNeck

    return PyramidNeck(channels_in, norm=norm, pyramid=pyramid)
