"""What a model is, as plain values: a SegmenterSpec is complete, and goes to JSON and back."""

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from setr.models.baselines import FCNHeadSpec, FPNSpec
from setr.models.decoders import MLASpec, UpHeadSpec
from setr.models.encoder import EncoderSize
from setr.models.hybrid import ResNetSpec

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
