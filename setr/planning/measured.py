"""What earlier trainings measured: seconds and memory, from the experiments' records and from a benchmark's file."""

import json
from collections.abc import Iterator
from pathlib import Path

from setr.errors import InputError
from setr.experiments.job import run_settings
from setr.planning.plan import Ways
from setr.planning.throughput import Measurement, evaluations_of, kind_of
from setr.record.events import last_attempt
from setr.record.files import EVENTS, EXPERIMENT
from setr.record.reading import as_kept
from setr.study.experiment import Experiment

MEASURED = "measured.json"  # in the results' folder; written by benchmarks/plan_memory.py
NEWEST = 200  # experiments that are read: speed changes with the machine


def measurements(storage: Path, results: Path) -> list[Measurement]:
    """Returns what is known; records that cannot be read are left out."""
    found = list(_measured_file(results / MEASURED))
    ledgers = sorted(storage.glob(f"*/{EVENTS}"), key=lambda path: -path.stat().st_mtime)
    for ledger in ledgers[:NEWEST]:
        try:
            measured = _training(ledger.parent)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
            continue
        if measured is not None:
            found.append(measured)
    return found


def _measured_file(path: Path) -> Iterator[Measurement]:
    if not path.is_file():
        return
    try:
        for record in json.loads(path.read_text(encoding="utf-8")):
            key = tuple(tuple(part) if isinstance(part, list) else part for part in record["key"])
            yield Measurement(key, step=float(record["step_seconds"]), memory=int(record["memory_bytes"]))
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        raise InputError("E_MEASURED", "not a file of measurements", where=path, found=error) from None


def _training(folder: Path) -> Measurement | None:
    """Returns what the last attempt at an experiment took, None if it did not finish."""
    finished, started = last_attempt(folder / EVENTS)
    if finished is None or started is None:
        return None
    record = as_kept(folder, EXPERIMENT)
    experiment, settings = Experiment.from_dict(record["experiment"]), run_settings(record["job"])
    recipe = experiment.recipe
    ways = Ways(int(started["world_size"]), settings.micro_batch, settings.activation_checkpointing)
    key = kind_of(
        variant=experiment.variant,
        scale=experiment.scale,
        recipe=recipe,
        workers=ways.workers,
        images=ways.images(recipe),
        checkpointing=ways.checkpointing,
        device=str(started["device"]),
    )
    steps = int(finished["step"]) - int(started["step"])
    evaluations = evaluations_of(recipe) - int(started["step"]) // recipe.evaluate_every
    seconds = finished["seconds"]
    return Measurement(
        key,
        step=(seconds["step"] + seconds["data"]) / steps if steps > 0 else 0.0,
        evaluation=seconds["evaluation"] / evaluations if evaluations > 0 else 0.0,
        other=seconds["setup"] + seconds["checkpoint"],
        memory=int(finished.get("peak_memory_bytes", 0)),
    )
