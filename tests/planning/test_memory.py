"""Memory of a training, put together from counts that can be added up by hand."""

import pytest

from setr.planning.footprint import Footprint
from setr.planning.memory import CONTEXT, EVALUATION_BYTES, SLACK, Memory, state_bytes, training_memory
from setr.study.recipes import Recipe

COUNTS = Footprint(
    parameters=1000, trainable=900, saved=50_000_000, saved_checkpointed=10_000_000, fixed=70, largest=1_000_000,
    flops=1, flops_inference=1, flops_layers=1,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "numbers"),
    [
        ({"momentum": 0.0}, 1000),
        ({"momentum": 0.9}, 1000 + 900),
        ({"optimizer": "adamw"}, 1000 + 2 * 900),
        ({"optimizer": "adamw", "ema_decay": 0.9}, 1000 + 1000 + 2 * 900),
    ],
)
def test_a_checkpoint_holds_weights_moments_and_the_average(changes: dict, numbers: int) -> None:
    assert state_bytes(COUNTS, Recipe(**changes)) == 4 * numbers


def test_training_takes_state_gradients_activations_and_working_tensors() -> None:
    recipe = Recipe(momentum=0.9, crop_size=(768, 768))
    found = training_memory(COUNTS, recipe, images=20)
    assert found.state == 4 * (1000 + 900) + 4 * 900 + 70
    assert found.activations == 20 * 50_000_000
    assert found.working == 20 * 3 * 1_000_000
    assert found.context == CONTEXT["cuda"]
    assert found.peak == CONTEXT["cuda"] + round(SLACK * (found.state + found.activations + found.working))


def test_checkpointing_keeps_less_and_more_images_keep_more() -> None:
    recipe = Recipe(crop_size=(768, 768))
    whole = training_memory(COUNTS, recipe, 40)
    assert training_memory(COUNTS, recipe, 80).activations == 2 * whole.activations
    assert training_memory(COUNTS, recipe, 80, checkpointing=True).activations == 80 * 10_000_000


def test_with_few_images_the_peak_is_an_evaluations() -> None:
    """Seven windows of 768 x 768 pixels go through the model at once."""
    found = training_memory(COUNTS, Recipe(crop_size=(768, 768)), images=1)
    assert found.activations == 0
    assert found.working == 7 * 3 * 1_000_000 + EVALUATION_BYTES
    huge = training_memory(COUNTS, Recipe(crop_size=(4096, 4096)), images=1, device="cpu")
    assert huge.working == 3 * 1_000_000 + EVALUATION_BYTES, "one window at least"
    assert huge.context == CONTEXT["cpu"]


def test_the_context_has_no_slack() -> None:
    assert Memory(0, 0, 0, 5).peak == 5
    assert Memory(100, 100, 100, 5).peak == 5 + 318
