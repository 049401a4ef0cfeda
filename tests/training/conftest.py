"""Makes tiny_training importable, here and in the processes that the tests start; keeps checkpoints off the disk."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

MEMORY = Path("/dev/shm")  # a file system without a disk: thousands of fsyncs take no time there


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """Gives an empty folder, in memory where the system has such a place."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(dir=MEMORY, prefix="setr-test-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
