"""A record's JSON files, read and checked: what cannot be read is an InputError that names the file and the reason."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from setr.errors import InputError
from setr.files.atomic import read_json
from setr.record.checking import checked_experiment, checked_job, checked_run, checked_scored
from setr.record.events import is_evaluation
from setr.record.files import EVALUATIONS, EXPERIMENT, IDENTITY, RUN, SCORES

MOST_BYTES = 256_000_000  # of one record: curves, and scores by class and image, take a hundredth of it

T = TypeVar("T")


def as_kept(folder: Path, name: str) -> dict[str, Any]:
    """Returns the JSON object in one of the files of an experiment's folder, unchecked; {} where it cannot be read."""
    return read_json(folder / name) or {}


def read_identity_file(folder: Path) -> dict[str, Any] | None:
    """Returns identity, experiment, environment and identities of what a folder trains.

    None where nothing says it, or what does is damaged: it is written again.
    """
    return training_of(as_kept(folder, IDENTITY))


def training_of(record: dict[str, Any]) -> dict[str, Any] | None:
    """Returns a record that says what was trained, in an identity.json or with a checkpoint; None for any other."""
    kinds = {"identity": str, "experiment": dict, "environment": dict, "identities": list}
    values = {"environment": {}, "identities": [], **record}
    right = all(isinstance(values.get(name), kind) for name, kind in kinds.items())
    return record if right and all(isinstance(one, str) for one in values["identities"]) else None


def read_evaluations_file(folder: Path) -> dict[str, Any]:
    """Returns the scores during training by step, as text; a step whose entry is damaged is left out."""
    kept = as_kept(folder, EVALUATIONS).items()
    return {step: scores for step, scores in kept if is_evaluation(step, scores)}


def read_record(path: Path, check: Callable[[Any], T]) -> T:
    """Returns check(the value in a JSON file).

    Raises InputError if the file is missing, no regular file, too large, no JSON, or what `check` refuses.
    """
    try:
        value = value_in(path)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError("E_RESULTS", "cannot read a record", where=path, found=error) from None
    try:
        return check(value)
    except InputError as error:
        raise InputError("E_RESULTS", "a damaged record", where=path, found=error) from None


def value_in(path: Path) -> Any:
    """Returns the JSON value in a file; raises OSError, ValueError or RecursionError where there is none to read."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a pipe or a device would be waited for
        raise ValueError("no regular file")
    if status.st_size > MOST_BYTES:
        raise ValueError(f"{status.st_size} bytes")
    return json.loads(path.read_bytes(), parse_constant=_no_value)


def read_experiment_file(folder: Path) -> dict[str, Any]:
    """Returns {experiment, job} of an experiment's folder; `job` is {} where none was written."""

    def check(value: Any) -> dict[str, Any]:
        record = value if isinstance(value, dict) and "experiment" in value else {"experiment": value}
        return {"experiment": checked_experiment(record["experiment"]), "job": checked_job(record.get("job") or {})}

    return read_record(folder / EXPERIMENT, check)


def read_scores_file(folder: Path) -> dict[str, Any]:
    """Returns what an experiment's scores.json holds."""
    return read_record(folder / SCORES, checked_scored)


def read_run_file(folder: Path) -> dict[str, str]:
    """Returns id, url and parent of the tracked run of an experiment's folder, all "" where there is none to read."""
    try:
        return read_record(folder / RUN, checked_run)
    except InputError:
        return checked_run({})


def _no_value(_: str) -> None:
    """Returns None for NaN and Infinity, which are none of JSON's numbers but have been written for missing scores."""
