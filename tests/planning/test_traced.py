"""The count from the model itself, without memory, against the model with memory: bytes, parameters, operations."""

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from setr.models.counting import parameter_count
from setr.models.decoders.up_head import UpHeadSpec
from setr.models.segmenter import build_segmenter
from setr.models.specification import HeadSpec, SegmenterSpec
from setr.models.variants import variant_spec
from setr.planning.footprint import footprint
from setr.planning.traced import trace
from setr.study.recipes import Recipe
from setr.training.step import TrainingModule
from tests.models.test_timm_encoder import ANY_SIZE, CROP, ONE_SIZE, SWIN, VIT, timm_spec
from tests.planning.test_footprint import DISTINCT, kept_bytes

SIZE = (64, 96)  # of kept_bytes
FAMILIES = [*ANY_SIZE, *ONE_SIZE, "vit_small_patch16_dinov3.lvd1689m", "swinv2_tiny_window8_256.ms_in1k"]


def spec_of(name: str, **changes: object) -> SegmenterSpec:
    return dataclasses.replace(timm_spec(name, taps=(1, 3)), image_size=SIZE, **changes)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_what_autograd_keeps(name: str, frozen: bool) -> None:
    spec = spec_of(name, frozen=frozen)
    counted = footprint(spec, SIZE, "float32", "cpu")
    model = build_segmenter(spec).train()
    kept = kept_bytes(TrainingModule(model, Recipe()), 2, 5)
    assert 2 * counted.saved + counted.fixed == pytest.approx(kept, rel=0.1)
    assert counted.parameters == parameter_count(model)
    assert counted.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_autograd_keeps_in_bfloat16(name: str) -> None:
    spec = spec_of(name)
    counted = footprint(spec, SIZE, "bfloat16", "cpu")
    kept = kept_bytes(TrainingModule(build_segmenter(spec).train(), Recipe(precision="bfloat16")), 2, 5)
    assert 2 * counted.saved + counted.fixed == pytest.approx(kept, rel=0.1)


@pytest.mark.parametrize("name", FAMILIES)
def test_operations(name: str) -> None:
    spec = spec_of(name)
    counted, model = footprint(spec, SIZE), build_segmenter(spec).train()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.head_logits(torch.randn(2, 3, *SIZE))
    assert counted.flops == pytest.approx(counter.get_total_flops() / 2, rel=0.01)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval().head_logits(torch.randn(2, 3, *SIZE))
    assert counted.flops_inference == pytest.approx(counter.get_total_flops() / 2, rel=0.01)


@pytest.mark.parametrize("variant", DISTINCT)
def test_the_model_and_the_paper_say_the_same(variant: str) -> None:
    """Of the tables' own models, which are counted on paper: the two ways check each other."""
    spec = variant_spec(variant, num_classes=19, crop_size=SIZE, scale="miniature")
    paper, model = footprint(spec, SIZE, "float32", "cpu"), trace(spec, SIZE, "float32", "cpu")
    assert model.parameters == paper.parameters
    assert model.trainable == paper.trainable
    assert model.flops == pytest.approx(paper.flops, rel=1e-9)
    assert model.flops_inference == pytest.approx(paper.flops_inference, rel=1e-9)
    assert model.saved == pytest.approx(paper.saved, rel=0.1)


@pytest.mark.parametrize("name", [VIT, SWIN])
def test_checkpointing_keeps_less_and_frozen_least(name: str) -> None:
    tuned, frozen = footprint(spec_of(name), SIZE), footprint(spec_of(name, frozen=True), SIZE)
    assert frozen.saved < tuned.saved_checkpointed < 0.8 * tuned.saved
    assert frozen.flops == tuned.flops == frozen.flops_frozen + (tuned.flops - tuned.flops_layers)
    assert frozen.flops_layers == 0


@dataclasses.dataclass(frozen=True)
class Plain(HeadSpec):
    """A head that no table knows and that nobody counted."""

    in_channels: int

    def build_head(self, num_classes: int) -> torch.nn.Module:
        class Head(torch.nn.Module):
            def __init__(self, width: int) -> None:
                super().__init__()
                self.first = torch.nn.Conv2d(width, 64, 3, padding=1)
                self.classifier = torch.nn.Conv2d(64, num_classes, 1)

            def forward(self, features: list[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
                return self.classifier(self.first(features[-1]).relu())

        return Head(self.in_channels)


@pytest.mark.parametrize("name", ["setr-pup", VIT])
def test_a_head_without_a_count_of_its_own(name: str) -> None:
    made = variant_spec(name, num_classes=5, crop_size=SIZE, scale="miniature") if name == "setr-pup" else spec_of(name)
    width = made.auxiliary[0]
    assert isinstance(width, UpHeadSpec)
    spec = dataclasses.replace(made, decoder=Plain(width.in_channels))
    counted, model = footprint(spec, SIZE, "float32", "cpu"), build_segmenter(spec).train()
    kept = kept_bytes(TrainingModule(model, Recipe()), 2, 5)
    assert 2 * counted.saved + counted.fixed == pytest.approx(kept, rel=0.1)
    assert counted.parameters == parameter_count(model)


def test_the_crop_of_the_list_is_not_this_tests() -> None:
    assert SIZE != CROP
