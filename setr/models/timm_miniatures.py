"""Small models of timm's families: the same structure with few layers and narrow maps, for two CPU cores."""

from typing import Any

from setr.errors import InputError
from setr.models.specification import TimmSpec

# By the name of timm's class. Each layer that a decoder reads stays a different one; heads stay 16 to 32 wide, a
# multiple of four for rotary positions. Patches of 8 keep the crop of the miniature at 8 x 16 tokens.
_PLAIN: dict[str, Any] = {"embed_dim": 64, "depth": 4, "num_heads": 2, "patch_size": 8}
_MINIATURES: dict[str, dict[str, Any]] = {
    "VisionTransformer": _PLAIN,
    "VisionTransformerDistilled": _PLAIN,
    "Eva": _PLAIN,
    "Beit": _PLAIN,
    "NaFlexVit": _PLAIN,
    "SwinTransformer": {"embed_dim": 16, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8)},
    "SwinTransformerV2": {"embed_dim": 16, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8)},
    "ConvNeXt": {"depths": (1, 1, 2, 1), "dims": (16, 32, 64, 128)},
    "Hiera": {"embed_dim": 16, "num_heads": 1, "stages": (1, 1, 2, 1)},
    "HieraDet": {"embed_dim": 16, "num_heads": 1, "stages": (1, 2, 2, 1), "global_att_blocks": (4,)},
    "ResNet": {"layers": (1, 1, 2, 1), "channels": (16, 32, 64, 128)},
}


def miniature_options(name: str) -> tuple[tuple[str, Any], ...]:
    """Returns the options that make a small model of timm's `name`, sorted by name.

    Raises InputError for a name that timm does not have, and for a family that has no miniature here.
    """
    from setr.models.timm_models import on_meta

    family = type(on_meta(TimmSpec(name))).__name__
    if family not in _MINIATURES:
        raise InputError(
            "E_ENCODER_MINIATURE",
            "no miniature of this family is known",
            where=name,
            found=family,
            expected=", ".join(sorted(_MINIATURES)),
            remedy="give the encoder's own options, or scale=paper",
        )
    return tuple(sorted(_MINIATURES[family].items()))
