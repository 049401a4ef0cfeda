"""Shared memory for batches is there before a process writes to it, or named in one line."""

import pytest

from setr.data.loading import transform_processes
from setr.data.loading.transform_processes import FOLDER, reserved
from setr.errors import EnvironmentFailure

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="shared memory is kept elsewhere on this system")


def test_memory_is_there_to_its_last_byte():
    memory = reserved(1_000_000)
    try:
        memory.buf[999_999] = 7
        assert (FOLDER / memory.name).stat().st_blocks * 512 >= 1_000_000
    finally:
        memory.close()
        memory.unlink()


def test_more_than_there_is_is_refused_and_leaves_nothing(monkeypatch):
    before = set(FOLDER.iterdir())
    with pytest.raises(EnvironmentFailure, match=r"E_SHARED_MEMORY.*/dev/shm.*MB free.*shm-size"):
        reserved(2**50)
    assert set(FOLDER.iterdir()) <= before


def test_a_failure_of_the_system_is_named_too(monkeypatch):
    def fail(**_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(transform_processes, "SharedMemory", fail)
    with pytest.raises(EnvironmentFailure, match=r"/dev/shm.*not implemented"):
        reserved(100)
