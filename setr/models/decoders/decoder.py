"""What the program knows of a decoder: one record, a row of setr.models.decoders.table.

No file of this folder loads torch but those of modules, which a spec's `build_head` imports: a plan does without.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from setr.errors import InputError
from setr.models.counter import Activation, Tally
from setr.models.encoder_facts import EncoderFacts, encoder_facts
from setr.models.flavours import Flavour
from setr.models.importing.shapes import Shapes
from setr.models.importing.stored_config import StoredConfig
from setr.models.specification import EncoderSize, HeadSpec, ResNetSpec, TimmSpec

LARGE_DEPTH, BASE_DEPTH = 24, 12  # layers of T-Large, of which the paper counts, and of T-Base
USUAL_HEAD_WIDTH = 64  # of attention, in every published transformer
MINIATURE_SHRINK = 8  # of a decoder's channels


def taps_of(layers: Sequence[int], depth: int, *, full_depth: int = LARGE_DEPTH) -> tuple[int, ...]:
    """Return floor(layer x depth / full_depth) - 1 for each layer (from 1) of a `full_depth` encoder: block indices."""
    return tuple(max(layer * depth // full_depth, 1) - 1 for layer in layers)


def spread(facts: EncoderFacts, count: int) -> tuple[int, ...]:
    """Returns `count` layers (from 0) of a plain transformer at equal distances, the last included; or its last stages.

    A pyramid that has fewer stages than `count` gives all of them.
    """
    depth = len(facts.channels)
    if facts.pyramid:
        return tuple(range(max(depth - count, 0), depth))
    return taps_of(range(1, count + 1), depth, full_depth=count)


@dataclass(frozen=True)
class Asked:
    """The model that a row of the tables asks for."""

    row: str  # the encoder's name in it: t-base | t-large | r-101 | r-101-bit | timm's
    encoder: EncoderSize | ResNetSpec | TimmSpec
    rules: Flavour
    num_classes: int
    crop_size: tuple[int, int]  # H, W pixels
    miniature: bool = False
    taps: tuple[int, ...] = ()  # layers or stages, from 0, that the decoder is to read; empty: its own choice

    @cached_property
    def facts(self) -> EncoderFacts:
        """Returns what the encoder's layers or stages give."""
        return encoder_facts(self.encoder)

    @property
    def size(self) -> EncoderSize:
        """Returns the size of a plain transformer, one of timm's seen as the paper's are.

        Raises InputError for an encoder that has stages.
        """
        if isinstance(self.encoder, EncoderSize):
            return self.encoder
        facts = self.facts
        if facts.pyramid:
            raise InputError(
                "E_DECODER",
                "this decoder reads layers of one size, and the encoder has stages",
                found=self.encoder.name,
                expected="a plain transformer",
                remedy="upernet, segformer, dpt and linear read stages too",
            )
        width = facts.channels[-1]
        return EncoderSize(
            self.encoder.name,
            embed_dim=width,
            depth=len(facts.channels),
            num_heads=max(1, width // USUAL_HEAD_WIDTH),  # no decoder reads it
            patch_size=facts.strides[-1],
            decoder_channels=self.decoder_channels,
        )

    @property
    def decoder_channels(self) -> int:
        """Returns the width of the paper's decoders on this encoder."""
        return self.encoder.decoder_channels if isinstance(self.encoder, EncoderSize) else self.width(256)

    @property
    def norm(self) -> bool:
        """Returns whether a decoder normalises what it reads: a ResNet's stages end in BatchNorms of their own."""
        return not isinstance(self.encoder, ResNetSpec)

    def width(self, published: int) -> int:
        """Returns the channels of a decoder whose published number is this: an eighth of it in miniature."""
        return published // MINIATURE_SHRINK if self.miniature else published

    def reading(self, count: int) -> tuple[int, ...]:
        """Returns what a decoder of `count` maps reads, from 0: what was asked for, or its own choice."""
        return self.taps or spread(self.facts, count)

    def channels_in(self, taps: Sequence[int]) -> tuple[int, ...]:
        """Returns the channels of these maps."""
        return tuple(self.facts.channels[tap] for tap in taps)

    def stages_in(self, taps: Sequence[int]) -> tuple[int, ...]:
        """Returns the channels of these stages; raises InputError for an encoder that has none."""
        if not self.facts.pyramid:
            raise InputError(
                "E_DECODER",
                "this decoder reads stages of falling resolution, and the encoder has layers of one",
                found=self.encoder.name,
                expected="a ResNet or another pyramid",
                remedy="upernet and segformer make a pyramid of such layers",
            )
        return self.channels_in(taps)

    def auxiliary_taps(self, decoder: str, layers: Sequence[int]) -> tuple[int, ...]:
        """Returns what auxiliary heads read, from 0: `layers` (from 1) of T-Large; T-Base may have its own.

        Of a pyramid: the stage before the one that the decoder reads.
        """
        if self.facts.pyramid:
            return self.before(self.reading(1)[-1])
        depth = len(self.facts.channels)
        if self.row == "t-base" and self.rules.base_auxiliary_layers is not None:
            return taps_of(self.rules.base_auxiliary_layers[decoder], depth, full_depth=BASE_DEPTH)
        return taps_of(layers, depth)

    def before(self, last: int) -> tuple[int, ...]:
        """Returns where the one auxiliary head of a CNN's decoder stands: a stage, or a quarter of the layers, earlier.

        Empty if nothing is earlier.
        """
        earlier = last - (1 if self.facts.pyramid else max(1, len(self.facts.channels) // 4))
        return (earlier,) if earlier >= 0 else ()


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
    # Counts spec, features, image size (H, W pixels) and classes; returns the logits. None: counted from the module.
    cost: HeadCost | None = None
    neck_cost: Callable[[Any, Sequence[Activation], Tally], list[Activation]] | None = None  # counts a neck before
    made: Callable[[Any], bool] = lambda spec: True  # of specs of that class: whether this decoder has it
    recognised: Callable[[Shapes], bool] | None = None  # whether a checkpoint's tensors are this decoder's
    inferred: Callable[[Tensors], Heads] | None = None  # its structure then; what layers are read is decided apart
    output_stride: int = 0  # of the ResNet that it stands on in the tables; 0: it reads a transformer there
    any_number: bool = False  # it reads as many maps as it is given; False: as many as `layers`
    published_as: str = "naive"  # the decoder whose published recipes and protocols it takes
    # The heads once options stand in the decoder's spec: auxiliary heads that read its neck follow the neck's width.
    agreed: Callable[[Heads], Heads] = lambda heads: heads
    owns_unused_convolution: bool = False  # the paper counts one from 512 channels to the classes in each such head

    def taps(self, depth: int) -> tuple[int, ...]:
        """Returns the block indices (or stages) from 0 that it reads of an encoder of that depth."""
        if self.output_stride:
            return tuple(stage - 1 for stage in self.layers)
        return taps_of(self.layers, depth)

    def taps_on(self, asked: Asked) -> tuple[int, ...]:
        """Returns the layers or stages, from 0, that it reads of any encoder, unless others were asked for."""
        if asked.taps or asked.facts.pyramid or self.output_stride:
            return asked.reading(len(self.layers))
        return taps_of(self.layers, len(asked.facts.channels))

    def has(self, spec: HeadSpec) -> bool:
        """Returns whether a spec is one of this decoder."""
        return type(spec) is self.spec and self.made(spec)
