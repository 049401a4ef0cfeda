"""Whose key names a checkpoint has, and which parameter of a Segmenter each of its keys is.

Facts about names only. `authors`: github.com/fudan-zvg/SETR (mmsegmentation 0.6); `mmsegmentation`: 0.14 to 1.2;
`timm`: ViT and DeiT files. Some sources count MLA's streams from 2 (`mla_p2` is the shallowest) or from the deepest
layer (`feat_extract.0`); parameters here count from the shallowest, from 0.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import cache

# key in the file -> parameter of the model. {i} is an index, {i+2} one that starts at 2, {n-i} one that counts from the
# deepest stream; {head} is decode_head or auxiliary_head.<h>; {rest} is anything.
TIMM_VIT = {
    "cls_token": "encoder.cls_token",
    "pos_embed": "encoder.pos_embed",
    "patch_embed.proj.{rest}": "encoder.patch_embed.proj.{rest}",
    "blocks.{i}.norm1.{rest}": "encoder.blocks.{i}.norm1.{rest}",
    "blocks.{i}.attn.qkv.{rest}": "encoder.blocks.{i}.attn.qkv.{rest}",
    "blocks.{i}.attn.proj.{rest}": "encoder.blocks.{i}.attn.proj.{rest}",
    "blocks.{i}.norm2.{rest}": "encoder.blocks.{i}.norm2.{rest}",
    "blocks.{i}.mlp.fc1.{rest}": "encoder.blocks.{i}.mlp.fc1.{rest}",
    "blocks.{i}.mlp.fc2.{rest}": "encoder.blocks.{i}.mlp.fc2.{rest}",
}
AUTHORS = {f"backbone.{key}": parameter for key, parameter in TIMM_VIT.items()} | {
    "backbone.norm_{i}.{rest}": "neck.norms.{i}.{rest}",
    "backbone.mla.mla_p{i+2}_1x1.0.{rest}": "neck.projections.{i}.conv.{rest}",
    "backbone.mla.mla_p{i+2}_1x1.1.{rest}": "neck.projections.{i}.bn.{rest}",
    "backbone.mla.mla_p{i+2}.0.{rest}": "neck.extractions.{i}.conv.{rest}",
    "backbone.mla.mla_p{i+2}.1.{rest}": "neck.extractions.{i}.bn.{rest}",
    "decode_head.mlahead.head{i+2}.0.{rest}": "decode_head.branches.{i}.0.conv.{rest}",
    "decode_head.mlahead.head{i+2}.1.{rest}": "decode_head.branches.{i}.0.bn.{rest}",
    "decode_head.mlahead.head{i+2}.3.{rest}": "decode_head.branches.{i}.1.conv.{rest}",
    "decode_head.mlahead.head{i+2}.4.{rest}": "decode_head.branches.{i}.1.bn.{rest}",
    "decode_head.cls.{rest}": "decode_head.classifier.{rest}",
    "{head}.aux.{rest}": "{head}.classifier.{rest}",
    "{head}.norm.{rest}": "{head}.norm.{rest}",
    "{head}.conv_{i}.{rest}": "{head}.convs.{i}.conv.{rest}",
    "{head}.syncbn_fc_{i}.{rest}": "{head}.convs.{i}.bn.{rest}",
}
MMSEGMENTATION = {
    "backbone.cls_token": "encoder.cls_token",
    "backbone.pos_embed": "encoder.pos_embed",
    "backbone.patch_embed.projection.{rest}": "encoder.patch_embed.proj.{rest}",
    "backbone.layers.{i}.ln1.{rest}": "encoder.blocks.{i}.norm1.{rest}",
    "backbone.layers.{i}.attn.attn.in_proj_{rest}": "encoder.blocks.{i}.attn.qkv.{rest}",
    "backbone.layers.{i}.attn.attn.out_proj.{rest}": "encoder.blocks.{i}.attn.proj.{rest}",
    "backbone.layers.{i}.ln2.{rest}": "encoder.blocks.{i}.norm2.{rest}",
    "backbone.layers.{i}.ffn.layers.0.0.{rest}": "encoder.blocks.{i}.mlp.fc1.{rest}",
    "backbone.layers.{i}.ffn.layers.1.{rest}": "encoder.blocks.{i}.mlp.fc2.{rest}",
    "{head}.norm.{rest}": "{head}.norm.{rest}",
    "{head}.conv_seg.{rest}": "{head}.classifier.{rest}",
}
MMSEGMENTATION_UP = MMSEGMENTATION | {"{head}.up_convs.{i}.0.{rest}": "{head}.convs.{i}.{rest}"}
MMSEGMENTATION_MLA = MMSEGMENTATION | {
    "neck.norm.{i}.{rest}": "neck.norms.{i}.{rest}",
    "neck.mla.channel_proj.{i}.{rest}": "neck.projections.{i}.{rest}",
    "neck.mla.feat_extract.{n-i}.{rest}": "neck.extractions.{i}.{rest}",
    "decode_head.up_convs.{n-i}.{rest}": "decode_head.branches.{i}.{rest}",
    "auxiliary_head.{n-i}.conv_seg.{rest}": "auxiliary_heads.{i}.classifier.{rest}",
}
# ResNetV1c; the same names in 0.x and 1.x, and in the authors' repository.
MMSEGMENTATION_RESNET = {
    "backbone.stem.7.{rest}": "encoder.body.bn1.{rest}",
    "backbone.stem.{rest}": "encoder.body.conv1.{rest}",
    "backbone.layer{rest}": "encoder.body.layer{rest}",
    "{head}.convs.{rest}": "{head}.convs.{rest}",
    "{head}.conv_cat.{rest}": "{head}.fuse.{rest}",
    "{head}.conv_seg.{rest}": "{head}.classifier.{rest}",
    "neck.lateral_convs.{i}.conv.{rest}": "neck.laterals.{i}.{rest}",
    "neck.fpn_convs.{i}.conv.{rest}": "neck.outputs.{i}.{rest}",
    # Upsampling modules stand between the convolutions of a level: 0, 2, 4.
    "decode_head.scale_heads.{i}.0.{rest}": "decode_head.branches.{i}.0.{rest}",
    "decode_head.scale_heads.{i}.2.{rest}": "decode_head.branches.{i}.1.{rest}",
    "decode_head.scale_heads.{i}.4.{rest}": "decode_head.branches.{i}.2.{rest}",
}
# The encoder of mmsegmentation alone, as its tools/model_converters/vit2mmseg.py writes it.
MMSEGMENTATION_VIT = {
    key.removeprefix("backbone."): parameter for key, parameter in MMSEGMENTATION.items() if key.startswith("backbone.")
}
TIMM_RESNET = {name + ".{rest}": f"encoder.body.{name}.{{rest}}" for name in ("conv1", "bn1")} | {
    "layer{rest}": "encoder.body.layer{rest}"
}
MMSEGMENTATION_RESNET_ENCODER = {
    key.removeprefix("backbone."): parameter
    for key, parameter in MMSEGMENTATION_RESNET.items()
    if key.startswith("backbone.")
}
TIMM_BIT = {name + "{rest}": f"encoder.body.{name}{{rest}}" for name in ("stem.conv.", "stages.", "norm.")}

_HEAD_512 = "the 512 -> K convolution that the authors' heads inherit and never call"
_CLASSIFIER = "the image classifier"
_FINAL_NORM = "the encoder's final norm: every head has its own"
_VIT_UNUSED = {
    "norm.{rest}": _FINAL_NORM,
    "ln1.{rest}": _FINAL_NORM,
    "fc_norm.{rest}": _FINAL_NORM,
    "dist_token": "the distillation token, discarded as the authors do",
    "head.{rest}": _CLASSIFIER,
    "head_dist.{rest}": "the distillation's classifier",
    "pre_logits.{rest}": "the layer before the image classifier",
}
_CNN_UNUSED = {"fc.{rest}": _CLASSIFIER, "head.{rest}": _CLASSIFIER}


@dataclass(frozen=True)
class KeyFormat:
    """One source's way of naming things."""

    name: str
    keys: dict[str, str]
    signs: tuple[str, ...]  # patterns that must all occur
    unused: dict[str, str] = field(default_factory=dict)  # pattern -> reason
    holds: str = "segmenter"  # segmenter | transformer | cnn: what a file of these names is
    deepest_first: bool = False  # the classifier of MLA reads the deepest stream first


FORMATS: tuple[KeyFormat, ...] = (
    KeyFormat(
        "authors",
        AUTHORS,
        ("backbone.blocks.{rest}", "decode_head.{rest}"),
        unused={"{head}.conv_seg.{rest}": _HEAD_512},
    ),
    KeyFormat(
        "mmsegmentation",
        MMSEGMENTATION_MLA,
        ("backbone.layers.{i}.ln1.{rest}", "decode_head.{rest}", "neck.mla.{rest}"),
        deepest_first=True,
    ),
    KeyFormat("mmsegmentation", MMSEGMENTATION_UP, ("backbone.layers.{i}.ln1.{rest}", "decode_head.{rest}")),
    KeyFormat("mmsegmentation", MMSEGMENTATION_RESNET, ("backbone.layer{i}.{rest}", "decode_head.{rest}")),
    KeyFormat("timm", TIMM_VIT, ("blocks.{i}.norm1.{rest}", "pos_embed"), _VIT_UNUSED, "transformer"),
    KeyFormat("mmsegmentation", MMSEGMENTATION_VIT, ("layers.{i}.ln1.{rest}",), _VIT_UNUSED, "transformer"),
    KeyFormat("timm", TIMM_RESNET, ("layer{i}.{rest}", "conv1.{rest}"), _CNN_UNUSED, "cnn"),
    KeyFormat("mmsegmentation", MMSEGMENTATION_RESNET_ENCODER, ("layer{i}.{rest}", "stem.{rest}"), _CNN_UNUSED, "cnn"),
    KeyFormat("timm", TIMM_BIT, ("stages.{i}.{rest}", "stem.conv.{rest}"), _CNN_UNUSED, "cnn"),
)

# What this project exports; its files carry the structure with them.
OWN = KeyFormat("setr", {}, ())

# Found in any training checkpoint, whatever its format.
_ALWAYS_UNUSED = {
    "ema_{rest}": "a running average kept beside the weights",
    "data_preprocessor.{rest}": "the input's mean and standard deviation",
}


@dataclass(frozen=True)
class KeyMap:
    """What the keys of one file are."""

    format: KeyFormat
    keys: dict[str, str]  # parameter of the model -> key in the file
    unused: dict[str, str]  # key -> reason
    unknown: tuple[str, ...]  # keys that the format does not have


# Parts of a key that name a module around the model, put there by torch.compile, FSDP, activation checkpointing and
# Lightning Fabric; they stand before any submodule that was wrapped.
_AROUND = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"})
# Attributes that hold the model in something larger: DistributedDataParallel and DeepSpeed, Lightning modules.
_HOLDERS = ("module.", "model.", "net.")


def map_keys(keys: Collection[str]) -> KeyMap | None:
    """Returns the map of the format that the keys are in, or None where they are in none that is known.

    What engines put around a model (`_orig_mod.` and its like, anywhere in a key) does not count, nor does a prefix
    that all keys share (`module.`, `model.`, `net.`, also one behind the other; `backbone.`, `encoder.`). Two keys
    that are one without it are unknown.
    """
    inner, twice = _unwrapped(keys)
    for wrapped in ("", "backbone.", "encoder."):
        if not all(key.startswith(wrapped) for key in inner):
            continue
        stripped = {key.removeprefix(wrapped): whole for key, whole in inner.items()}
        for candidate in FORMATS:
            if all(any(_regex(sign).fullmatch(key) for key in stripped) for sign in candidate.signs):
                found = _apply(candidate, stripped)
                return replace(found, unknown=(*found.unknown, *twice))
    return None


def _unwrapped(keys: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """Returns {key without what stands around the model: key}, and the keys that another one has already taken."""
    names = {key: ".".join(part for part in key.split(".") if part not in _AROUND) for key in keys}
    while holder := next((p for p in _HOLDERS if names and all(name.startswith(p) for name in names.values())), ""):
        names = {key: name.removeprefix(holder) for key, name in names.items()}
    inner: dict[str, str] = {}
    twice = [key for key, name in names.items() if inner.setdefault(name, key) != key]
    return inner, twice


def _apply(layout: KeyFormat, keys: dict[str, str]) -> KeyMap:
    rules = [(_regex(pattern), pattern, parameter) for pattern, parameter in layout.keys.items()]
    # The most specific pattern first: `auxiliary_head.{n-i}.conv_seg` before `{head}.conv_seg`.
    rules.sort(key=lambda rule: -len(re.sub(r"{[^}]*}", "", rule[1])))
    ends = {
        pattern: max((int(found["i"]) for key in keys if (found := regex.fullmatch(key))), default=0)
        for regex, pattern, _ in rules
        if "{n-i}" in pattern
    }
    mapped: dict[str, str] = {}
    unused: dict[str, str] = {}
    unknown: list[str] = []
    reasons = [(_regex(pattern), reason) for pattern, reason in (layout.unused | _ALWAYS_UNUSED).items()]
    for key, whole in keys.items():
        reason = next((reason for regex, reason in reasons if regex.fullmatch(key)), None)
        if reason is not None:
            unused[whole] = reason
            continue
        match = next(((rule, found) for rule in rules if (found := rule[0].fullmatch(key))), None)
        parameter = _parameter(*match, ends) if match else ""
        if not parameter or parameter in mapped:
            unknown.append(whole)
        else:
            mapped[parameter] = whole
    if layout.name == "authors":
        mapped = _last_convolution_classifies(mapped)
    return KeyMap(layout, mapped, unused, tuple(unknown))


def _parameter(rule: tuple[re.Pattern[str], str, str], found: re.Match[str], ends: dict[str, int]) -> str:
    _, pattern, parameter = rule
    values = {name: value or "" for name, value in found.groupdict().items()}
    if "head" in values:
        values["head"] = _head(values["head"])
    if "{n-i}" in pattern:
        values["i"] = str(ends[pattern] - int(values["i"]))
    elif "{i+2}" in pattern:
        values["i"] = str(int(values["i"]) - 2)
    return parameter.format(**values)


def _head(name: str) -> str:
    # A model with a single auxiliary head stores it without a number.
    kind, _, index = name.partition(".")
    return kind if kind == "decode_head" else f"auxiliary_heads.{index or 0}"


def _last_convolution_classifies(mapped: dict[str, str]) -> dict[str, str]:
    """Returns the map with the convolution of each up-head that no BatchNorm follows named `classifier`."""
    renamed = {}
    for parameter, key in mapped.items():
        head, convs, rest = parameter.partition(".convs.")
        index, _, leaf = rest.partition(".conv.")
        if convs and leaf and f"{head}.convs.{index}.bn.weight" not in mapped:
            parameter = f"{head}.classifier.{leaf}"
        renamed[parameter] = key
    return renamed


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    text = re.escape(pattern)
    for name, group in {
        r"\{i\}": r"(?P<i>\d+)",
        r"\{i\+2\}": r"(?P<i>[2-9])",
        r"\{n\-i\}": r"(?P<i>\d)",
        r"\{head\}": r"(?P<head>decode_head|auxiliary_head(?:\.\d+)?)",
        r"\{rest\}": r"(?P<rest>[\w.]+)",
    }.items():
        text = text.replace(name, group)
    return re.compile(text)


# (architecture, patterns one of which its keys contain, the nearest here). The first that fits is named.
ARCHITECTURES: tuple[tuple[str, str, str], ...] = (
    ("Segmenter (mask transformer)", r"cls_emb|mask_norm|decoder_norm\.|proj_classes", "setr-naive: also a plain ViT"),
    ("Mask2Former or MaskFormer", r"pixel_decoder|sem_seg_head|mask_embed\.|query_feat", "semantic-fpn"),
    ("DPT", r"reassemble_blocks|act_postprocess|refinenet", "setr-mla: also reads four layers of a ViT"),
    ("HLG", r"hlg|\.local_?attn|halo", "setr-pup"),
    (
        "Swin",
        r"relative_position_bias_table.*|w_msa|patch_merging|downsample\.reduction",
        "semantic-fpn: also a pyramid",
    ),
    ("BEiT", r"gamma_1$|q_bias$|rel_pos_bias", "setr-pup: also a plain ViT"),
    ("Swin", r"relative_position_bias_table|w_msa|downsample\.reduction", "semantic-fpn: also a pyramid"),
    ("MAE or another masked autoencoder", r"decoder_blocks|decoder_pos_embed|mask_token", "setr-pup: also a plain ViT"),
    ("DINOv2 or another ViT with LayerScale", r"\.ls[12]\.|register_tokens|reg_token", "setr-pup: also a plain ViT"),
    ("CLIP", r"resblocks|visual\.|text_model|token_embedding", "setr-pup: also a plain ViT"),
    ("SegFormer (Mix Transformer)", r"attn\.sr\.|linear_fuse|block[1-4]\.\d+\.attn|fusion_conv", "semantic-fpn"),
    ("ConvNeXt", r"dwconv|conv_dw|depthwise_conv|pwconv", "semantic-fpn"),
    ("DeepLabV3", r"aspp_modules|aspp\.", "fcn"),
    ("UPerNet", r"fpn_bottleneck|psp_modules.*fpn|ppm\.", "semantic-fpn"),
    ("PSPNet", r"psp_modules|ppm", "fcn"),
    ("HRNet", r"stage[234]\.\d+\.(branches|fuse_layers)", "semantic-fpn"),
    ("U-Net", r"\.(down|up)\d?\.|encoder\d\.|inc\.", "semantic-fpn"),
    ("a ViT with a norm after its last layer (final_norm=True)", r"^backbone\.(ln1|norm)\.", "setr-naive: without one"),
    ("a ResNet", r"layer[1-4]\.\d+\.conv1", "fcn (a ResNet-101 with a three-convolution stem)"),
    ("a ViT", r"(blocks|layers)\.\d+\.(attn|norm1|ln1)", "setr-naive, setr-pup or setr-mla"),
)


def name_architecture(keys: Iterable[str]) -> tuple[str, str]:
    """Returns what architecture a checkpoint's keys look like and the nearest one here."""
    text = "\n".join(keys)
    for architecture, pattern, nearest in ARCHITECTURES:
        if re.search(pattern, text, re.MULTILINE):
            return architecture, nearest
    return "no architecture that is known here", "setr-naive, setr-pup or setr-mla"
