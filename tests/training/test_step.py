import numpy as np
import pytest
import torch

from setr.data.loading.loader import Batch
from setr.data.loading.transforms import MEAN, STD
from setr.models.weights import import_checkpoint
from setr.study.recipes import Recipe
from setr.training import step as step_module
from setr.training.distributed import Context
from setr.training.optim import build_optimizer, learning_rate
from setr.training.step import TrainingModule, seed_step, train_step
from tests.helpers.tiny_training import tiny_model

MMSEG = Recipe(
    flavour="mmseg", iterations=20, base_lr=0.001, min_lr=1e-4, poly_end="iterations_minus_one", crop_size=(64, 64)
)


def test_first_step_equals_mmsegmentation(reference, monkeypatch):
    """Losses, every gradient's norm, BatchNorm statistics and learning rates of tiny_naive_train.npz to 1e-5.

    The file holds the input of the first of its five steps; the rates are those of all five.
    """
    stored = np.load(reference / "tiny_naive_train.npz")
    model, _ = import_checkpoint(reference / "tiny_naive.pth", num_heads=3)
    model.train()
    monkeypatch.setattr(step_module, "normalise", lambda images: images)
    optimizer = build_optimizer(model, MMSEG)
    norms = {}
    optimizer.register_step_pre_hook(
        lambda *_: norms.update(
            {name: float(p.grad.norm()) for name, p in model.named_parameters() if p.grad is not None}
        )
    )
    batch = Batch(
        step=0, images=torch.from_numpy(stored["x0"]), labels=torch.from_numpy(stored["y0"]).to(torch.uint8),
        samples=np.arange(4), keys=("a", "b", "c", "d"),
    )  # fmt: skip
    result = train_step(TrainingModule(model, MMSEG), optimizer, batch, context=Context())

    wanted = dict(zip(stored["loss_keys"].tolist(), stored["loss_traj"][0].tolist(), strict=True))
    assert result.loss == pytest.approx(wanted["loss"], rel=1e-6)
    assert result.main == pytest.approx(wanted["decode.loss_ce"], rel=1e-6)
    # mmsegmentation's auxiliary losses come with their weight of 0.4
    assert [0.4 * loss for loss in result.auxiliary] == pytest.approx(
        [wanted[f"aux_{index}.loss_ce"] for index in range(3)], rel=1e-6
    )
    total = float(np.sqrt((stored["grad_norms"] ** 2).sum()))
    assert result.gradient_norm == pytest.approx(total, rel=1e-5)
    found = sorted(norm for norm in norms.values())
    expected = sorted(norm for norm in stored["grad_norms"].tolist())
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)

    state = model.state_dict()
    for key in stored.files:
        if key.startswith("bn_after_step0/"):
            values = torch.from_numpy(stored[key])
            name = key.rpartition(".")[2]
            assert any(
                tensor.shape == values.shape and torch.allclose(tensor, values, rtol=1e-5, atol=1e-6)
                for own, tensor in state.items()
                if own.endswith(name)
            ), key
    for step, (backbone, head) in enumerate(stored["lr_traj_backbone_head"].tolist()):
        assert learning_rate(MMSEG, step) == pytest.approx(backbone, rel=1e-9)
        assert learning_rate(MMSEG, step, multiplier=10) == pytest.approx(head, rel=1e-9)


def test_random_numbers_are_a_function_of_seed_step_and_rank():
    def drawn(*key):
        seed_step(*key)
        return torch.rand(3).tolist()

    assert drawn(1, 2, 3) == drawn(1, 2, 3)
    assert (
        len({tuple(drawn(*key)) for key in [(1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4), (12, 3, 0), (1, 23, 0)]}) == 6
    )


def test_images_are_normalised_and_bfloat16_keeps_float32_losses():
    seen = []
    model = tiny_model()
    model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    training = TrainingModule(model, Recipe(precision="bfloat16"))
    images = torch.full((1, 16, 16, 3), 200, dtype=torch.uint8)
    losses = training(images, torch.zeros(1, 16, 16, dtype=torch.uint8), None)
    assert losses.shape == (2,)
    assert losses.dtype == torch.float32
    for channel in range(3):
        assert float(seen[0][0, channel, 0, 0]) == pytest.approx((200 - MEAN[channel]) / STD[channel], rel=1e-5)
