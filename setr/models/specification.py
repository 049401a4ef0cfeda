"""What a model is, as plain values: a SegmenterSpec is complete. Each decoder has a record of its own in it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


class HeadSpec:
    """What the record of a head (a frozen dataclass) says besides its values: how its modules are made."""

    keeps_class_token = True  # through the encoder's layers
    initialises_neck = False

    def build_head(self, num_classes: int) -> "nn.Module":
        """Returns the head's module."""
        raise NotImplementedError

    def build_neck(self) -> "nn.Module | None":
        """Returns the module in front of the head and of the auxiliary heads, None if there is none."""
        return None


@dataclass(frozen=True)
class EncoderSize:
    """One row of the paper's Table 1, with the width of the decoders that go with it."""

    name: str
    embed_dim: int  # C, hidden size
    depth: int  # transformer layers
    num_heads: int
    patch_size: int = 16  # pixels
    mlp_ratio: float = 4.0
    decoder_channels: int = 256


@dataclass(frozen=True)
class ResNetSpec:
    """A ResNet: blocks per stage, width, and the stride at which it stops shrinking."""

    name: str
    blocks: tuple[int, int, int, int]
    output_stride: int = 32
    base_channels: int = 64  # of the first stage's bottleneck; its output is four times as wide
    kind: str = "v1c"  # v1c | bit

    @property
    def stage_channels(self) -> tuple[int, int, int, int]:
        """Return the output width of each stage."""
        first = 4 * self.base_channels
        return first, 2 * first, 4 * first, 8 * first


@dataclass(frozen=True)
class TimmSpec:
    """An encoder of timm's by its name there, with arguments of its own for `timm.create_model`."""

    name: str  # with its tag, which decides mean and standard deviation: vit_small_patch16_dinov3.lvd1689m
    options: tuple[tuple[str, Any], ...] = ()  # sorted by name; plain values, tuples for lists


@dataclass(frozen=True)
class SegmenterSpec:
    """The structure of a model, complete: `build_segmenter` needs nothing else."""

    encoder: EncoderSize | ResNetSpec | TimmSpec
    image_size: tuple[int, int]  # H, W pixels the position table is made for
    num_classes: int
    decoder: HeadSpec
    main_taps: tuple[int, ...]  # layers (or ResNet stages) from 0 that the decoder reads, shallow first
    auxiliary: tuple[HeadSpec, ...] = ()  # shallow layer first
    auxiliary_taps: tuple[int, ...] = ()  # empty with auxiliary heads: they read the neck's outputs in order
    cnn: ResNetSpec | None = None  # Hybrid: the CNN in the patch projection's place
    flavour: str = "authors"
    align_corners: bool = False  # of the last resize, from head logits to the image
    drop_path: float = 0.0
    frozen: bool = False  # the encoder is used as it is, and the heads alone are trained
