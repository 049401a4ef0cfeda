"""What a decoder and a plan ask of an encoder before it is built: the maps that can be read, colours, licence.

No torch and no timm is loaded but for an encoder of timm's.
"""

import functools
from dataclasses import dataclass
from typing import Any

from setr.models.specification import EncoderSize, ResNetSpec, TimmSpec

# Of ImageNet, red green blue, levels from 0 to 1: what images are normalised with when they are loaded.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FINEST_STRIDE = 4  # pixels; finer maps of a pyramid are its stem's, no stage


@dataclass(frozen=True)
class EncoderFacts:
    """What is known of an encoder; entry i of `channels` and `strides` is layer i of a plain one, stage i of a pyramid.

    `prefix_tokens` (class, distillation, registers) go through the layers and are in no map.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]  # pixels
    pyramid: bool
    prefix_tokens: int
    mean: tuple[float, float, float]  # red green blue, levels from 0 to 1
    std: tuple[float, float, float]
    licence: str  # of its published weights, as timm writes it; "": not said
    stem_maps: int = 0  # that timm counts before the first stage
    any_size: bool = True  # of images; else the crop's is the only one, and larger images go through in windows


def encoder_facts(encoder: EncoderSize | ResNetSpec | TimmSpec) -> EncoderFacts:
    """Returns an encoder's facts; raises InputError for one that timm does not have or cannot read."""
    if isinstance(encoder, TimmSpec):
        return _of_timm(encoder)
    if isinstance(encoder, ResNetSpec):
        strides = tuple(min(4 << stage, encoder.output_stride) for stage in range(len(encoder.blocks)))
        return EncoderFacts(encoder.stage_channels, strides, True, 0, IMAGENET_MEAN, IMAGENET_STD, "")
    layers = encoder.depth
    channels, strides = (encoder.embed_dim,) * layers, (encoder.patch_size,) * layers
    return EncoderFacts(channels, strides, False, 1, IMAGENET_MEAN, IMAGENET_STD, "")


@functools.lru_cache(maxsize=256)
def _of_timm(encoder: TimmSpec) -> EncoderFacts:
    from setr.models.timm_models import on_meta, size_arguments

    model: Any = on_meta(encoder)
    info = [(int(entry["num_chs"]), int(entry["reduction"])) for entry in _entries(model.feature_info)]
    pyramid = len({stride for _, stride in info}) > 1
    stages = [entry for entry in info if entry[1] >= FINEST_STRIDE] if pyramid else info
    config = model.pretrained_cfg
    return EncoderFacts(
        channels=tuple(channels for channels, _ in stages),
        strides=tuple(stride for _, stride in stages),
        pyramid=pyramid,
        prefix_tokens=int(getattr(model, "num_prefix_tokens", 0)),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        licence=str(config.get("license") or ""),
        stem_maps=len(info) - len(stages),
        any_size=size_arguments(encoder, max(stride for _, stride in stages)).any_size,
    )


def _entries(info: Any) -> list[Any]:
    """Returns timm's records of the maps, which some models keep in a list, some in a class of its own."""
    return list(info.info if hasattr(info, "info") else info)
