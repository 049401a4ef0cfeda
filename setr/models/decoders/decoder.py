"""What the program knows of a decoder: one record, a row of setr.models.decoders.table.

No file of this folder loads torch but those of modules, which a spec's `build_head` imports: a plan does without.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from setr.models.counter import Activation, Tally
from setr.models.flavours import Flavour
from setr.models.importing.shapes import Shapes
from setr.models.importing.stored_config import StoredConfig
from setr.models.specification import EncoderSize, HeadSpec, ResNetSpec

LARGE_DEPTH, BASE_DEPTH = 24, 12  # layers of T-Large, of which the paper counts, and of T-Base


def taps_of(layers: Sequence[int], depth: int, *, full_depth: int = LARGE_DEPTH) -> tuple[int, ...]:
    """Return floor(layer x depth / full_depth) - 1 for each layer (from 1) of a `full_depth` encoder: block indices."""
    return tuple(max(layer * depth // full_depth, 1) - 1 for layer in layers)


@dataclass(frozen=True)
class Asked:
    """The model that a row of the tables asks for."""

    row: str  # the encoder's name in it: t-base | t-large | r-101 | r-101-bit
    encoder: EncoderSize | ResNetSpec
    rules: Flavour
    num_classes: int
    crop_size: tuple[int, int]  # H, W pixels
    miniature: bool = False

    @property
    def size(self) -> EncoderSize:
        """Returns the transformer's size."""
        assert isinstance(self.encoder, EncoderSize)
        return self.encoder

    @property
    def resnet(self) -> ResNetSpec:
        """Returns the ResNet."""
        assert isinstance(self.encoder, ResNetSpec)
        return self.encoder

    def auxiliary_taps(self, decoder: str, layers: Sequence[int]) -> tuple[int, ...]:
        """Returns the block indices of auxiliary heads, for `layers` (from 1) of T-Large; T-Base may have its own."""
        if self.row == "t-base" and self.rules.base_auxiliary_layers is not None:
            return taps_of(self.rules.base_auxiliary_layers[decoder], self.size.depth, full_depth=BASE_DEPTH)
        return taps_of(layers, self.size.depth)


@dataclass(frozen=True)
class Tensors:
    """A checkpoint of another project, its tensors renamed to those here, with what is told of it already."""

    shapes: Shapes
    flavour: str  # authors | mmseg
    settings: StoredConfig
    encoder: EncoderSize | ResNetSpec

    @property
    def width(self) -> int:
        """Returns the transformer's hidden size."""
        assert isinstance(self.encoder, EncoderSize)
        return self.encoder.embed_dim


@dataclass(frozen=True)
class Heads:
    """A decoder with its auxiliary heads."""

    decoder: HeadSpec
    auxiliary: tuple[HeadSpec, ...] = ()  # shallow layer first
    auxiliary_taps: tuple[int, ...] = ()  # block indices or ResNet stages, from 0, that the auxiliary heads read
    reads_neck: bool = False  # the auxiliary heads read the neck's outputs instead, in order
    align_corners: bool = False  # of the last resize, from head logits to the image


HeadCost = Callable[[Any, Sequence[Activation], tuple[int, int], int, Tally], Activation]


@dataclass(frozen=True)
class Decoder:
    """One decoder: its record of values, what it reads, how it is counted, and how it is told from tensors."""

    name: str
    spec: type[HeadSpec]
    layers: tuple[int, ...]  # that it reads, from 1, shallow first: of T-Large's 24 (paper section 4), or stages
    heads: Callable[[Asked], Heads]  # what a row of the tables means
    cost: HeadCost  # counts spec, features, image size (H, W pixels) and classes; returns the logits
    neck_cost: Callable[[Any, Sequence[Activation], Tally], list[Activation]] | None = None  # counts a neck before
    made: Callable[[Any], bool] = lambda spec: True  # of specs of that class: whether this decoder has it
    recognised: Callable[[Shapes], bool] | None = None  # whether a checkpoint's tensors are this decoder's
    inferred: Callable[[Tensors], Heads] | None = None  # its structure then; what layers are read is decided apart
    output_stride: int = 0  # of the ResNet that it stands on; 0: it reads a transformer
    published_as: str = "naive"  # the decoder whose published recipes and protocols it takes
    owns_unused_convolution: bool = False  # the paper counts one from 512 channels to the classes in each such head

    def taps(self, depth: int) -> tuple[int, ...]:
        """Returns the block indices (or stages) from 0 that it reads of an encoder of that depth."""
        if self.output_stride:
            return tuple(stage - 1 for stage in self.layers)
        return taps_of(self.layers, depth)

    def has(self, spec: HeadSpec) -> bool:
        """Returns whether a spec is one of this decoder."""
        return type(spec) is self.spec and self.made(spec)
