"""Fixtures that every test file may use: where the reference arrays and the CamVid images are."""

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent

# Two cores are shared by everything a test starts; one thread per process is faster than two that wait for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def reference() -> Path:
    """Returns the folder of reference arrays computed with mmsegmentation 1.2.2 (tests/reference/README.md)."""
    return Path(os.environ.get("SETR_REFERENCE", ROOT / "tests" / "reference"))


@pytest.fixture(scope="session")
def camvid_root() -> Path:
    """Returns the folder with CamVid's train/, trainannot/, val/ and valannot/, or skips."""
    folder = Path(os.environ.get("SETR_CAMVID", ROOT.parent / "shared" / "data" / "camvid"))
    if not (folder / "train").is_dir():
        pytest.skip(f"CamVid is not at {folder}; name its folder in SETR_CAMVID")
    return folder
