import os
import signal

import pytest
import torch
import torch.distributed as dist

from benchmarks.processes import PROCESSES
from setr.errors import EnvironmentFailure, InputError
from setr.training import distributed as context_module
from setr.training.distributed import Context, distributed_context, stop_on_signals


def test_one_process_is_its_own_group():
    context = Context()
    assert context.is_main
    assert context.sum(torch.ones(2)).tolist() == [1, 1]
    assert context.broadcast_json({"a": 1}) == {"a": 1}
    assert context.broadcast_tensors(None) == {}
    assert context.on_main(lambda: 5) == 5
    context.barrier()


def talk(rank, folder):
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    context = Context(rank=rank, world_size=2)
    assert context.sum(torch.tensor([float(rank)])).tolist() == [1]
    assert [part.tolist() for part in context.gather(torch.tensor([rank]))] == [[0], [1]]
    assert context.broadcast_json({"step": 3, "text": "ä"} if rank == 0 else None) == {"step": 3, "text": "ä"}
    given = {"w": torch.arange(6.0).view(2, 3).t(), "n": torch.tensor(7), "b": torch.ones(2, dtype=torch.bfloat16)}
    found = context.broadcast_tensors(given if rank == 0 else None)
    assert all(torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in given.items())
    assert context.broadcast_tensors({} if rank == 0 else None) == {}
    assert context.on_main(lambda: rank) == 0

    def fail():
        raise InputError("E_TEST", "nothing here")

    with pytest.raises(InputError if rank == 0 else EnvironmentFailure, match="nothing here"):
        context.on_main(fail)
    context.barrier()
    dist.destroy_process_group()


def test_two_ranks_say_the_same(tmp_path):
    ranks = [PROCESSES.Process(target=talk, args=(rank, tmp_path)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
    assert [rank.exitcode for rank in ranks] == [0, 0]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_first_signal_asks_and_the_second_forces(number, status):
    before = signal.getsignal(number)
    with stop_on_signals() as request:
        assert not request.is_set()
        os.kill(os.getpid(), number)
        assert request.wait(1)
        assert request.exit_status == status
        assert signal.getsignal(number) == signal.SIG_DFL
    assert signal.getsignal(number) == before


def test_without_torchrun_there_is_one_process(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with distributed_context() as context:
        assert (context.rank, context.world_size) == (0, 1)


@pytest.mark.parametrize(
    ("gpus", "processes", "devices"), [(2, "2", ["cuda:0", "cuda:1"]), (1, "2", ["cpu", "cpu"]), (0, "1", ["cpu"])]
)
def test_all_ranks_of_a_machine_choose_alike(monkeypatch, gpus, processes, devices):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert [context_module._own_device(rank) for rank in range(int(processes))] == devices
