import dataclasses
import json

import pytest
import torch
from torch import nn

from setr.errors import InputError
from setr.models.segmenter import build_segmenter
from setr.study.recipes import Recipe
from setr.training.optim import (
    build_optimizer,
    learning_rate,
    load_optimizer_tensors,
    optimizer_tensors,
    parameter_groups,
    set_learning_rate,
)
from tests.helpers.tiny_training import tiny_model
from tests.models.test_timm_encoder import timm_spec


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 4))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.blocks = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])


class WithNeck(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.neck = nn.Linear(4, 4)
        self.decode_head = nn.Linear(4, 4)
        self.auxiliary_heads = nn.ModuleList([nn.Linear(4, 4)])


def multipliers(recipe):
    groups = parameter_groups(WithNeck(), recipe)
    return {name: (group["lr_multiplier"], group["weight_decay"]) for group in groups for name in group["names"]}


def test_heads_train_at_ten_times_the_rate_and_the_neck_does_not():
    found = multipliers(Recipe(weight_decay=5e-4))
    assert {name for name, (multiplier, _) in found.items() if multiplier == 10} == {
        "decode_head.weight",
        "decode_head.bias",
        "auxiliary_heads.0.weight",
        "auxiliary_heads.0.bias",
    }
    assert {multiplier for multiplier, _ in found.values()} == {1, 10}
    assert {decay for _, decay in found.values()} == {5e-4}, "SGD decays everything"
    assert len(found) == len(list(WithNeck().parameters()))


def test_layer_decay_and_adamw_spare_what_they_should():
    found = multipliers(Recipe(optimizer="adamw", weight_decay=0.05, layer_decay=0.5, head_lr_multiplier=1.0))
    assert found["encoder.blocks.2.weight"] == (0.5, 0.05)
    assert found["encoder.blocks.0.weight"] == (0.125, 0.05)
    assert found["encoder.blocks.0.bias"] == (0.125, 0.0)
    assert found["encoder.pos_embed"] == found["encoder.cls_token"] == (0.0625, 0.0)
    assert found["neck.weight"] == found["decode_head.weight"] == (1.0, 0.05)


def test_frozen_parameters_are_left_out():
    model = WithNeck()
    model.encoder.requires_grad_(False)
    names = {name for group in parameter_groups(model, Recipe()) for name in group["names"]}
    assert not any(name.startswith("encoder.") for name in names)
    with pytest.raises(InputError, match="no trainable parameter"):
        parameter_groups(model.requires_grad_(False), Recipe())


def test_poly_schedule_is_the_published_one(reference):
    stored = json.loads((reference / "eval_polylr.json").read_text())
    for key, table in stored["table"].items():
        base, iterations = key.split("/")
        recipe = Recipe(base_lr=0.001, iterations=int(iterations), poly_end="iterations_minus_one")
        for step, value in table.items():
            assert learning_rate(recipe, int(step), multiplier=float(base) / 0.001) == pytest.approx(value, rel=1e-9)


def test_poly_by_iterations_never_reaches_its_floor():
    recipe = Recipe(base_lr=0.01, iterations=100)
    assert learning_rate(recipe, 0) == 0.01
    assert learning_rate(recipe, 99) == pytest.approx((0.01 - 1e-4) * 0.01**0.9 + 1e-4)
    assert learning_rate(recipe, 100) == pytest.approx(1e-4)
    # a group whose base is below the floor stays where it is
    assert learning_rate(recipe, 50, multiplier=0.001) == pytest.approx(1e-5)


def test_warmup_rises_in_equal_steps_to_the_schedule():
    recipe = Recipe(base_lr=0.01, iterations=100, warmup_steps=10)
    plain = dataclasses.replace(recipe, warmup_steps=0)
    for step in range(12):
        assert learning_rate(recipe, step) == pytest.approx(learning_rate(plain, step) * min(1, (step + 1) / 10))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_state_comes_back_by_name_to_the_same_bits(optimizer):
    recipe = Recipe(optimizer=optimizer, weight_decay=0.01)

    def steps(model, built, first, last):
        for step in range(first, last):
            set_learning_rate(built, recipe, step)
            for number, parameter in enumerate(model.parameters()):
                parameter.grad = torch.full_like(parameter, 0.1 * (number + step))
            built.step()

    model = tiny_model()
    built = build_optimizer(model, recipe)
    steps(model, built, 0, 3)
    kept = {name: tensor.clone() for name, tensor in optimizer_tensors(built).items()}
    again = tiny_model(seed=1)
    again.load_state_dict(model.state_dict())
    rebuilt = build_optimizer(again, recipe)
    load_optimizer_tensors(rebuilt, kept)
    steps(model, built, 3, 6)
    steps(again, rebuilt, 3, 6)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_state_of_another_model_is_refused():
    built = build_optimizer(tiny_model(), Recipe())
    with pytest.raises(InputError, match=r"E_CHECKPOINT_KEYS.*momentum_buffer/decode_head.9.weight.*no such parameter"):
        load_optimizer_tensors(built, {"momentum_buffer/decode_head.9.weight": torch.zeros(3)})
    with pytest.raises(InputError, match=r"found \(3,\), expected \(8,\)"):
        load_optimizer_tensors(built, {"momentum_buffer/decode_head.1.weight": torch.zeros(3)})


def test_update_is_sgd_with_momentum_as_published():
    """velocity = 0.9 velocity + gradient; weight -= rate x velocity, the first velocity being the gradient."""
    model = nn.ModuleDict({"decode_head": nn.Linear(3, 2, bias=False), "encoder": nn.Linear(3, 2, bias=False)})
    recipe = Recipe(base_lr=0.01, iterations=20, weight_decay=5e-4)
    expected = {name: [p.detach().clone(), torch.zeros_like(p)] for name, p in model.named_parameters()}
    built = build_optimizer(model, recipe)
    for step in range(5):
        set_learning_rate(built, recipe, step)
        for name, parameter in model.named_parameters():
            parameter.grad = torch.sin(parameter.detach() * 7 + step)
            weight, velocity = expected[name]
            velocity.mul_(0.9).add_(torch.sin(weight * 7 + step) + 5e-4 * weight)
            rate = learning_rate(recipe, step, multiplier=10 if name.startswith("decode_head") else 1)
            weight.sub_(rate * velocity)
        built.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name][0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "first", "last", "between"),
    [
        ("vit_base_patch16_clip_224.openai", ("norm_pre.weight", "pos_embed"), "blocks.3.mlp.fc1.weight", 4),
        ("swin_tiny_patch4_window7_224.ms_in22k", ("patch_embed.proj.weight",), "layers.3.blocks.1.mlp.fc1.weight", 8),
        ("convnext_tiny.fb_in22k", ("stem.0.weight",), "stages.3.blocks.0.mlp.fc1.weight", 5),
    ],
)
def test_layer_decay_goes_by_the_layers_of_timms_families(name, first, last, between):
    """The last layer trains at d, each one before it at d times less, what stands before the first at d**(n + 1)."""
    model = build_segmenter(timm_spec(name))
    groups = parameter_groups(model, Recipe(optimizer="adamw", layer_decay=0.5, head_lr_multiplier=1.0))
    found = {entry: group["lr_multiplier"] for group in groups for entry in group["names"]}
    assert found[f"encoder.body.{last}"] == 0.5
    assert all(found[f"encoder.body.{entry}"] == 0.5 ** (between + 1) for entry in first)
    assert {rate for entry, rate in found.items() if entry.startswith("decode_head.")} == {1.0}
    assert len({rate for entry, rate in found.items() if entry.startswith("encoder.")}) == between + 1


def test_what_a_family_spares_from_weight_decay_is_spared():
    model = build_segmenter(timm_spec("swin_tiny_patch4_window7_224.ms_in22k"))
    groups = parameter_groups(model, Recipe(optimizer="adamw", weight_decay=0.05))
    decay = {entry: group["weight_decay"] for group in groups for entry in group["names"]}
    assert decay["encoder.body.layers.0.blocks.0.attn.relative_position_bias_table"] == 0.0
    assert decay["encoder.body.layers.0.blocks.0.attn.qkv.weight"] == 0.05
