"""An experiment as it is planned: the cells it fills, what is there already, and its job."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from setr.data.locations import below
from setr.experiments.job import Job, settings_of
from setr.record.lease import Lease
from setr.record.ledger import state_of
from setr.record.lineage import origin
from setr.record.recorded import Recorded
from setr.settings.config import Config
from setr.settings.home import resolve_location
from setr.study.protocols import Protocol


@dataclass(frozen=True)
class Planned(Recorded):
    """One experiment of a sweep with the cells it fills and what is there already."""

    protocols: tuple[Protocol, ...]
    weights: tuple[Path, ...]  # files: transformer first, then the CNN
    state: str  # done | to score | changed | resumable | to do | failed (setr.record.ledger)
    step: int  # of the newest checkpoint
    validation: str = ""  # hash of the manifest of the images that it is scored on
    missing: tuple[str, ...] = ()  # data or weights that a lenient plan did without; the identity is then not final
    why: str = ""  # why it is not done, where a finished one is near or its own record is damaged
    train: str = "train"  # the split, or two joined, that it trains on
    earlier: "Planned | None" = None  # the finished one of the same spec that a replay may show to be the same
    own: Mapping[str, str] = field(default_factory=dict)  # source -> text of the user's own code that it runs

    def state_now(self) -> tuple[str, int]:
        """Returns state and step as they are now."""
        return state_of(self.folder, self.protocols, identity=self.identity, validation=self.validation)

    def job(
        self, config: Config, stop_file: Path, *, allow_drift: bool = False, driver: Lease | None = None
    ) -> dict[str, Any]:
        """Returns the job (setr.experiments.job.Job) as the dictionary that travels to a worker."""
        shards = resolve_location(config.data.shards)
        return Job(
            experiment=self.experiment,
            identity=self.identity,
            code=self.code,
            modules=self.modules,
            validation=self.validation,
            folder=self.folder,
            shards={
                use: below(shards, self.experiment.dataset, split)
                for use, split in (("train", self.train), ("val", "val"))
            },
            local_copy=config.data.local_copy,
            weights=tuple(str(path) for path in self.weights),
            protocols=self.protocols,
            settings=settings_of(config.training),
            stop_file=stop_file,
            cells=self.cells,
            tags=origin(),
            allow_drift=allow_drift,
            driver=driver,
            own=self.own,
        ).as_dict()


def merge(planned: Iterable[Planned]) -> list[Planned]:
    """Returns one entry per identity with the cells and protocols of all that have it.

    Cells of two data sets share an experiment where the miniature trains both on the same scenes.
    """
    found: dict[str, Planned] = {}
    for entry in planned:
        earlier = found.setdefault(entry.identity, entry)
        if earlier is not entry:
            protocols = {protocol.name: protocol for protocol in (*entry.protocols, *earlier.protocols)}
            unfinished = next((one for one in (earlier, entry) if one.state != "done"), earlier)
            found[entry.identity] = dataclasses.replace(
                earlier,
                cells=(*earlier.cells, *entry.cells),
                protocols=tuple(protocols[name] for name in sorted(protocols, reverse=True)),
                state=unfinished.state,
            )
    return list(found.values())


def workers_of(config: Config, entry: Planned) -> int:
    """Returns how many processes share the experiment's global batch."""
    small = config.sweep.scale == "miniature" and config.training.workers == 1
    if small and set(entry.cells) & set(config.sweep.two_worker_cells):
        return 2
    return config.training.workers
