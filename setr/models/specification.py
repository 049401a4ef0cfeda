"""What a model is, as plain values: a SegmenterSpec is complete, and goes to JSON and back."""

from dataclasses import dataclass, fields, is_dataclass
from typing import Any


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
class UpHeadSpec:
    """A head of convolutions and resizes: Naive, PUP, and all auxiliary heads."""

    in_channels: int
    channels: int = 256
    kernel: int = 1  # of each convolution before the classifier: 1 or 3
    up_scales: tuple[int, ...] = (1,)  # one convolution each, followed by a bilinear resize of this factor (1: none)
    norm: bool = True  # LayerNorm over the channels first
    convolution_bias: bool = True
    classifier_bias: bool = True


@dataclass(frozen=True)
class MLASpec:
    """The MLA neck (per layer: LayerNorm, 1x1, top-down sums, 3x3) and head (per layer: two 3x3; one classifier)."""

    in_channels: int
    levels: int = 4
    neck_channels: int = 256
    inner_channels: int = 128  # of the first 3x3 of each branch
    head_channels: int = 128  # of the second 3x3
    up_scale: int = 4  # bilinear, between the branches and the classifier
    classifier_kernel: int = 3
    align_corners: bool = True  # of that resize


@dataclass(frozen=True)
class FCNHeadSpec:
    """3x3 convolutions at the feature's resolution; with `concatenate`, one more 3x3 over input and result."""

    in_channels: int
    channels: int = 512
    num_convs: int = 2
    concatenate: bool = True
    dropout: float = 0.1


@dataclass(frozen=True)
class FPNSpec:
    """Semantic FPN: a top-down pyramid over four stages and a head that brings every level to stride 4."""

    in_channels: tuple[int, ...]
    channels: int = 256
    head_channels: int = 128
    dropout: float = 0.1


HeadSpec = UpHeadSpec | MLASpec | FCNHeadSpec | FPNSpec


@dataclass(frozen=True)
class SegmenterSpec:
    """The structure of a model, complete: `build_segmenter` needs nothing else."""

    encoder: EncoderSize | ResNetSpec
    image_size: tuple[int, int]  # H, W pixels the position table is made for
    num_classes: int
    decoder: HeadSpec
    main_taps: tuple[int, ...]  # layers (or ResNet stages) from 0 that the decoder reads, shallow first
    auxiliary: tuple[UpHeadSpec | FCNHeadSpec, ...] = ()  # shallow layer first
    auxiliary_taps: tuple[int, ...] = ()  # empty with auxiliary heads: they read the neck's outputs in order
    cnn: ResNetSpec | None = None  # Hybrid: the CNN in the patch projection's place
    flavour: str = "authors"
    align_corners: bool = False  # of the last resize, from head logits to the image
    drop_path: float = 0.0


def spec_to_json(spec: Any) -> Any:
    """Return a spec as plain JSON values; every record carries its type's name under `type`."""
    if is_dataclass(spec) and not isinstance(spec, type):
        values = {field.name: spec_to_json(getattr(spec, field.name)) for field in fields(spec)}
        return {"type": type(spec).__name__, **values}
    if isinstance(spec, tuple | list):
        return [spec_to_json(item) for item in spec]
    return spec


def spec_from_json(value: Any) -> Any:
    """Return the spec that `spec_to_json` wrote."""
    if isinstance(value, dict):
        values = {key: spec_from_json(item) for key, item in value.items() if key != "type"}
        return _SPEC_TYPES[value["type"]](**values)
    if isinstance(value, list):
        return tuple(spec_from_json(item) for item in value)
    return value


_SPEC_TYPES: dict[str, Any] = {
    record.__name__: record
    for record in (SegmenterSpec, EncoderSize, ResNetSpec, UpHeadSpec, MLASpec, FCNHeadSpec, FPNSpec)
}
