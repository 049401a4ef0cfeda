import torch

from setr.training.ema import MovingAverage
from tests.helpers.tiny_training import tiny_model


def test_average_follows_its_formula_and_early_steps_are_forgotten():
    model = tiny_model()
    weight = model.decode_head[3].weight
    average = MovingAverage(model, decay=0.5)
    expected = weight.detach().clone()
    for step in range(20):
        with torch.no_grad():
            weight.add_(1.0)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight.detach()
        average.update(step)
    torch.testing.assert_close(average.averages["decode_head.3.weight"], expected)


def test_average_is_in_the_model_for_the_block_only():
    model = tiny_model()
    average = MovingAverage(model, decay=0.9)
    with torch.no_grad():
        model.decode_head[3].weight.fill_(7.0)
    with average.applied():
        inside = model.decode_head[3].weight.detach().clone()
    assert torch.equal(inside, tiny_model().decode_head[3].weight)
    assert (model.decode_head[3].weight == 7).all()
    assert torch.equal(average.averages["decode_head.3.weight"], inside)
    average.copy_to_model()
    assert torch.equal(model.decode_head[3].weight, inside)


def test_average_continues_from_what_was_kept():
    average = MovingAverage(tiny_model(), decay=0.9)
    other = MovingAverage(tiny_model(seed=4), decay=0.9)
    average.load(other.averages)
    assert all(torch.equal(average.averages[name], value) for name, value in other.averages.items())
