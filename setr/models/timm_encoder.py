"""Any encoder of timm's, read at chosen layers or stages and fed any image size that its family can take.

Shapes: B images, C channels, H W pixels, h w of a map: ceil(H / its stride).
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.models import group_parameters
from torch import Tensor, nn

from setr.errors import InputError
from setr.models.encoder_facts import IMAGENET_MEAN, IMAGENET_STD, encoder_facts
from setr.models.specification import TimmSpec
from setr.models.timm_models import NotTakenError, created, on_meta, read_maps, size_arguments


class TimmEncoder(nn.Module):
    """A model of timm's (under `body`, timm's names) whose forward returns the layers or stages asked for.

    Images come normalised with ImageNet's colours and are brought to the model's own. Sizes that do not fit are filled
    with zeros (the mean colour) right and bottom, and the maps cut back. What stands after the last layer that is read
    (layers, norm, pooling, classifier) is not there: no parameter waits for a gradient that never comes.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, encoder: TimmSpec, image_size: tuple[int, int], *, taps: Sequence[int], drop_path: float = 0.0
    ) -> None:
        """Build for crops of H x W pixels and the layers `taps`; raises InputError for what the model has not."""
        super().__init__()
        self.facts = encoder_facts(encoder)
        _require_taps(encoder, taps, len(self.facts.channels))
        self.encoder = encoder
        self.multiple = max(self.facts.strides)
        self.plain = not self.facts.pyramid  # its maps lie in the order of tokens
        self.size = self._rounded_up(image_size)
        sizes = size_arguments(encoder, self.multiple).values(self.size)
        self.body = cast(Any, created(encoder, **sizes, **_paths(encoder, drop_path)))
        self.body.prune_intermediate_layers([tap + self.facts.stem_maps for tap in taps], prune_norm=True)
        if (self.facts.mean, self.facts.std) != (IMAGENET_MEAN, IMAGENET_STD):
            own_mean, own_std, mean, std = (
                torch.tensor(values).view(3, 1, 1)
                for values in (self.facts.mean, self.facts.std, IMAGENET_MEAN, IMAGENET_STD)
            )
            self.register_buffer("scale", std / own_std, persistent=False)
            self.register_buffer("shift", (mean - own_mean) / own_std, persistent=False)

    def forward(self, images: Tensor, taps: Sequence[int]) -> list[Tensor]:
        """Return the outputs (B, C, h, w) of the layers or stages `taps`, in the order asked, for images (B, 3, H, W).

        Raises InputError for images larger than the crop where the family takes one size alone.
        """
        height, width = images.shape[-2:]
        indices = sorted({tap + self.facts.stem_maps for tap in taps})
        maps = dict(zip(indices, read_maps(self.body, self._prepared(images), indices), strict=True))
        return [self._cut(maps[tap + self.facts.stem_maps], self.facts.strides[tap], height, width) for tap in taps]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recomputes each layer in the backward pass instead of keeping it, or no longer."""
        self.body.set_grad_checkpointing(enable)

    def layers(self) -> dict[str, int]:
        """Returns each parameter's layer as timm groups them, by its name here: 0 before the first, then from 1."""
        found = group_parameters(self.body, self.body.group_matcher(coarse=False), reverse=True)
        # CLIP's norm stands before the first layer; timm's pattern takes it for the one after the last.
        return {f"body.{name}": 0 if name.startswith("norm_pre.") else layer for name, layer in found.items()}

    def no_weight_decay(self) -> set[str]:
        """Returns the names of the tables and tokens that the family spares from weight decay."""
        named: set[str] = getattr(self.body, "no_weight_decay", set)()
        return {f"body.{name}" for name in named}

    def whole(self) -> nn.Module:
        """Returns timm's model as it is before anything is taken off, without memory: what its weights are made for."""
        return on_meta(self.encoder, **size_arguments(self.encoder, self.multiple).values(self.size))

    def _prepared(self, images: Tensor) -> Tensor:
        """Returns the images in the model's own colours and at a size that it takes."""
        if hasattr(self, "scale"):
            images = images * self.scale + self.shift
        height, width = images.shape[-2:]
        target = self._rounded_up((height, width)) if self.facts.any_size else self.size
        missing = (target[0] - height, target[1] - width)
        if min(missing) < 0:
            raise InputError(
                "E_IMAGE_SIZE",
                "this encoder takes images of its crop's size alone",
                where=self.encoder.name,
                found=f"{height}x{width}",
                expected=f"up to {self.size[0]}x{self.size[1]}",
                remedy="score in sliding windows of the crop's size, not whole images",
            )
        return F.pad(images, (0, missing[1], 0, missing[0])) if max(missing) else images

    def _rounded_up(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns H x W pixels rounded up to what divides into patches and stages."""
        height, width = (-(-side // self.multiple) * self.multiple for side in size)
        return height, width

    @staticmethod
    def _cut(x: Tensor, stride: int, height: int, width: int) -> Tensor:
        """Returns the part of a map (B, C, h, w) that images of H x W pixels fill."""
        return x[..., : -(-height // stride), : -(-width // stride)]


def _paths(encoder: TimmSpec, drop_path: float) -> dict[str, float]:
    """Returns the argument for stochastic depth; a model that knows none has none unless it is asked for.

    Said even at 0: some families (Swin) have a rate of their own otherwise.
    """
    arguments = {"drop_path_rate": drop_path}
    try:
        on_meta(encoder, **arguments)
    except NotTakenError:
        if drop_path:
            raise InputError(
                "E_ENCODER_OPTION",
                "the encoder has no stochastic depth",
                where=encoder.name,
                found=f"drop_path {drop_path}",
                expected=0.0,
            ) from None
        return {}
    return arguments


def _require_taps(encoder: TimmSpec, taps: Sequence[int], number: int) -> None:
    wrong = [tap for tap in taps if not 0 <= tap < number]
    if wrong or not taps:
        raise InputError(
            "E_ENCODER_LAYERS",
            "no such layer or stage",
            where=encoder.name,
            found=", ".join(str(tap) for tap in wrong) or "none",
            expected=f"0 to {number - 1}",
        )
