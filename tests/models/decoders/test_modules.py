"""Decoders against their plain formulation (resize first, classify after) and against the reference arrays."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from setr.models.decoders.blocks import initialise_head, upsample
from setr.models.decoders.mla import MLASpec
from setr.models.decoders.mla_modules import MLAHead, MLANeck
from setr.models.decoders.up_head import UpHeadSpec
from setr.models.decoders.up_head_module import UpHead
from setr.models.segmenter import Segmenter


def resize(x: Tensor, size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


def scaled(x: Tensor, scale: int) -> Tensor:
    return resize(x, (x.shape[-2] * scale, x.shape[-1] * scale))


def layer_norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    mean, variance = x.mean(dim=1, keepdim=True), x.var(dim=1, keepdim=True, unbiased=False)
    shape = (1, -1, 1, 1)
    return (x - mean) / (variance + 1e-6).sqrt() * norm.weight.view(shape) + norm.bias.view(shape)


def plain_up_head(head: UpHead, x: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Every resize where it is written, the classifier last, at full width and full resolution."""
    if head.spec.norm:
        x = layer_norm(head.norm, x)
    for stage, scale in zip(head.convs, head.spec.up_scales, strict=True):
        x = scaled(F.relu(stage.bn(stage.conv(x))), scale)
    return resize(head.classifier(x), image_size)


def randomise(module: nn.Module) -> None:
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -1, 1)
            nn.init.uniform_(part.running_var, 0.5, 2)


SPECS = {
    "naive, authors": UpHeadSpec(12, 8, 1, (1,)),
    "naive, mmseg": UpHeadSpec(12, 8, 1, (4,), convolution_bias=False),
    "naive auxiliary, mmseg ADE20K": UpHeadSpec(12, 8, 1, (4, 4), convolution_bias=False),
    "pup, authors": UpHeadSpec(12, 8, 3, (2, 2, 2, 1)),
    "pup, mmseg": UpHeadSpec(12, 8, 3, (2, 2, 2, 2), convolution_bias=False),
    "pup auxiliary, authors": UpHeadSpec(12, 8, 3, (4,)),
    "pup auxiliary, mmseg": UpHeadSpec(12, 8, 3, (4, 4), convolution_bias=False),
    "mla auxiliary": UpHeadSpec(12, 12, up_scales=(), norm=False, classifier_bias=False),
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("image_size", [(48, 32), (41, 30)])
@pytest.mark.parametrize("name", SPECS)
def test_classifying_first_commutes(name: str, image_size: tuple[int, int], training: bool) -> None:
    head = UpHead(SPECS[name], 5).train(training)
    randomise(head)
    x = torch.randn(2, 12, 3, 2)
    results = []
    for function in (lambda: resize(head([x], image_size), image_size), lambda: plain_up_head(head, x, image_size)):
        head.zero_grad()
        logits = function()
        logits.square().mean().backward()
        results.append((logits, [parameter.grad.clone() for parameter in head.parameters()]))
    (ours, our_gradients), (plain, plain_gradients) = results
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=2e-5)
    for ours_g, plain_g in zip(our_gradients, plain_gradients, strict=True):
        torch.testing.assert_close(ours_g, plain_g, rtol=1e-4, atol=2e-4)


def test_the_last_resize_is_left_to_the_caller() -> None:
    x = torch.randn(1, 12, 4, 4)
    sizes = {name: tuple(UpHead(spec, 5)([x], (64, 64)).shape[-2:]) for name, spec in SPECS.items()}
    assert sizes == {
        "naive, authors": (4, 4),
        "naive, mmseg": (16, 16),
        "naive auxiliary, mmseg ADE20K": (16, 16),
        "pup, authors": (32, 32),
        "pup, mmseg": (32, 32),
        "pup auxiliary, authors": (16, 16),
        "pup auxiliary, mmseg": (16, 16),
        "mla auxiliary": (4, 4),
    }
    # Two different steps follow when the image was padded: then the first is done here.
    assert UpHead(SPECS["pup, mmseg"], 5)([x], (60, 61)).shape[-2:] == (64, 64)


@pytest.mark.parametrize(("kernel", "align_corners"), [(3, True), (1, False), (1, True), (3, False)])
def test_mla_equals_its_plain_formulation(kernel: int, align_corners: bool) -> None:
    spec = MLASpec(12, 4, 8, 6, 4, classifier_kernel=kernel, align_corners=align_corners)
    neck, head = MLANeck(spec).eval(), MLAHead(spec, 5).eval()
    randomise(neck)
    randomise(head)
    z6, z12, z18, z24 = features = [torch.randn(2, 12, 3, 2) for _ in range(4)]

    def stage(module: nn.Module, x: Tensor) -> Tensor:
        return F.relu(module.bn(module.conv(x)))

    a6, a12, a18, a24 = (
        stage(neck.projections[index], layer_norm(neck.norms[index], z)) for index, z in enumerate((z6, z12, z18, z24))
    )
    sums = (a6 + a12 + a18 + a24, a12 + a18 + a24, a18 + a24, a24)
    outputs = [stage(neck.extractions[index], s) for index, s in enumerate(sums)]
    branches = [
        resize(stage(branch[1], stage(branch[0], out)), (12, 8), align_corners=align_corners)
        for branch, out in zip(head.branches, outputs, strict=True)
    ]
    expected = head.classifier(torch.cat(branches, dim=1))
    got = neck(features)
    for ours, plain in zip(got, outputs, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(head(got, (48, 32)), expected, rtol=1e-5, atol=5e-5)


@pytest.mark.parametrize("decoder", ["naive", "pup", "mla"])
def test_heads_equal_the_reference(decoder: str, reference: Path, reference_model: Callable[[str], Segmenter]) -> None:
    arrays = np.load(reference / f"tiny_{decoder}_64x64.npz")
    model = reference_model(decoder)
    with torch.no_grad():
        features = [torch.from_numpy(arrays[f"backbone_{index}"]) for index in range(4)]
        sources = model.neck(features) if model.neck else features
        main = model.decode_head(sources, (64, 64))
        auxiliary = [head([source], (64, 64)) for head, source in zip(model.auxiliary_heads, sources, strict=False)]
    expected = [arrays[f"aux{index}_head"] for index in range(len(auxiliary))]
    if decoder == "mla":
        expected.reverse()  # the reference counts from the deepest layer
        for ours, theirs in zip(sources, [arrays[f"neck_{index}"] for index in (3, 2, 1, 0)], strict=True):
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=2e-5)
    for ours, theirs in zip([main, *auxiliary], [arrays["main_head"], *expected], strict=True):
        completed = resize(ours, theirs.shape[-2:]) if ours.shape[-2:] != theirs.shape[-2:] else ours
        np.testing.assert_allclose(completed.numpy(), theirs, rtol=0, atol=2e-5)


def test_upsample_by_one_is_the_tensor_itself() -> None:
    x = torch.randn(1, 2, 3, 3)
    assert upsample(x, 1) is x


def test_mmseg_initialisation_of_a_head() -> None:
    torch.manual_seed(0)
    head = UpHead(UpHeadSpec(64, 128, 3, (1,)), 50)
    default = head.convs[0].conv.weight.clone()
    initialise_head(head, "authors")
    assert torch.equal(head.convs[0].conv.weight, default)
    initialise_head(head, "mmseg")
    assert head.convs[0].conv.weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.05)
    assert head.classifier.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert not head.classifier.bias.any()
