import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

from benchmarks.processes import PROCESSES
from setr.training.batch_norm import SharedBatchNorm, share_statistics, slow_momentum
from tests.helpers.tiny_training import tiny_model


def compare(rank, folder, sizes):
    """Checks one rank's output, gradients and statistics against those of the whole batch in one process."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=len(sizes))
    torch.manual_seed(0)
    x = torch.randn(sum(sizes), 5, 6, 7) * 3 + 100  # far from zero: sums of squares would lose the variance
    outer = torch.randn_like(x)
    plain = nn.BatchNorm2d(5)
    nn.init.uniform_(plain.weight)
    nn.init.uniform_(plain.bias)
    shared = share_statistics(nn.Sequential(copy.deepcopy(plain)), world_size=len(sizes), device="cpu")
    assert type(shared[0]) is SharedBatchNorm
    mine = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
    for _ in range(2):
        whole, part = x.clone().requires_grad_(), x[mine].clone().requires_grad_()
        expected, found = plain(whole), shared(part)
        (expected * outer).sum().backward()
        (found * outer[mine]).sum().backward()
        torch.testing.assert_close(found, expected[mine], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(part.grad, whole.grad[mine], rtol=1e-4, atol=1e-4)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(shared[0], name), getattr(plain, name), rtol=1e-5, atol=1e-5)
    for name in ("weight", "bias"):
        gradient = getattr(shared[0], name).grad.clone()
        dist.all_reduce(gradient)
        torch.testing.assert_close(gradient, getattr(plain, name).grad, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(shared.eval()(x[mine]), plain.eval()(x[mine]), rtol=1e-4, atol=1e-4)
    assert shared.train()(x[mine].bfloat16()).dtype == torch.bfloat16
    dist.destroy_process_group()


@pytest.mark.parametrize("sizes", [(2, 2), (1, 3)])
def test_statistics_are_those_of_the_whole_batch(tmp_path, sizes):
    ranks = [PROCESSES.Process(target=compare, args=(rank, tmp_path, sizes)) for rank in range(len(sizes))]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
    assert [rank.exitcode for rank in ranks] == [0, 0]


def test_parameters_keep_names_and_identity():
    model = tiny_model()
    before = dict(model.named_parameters())
    buffers = list(model.state_dict())
    assert share_statistics(model, world_size=1, device="cpu") is model
    assert not any(isinstance(module, SharedBatchNorm) for module in model.modules())
    shared = share_statistics(model, world_size=2, device="cpu")
    assert sum(isinstance(module, SharedBatchNorm) for module in shared.modules()) == 2
    assert list(shared.state_dict()) == buffers
    assert all(parameter is before[name] for name, parameter in shared.named_parameters())


def test_running_statistics_move_as_far_in_four_passes_as_in_one():
    model = nn.Sequential(nn.BatchNorm2d(3))
    slow_momentum(model, passes=1)
    assert model[0].momentum == 0.1
    slow_momentum(model, passes=4)
    assert (1 - model[0].momentum) ** 4 == pytest.approx(0.9)
