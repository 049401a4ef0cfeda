"""Names in an experiment's folder: step-00000400 is the checkpoint after 400 optimiser steps."""

import re
from pathlib import Path

STEP_NAME = re.compile(r"step-(\d{8,})")


def latest_step(root: Path) -> int:
    """Returns the step of the newest checkpoint by its name, unchecked; 0 if there is none."""
    found = steps(root)
    return step_of(found[-1]) if found else 0


def steps(root: Path) -> list[Path]:
    """Returns the checkpoint folders, oldest first."""
    if not root.is_dir():
        return []
    found = [path for path in root.iterdir() if STEP_NAME.fullmatch(path.name)]
    return sorted(found, key=step_of)


def step_name(step: int) -> str:
    """Returns the name of the folder of a step's checkpoint."""
    return f"step-{step:08d}"


def step_of(path: Path) -> int:
    """Returns the step of a checkpoint's folder."""
    return int(path.name.removeprefix("step-"))
