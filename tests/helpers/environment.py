"""Where the project is, and the variables of the processes that tests start."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARAMS = ROOT / "params.yaml"
ENGINES = ("MLFLOW_", "RAY_", "SETR_")  # what the surroundings say of them is no business of a test's


def environment(home: Path | None = None, *, without: tuple[str, ...] = ENGINES, **more: str) -> dict[str, str]:
    """Returns the variables for a process that works in `home` and imports this project, its tests among it.

    Variables that begin with one of `without` are left out; `more` are added, and come before all others.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(without)}
    there = {"SETR_HOME": str(home)} if home else {}
    return {**kept, **there, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **more}
