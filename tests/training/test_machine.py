"""What a result's bits may depend on is described, and two descriptions are compared value by value."""

import platform
from pathlib import Path

import pytest
import torch

from setr.settings.run import RunSettings
from setr.training import machine
from setr.training.computation import Computation
from setr.training.distributed import Context
from setr.training.machine import describe_machine, machine_differences
from tests.helpers.tiny_training import TinyShards, tiny_experiment, tiny_model

CPU_INFO = """processor : 0
model name : Some CPU
cpu family : 6
model : 85
cache size : 1024 KB
cpu MHz : 2000.1
flags : fpu avx512f avx2 fma hle sse4_2 amx_tile
bogomips : 4000

processor : 1
model name : Another
flags : neon
"""


@pytest.fixture
def computation() -> Computation:
    return Computation(
        tiny_experiment(),
        model=tiny_model(),
        shards=TinyShards(),  # type: ignore[arg-type]
        context=Context(),
        settings=RunSettings(loader_threads=0, micro_batch=2),
    )


def test_how_it_is_computed_is_described(computation: Computation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    found = describe_machine(computation)
    assert (found["device"], found["device_name"], found["threads"], found["world_size"]) == ("cpu", "", 5, 1)
    assert (found["forward_images"], found["distort_later"]) == (2, False)
    assert found["execution"] == computation.settings.execution()
    assert found["versions"]["torch"] == torch.__version__
    assert found["versions"]["python"] == platform.python_version()


def test_the_first_cores_processor_is_named_by_what_chooses_kernels(
    computation: Computation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(CPU_INFO)
    monkeypatch.setattr(machine, "_CPU_INFO", tmp_path / "cpuinfo")
    found = describe_machine(computation)
    assert found["cpu"] == "Some CPU, 6, 85, 1024 KB"
    assert found["cpu_flags"] == "amx_tile avx2 avx512f fma sse4_2"
    monkeypatch.setattr(machine, "_CPU_INFO", tmp_path / "none")
    elsewhere = describe_machine(computation)
    assert platform.machine() in elsewhere["cpu"]
    assert elsewhere["cpu_flags"] == ""


def test_the_same_machine_has_no_differences(computation: Computation) -> None:
    assert machine_differences(describe_machine(computation), describe_machine(computation)) == []


def test_differences_are_named_at_any_depth_and_what_one_does_not_know_is_passed_over() -> None:
    before = {"threads": 2, "cpu": "a", "versions": {"torch": "2.1", "old": "1"}}
    now = {"versions": {"torch": "2.2", "new": "1"}, "cpu": "a", "threads": 1, "more": 3}
    assert machine_differences(before, now) == ["threads 2 -> 1", "versions.torch 2.1 -> 2.2"]
