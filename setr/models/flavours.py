"""Where the paper, the authors' code and mmsegmentation differ in the model: each difference once, by name.

`authors` (github.com/fudan-zvg/SETR, HEAD 1361561) is the default for the tables: the printed parameter counts are
its. `mmseg` is mmsegmentation 1.2.2, `paper` the CVPR text; where the text is silent it takes the authors' value.
Where all three agree there is no entry: pre-norm blocks, LayerNorm eps 1e-6, no final encoder norm, MLA's class token
leaving before the first layer, no dropout.
"""

from dataclasses import dataclass, fields
from typing import Any

FLAVOURS = ("authors", "paper", "mmseg")
Taps = tuple[int, ...]  # layers counted from 1, as the paper counts


@dataclass(frozen=True)
class Difference:
    """One value on which the three sources do not agree."""

    name: str  # the field of Flavour that it decides
    authors: Any
    mmseg: Any
    paper: Any
    meaning: str
    source: str


@dataclass(frozen=True)
class Flavour:
    """Everything a flavour decides; `DIFFERENCES` says what each field means and where its values come from."""

    convolution_bias: bool
    naive_resizes_twice: bool
    naive_auxiliary_stages: int
    naive_auxiliary_stages_ade20k: int
    pup_last_stage_resizes: bool
    pup_auxiliary_kernel: int
    pup_auxiliary_resizes: int
    pup_auxiliary_layers: Taps
    base_auxiliary_layers: dict[str, Taps] | None
    mla_neck_divisor: int | None
    mla_halves_at_last: bool
    mla_align_corners: bool
    mla_classifier_kernel: int
    mla_auxiliary_reads: str
    mla_auxiliary_bias: bool
    initialisation: str


DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "convolution_bias",
        True,
        False,
        True,
        "Convolutions in front of a BatchNorm in Naive, PUP and their auxiliary heads have a bias.",
        "authors vit_up_head.py; mmseg ConvModule(bias='auto'); paper silent",
    ),
    Difference(
        "naive_resizes_twice",
        False,
        True,
        False,
        "Naive resizes to stride 4 and then to the image (two bilinear steps) instead of x16 at once.",
        "authors num_upsampe_layer=1; mmseg setr_naive.py up_scale=4; paper section 3.2",
    ),
    Difference(
        "naive_auxiliary_stages",
        1,
        1,
        1,
        "Convolution stages of Naive's auxiliary heads, all data sets but ADE20K.",
        "mmseg setr_vit-l_naive_8xb1-80k_cityscapes-768x768.py num_convs=1",
    ),
    Difference(
        "naive_auxiliary_stages_ade20k",
        1,
        2,
        1,
        "The same with 150 classes: mmseg ships different auxiliary heads for ADE20K, each stage resizing x4.",
        "mmseg setr_vit-l_naive_8xb2-160k_ade20k-512x512.py num_convs=2",
    ),
    Difference(
        "pup_last_stage_resizes",
        False,
        True,
        False,
        "After PUP's last stage a x2 resize and then one to the image, instead of one to the image. The same unless "
        "the image was padded to whole patches.",
        "authors vit_up_head.py size=img_size; mmseg SETRUPHead num_convs=4 up_scale=2, then resize",
    ),
    Difference(
        "pup_auxiliary_kernel",
        3,
        3,
        1,
        "Kernel of the convolutions in PUP's auxiliary heads. The printed 318.31M matches 3 (1 would be 309.92M).",
        "authors configs/SETR; mmseg both PUP configs; paper '2-layer network', author in mmsegmentation#721",
    ),
    Difference(
        "pup_auxiliary_resizes",
        1,
        2,
        0,
        "x4 resizes before the image-size one in PUP's auxiliary heads; mmseg has one convolution for each.",
        "authors vit_up_head.py; mmseg num_convs=2 up_scale=4; author in mmsegmentation#721 (one upsampling)",
    ),
    Difference(
        "pup_auxiliary_layers",
        (10, 15, 20, 24),
        (10, 15, 20),
        (10, 15, 20, 24),
        "Layers of T-Large with an auxiliary head in PUP.",
        "authors configs and paper section 4; mmseg setr_pup_512x512_160k_b16_ade20k.py",
    ),
    Difference(
        "base_auxiliary_layers",
        {"naive": (3, 6, 9), "pup": (5, 8, 10, 12), "mla": (3, 6, 9, 12)},
        None,
        {"naive": (3, 6, 9), "pup": (5, 8, 10, 12), "mla": (3, 6, 9, 12)},
        "Layers of T-Base with an auxiliary head. mmseg ships no T-Base: floor(layer x depth / 24) of T-Large's.",
        "authors configs/SETR/*DeiT*; paper silent",
    ),
    Difference(
        "mla_neck_divisor",
        None,
        None,
        2,
        "Width of MLA's neck: the hidden size divided by this; None: 256 for every hidden size.",
        "authors vit_mla.py (1024/4, 768/3); mmseg mla_channels=256; paper 'halved at the first and third layers'",
    ),
    Difference(
        "mla_halves_at_last",
        False,
        False,
        True,
        "MLA's branch halves the width in its last 3x3 convolution instead of its first.",
        "authors vit_mla_head.py and mmseg (256-128-128); paper 'halved at the first and third layers'",
    ),
    Difference(
        "mla_align_corners",
        True,
        False,
        False,
        "align_corners of the x4 resize inside MLA's head.",
        "authors vit_mla_head.py; mmseg setr_mla.py; paper 'bilinear'",
    ),
    Difference(
        "mla_classifier_kernel",
        3,
        1,
        3,
        "Kernel of MLA's classifier.",
        "authors vit_mla_head.py; mmseg conv_seg; paper figure 1(c) 'conv-4x', kernel not stated",
    ),
    Difference(
        "mla_auxiliary_reads",
        "neck",
        "neck",
        "encoder",
        "MLA's auxiliary heads read the neck's outputs (one 1x1 each) or the encoder's layers (as Naive's do).",
        "authors vit_mla_auxi_head.py; mmseg FCNHead(num_convs=0); paper '2-layer network' on Z^6, Z^12, Z^18, Z^24",
    ),
    Difference(
        "mla_auxiliary_bias",
        False,
        True,
        False,
        "MLA's auxiliary 1x1 convolution has a bias (where it reads the neck).",
        "authors vit_mla_auxi_head.py bias=False; mmseg conv_seg",
    ),
    Difference(
        "initialisation",
        "authors",
        "mmseg",
        "authors",
        "Random values at the start: encoder Linear truncated normal 0.02 and convolutions as PyTorch makes them, or "
        "mmseg's Xavier query-key-value, Kaiming convolutions, classifier normal 0.01.",
        "authors vit.py random_init; mmseg vit.py init_weights, ConvModule, BaseDecodeHead; paper 'random'",
    ),
)


def flavour_rules(name: str) -> Flavour:
    """Return what the flavour `authors`, `mmseg` or `paper` decides."""
    return _RULES[name]


def _rules(name: str) -> Flavour:
    assert [difference.name for difference in DIFFERENCES] == [field.name for field in fields(Flavour)]
    return Flavour(**{difference.name: getattr(difference, name) for difference in DIFFERENCES})


_RULES = {name: _rules(name) for name in FLAVOURS}
