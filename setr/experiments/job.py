"""A job: one experiment, and all that a worker needs to train, replay and score it. It travels as a dictionary."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from setr.errors import InputError, SetrError
from setr.record.lease import Lease
from setr.settings.config import build, to_dict
from setr.settings.run import RunSettings
from setr.study.experiment import Experiment
from setr.study.protocols import Protocol

_RUN = tuple(entry.name for entry in dataclasses.fields(RunSettings))


@dataclass(frozen=True)
class Job:
    """One experiment's work, as it was planned."""

    experiment: Experiment
    identity: str  # planned: the experiment must still give it
    code: str  # hash of the code that planned it, and must run it
    modules: Mapping[str, Mapping[str, str]]  # of that code
    validation: str  # hash of the manifest of the images that it is scored on
    folder: Path
    shards: Mapping[str, str]  # split -> location
    local_copy: str
    weights: tuple[str, ...]  # files: transformer first, then the CNN
    protocols: tuple[Protocol, ...]
    settings: RunSettings
    stop_file: Path  # it saves and leaves when this is there
    cells: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)  # where the job comes from
    allow_drift: bool = False
    driver: Lease | None = None  # of whoever gave the work out
    own: Mapping[str, str] = field(default_factory=dict)  # source -> text of the user's own code (setr.models.own_code)

    def as_dict(self) -> dict[str, Any]:
        """Returns what from_dict() makes the job of, ready for JSON; the settings stand beside the rest."""
        record = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        del record["settings"]
        return {
            **record,
            **to_dict(self.settings),
            "experiment": self.experiment.as_dict(),
            "modules": {file: dict(names) for file, names in self.modules.items()},
            "folder": str(self.folder),
            "shards": dict(self.shards),
            "weights": list(self.weights),
            "protocols": [to_dict(protocol) for protocol in self.protocols],
            "stop_file": str(self.stop_file),
            "cells": list(self.cells),
            "tags": dict(self.tags),
            "driver": self.driver.as_dict() if self.driver else None,
            "own": dict(self.own),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Job":
        """Returns the job of a record; raises InputError for an experiment, settings or other parts that are none."""
        values = {entry.name: record[entry.name] for entry in dataclasses.fields(cls) if entry.name in record}
        try:
            return cls(
                **values
                | {
                    "experiment": Experiment.from_dict(record["experiment"]),
                    "folder": Path(record["folder"]),
                    "weights": tuple(record["weights"]),
                    "protocols": tuple(Protocol(**protocol) for protocol in record["protocols"]),
                    "settings": run_settings(record),
                    "stop_file": Path(record["stop_file"]),
                    "cells": tuple(record["cells"]),
                    "driver": Lease.from_dict(record["driver"]) if record.get("driver") else None,
                    "own": {str(source): str(text) for source, text in record.get("own", {}).items()},
                }
            )
        except SetrError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError("E_JOB", "not a job's record", found=repr(error), remedy="plan again") from error


def run_settings(record: Mapping[str, Any]) -> RunSettings:
    """Returns the settings in a job's record."""
    settings = build(RunSettings, {name: record[name] for name in _RUN if name in record}, "job")
    assert isinstance(settings, RunSettings)
    return settings


def settings_of(training: RunSettings) -> RunSettings:
    """Returns, of the `training` section, what every training of a sweep shares."""
    return RunSettings(**{name: getattr(training, name) for name in _RUN})
