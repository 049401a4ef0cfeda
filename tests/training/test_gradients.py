import pytest
import torch
import torch.distributed as dist
from torch import nn

from benchmarks.processes import PROCESSES
from setr.training.gradients import GradientSum


def train_rank(rank, world_size, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world_size)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(16, 3), nn.Linear(16, 3))
    model.to(memory_format=torch.channels_last)
    model[0].bias.requires_grad_(False)
    x = torch.randn(4, 3, 4, 4)

    def loss(images):  # the last layer takes no part
        return model[3](model[2](model[1](model[0](images)))).square().sum()

    loss(x).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    gradients = GradientSum(model.parameters(), bucket_bytes=300)
    assert len(gradients.buckets) > 2
    share = x.chunk(world_size)[rank]
    for _ in range(2):
        loss(share[:1]).backward()  # a part that is accumulated first, on each rank alone
        gradients.begin()
        (loss(share[1:]) if len(share) > 1 else 0 * loss(share)).backward()
        gradients.finish()
        for name, gradient in expected.items():
            parameter = model.get_parameter(name)
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-4)
            assert parameter.grad.stride() == parameter.stride()
        assert not model[4].weight.grad.any()
        assert model[0].bias.grad is None
        gradients.zero()
        assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)
    dist.destroy_process_group()


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_sum_to_the_gradient_of_the_whole_batch(tmp_path, world_size):
    ranks = [PROCESSES.Process(target=train_rank, args=(rank, world_size, tmp_path)) for rank in range(world_size)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
    assert [rank.exitcode for rank in ranks] == [0] * world_size
