"""Where and how one training runs."""

from dataclasses import dataclass, field
from pathlib import Path

from setr.record.lease import Lease
from setr.settings.run import RunSettings
from setr.training.distributed import Context


@dataclass(frozen=True)
class Execution:
    """A training's surroundings, none of which belongs to the experiment."""

    folder: Path  # the experiment's
    context: Context
    settings: RunSettings = field(default_factory=RunSettings)
    lease: Lease | None = None  # the folder's, on the first rank; None: taken for the time of the training
    allow_drift: bool = False  # go on although the folder was trained by something else
