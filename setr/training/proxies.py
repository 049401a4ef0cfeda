"""Which miniature checkpoints stand for which published weights (`pretraining` makes them)."""

from dataclasses import dataclass

from setr.models.pretrained import (
    DEIT3_LARGE_1K,
    DEIT_BASE_1K,
    RESNET50_1K,
    RESNET101_1K,
    RESNET101_21K,
    VIT_BASE_21K,
    VIT_LARGE_21K,
)


@dataclass(frozen=True)
class Proxy:
    """One miniature checkpoint, and the published one in whose place it is used."""

    name: str
    stands_for: str  # timm's name of the published weights
    encoder: str  # t-base | t-large, or the variant whose miniature ResNet it is
    share: float  # of the images: ImageNet-1k is the smaller set
    distilled: bool = False  # with a distillation token, as DeiT
    steps: float = 1.0  # of the steps: a CNN is good at this task long before a transformer is


PROXIES = (
    Proxy("vit-large-miniature-21k", VIT_LARGE_21K.timm_name, "t-large", 1.0),
    Proxy("vit-base-miniature-21k", VIT_BASE_21K.timm_name, "t-base", 1.0),
    Proxy("deit-base-miniature-1k", DEIT_BASE_1K.timm_name, "t-base", 0.5, distilled=True),
    Proxy("deit-large-miniature-1k", DEIT3_LARGE_1K.timm_name, "t-large", 0.5),
    Proxy("resnet101-miniature-1k", RESNET101_1K.timm_name, "fcn", 0.5, steps=0.3),
    Proxy("resnet101-miniature-21k", RESNET101_21K.timm_name, "fcn-21k", 1.0, steps=0.3),
    Proxy("resnet50-miniature-1k", RESNET50_1K.timm_name, "hybrid-base", 0.5, steps=0.3),
)
