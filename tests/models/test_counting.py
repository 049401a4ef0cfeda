"""Parameter counts equal to the paper's, and floating point operations against a count by hand."""

import pytest

from setr.models.counting import count_model, hybrid_readings
from setr.models.variants import VARIANTS
from setr.study.shelf import setr_study

ADE20K = {"num_classes": 150, "crop_size": (512, 512)}
CITYSCAPES = {"num_classes": 19, "crop_size": (768, 768)}
PRINTED = {variant: count for count in setr_study().parameter_counts for variant in count.variants}

# Derived from the layer shapes: 19 classes, 768 crop, without auxiliary heads and unused layers.
INFERENCE = {
    "setr-naive": 305_728_019,
    "setr-pup": 309_596_947,
    "setr-mla": 310_737_427,
    "setr-naive-base": 87_619_859,
    "setr-pup-base": 90_964_499,
    "setr-mla-base": 92_431_123,
}


def test_every_variant_has_a_printed_count() -> None:
    assert set(PRINTED) == set(VARIANTS)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if "hybrid" not in name and name != "fcn-21k"])
def test_paper_counts_to_the_printed_digit(variant: str) -> None:
    count = count_model(variant, **ADE20K).paper_parameters
    assert count == PRINTED[variant].count
    assert round(count / 1e6, 2) == PRINTED[variant].paper


def test_fcn_21k_stands_on_another_resnet() -> None:
    """The nearest published 21k weights are Big Transfer's, whose ResNet-101 has 26,912 parameters fewer."""
    assert count_model("fcn-21k", **ADE20K).parameters == 68_563_820


def test_inference_counts() -> None:
    assert {name: count_model(name, **CITYSCAPES).inference_parameters for name in INFERENCE} == INFERENCE


def test_hybrid_is_stated_beside_the_paper() -> None:
    for variant in ("hybrid-base-random", "hybrid-base", "hybrid-deit"):
        assert count_model(variant, **ADE20K).paper_parameters == 112_200_976
    assert PRINTED["hybrid-base"].paper == 112.59
    readings = hybrid_readings()
    assert readings[0].parameters == 112_200_976
    assert all(round(reading.parameters / 1e6, 2) == 112.59 for reading in readings[1:])


def test_flops_by_hand() -> None:
    """SETR-Naive-Base on 480x480: 900 patches and the class token, 60 classes."""
    patches, tokens, width = 900, 901, 768
    embedding = patches * width * 3 * 16 * 16
    block = tokens * width * (3 * width + width + 8 * width) + 2 * tokens * tokens * width
    head = patches * (width * 256 + 256 * 60)
    count = count_model("setr-naive-base", num_classes=60, crop_size=(480, 480))
    assert count.gflops == pytest.approx(2 * (embedding + 12 * block + head) / 1e9, rel=1e-9)
    assert count.parameters - count.inference_parameters > 0
