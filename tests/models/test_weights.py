"""Released checkpoints compute what their source computes; encoder weights arrive whole; what is wrong is one line.

The plain formulations below read a checkpoint's own keys with `torch.nn.functional` alone, so they test names, order
and arithmetic of the import at once.
"""

import json
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from setr.errors import EnvironmentFailure, InputError
from setr.files.hashing import file_sha256
from setr.models.importing.key_maps import map_keys
from setr.models.segmenter import Segmenter, build_model
from setr.models.specification import EncoderSize
from setr.models.variants import VARIANTS
from setr.models.weights import import_checkpoint, load_pretrained

TOLERANCE = 2e-5
Weights = dict[str, Tensor]
WIDTH, DEPTH, HEADS, CLASSES = 48, 4, 3, 6
TAPS = (0, 1, 2, 3)


# ---- Plain formulations


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


# ---- Checkpoints of the authors, made up key by key


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


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def write(weights: Weights, **beside: Any) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.pth"
        torch.save({"state_dict": weights, **beside}, path)
        return path

    return write


# ---- Importing


@pytest.mark.parametrize("kind", ["naive", "pup", "mla"])
def test_reference_logits(reference: Path, kind: str) -> None:
    model, receipt = import_checkpoint(reference / f"tiny_{kind}.pth", num_heads=HEADS)
    arrays = np.load(reference / f"tiny_{kind}_64x64.npz")
    images = torch.from_numpy(arrays["input"])
    main, auxiliary = both(model, images)
    names = [name for name in arrays if re.fullmatch(r"aux\d_head", name)]
    expected = [resize(torch.from_numpy(arrays[name]), images.shape[2:]) for name in sorted(names)]
    if kind == "mla":
        expected.reverse()
    head = resize(torch.from_numpy(arrays["main_head"]), images.shape[2:])
    assert difference(main, head) <= TOLERANCE
    assert torch.equal(main.argmax(1), torch.from_numpy(arrays["pred"]).long())
    assert [difference(a, b) <= TOLERANCE for a, b in zip(auxiliary, expected, strict=True)] == [True] * len(names)
    counts = receipt.counts()
    assert counts["unused"] == counts["missing"] == 0
    assert sum(counts.values()) == len(model.state_dict())
    assert counts["converted"] > 100  # stored as float16
    assert counts["permuted"] == (kind == "mla")
    assert receipt.sha256 == file_sha256(reference / f"tiny_{kind}.pth")
    assert json.loads(json.dumps(receipt.as_dict()))["settings"]["taps"] == list(TAPS if kind == "mla" else TAPS[-1:])


SIZES = [(64, 64), (96, 64), (48, 128), (100, 70), (33, 17)]


@pytest.mark.parametrize("kind", ["naive", "pup", "mla"])
def test_mmsegmentation_at_any_size(reference: Path, kind: str) -> None:
    model, _ = import_checkpoint(reference / f"tiny_{kind}.pth", num_heads=HEADS)
    weights = mmseg_weights(reference, kind)
    for height, width in SIZES:
        images = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(height))
        main, auxiliary = both(model, images)
        expected_main, expected = mmseg_forward(weights, images, kind, TAPS)
        if kind == "mla":
            expected.reverse()
        assert difference(main, expected_main) <= TOLERANCE
        assert max(difference(a, b) for a, b in zip(auxiliary, expected, strict=True)) <= TOLERANCE


@pytest.mark.parametrize("kind", ["naive", "pup", "mla"])
def test_the_authors_checkpoints(save: Callable[..., Path], kind: str) -> None:
    weights = authors_weights(kind)
    model, receipt = import_checkpoint(save(weights), num_heads=HEADS)
    for height, width in SIZES[:4]:
        images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(width))
        main, auxiliary = both(model, images)
        expected_main, expected = authors_forward(weights, images, kind, TAPS)
        assert difference(main, expected_main) <= TOLERANCE
        assert max(difference(a, b) for a, b in zip(auxiliary, expected, strict=True)) <= TOLERANCE
    unused = receipt.with_status("unused")
    assert {entry.key for entry in unused} == {key for key in weights if "conv_seg" in key}
    assert all("never call" in entry.detail for entry in unused)
    assert receipt.counts()["missing"] == 0
    assert receipt.settings["taps_from"] == "floor(layer x depth / 24) - 1"
    assert model.spec.flavour == "authors"


def test_formats_and_prefixes_are_the_same_model(reference: Path, tmp_path: Path, save: Callable[..., Path]) -> None:
    weights = mmseg_weights(reference, "naive")
    plain, _ = import_checkpoint(save(weights), num_heads=HEADS)
    images = torch.randn(1, 3, 64, 64)
    save_file(weights, tmp_path / "a.safetensors")
    torch.save(weights, tmp_path / "plain.pth")
    for path in (
        tmp_path / "a.safetensors",
        tmp_path / "plain.pth",
        save({f"module.{key}": value for key, value in weights.items()}),
        save(weights | {"ema_backbone_cls_token": torch.ones(3)}, optimizer={"state": {}}),
    ):
        model, _ = import_checkpoint(path, num_heads=HEADS)
        assert torch.equal(model(images), plain(images))


AROUND = ("_orig_mod.", "_forward_module.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
HOLDERS = ("module.", "model.", "net.")
PREFIXES = [
    *AROUND,
    *HOLDERS,
    *(f"{holder}{around}" for holder in HOLDERS for around in AROUND),
    *(f"{around}{holder}" for holder in HOLDERS for around in AROUND),
    "module.model.",
    "_forward_module.module._orig_mod.model.",
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_stands_around_a_model_does_not_count(prefix: str) -> None:
    keys = list(authors_weights("pup"))
    plain, found = map_keys(keys), map_keys([prefix + key for key in keys])
    assert plain is not None
    assert found is not None
    assert found.keys == {parameter: prefix + key for parameter, key in plain.keys.items()}
    assert (found.format, found.unknown) == (plain.format, ())


def test_a_submodule_may_have_been_wrapped_alone() -> None:
    keys = list(authors_weights("naive"))
    wrapped = [
        re.sub(r"^(backbone\.blocks\.\d+\.)", r"backbone._orig_mod.\1_fsdp_wrapped_module.", key) for key in keys
    ]
    wrapped = [key.replace("_orig_mod.backbone.", "_orig_mod.") for key in wrapped]
    assert wrapped != keys
    plain, found = map_keys(keys), map_keys(wrapped)
    assert plain is not None
    assert found is not None
    assert list(found.keys) == list(plain.keys)


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", "module", "net"])
@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module._orig_mod.", "_forward_module."])
def test_a_compiled_models_file_is_the_same_model(tmp_path: Path, wrapper: str, prefix: str) -> None:
    weights = authors_weights("naive")
    torch.save(weights, tmp_path / "plain.pth")
    beside = {"optimizer": {"state": {}}, "epoch": 3} | ({"state_dict": {}} if wrapper != "state_dict" else {})
    torch.save({wrapper: {prefix + key: value for key, value in weights.items()}, **beside}, tmp_path / "a.pth")
    images = torch.randn(1, 3, 64, 64)
    plain, _ = import_checkpoint(tmp_path / "plain.pth", num_heads=HEADS)
    model, receipt = import_checkpoint(tmp_path / "a.pth", num_heads=HEADS)
    assert torch.equal(model(images), plain(images))
    assert receipt.counts()["missing"] == 0


def test_a_weight_that_is_there_twice_is_refused(save: Callable[..., Path]) -> None:
    weights = authors_weights("naive")
    twice = weights | {"_orig_mod.backbone.cls_token": torch.ones(1, 1, WIDTH)}
    with pytest.raises(InputError, match=r"E_CKPT_ARCHITECTURE.*_orig_mod\.backbone\.cls_token"):
        import_checkpoint(save(twice), num_heads=HEADS)


def test_patch_bias_may_be_absent(reference: Path, save: Callable[..., Path]) -> None:
    weights = mmseg_weights(reference, "naive")
    del weights["backbone.patch_embed.projection.bias"]
    model, receipt = import_checkpoint(save(weights), num_heads=HEADS)
    images = torch.randn(1, 3, 64, 64)
    assert difference(model(images), mmseg_forward(weights, images, "naive", TAPS)[0]) <= TOLERANCE
    (entry,) = [entry for entry in receipt.tensors if entry.parameter == "encoder.patch_embed.proj.bias"]
    assert entry.status == "converted"
    assert "zeros" in entry.detail


def test_given_values_come_before_the_config_and_the_config_before_rules(save: Callable[..., Path]) -> None:
    config = """
# comment
model = dict(
    backbone=dict(type='VisionTransformer', img_size=(32, 128), num_heads=6, unknown=len('x')),
    decode_head=dict(in_index=3, align_corners=False),
    auxiliary_head=[dict(in_index=0), dict(in_index=0), dict(in_index=1)])
raise SystemExit
"""
    weights = authors_weights("naive")
    model, receipt = import_checkpoint(save(weights, meta={"config": config}))
    assert model.spec.encoder.num_heads == 6
    assert receipt.settings["num_heads_from"] == "config in the file"
    assert (model.spec.main_taps, model.spec.auxiliary_taps) == ((3,), (0, 0, 1))
    assert receipt.settings["grid"] == [2, 8]
    model, receipt = import_checkpoint(save(weights, meta={"config": config}), num_heads=3, taps=(1, 2, 2, 3))
    assert receipt.settings["num_heads_from"] == receipt.settings["taps_from"] == "given"
    assert (model.spec.main_taps, model.spec.auxiliary_taps) == ((3,), (1, 2, 2))
    with pytest.raises(InputError, match="E_CKPT_HEADS"):
        import_checkpoint(save(weights))
    for taps in ((4,), (0, 1, 2), (3, 2, 1, 7), ()):
        with pytest.raises(InputError, match="E_CKPT_TAPS"):
            import_checkpoint(save(weights if taps != (0, 1, 2) else authors_weights("mla")), num_heads=3, taps=taps)


def test_a_timm_file_becomes_a_model_whose_decoder_is_missing(save: Callable[..., Path]) -> None:
    weights = timm_weights(width=64, extra=1)
    weights["dist_token"] = torch.zeros(1, 1, 64)
    model, receipt = import_checkpoint(save(weights), decoder="pup", num_classes=5)
    assert model(torch.randn(1, 3, 40, 50)).shape == (1, 5, 40, 50)
    assert model.spec.encoder.num_heads == 1
    assert all(not entry.parameter.startswith("encoder.") for entry in receipt.with_status("missing"))
    assert {entry.key for entry in receipt.with_status("unused")} == {
        "norm.weight", "norm.bias", "head.weight", "head.bias", "dist_token",
    }  # fmt: skip
    (entry,) = receipt.with_status("resized")
    assert "distillation" in entry.detail
    table = weights["pos_embed"]
    assert torch.equal(model.encoder.pos_embed, torch.cat([table[:, :1], table[:, 2:]], dim=1))


def mmseg_baseline(variant: str, *, num_classes: int, side: int) -> tuple[Segmenter, Weights]:
    """A miniature baseline, and its weights under mmsegmentation's names."""
    torch.manual_seed(0)
    source = build_model(variant, num_classes=num_classes, crop_size=(side, side), scale="miniature").eval()
    weights = {}
    for name, value in source.state_dict().items():
        for pattern, key in (
            (r"^encoder\.body\.bn1\.", "backbone.stem.7."),
            (r"^encoder\.body\.conv1\.", "backbone.stem."),
            (r"^encoder\.body\.", "backbone."),
            (r"^neck\.laterals\.(\d)\.", r"neck.lateral_convs.\1.conv."),
            (r"^neck\.outputs\.(\d)\.", r"neck.fpn_convs.\1.conv."),
            (r"^auxiliary_heads\.0\.", "auxiliary_head."),
            (r"\.classifier\.", ".conv_seg."),
            (r"\.fuse\.", ".conv_cat."),
        ):
            name = re.sub(pattern, key, name)
        name = re.sub(r"\.branches\.(\d)\.(\d)\.", lambda m: f".scale_heads.{m[1]}.{2 * int(m[2])}.", name)
        weights[name] = value
    return source, weights


@pytest.mark.parametrize("variant", ["fcn", "semantic-fpn"])
def test_mmsegmentations_baselines(save: Callable[..., Path], variant: str) -> None:
    source, weights = mmseg_baseline(variant, num_classes=4, side=65)
    align = f"model = dict(decode_head=dict(align_corners={source.align_corners}))"
    model, receipt = import_checkpoint(save(weights, meta={"config": align}))
    images = torch.randn(1, 3, 65, 97)
    assert torch.equal(model(images), source(images))
    assert set(receipt.counts().items()) >= {("missing", 0), ("unused", 0)}
    assert len(model.auxiliary_heads) == len(source.auxiliary_heads)


@pytest.mark.parametrize("num_classes", [4, 19])
@pytest.mark.parametrize("beside", [{}, {"meta": {}}, {"meta": {"config": "model = dict(backbone=dict(depth=101))"}}])
@pytest.mark.parametrize("side", [65, 64])
def test_a_bare_fcn_must_be_told_whether_it_aligns_corners(
    save: Callable[..., Path], num_classes: int, beside: dict[str, Any], side: int
) -> None:
    source, weights = mmseg_baseline("fcn", num_classes=num_classes, side=side)
    file = save(weights, **beside)
    with pytest.raises(InputError, match=r"E_CKPT_ALIGN.*--align-corners.*--no-align-corners"):
        import_checkpoint(file)
    model, receipt = import_checkpoint(file, align_corners=source.align_corners)
    images = torch.randn(1, 3, 65, 97)
    assert torch.equal(model(images), source(images))
    assert receipt.settings["align_corners"] is (side == 65)
    assert receipt.settings["align_corners_from"] == "given"
    other, _ = import_checkpoint(file, align_corners=not source.align_corners)
    assert difference(other(images), source(images)) > 1e-4


@pytest.mark.parametrize(
    ("variant", "num_classes"), [("fcn", 150), ("fcn", 60), ("fcn", 59), ("fcn", 21), ("semantic-fpn", 19)]
)
def test_a_bare_baseline_of_which_one_sort_is_published_needs_no_word(
    save: Callable[..., Path], variant: str, num_classes: int
) -> None:
    source, weights = mmseg_baseline(variant, num_classes=num_classes, side=64)
    model, receipt = import_checkpoint(save(weights))
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(model(images), source(images))
    assert receipt.settings["align_corners_from"] == "the published configs"


def test_what_no_shape_tells_comes_from_the_config_or_is_refused(save: Callable[..., Path]) -> None:
    _, weights = mmseg_baseline("fcn", num_classes=19, side=65)
    # FCN-D6 has FCN's names and shapes.
    dilated = "model = dict(decode_head=dict(dilation=6, align_corners=True))"
    with pytest.raises(InputError, match=r"E_CKPT_ARCHITECTURE.*dilate.*found 6"):
        import_checkpoint(save(weights, meta={"config": dilated}))
    plain = "model = dict(decode_head=dict(dilation=1))"  # aligning is off where a config does not name it
    model, receipt = import_checkpoint(save(weights, meta={"config": plain}))
    assert not model.align_corners
    assert receipt.settings["align_corners_from"] == "config in the file"
    assert import_checkpoint(save(weights, meta={"config": plain}), align_corners=True)[0].align_corners
    with pytest.raises(InputError, match=r"E_CKPT_ALIGN.*encoder alone"):
        import_checkpoint(save(timm_weights(width=64)), align_corners=True)


# ---- Encoder weights


SIZE = EncoderSize("tiny", WIDTH, DEPTH, HEADS, decoder_channels=16)


def tiny(variant: str, crop: tuple[int, int] = (64, 96)) -> Segmenter:
    torch.manual_seed(0)
    return build_model(variant, num_classes=5, crop_size=crop, sizes=SIZE, scale="miniature")


@pytest.mark.parametrize("variant", ["setr-naive", "setr-mla"])
@pytest.mark.parametrize("extra", [0, 1])
def test_encoder_weights_with_another_grid(save: Callable[..., Path], variant: str, extra: int) -> None:
    weights = timm_weights(grid=3, extra=extra)
    if extra:
        weights["dist_token"] = torch.zeros(1, 1, WIDTH)
        weights["head_dist.weight"] = torch.zeros(10, WIDTH)
    model = tiny(variant)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    receipt = load_pretrained(model, save(weights))
    after = model.state_dict()
    grid = weights["pos_embed"][:, 1 + extra :].reshape(1, 3, 3, WIDTH).permute(0, 3, 1, 2)
    table = torch.cat([weights["pos_embed"][:, :1], resize(grid, (4, 6)).flatten(2).mT], dim=1)
    for name, value in after.items():
        if name == "encoder.pos_embed":
            assert torch.equal(value, table)
        elif name.startswith("encoder."):
            assert torch.equal(value, weights[name.removeprefix("encoder.")])
        else:
            assert torch.equal(value, before[name])
    (entry,) = receipt.with_status("resized")
    assert entry.detail.endswith("3x3 to 4x6, bilinear, align_corners False, no antialias")
    assert receipt.counts()["missing"] == 0
    reasons = {entry.key: entry.detail for entry in receipt.with_status("unused")}
    assert "every head has its own" in reasons["norm.weight"]
    assert ("dist_token" in reasons) == bool(extra)
    assert receipt.settings["interpolation"] == "bilinear"
    with pytest.raises(InputError, match="E_PRETRAINED_SHAPE"):
        load_pretrained(model, save(weights), interpolation=None)
    with pytest.raises(InputError, match="E_INTERPOLATION"):
        load_pretrained(model, save(weights), interpolation="nearest")


@pytest.mark.parametrize("variant", ["fcn", "fcn-21k", "semantic-fpn"])
def test_resnet_weights_for_the_baselines(save: Callable[..., Path], variant: str) -> None:
    torch.manual_seed(1)
    source = build_model(variant, num_classes=3, crop_size=(64, 64), scale="miniature")
    weights = {name.removeprefix("body."): value for name, value in source.encoder.state_dict().items()}
    receipt = load_pretrained(model := tiny(variant), save(weights | {"fc.weight": torch.ones(2, 2)}))
    assert all(
        torch.equal(value, weights[name.removeprefix("body.")]) for name, value in model.encoder.state_dict().items()
    )
    assert [entry.key for entry in receipt.with_status("unused")] == ["fc.weight"]
    with pytest.raises(InputError, match=r"E_PRETRAINED_ARCHITECTURE.*a ViT.*a ResNet"):
        load_pretrained(model, save(timm_weights()))


def test_hybrid_takes_a_cnn_and_a_transformer(save: Callable[..., Path]) -> None:
    torch.manual_seed(1)
    model = tiny("hybrid-base", (64, 64))
    source = build_model("hybrid-base", num_classes=3, crop_size=(64, 64), sizes=SIZE, scale="miniature")
    body = source.encoder.patch_embed.backbone.body
    cnn = {name: value.clone() + 1 for name, value in body.state_dict().items()}
    receipt = load_pretrained(model, save(timm_weights()), save(cnn))
    assert torch.equal(model.encoder.patch_embed.backbone.body.bn1.weight, cnn["bn1.weight"])
    assert torch.equal(model.encoder.blocks[3].mlp.fc2.bias, timm_weights()["blocks.3.mlp.fc2.bias"])
    missing = receipt.with_status("missing")
    assert [entry.parameter for entry in missing] == [
        "encoder.patch_embed.proj.weight",
        "encoder.patch_embed.proj.bias",
    ]
    assert "random" in missing[0].detail
    assert receipt.sha256.count("+") == 1
    json.dumps(receipt.as_dict())


def test_encoders_of_another_size_are_refused(save: Callable[..., Path]) -> None:
    path = save(timm_weights(depth=3, width=32))
    with pytest.raises(InputError, match=r"E_PRETRAINED_SHAPE.*3 layers of width 32.*4 layers of width 48") as error:
        load_pretrained(tiny("setr-pup"), path)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="import_checkpoint"):
        load_pretrained(tiny("setr-pup"), save(authors_weights("pup")))


def test_a_name_of_timm_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"E_PRETRAINED_NAME.*deit_base_distilled_patch16_384\.fb_in1k"):
        load_pretrained(tiny("setr-pup"), "deit_base_distilled_patch16_384.fb_1k")
    with pytest.raises(InputError, match="E_CKPT_NOT_FOUND"):
        load_pretrained(tiny("setr-pup"), "weights/deit_base.pth")

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args, **kwargs: None)
    start = time.perf_counter()
    with pytest.raises(EnvironmentFailure, match="E_PRETRAINED_FETCH") as error:
        load_pretrained(tiny("setr-pup"), "deit_base_distilled_patch16_384.fb_in1k")
    assert time.perf_counter() - start < 5
    assert "\n" not in str(error.value)


# ---- Bad input


def refused(path: Path, **arguments: Any) -> str:
    with pytest.raises(InputError) as error:
        import_checkpoint(path, **arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_tensor_of_the_encoder_missing_is_an_error_and_one_of_the_decoder_is_told(
    reference: Path, save: Callable[..., Path]
) -> None:
    for key in ("backbone.layers.2.ln1.weight", "backbone.layers.3.ffn.layers.1.bias", "backbone.cls_token"):
        weights = mmseg_weights(reference, "naive")
        del weights[key]
        said = refused(save(weights), num_heads=HEADS)
        assert "E_CKPT_KEYS" in said
        assert "encoder" in said
    weights = {
        key: value
        for key, value in mmseg_weights(reference, "naive").items()
        if not key.startswith("backbone.layers.1.")
    }
    assert "12 tensors of the encoder are missing" in refused(save(weights), num_heads=HEADS)
    weights = mmseg_weights(reference, "naive")
    del weights["decode_head.norm.bias"]
    _, receipt = import_checkpoint(save(weights), num_heads=HEADS)
    assert [entry.parameter for entry in receipt.with_status("missing")] == ["decode_head.norm.bias"]


def test_values_that_are_not_finite(reference: Path, save: Callable[..., Path]) -> None:
    for value in (float("nan"), float("inf")):
        weights = mmseg_weights(reference, "naive")
        weights["backbone.layers.2.ffn.layers.0.0.weight"][3, 4] = value
        said = refused(save(weights), num_heads=HEADS)
        assert "E_CKPT_NONFINITE" in said
        assert "backbone.layers.2.ffn.layers.0.0.weight" in said
    weights = timm_weights()
    weights["blocks.1.attn.qkv.weight"][0, 0] = float("nan")
    with pytest.raises(InputError, match="E_CKPT_NONFINITE"):
        load_pretrained(tiny("setr-pup"), save(weights))


def test_shapes_that_make_no_model(reference: Path, save: Callable[..., Path]) -> None:
    for key, shape in (
        ("backbone.layers.2.ffn.layers.0.0.weight", (192, 40)),
        ("backbone.patch_embed.projection.weight", (48, 3, 16, 8)),
        ("backbone.patch_embed.projection.weight", (48, 3, 0, 0)),
        ("backbone.pos_embed", (1, 14, 48)),
        ("backbone.pos_embed", (17, 48)),
        ("backbone.pos_embed", (1, 0, 48)),
        ("decode_head.conv_seg.weight", (6,)),
        ("decode_head.up_convs.0.0.conv.weight", (32, 48, 1)),
        ("decode_head.norm.weight", (47,)),
    ):
        said = refused(save(mmseg_weights(reference, "naive") | {key: torch.zeros(shape)}), num_heads=HEADS)
        assert re.match(r"E_CKPT_(SHAPE|KEYS|GRID)", said), said
    integers = {"decode_head.norm.weight": torch.zeros(48, dtype=torch.int64)}
    assert "E_CKPT_SHAPE" in refused(save(mmseg_weights(reference, "naive") | integers), num_heads=HEADS)


@pytest.mark.parametrize(
    ("architecture", "keys"),
    [
        ("Segmenter", ["encoder.blocks.0.norm1.weight", "decoder.cls_emb", "decoder.mask_norm.weight"]),
        ("Swin", ["backbone.stages.0.blocks.0.attn.w_msa.relative_position_bias_table", "decode_head.conv_seg.weight"]),
        ("BEiT", ["blocks.0.gamma_1", "blocks.0.attn.q_bias", "blocks.0.norm1.weight", "pos_embed"]),
        ("DPT", ["backbone.layers.0.ln1.weight", "decode_head.reassemble_blocks.projects.0.conv.weight"]),
        ("ResNet", ["conv1.weight", "layer1.0.conv1.weight", "layer4.2.conv3.weight", "fc.weight"]),
        ("SegFormer", ["backbone.layers.0.1.0.attn.sr.weight", "decode_head.fusion_conv.conv.weight"]),
        (
            "DeepLabV3",
            ["backbone.stem.0.weight", "backbone.layer1.0.conv1.weight", "decode_head.aspp_modules.0.conv.weight"],
        ),
        ("DINOv2", ["blocks.0.ls1.gamma", "blocks.0.norm1.weight", "pos_embed"]),
        ("no architecture", ["weight"]),
    ],
)
def test_keys_of_another_architecture(save: Callable[..., Path], architecture: str, keys: list[str]) -> None:
    said = refused(save(dict.fromkeys(keys, torch.ones(2))))
    assert "E_CKPT_ARCHITECTURE" in said
    assert architecture in said
    assert "nearest here" in said


def test_a_foreign_head_on_a_known_encoder(reference: Path, save: Callable[..., Path]) -> None:
    weights = mmseg_weights(reference, "naive")
    segmenter = {key: value for key, value in weights.items() if key.startswith("backbone.")}
    segmenter |= {"decode_head.cls_emb": torch.ones(1, 6, 48), "decode_head.conv_seg.weight": torch.ones(6, 48, 1, 1)}
    assert "Segmenter" in refused(save(segmenter), num_heads=HEADS)
    scaled = weights | {f"backbone.layers.{layer}.gamma_1": torch.ones(48) for layer in range(DEPTH)}
    assert "BEiT" in refused(save(scaled), num_heads=HEADS)
    assert "final_norm" in refused(save(weights | {"backbone.ln1.weight": torch.ones(48)}), num_heads=HEADS)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_the_keys_of_timms_models_fill_each_variant(variant: str) -> None:
    """At paper scale, by name and shape alone: nothing here has memory."""
    row = VARIANTS[variant]
    with torch.device("meta"):
        expected = {
            name: value.shape
            for name, value in build_model(variant, num_classes=150, crop_size=(384, 384)).state_dict().items()
            if name.startswith("encoder.")
        }
        filled: dict[str, torch.Size] = {}
        for weights in (row.pretrained, row.cnn_pretrained):
            if weights is not None:
                state = timm.create_model(weights.timm_name).state_dict()
                key_map = map_keys(state)
                assert key_map is not None
                assert not key_map.unknown
                assert all(reason for reason in key_map.unused.values())
                filled |= {name: state[key].shape for name, key in key_map.keys.items()}
    if row.cnn_pretrained is not None:
        filled = {
            name.replace("encoder.body.", "encoder.patch_embed.backbone.body."): shape
            for name, shape in filled.items()
            if not name.startswith("encoder.patch_embed.")
        }
        expected = {name: shape for name, shape in expected.items() if not name.startswith("encoder.patch_embed.proj.")}
    if row.pretrained is None:
        expected = {name: shape for name, shape in expected.items() if ".backbone." in name}
    assert filled.keys() == expected.keys()
    different = {name for name, shape in filled.items() if shape != expected[name]}
    # DeiT's table has an entry for its distillation token.
    assert different <= {"encoder.pos_embed"}
