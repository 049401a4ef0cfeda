"""The decoders beside SETR's, as modules: shapes, gradients, memory layouts, and their layers written out plainly."""

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from setr.models.decoders.blocks import initialise_head
from setr.models.decoders.dpt import DPTSpec
from setr.models.decoders.linear import LinearSpec
from setr.models.decoders.segformer import SegFormerSpec
from setr.models.decoders.segmenter_linear import SegmenterLinearSpec
from setr.models.decoders.segmenter_mask import SegmenterMaskSpec
from setr.models.decoders.upernet import UPerNetSpec
from setr.models.decoders.upernet_module import averaged
from setr.models.specification import HeadSpec

LAYERS, STAGES = (16,) * 4, (4, 6, 8, 10)
FACTORS = (1.0,) * 4
SPECS: Mapping[str, tuple[HeadSpec, int]] = {  # with the stride of its logits, for layers of 16 and stages from 4 on
    "linear": (LinearSpec((16,)), 16),
    "linear, four layers": (LinearSpec(LAYERS), 16),
    "upernet, stages": (UPerNetSpec(STAGES, 8), 4),
    "upernet, feature2pyramid": (UPerNetSpec(LAYERS, 8, pyramid="feature2pyramid"), 4),
    "upernet, multi_level": (UPerNetSpec(LAYERS, 8, pyramid="multi_level"), 4),
    "upernet, none": (UPerNetSpec(LAYERS, 8, norm=False), 16),
    "dpt, layers": (DPTSpec(LAYERS, reassemble_channels=(4, 6, 8, 10), channels=8), 2),
    "dpt, stages": (DPTSpec(STAGES, FACTORS, STAGES, channels=8, norm=True), 2),
    "segformer, original": (SegFormerSpec(STAGES, 8), 4),
    "segformer, mmseg": (SegFormerSpec(STAGES, 8, form="mmseg"), 4),
    "segformer, layers": (SegFormerSpec(LAYERS, 8, pyramid="feature2pyramid"), 4),
    "segmenter-linear": (SegmenterLinearSpec((16,)), 16),
    "segmenter-mask": (SegmenterMaskSpec((16,), 16), 16),
    "segmenter-mask, wider": (SegmenterMaskSpec((16,), 24, depth=1, num_heads=3, drop_path=0.1), 16),
}


def widths(spec: HeadSpec) -> tuple[int, ...]:
    return spec.channels_in  # type: ignore[attr-defined, no-any-return]


def maps_of(spec: HeadSpec, size: tuple[int, int], batch: int = 2) -> list[Tensor]:
    """Returns random maps for images of H x W pixels: layers of stride 16, or stages of 4 to 32."""
    strides = (4, 8, 16, 32) if widths(spec) == STAGES else (16,) * len(widths(spec))
    grids = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in strides]
    return [torch.randn(batch, width, *grid) for width, grid in zip(widths(spec), grids, strict=True)]


def parts(spec: HeadSpec, num_classes: int) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return spec.build_neck() or nn.Identity(), spec.build_head(num_classes)


def test_every_decoder_but_setrs_is_here() -> None:
    from setr.models.decoders.table import DECODERS

    elsewhere = {"UpHeadSpec", "MLASpec", "FCNHeadSpec", "FPNSpec"}  # test_modules.py, test_baseline_modules.py
    told = {type(spec).__name__ for spec, _ in SPECS.values()}
    assert told == {row.spec.__name__ for row in DECODERS.values()} - elsewhere


@pytest.mark.parametrize("num_classes", [2, 150])
@pytest.mark.parametrize("name", SPECS)
def test_logits_have_their_shape_and_every_parameter_its_gradient(name: str, num_classes: int) -> None:
    spec, stride = SPECS[name]
    neck, head = parts(spec, num_classes)
    logits = head(neck(maps_of(spec, (64, 96))), (64, 96))
    assert logits.shape == (2, num_classes, 64 // stride, 96 // stride)
    (logits * torch.randn_like(logits)).sum().backward()
    named = [*neck.named_parameters(), *head.named_parameters()]
    assert [key for key, parameter in named if parameter.grad is None or not parameter.grad.isfinite().all()] == []
    # The logits' own scale and shift: what reaches them has not gone to nothing on the way.
    assert [key for key, parameter in named if parameter.ndim > 1 and not parameter.grad.any()] == []
    assert head.classifier.weight.shape[0] == num_classes


@pytest.mark.parametrize("size", [(16, 16), (1, 1), (48, 80), (50, 70), (33, 17)])
@pytest.mark.parametrize("name", SPECS)
def test_any_image_size(name: str, size: tuple[int, int]) -> None:
    spec, _ = SPECS[name]
    neck, head = parts(spec, 3)
    logits = head.eval()(neck.eval()(maps_of(spec, size, batch=1)), size)
    assert logits.shape[:2] == (1, 3)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", SPECS)
def test_memory_layout_does_not_matter(name: str) -> None:
    spec, _ = SPECS[name]
    neck, head = (part.eval() for part in parts(spec, 3))
    maps = maps_of(spec, (64, 96))
    plain = head(neck(maps), (64, 96))
    neck, head = (part.to(memory_format=torch.channels_last) for part in (neck, head))
    last = head(neck([x.contiguous(memory_format=torch.channels_last) for x in maps]), (64, 96))
    torch.testing.assert_close(last, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SPECS)
def test_one_image_at_a_time_trains(name: str) -> None:
    """As accumulated gradients do. UPerNet pools one image to one value per channel, of which there is no variance."""
    spec, _ = SPECS[name]
    neck, head = parts(spec, 3)
    logits = head(neck(maps_of(spec, (64, 96), batch=1)), (64, 96))
    (logits * torch.randn_like(logits)).sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (7, 12), (16, 6)])
def test_an_exported_average_is_the_pooling(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 3, *size)
    expected = {cells: F.adaptive_avg_pool2d(x, cells) for cells in (1, 2, 3, 6)}
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    for cells, pooled in expected.items():
        torch.testing.assert_close(averaged(x, cells), pooled)


def resize(x: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def normalised(x: Tensor, norm: nn.LayerNorm, eps: float) -> Tensor:
    return F.layer_norm(x.movedim(1, -1), (x.shape[1],), norm.weight, norm.bias, eps).movedim(-1, 1)


def randomise(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)


def test_linear_is_norm_batch_norm_and_one_matrix() -> None:
    _, head = parts(LinearSpec((6, 8)), 5)
    randomise(head)
    nn.init.uniform_(head.batch_norm.running_var, 0.5, 2)
    first, second = torch.randn(2, 6, 4, 6), torch.randn(2, 8, 2, 3)
    logits = head.eval()([first, second], (64, 96))
    tokens = torch.cat(
        [normalised(first, head.norms[0], 1e-6), resize(normalised(second, head.norms[1], 1e-6), first.shape[-2:])],
        dim=1,
    )
    bn = head.batch_norm
    tokens = F.batch_norm(tokens, bn.running_mean, bn.running_var, bn.weight, bn.bias)
    torch.testing.assert_close(logits, F.conv2d(tokens, head.classifier.weight, head.classifier.bias))


@pytest.mark.parametrize("eps", [1e-5, 1e-1])
def test_segmenters_linear_is_norm_and_one_matrix(eps: float) -> None:
    _, head = parts(SegmenterLinearSpec((16,), norm_eps=eps), 5)
    randomise(head)
    x = torch.randn(2, 16, 4, 6)
    expected = torch.einsum("kc,bchw->bkhw", head.classifier.weight, normalised(x, head.final_norm, eps))
    torch.testing.assert_close(head([x], (64, 96)), expected + head.classifier.bias[:, None, None])


def test_segformers_original_joins_the_deepest_map_first() -> None:
    """The layers as published, the concatenation at full width and the joint convolution after it."""
    _, head = parts(SegFormerSpec(STAGES, 8, norm=False), 5)
    head.eval()
    randomise(head)
    maps = maps_of(SegFormerSpec(STAGES, 8), (64, 96))
    projected = [
        torch.einsum("kc,bchw->bkhw", linear.weight, x) + linear.bias[:, None, None]
        for linear, x in zip(head.projections, maps, strict=True)
    ]
    joined = torch.cat([resize(x, maps[0].shape[-2:]) for x in reversed(projected)], dim=1)
    expected = head.classifier(F.relu(head.fuse.bn(head.fuse.conv(joined))))
    torch.testing.assert_close(head(maps, (64, 96)), expected, rtol=1e-5, atol=1e-5)


def test_the_norm_of_a_neck_stands_in_front_of_the_pyramid() -> None:
    neck, _ = parts(UPerNetSpec(LAYERS, 8, pyramid="multi_level"), 5)
    plain, _ = parts(UPerNetSpec(LAYERS, 8, norm=False, pyramid="multi_level"), 5)
    plain.pyramid.load_state_dict(neck.pyramid.state_dict())
    maps = maps_of(UPerNetSpec(LAYERS), (64, 96))
    for norm in neck.norms:
        randomise(norm)
    expected = plain([normalised(x, norm, 1e-6) for x, norm in zip(maps, neck.norms, strict=True)])
    for ours, theirs in zip(neck(maps), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("style", ["authors", "mmseg"])
def test_random_start_is_the_published_one_in_every_flavour(style: str) -> None:
    def started(spec: HeadSpec, num_classes: int = 150) -> nn.Module:
        head = parts(spec, num_classes)[1]
        initialise_head(head, style)
        return head

    def spread(weight: Tensor) -> float:
        return weight.std().item()

    upernet = started(UPerNetSpec((64,) * 4, 128))
    assert spread(upernet.fuse.conv.weight) == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.05)
    for head in (
        upernet,
        started(LinearSpec((256,))),
        started(DPTSpec((64,) * 4)),
        started(SegFormerSpec((64,) * 4, form="mmseg")),
    ):
        assert spread(head.classifier.weight) == pytest.approx(0.01, rel=0.05)
        assert not head.classifier.bias.any()
    if style == "authors":  # as PyTorch makes a convolution: uniform, to 1 / sqrt(256)
        assert spread(started(SegFormerSpec((64,) * 4)).classifier.weight) == pytest.approx((3 * 256) ** -0.5, rel=0.05)
    linear = started(SegmenterLinearSpec((256,)))
    assert spread(linear.classifier.weight) == pytest.approx(0.02, rel=0.05)
    assert not linear.classifier.bias.any()
    for start, matrix in (("repository", 256**-0.5), ("mmseg", 0.02)):
        mask = started(SegmenterMaskSpec((256,), 256, start=start))
        assert spread(mask.project_patches.weight) == pytest.approx(matrix, rel=0.05)
        assert spread(mask.project_classes.weight) == pytest.approx(matrix, rel=0.05)
        for weight in (mask.classifier.weight, mask.project.weight, mask.blocks[1].mlp.fc1.weight):
            assert spread(weight) == pytest.approx(0.02, rel=0.05)
        assert not mask.blocks[0].attn.qkv.bias.any()
    neck = parts(UPerNetSpec((128,) * 4, pyramid="multi_level"), 5)[0].pyramid
    assert neck.laterals[0].weight.abs().max().item() == pytest.approx((6 / 256) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    ("width", "linear_model", "mask_model"),
    [(384, 22_041_366, 26_033_964), (768, 86_549_910, 102_497_580), (1024, 304_303_254, 332_644_652)],
)
def test_segmenters_sizes_are_those_of_its_models(width: int, linear_model: int, mask_model: int) -> None:
    """Whole models of 150 classes, counted from the repository's code: the encoder, its norm included, is the same."""
    linear = count(SegmenterLinearSpec((width,), norm=False), 150)
    assert count(SegmenterMaskSpec((width,), width, norm=False), 150) - linear == mask_model - linear_model
    if width == 1024:  # Cityscapes: one layer, 19 classes, 48 x 48 patches in the place of 32 x 32
        encoder = linear_model - linear + (48**2 - 32**2) * width
        assert encoder + count(SegmenterMaskSpec((width,), width, depth=1, norm=False), 19) == 321_224_742


def count(spec: HeadSpec, num_classes: int) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in spec.build_head(num_classes).parameters())


@pytest.mark.parametrize("name", SPECS)
def test_half_precision_computes_the_same_and_trains(name: str) -> None:
    spec, _ = SPECS[name]
    neck, head = parts(spec, 3)
    nn.init.normal_(head.classifier.weight)
    maps = [x.requires_grad_() for x in maps_of(spec, (64, 96))]
    plain = head.eval()(neck.eval()(maps), (64, 96)).detach()
    with torch.autocast("cpu", torch.bfloat16):
        half = head(neck(maps), (64, 96)).detach().float()
        logits = head.train()(neck.train()(maps), (64, 96))
    assert (half - plain).abs().mean() < 0.05 * plain.abs().mean()
    logits.float().square().mean().backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in maps)


def test_mask_transformers_dropout_and_drop_path_are_its_own() -> None:
    mask = parts(SegmenterMaskSpec((16,), 16, depth=3, dropout=0.2, drop_path=0.3), 5)[1]
    assert {module.p for module in mask.modules() if isinstance(module, nn.Dropout) and module.p} == {0.2}
    assert [getattr(block.drop_path1, "drop_prob", 0.0) for block in mask.blocks] == pytest.approx([0, 0.15, 0.3])
