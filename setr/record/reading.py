"""A record's JSON files, read and checked: what cannot be read is an InputError that names the file and the reason."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from setr.errors import InputError
from setr.record.checking import checked_experiment, checked_job, checked_run, checked_scored

# In an experiment's folder.
EXPERIMENT, SCORES, RUN = "experiment.json", "scores.json", "run.json"
PICTURE = "qualitative.png"
MOST_BYTES = 256_000_000  # of one record: curves, and scores by class and image, take a hundredth of it

T = TypeVar("T")


def read_record(path: Path, check: Callable[[Any], T]) -> T:
    """Returns check(the value in a JSON file).

    Raises InputError if the file is missing, no regular file, too large, no JSON, or what `check` refuses.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device would be waited for
            raise InputError("E_RESULTS", "cannot read a record", where=path, found="no regular file")
        if status.st_size > MOST_BYTES:
            raise InputError("E_RESULTS", "cannot read a record", where=path, found=f"{status.st_size} bytes")
        value = json.loads(path.read_bytes(), parse_constant=_no_value)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("E_RESULTS", "cannot read a record", where=path, found=error) from None
    try:
        return check(value)
    except InputError as error:
        raise InputError("E_RESULTS", "a damaged record", where=path, found=error) from None


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
