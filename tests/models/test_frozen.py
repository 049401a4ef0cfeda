"""`frozen: true`: the heads alone train, on features of an encoder that keeps nothing for backward."""

import dataclasses

import pytest
import torch

from setr.models.segmenter import Segmenter, build_segmenter
from setr.models.specification import SegmenterSpec
from setr.models.variants import variant_spec
from setr.study.recipes import Recipe
from setr.training.optim import parameter_groups
from tests.models.test_timm_encoder import CROP, RESNET, SWIN, VIT, timm_spec

TABLES = ("setr-pup", "setr-mla", "hybrid-base", "semantic-fpn")


def frozen_spec(name: str) -> SegmenterSpec:
    if name in TABLES:
        made = variant_spec(name, num_classes=5, crop_size=CROP, scale="miniature")
        return dataclasses.replace(made, frozen=True)
    return timm_spec(name, frozen=True)


def kept_bytes(model: Segmenter) -> int:
    found: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits, _ = model.head_logits(torch.randn(2, 3, *CROP))
        assert logits.requires_grad
        return sum(found.values())


@pytest.mark.parametrize("name", [*TABLES, VIT, SWIN, RESNET])
def test_a_step_changes_the_heads_alone(name: str) -> None:
    model = build_segmenter(frozen_spec(name)).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    groups = parameter_groups(model, Recipe())
    main, auxiliary = model.head_logits(torch.randn(2, 3, *CROP))
    sum(logits.square().mean() for logits in (main, *auxiliary)).backward()
    torch.optim.SGD(groups, lr=0.1).step()
    changed = {key for key, value in model.state_dict().items() if not torch.equal(before[key], value)}
    assert not any(key.startswith("encoder.") for key in changed)  # running statistics neither
    assert any(key.startswith("decode_head.") for key in changed)
    assert not any(name.startswith("encoder.") for group in groups for name in group["names"])
    assert not model.encoder.training
    assert model.decode_head.training


@pytest.mark.parametrize("name", ["setr-pup", VIT, SWIN])
def test_nothing_of_the_encoder_is_kept(name: str) -> None:
    spec = frozen_spec(name)
    frozen = build_segmenter(spec).train()
    tuned = build_segmenter(dataclasses.replace(spec, frozen=False)).train()
    assert kept_bytes(frozen) < 0.6 * kept_bytes(tuned)
