"""Checkpoints as others publish them, made up key by key, and what they compute in plain formulations.

The formulations read a checkpoint's own keys with `torch.nn.functional` alone, so they test names, order and arithmetic
of an import at once.
"""

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from setr.models.segmenter import Segmenter, build_model
from setr.models.specification import EncoderSize

TOLERANCE = 2e-5
Weights = dict[str, Tensor]
WIDTH, DEPTH, HEADS, CLASSES = 48, 4, 3, 6
TAPS = (0, 1, 2, 3)


def layer_norm(x: Tensor, sd: Weights, name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], sd[name + ".weight"], sd[name + ".bias"], 1e-6)


def channel_norm(x: Tensor, sd: Weights, name: str) -> Tensor:
    return layer_norm(x.permute(0, 2, 3, 1), sd, name).permute(0, 3, 1, 2)


def conv_bn_relu(x: Tensor, sd: Weights, conv: str, bn: str) -> Tensor:
    weight = sd[conv + ".weight"]
    x = F.conv2d(x, weight, sd.get(conv + ".bias"), padding=weight.shape[-1] // 2)
    mean, var, scale, shift = (sd[f"{bn}.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
    return F.relu(F.batch_norm(x, mean, var, scale, shift, False, 0.1, 1e-5))


def resize(x: Tensor, size: Any, align_corners: bool = False) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align_corners)


def encode(x: Tensor, sd: Weights, names: dict[str, str], heads: int, *, keep_class_token: bool) -> list[Tensor]:
    """Every layer's output (B, C, h, w)."""
    weight = sd[names["patch"] + ".weight"]
    patch = weight.shape[-1]
    x = F.pad(x, (0, -x.shape[3] % patch, 0, -x.shape[2] % patch))
    x = F.conv2d(x, weight, sd.get(names["patch"] + ".bias"), stride=patch)
    batch, width, h, w = x.shape
    table = sd["backbone.pos_embed"]
    side = math.isqrt(table.shape[1] - 1)
    grid = table[:, 1:].reshape(1, side, side, width).permute(0, 3, 1, 2)
    table = torch.cat([table[:, :1], resize(grid, (h, w)).flatten(2).mT], dim=1)
    x = torch.cat([sd["backbone.cls_token"].expand(batch, -1, -1), x.flatten(2).mT], dim=1) + table
    x = x if keep_class_token else x[:, 1:]
    outputs = []
    for layer in range(DEPTH):
        n = {key: value.format(layer) for key, value in names.items()}
        y = layer_norm(x, sd, n["norm1"])
        q, k, v = F.linear(y, sd[n["qkv"] + "weight"], sd[n["qkv"] + "bias"]).unflatten(2, (3, heads, -1)).unbind(2)
        scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / math.sqrt(width / heads)
        y = torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), v).flatten(2)
        x = x + F.linear(y, sd[n["proj"] + ".weight"], sd[n["proj"] + ".bias"])
        y = F.gelu(F.linear(layer_norm(x, sd, n["norm2"]), sd[n["fc1"] + ".weight"], sd[n["fc1"] + ".bias"]))
        x = x + F.linear(y, sd[n["fc2"] + ".weight"], sd[n["fc2"] + ".bias"])
        outputs.append(x[:, -h * w :].mT.reshape(batch, width, h, w))
    return outputs


AUTHORS_NAMES = {"patch": "backbone.patch_embed.proj", "qkv": "backbone.blocks.{}.attn.qkv."} | {
    short: f"backbone.blocks.{{}}.{name}"
    for short, name in {
        "norm1": "norm1",
        "norm2": "norm2",
        "proj": "attn.proj",
        "fc1": "mlp.fc1",
        "fc2": "mlp.fc2",
    }.items()
}


MMSEG_NAMES = {"patch": "backbone.patch_embed.projection", "qkv": "backbone.layers.{}.attn.attn.in_proj_"} | {
    short: f"backbone.layers.{{}}.{name}"
    for short, name in {
        "norm1": "ln1",
        "norm2": "ln2",
        "proj": "attn.attn.out_proj",
        "fc1": "ffn.layers.0.0",
        "fc2": "ffn.layers.1",
    }.items()
}


def authors_up_head(x: Tensor, sd: Weights, head: str, kind: str, size: Any) -> Tensor:
    """vit_up_head.py: `num_conv` 2 with one or two resizes, or 4."""
    x = channel_norm(x, sd, f"{head}.norm")
    last = max(int(key.split("conv_")[1][0]) for key in sd if key.startswith(f"{head}.conv_") and "seg" not in key)
    for index in range(last):
        x = conv_bn_relu(x, sd, f"{head}.conv_{index}", f"{head}.syncbn_fc_{index}")
        if last == 4 and index < 3:
            x = resize(x, (x.shape[2] * 2, x.shape[3] * 2))
        elif kind == "pup" and last == 1:
            x = resize(x, (x.shape[2] * 4, x.shape[3] * 4))
    return resize(F.conv2d(x, sd[f"{head}.conv_{last}.weight"], sd[f"{head}.conv_{last}.bias"]), size)


def authors_forward(sd: Weights, x: Tensor, kind: str, taps: tuple[int, ...]) -> tuple[Tensor, list[Tensor]]:
    """The authors' logits at image size: main, and auxiliary heads in their order (shallow first)."""
    size = x.shape[2:]
    layers = encode(x, sd, AUTHORS_NAMES, HEADS, keep_class_token=kind != "mla")
    count = len({key.split(".")[1] for key in sd if key.startswith("auxiliary_head.")})
    if kind != "mla":
        auxiliary = [authors_up_head(layers[taps[i]], sd, f"auxiliary_head.{i}", kind, size) for i in range(count)]
        return authors_up_head(layers[taps[-1]], sd, "decode_head", kind, size), auxiliary
    streams = []
    for level, tap in enumerate(taps):
        name = f"backbone.mla.mla_p{level + 2}_1x1"
        streams.append(
            conv_bn_relu(channel_norm(layers[tap], sd, f"backbone.norm_{level}"), sd, f"{name}.0", f"{name}.1")
        )
    for level in (2, 1, 0):
        streams[level] = streams[level + 1] + streams[level]
    streams = [
        conv_bn_relu(x, sd, f"backbone.mla.mla_p{level + 2}.0", f"backbone.mla.mla_p{level + 2}.1")
        for level, x in enumerate(streams)
    ]
    branches = []
    for level, x in enumerate(streams):
        head = f"decode_head.mlahead.head{level + 2}"
        x = conv_bn_relu(conv_bn_relu(x, sd, f"{head}.0", f"{head}.1"), sd, f"{head}.3", f"{head}.4")
        branches.append(resize(x, (x.shape[2] * 4, x.shape[3] * 4), align_corners=True))
    main = F.conv2d(torch.cat(branches, 1), sd["decode_head.cls.weight"], sd["decode_head.cls.bias"], padding=1)
    auxiliary = [resize(F.conv2d(x, sd[f"auxiliary_head.{i}.aux.weight"]), size) for i, x in enumerate(streams)]
    return resize(main, size), auxiliary


def mmseg_forward(sd: Weights, x: Tensor, kind: str, taps: tuple[int, ...]) -> tuple[Tensor, list[Tensor]]:
    """mmsegmentation's logits at image size: main, and auxiliary heads in its order (MLA: deepest first)."""
    size = x.shape[2:]
    layers = [encode(x, sd, MMSEG_NAMES, HEADS, keep_class_token=kind != "mla")[tap] for tap in taps]

    def classify(x: Tensor, head: str) -> Tensor:
        return resize(F.conv2d(x, sd[f"{head}.conv_seg.weight"], sd[f"{head}.conv_seg.bias"]), size)

    def up_head(x: Tensor, head: str, scale: int) -> Tensor:
        x = channel_norm(x, sd, f"{head}.norm")
        for index in range(len({key.split(".up_convs.")[1][0] for key in sd if key.startswith(f"{head}.up_convs")})):
            x = conv_bn_relu(x, sd, f"{head}.up_convs.{index}.0.conv", f"{head}.up_convs.{index}.0.bn")
            x = resize(x, (x.shape[2] * scale, x.shape[3] * scale))
        return classify(x, head)

    if kind != "mla":
        auxiliary = [up_head(layers[i], f"auxiliary_head.{i}", 4) for i in range(3)]
        return up_head(layers[3], "decode_head", 2 if kind == "pup" else 4), auxiliary
    projected = [
        conv_bn_relu(
            channel_norm(x, sd, f"neck.norm.{i}"),
            sd,
            f"neck.mla.channel_proj.{i}.conv",
            f"neck.mla.channel_proj.{i}.bn",
        )
        for i, x in enumerate(layers)
    ]
    total, outputs, branches = torch.zeros(()), [], []
    for i, x in enumerate(reversed(projected)):
        total = total + x
        name = f"neck.mla.feat_extract.{i}"
        outputs.append(conv_bn_relu(total, sd, f"{name}.conv", f"{name}.bn"))
    for i, x in enumerate(outputs):
        for j in range(2):
            x = conv_bn_relu(x, sd, f"decode_head.up_convs.{i}.{j}.conv", f"decode_head.up_convs.{i}.{j}.bn")
        branches.append(resize(x, (x.shape[2] * 4, x.shape[3] * 4)))
    return classify(torch.cat(branches, 1), "decode_head"), [
        classify(x, f"auxiliary_head.{i}") for i, x in enumerate(outputs)
    ]


class Maker:
    """Collects random weights under the names it is given."""

    def __init__(self) -> None:
        self.sd: Weights = {}
        self.generator = torch.Generator().manual_seed(0)

    def tensor(self, name: str, *shape: int, scale: float = 0.1, around: float = 0.0) -> None:
        self.sd[name] = around + scale * torch.randn(shape, generator=self.generator)

    def linear(self, name: str, *shape: int, bias: bool = True) -> None:
        self.tensor(f"{name}.weight", *shape, scale=1.0 / math.sqrt(math.prod(shape[1:])))
        if bias:
            self.tensor(f"{name}.bias", shape[0])

    def norm(self, name: str, width: int, *, batch: bool = False) -> None:
        self.tensor(f"{name}.weight", width, around=1.0)
        self.tensor(f"{name}.bias", width)
        if batch:
            self.tensor(f"{name}.running_mean", width)
            self.sd[f"{name}.running_var"] = 0.5 + torch.rand(width, generator=self.generator)
            self.sd[f"{name}.num_batches_tracked"] = torch.tensor(11)

    def encoder(
        self, prefix: str = "backbone.", *, depth: int = DEPTH, width: int = WIDTH, grid: int = 4, extra: int = 0
    ) -> None:
        self.tensor(f"{prefix}cls_token", 1, 1, width)
        self.tensor(f"{prefix}pos_embed", 1, 1 + extra + grid * grid, width, scale=0.5)
        self.linear(f"{prefix}patch_embed.proj", width, 3, 16, 16)
        for layer in range(depth):
            name = f"{prefix}blocks.{layer}"
            self.norm(f"{name}.norm1", width)
            self.linear(f"{name}.attn.qkv", 3 * width, width)
            self.linear(f"{name}.attn.proj", width, width)
            self.norm(f"{name}.norm2", width)
            self.linear(f"{name}.mlp.fc1", 4 * width, width)
            self.linear(f"{name}.mlp.fc2", width, 4 * width)

    def up_head(self, head: str, convs: int, kernel: int, channels: int = 32) -> None:
        self.linear(f"{head}.conv_seg", CLASSES, 512, 1, 1)
        self.norm(f"{head}.norm", WIDTH)
        for index in range(convs):
            self.linear(f"{head}.conv_{index}", channels, WIDTH if index == 0 else channels, kernel, kernel)
            self.norm(f"{head}.syncbn_fc_{index}", channels, batch=True)
        self.linear(f"{head}.conv_{convs}", CLASSES, channels, 1, 1)


def authors_weights(kind: str) -> Weights:
    make = Maker()
    make.encoder()
    if kind in ("naive", "pup"):
        convs, kernel, heads = {"naive": (1, 1, 3), "pup": (4, 3, 4)}[kind]
        make.up_head("decode_head", convs, kernel)
        for index in range(heads):
            make.up_head(f"auxiliary_head.{index}", 1, kernel)
        return make.sd
    for level in range(4):
        make.norm(f"backbone.norm_{level}", WIDTH)
        for name, inputs, kernel in ((f"mla_p{level + 2}_1x1", WIDTH, 1), (f"mla_p{level + 2}", 16, 3)):
            make.linear(f"backbone.mla.{name}.0", 16, inputs, kernel, kernel, bias=False)
            make.norm(f"backbone.mla.{name}.1", 16, batch=True)
        head = f"decode_head.mlahead.head{level + 2}"
        for conv, bn, inputs in ((0, 1, 16), (3, 4, 8)):
            make.linear(f"{head}.{conv}", 8, inputs, 3, 3, bias=False)
            make.norm(f"{head}.{bn}", 8, batch=True)
        make.linear(f"auxiliary_head.{level}.conv_seg", CLASSES, 512, 1, 1)
        make.linear(f"auxiliary_head.{level}.aux", CLASSES, 16, 1, 1, bias=False)
    make.linear("decode_head.cls", CLASSES, 32, 3, 3)
    make.linear("decode_head.conv_seg", CLASSES, 512, 1, 1)
    return make.sd


def timm_weights(**shape: int) -> Weights:
    make = Maker()
    width = shape.get("width", WIDTH)
    make.encoder("", **shape)
    make.norm("norm", width)
    make.linear("head", 10, width)
    return make.sd


def mmseg_weights(reference: Path, kind: str) -> Weights:
    tensors = torch.load(reference / f"tiny_{kind}.pth", weights_only=True)["state_dict"]
    return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


def both(model: Segmenter, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Main and auxiliary logits at image size, with BatchNorm's stored statistics."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    with torch.no_grad():
        main, auxiliary = model(images)
    model.eval()
    with torch.no_grad():
        assert torch.equal(model(images), main)
    return main, auxiliary


def difference(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found.detach() - expected.detach()).abs().max())


SIZE = EncoderSize("tiny", WIDTH, DEPTH, HEADS, decoder_channels=16)


def tiny(variant: str, crop: tuple[int, int] = (64, 96)) -> Segmenter:
    """Returns a model whose encoder these weights fit."""
    torch.manual_seed(0)
    return build_model(variant, num_classes=5, crop_size=crop, sizes=SIZE, scale="miniature")
