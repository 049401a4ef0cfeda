"""Published weights that encoders start from, and the words that tables use for them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pretrained:
    """Published weights an encoder or CNN starts from: timm's name and, where it differs, the file used at the time."""

    timm_name: str
    file: str = ""  # the published file, with the start of its SHA-256
    exact: bool = True  # False: the nearest that timm has by name; `file` is what the paper's authors used
    note: str = ""


VIT_BASE_21K = Pretrained("vit_base_patch16_384.orig_in21k_ft_in1k", "jx_vit_base_p16_384-83fb41ba.pth")
VIT_LARGE_21K = Pretrained(
    "vit_large_patch16_384.augreg_in21k_ft_in1k",
    "jx_vit_large_p16_384-b3be5167.pth",
    exact=False,
    note="timm names only the AugReg weights of this size; the authors' file is given by path",
)
DEIT_BASE_1K = Pretrained("deit_base_distilled_patch16_384.fb_in1k", "deit_base_distilled_patch16_384-d0272ac0.pth")
DEIT3_LARGE_1K = Pretrained(
    "deit3_large_patch16_384.fb_in1k",
    exact=False,
    note="DeiT was not published at this size; DeiT III's ImageNet-1k weights are the nearest",
)
RESNET50_1K = Pretrained("resnet50c.gluon_in1k", "gluon_resnet50_v1c-48092f55.pth")
RESNET101_1K = Pretrained("resnet101c.gluon_in1k", "gluon_resnet101_v1c-1f26822a.pth")
RESNET101_21K = Pretrained(
    "resnetv2_101x1_bit.goog_in21k",
    exact=False,
    note="the paper's own ResNet-101 21k weights are not released; Big Transfer's are the nearest",
)

RANDOM = "R"
# {encoder: {word: weights}}: 1K is ImageNet-1k, 21K is ImageNet-21k.
WORDS: dict[str, dict[str, Pretrained]] = {
    "t-base": {"21K": VIT_BASE_21K, "1K": DEIT_BASE_1K},
    "t-large": {"21K": VIT_LARGE_21K, "1K": DEIT3_LARGE_1K},
    "r-101": {"1K": RESNET101_1K},
    "r-101-bit": {"21K": RESNET101_21K},
    "r-50": {"1K": RESNET50_1K},
}
