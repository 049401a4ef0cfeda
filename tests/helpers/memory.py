"""Folders without a disk: thousands of fsyncs take no time there."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """Gives an empty folder, in memory where the system has such a place. A room's conftest.py takes it by import."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(dir=MEMORY, prefix="setr-test-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
