"""The paper count of a training pass against the models themselves: parameters, operations, and what autograd keeps."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from setr.models.counting import gflops, parameter_count
from setr.models.segmenter import build_model
from setr.models.variants import VARIANTS, variant_spec
from setr.planning.footprint import Footprint, footprint
from setr.study.recipes import Recipe
from setr.training.step import TrainingModule

SIZE = (64, 96)  # pixels
DISTINCT = ("fcn", "fcn-21k", "semantic-fpn", "hybrid-base", "setr-naive", "setr-mla", "setr-pup", "setr-pup-base")


def predicted(variant: str, precision: str = "float32", *, flavour: str = "authors", classes: int = 19) -> Footprint:
    spec = variant_spec(variant, num_classes=classes, crop_size=SIZE, scale="miniature", flavour=flavour)
    return footprint(spec, SIZE, precision, "cpu")


def kept_bytes(training: TrainingModule, images: int, classes: int) -> int:
    """Returns the bytes of the storages that one pass keeps for backward, parameters and buffers left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*training.parameters(), *training.buffers())}
    found: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = torch.randint(0, 256, (images, *SIZE, 3), dtype=torch.uint8)
    labels = torch.randint(0, classes, (images, *SIZE), dtype=torch.uint8)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = training(batch, labels, None)  # alive: so are the storages, and no address is used twice
        assert loss.requires_grad
        return sum(found.values())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("variant", DISTINCT)
def test_activations_are_those_that_autograd_keeps(variant: str, precision: str) -> None:
    model = build_model(variant, num_classes=19, crop_size=SIZE, scale="miniature").train()
    counted = predicted(variant, precision)
    for images in (2, 3):
        kept = kept_bytes(TrainingModule(model, Recipe(precision=precision)), images, 19)
        assert kept <= images * counted.saved + counted.fixed <= 1.1 * kept


@pytest.mark.parametrize("flavour", ["mmseg", "paper"])
@pytest.mark.parametrize("variant", ["setr-naive", "setr-pup", "setr-mla"])
def test_other_flavours_and_150_classes(variant: str, flavour: str) -> None:
    model = build_model(variant, num_classes=150, crop_size=SIZE, scale="miniature", flavour=flavour).train()
    counted = predicted(variant, flavour=flavour, classes=150)
    kept = kept_bytes(TrainingModule(model, Recipe()), 2, 150)
    assert kept <= 2 * counted.saved + counted.fixed <= 1.1 * kept
    assert counted.parameters == parameter_count(model)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_parameters_and_operations_at_paper_scale(variant: str) -> None:
    crop = (512, 512)
    with torch.device("meta"):
        model = build_model(variant, num_classes=150, crop_size=crop)
    counted = footprint(variant_spec(variant, num_classes=150, crop_size=crop), crop)
    assert counted.parameters == parameter_count(model)
    assert counted.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert counted.flops_inference == pytest.approx(1e9 * gflops(model, crop), rel=1e-12)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.train()(torch.empty(2, 3, *crop, device="meta"))
    assert counted.flops == pytest.approx(counter.get_total_flops() / 2, rel=1e-12)


def test_checkpointing_keeps_the_layers_inputs_and_one_layer() -> None:
    plain = predicted("setr-pup")
    assert plain.saved_checkpointed < plain.saved
    assert predicted("fcn").saved_checkpointed == predicted("fcn").saved  # there is no transformer to recompute
    assert 0 < plain.flops_layers < plain.flops
