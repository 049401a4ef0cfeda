"""What is said of an experiment wherever its record is sent or read: which it is, the cells it fills, its folder."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from setr.study.experiment import Experiment


@dataclass(frozen=True)
class Recorded:
    """An experiment, the cells of the tables that it fills, and the folder of its files."""

    experiment: Experiment
    cells: tuple[str, ...]
    folder: Path
    # Hash and modules of the code here that it would run through, "" if nobody asked; that of its training is its own.
    code: str = field(default="", kw_only=True)
    modules: Mapping[str, Mapping[str, str]] = field(default_factory=dict, kw_only=True)

    @functools.cached_property
    def identity(self) -> str:
        """Returns the experiment's identity."""
        return self.experiment.identity

    @property
    def name(self) -> str:
        """Returns what people read: variant, schedule and seed."""
        experiment = self.experiment
        seed = f" seed {experiment.seed}" if experiment.seed else ""
        return f"{experiment.variant} {experiment.schedule}{seed}"
