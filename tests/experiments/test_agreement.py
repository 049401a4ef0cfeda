"""A job whose experiment, code, data or weights are not what was planned is refused, and its folder stays as it was."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load, save

from setr.experiments.worker import run_experiment
from setr.planning.experiments import plan_training
from setr.planning.planned import Planned
from setr.study.experiment import Experiment
from setr.training.distributed import Context
from tests.helpers.tiny import CELL, settings
from tests.helpers.untrained import write_untrained

ZEROS = "0" * 64
Job = dict[str, Any]


def planned(home: Path, cell: str = CELL) -> tuple[Planned, Job]:
    write_untrained(home / "weights")
    config = settings(f"cell={cell}", "storage.checkpoints=forged")
    entry = plan_training(config)
    return entry, json.loads(json.dumps(entry.job(config, home / "no-stop-file")))


def forged(job: Job, **changes: Any) -> Job:
    """Returns the job of an experiment with other values that is in itself consistent."""
    experiment = dataclasses.replace(Experiment.from_dict(job["experiment"]), **changes)
    return {**job, "experiment": experiment.as_dict(), "identity": experiment.identity}


def recipe_of(job: Job, **changes: Any) -> Job:
    return {**job, "experiment": {**job["experiment"], "recipe": {**job["experiment"]["recipe"], **changes}}}


FORGED: dict[str, tuple[Callable[[Job], Job], str]] = {
    "recipe": (lambda job: recipe_of(job, base_lr=0.5), "E_EXPERIMENT"),
    "recipe, consistent": (lambda job: {**forged(job, seed=7), "identity": job["identity"]}, "E_IDENTITY"),
    "identity": (lambda job: {**job, "identity": ZEROS}, "E_IDENTITY"),
    "manifest": (lambda job: forged(job, manifest=ZEROS), "E_DATA_CHANGED"),
    "validation": (lambda job: {**job, "validation": ZEROS}, "E_DATA_CHANGED"),
    "weights": (lambda job: forged(job, tensors=ZEROS), "E_WEIGHTS_CHANGED"),
    "code of the job": (lambda job: {**job, "code": ZEROS}, "E_CODE"),
    "code of the experiment": (lambda job: forged(job, code=ZEROS), "E_CODE"),
    "structure": (lambda job: forged(job, model={"type": "SegmenterSpec"}), "E_CODE"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_job_is_refused(home: Path, name: str) -> None:
    forge, code = FORGED[name]
    entry, job = planned(home, "table2/setr-naive-base/40k")
    outcome = run_experiment(forge(job), Context())
    assert (outcome["status"], outcome["cause"].partition(" ")[0]) == ("failed", code), outcome
    assert outcome["exit_status"] == 2
    assert not (entry.folder / "scores.json").exists()
    assert not list(entry.folder.glob("step-*"))


def test_weights_that_were_made_anew_are_noticed(home: Path) -> None:
    _, job = planned(home, "table2/setr-naive-base/40k")
    path = Path(job["weights"][0])
    whole = path.read_bytes()
    tensors = load(whole)
    try:
        path.write_bytes(save(tensors | {"blocks.0.norm1.weight": tensors["blocks.0.norm1.weight"] + 1e-6}))
        outcome = run_experiment(job, Context())
    finally:
        path.write_bytes(whole)
    assert outcome["cause"].startswith("E_WEIGHTS_CHANGED")


def test_a_file_with_the_same_tensors_is_the_same_start(home: Path) -> None:
    entry, job = planned(home, "table2/setr-naive-base/40k")
    path = Path(job["weights"][0])
    whole = path.read_bytes()
    try:
        path.write_bytes(save(load(whole), metadata={"made": "elsewhere"}))
        assert path.read_bytes() != whole
        again, _ = planned(home, "table2/setr-naive-base/40k")
    finally:
        path.write_bytes(whole)
    assert again.identity == entry.identity
    assert again.experiment.weights != entry.experiment.weights


def test_other_code_is_named_by_its_definition(home: Path) -> None:
    _, job = planned(home)
    file = "setr/training/step.py"
    modules = {**job["modules"], file: {**job["modules"][file], "train_step": "0" * 10}}
    outcome = run_experiment({**job, "code": ZEROS, "modules": modules}, Context())
    assert f"{file} (train_step)" in outcome["cause"]
