"""What `write_results` and `clean` take away is theirs alone, and one damaged folder costs one record."""

import argparse
import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from pipelines.clean import work as clean
from pipelines.tracking.results_folder import write_results
from setr.errors import EnvironmentFailure, InputError
from setr.planning.experiments import plan_sweep
from setr.planning.planned import Planned
from setr.record.lease import exclusive
from setr.reporting.numbers.results import load_results, save_results
from setr.settings.config import Config
from tests.helpers.tiny import CELL, settings

WORDS = (
    f"sweep.cells=[{CELL}]",
    "storage.checkpoints=trained",
    "miniature.iterations={40k: 4, 80k: 4, 100k: 4, 160k: 4}",  # of all tables: an earlier sweep may have asked for any
)
STRANGERS = ("notes.txt", "mine.json", "f" * 64 + ".json", ".hidden", "a folder/b.json")


@pytest.fixture
def config(home: Path, trained: Planned) -> Config:
    return settings(*WORDS, section="sweep")


@pytest.fixture
def strangers(tmp_path: Path) -> dict[Path, str]:
    """Returns files that nobody here wrote, in the folder of records, with their contents."""
    found = {tmp_path / "results" / "runs" / name: f"mine: {name}" for name in STRANGERS}
    for path, text in found.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return found


def test_only_records_of_sweeps_are_removed(
    config: Config, trained: Planned, strangers: dict[Path, str], tmp_path: Path
) -> None:
    results = tmp_path / "results"
    assert write_results(config, plan_sweep(config), results) == 1
    record = results / "runs" / f"{trained.identity}.json"
    [result] = load_results(record)
    assert result.checkpoint == f"trained/{trained.identity}/step-00000004"  # relative to home
    stale = dataclasses.replace(result, identity="e" * 64)
    save_results(results / "runs" / f"{'e' * 64}.json", [stale])
    write_results(config, plan_sweep(config), results)
    assert not (results / "runs" / f"{'e' * 64}.json").exists()
    assert record.is_file()
    assert {path: path.read_text() for path in strangers} == strangers


@pytest.mark.parametrize("contents", ["", '{"exper', "[]", '{"experiment": {"dataset": 1}}', "null"])
def test_an_experiment_file_that_a_power_cut_left_costs_nothing_that_the_plan_knows(
    contents: str, config: Config, trained: Planned, tmp_path: Path
) -> None:
    entry = dataclasses.replace(trained, folder=tmp_path / "checkpoints" / trained.identity)
    shutil.copytree(trained.folder, entry.folder)
    (entry.folder / "experiment.json").write_text(contents)
    assert write_results(config, [entry], tmp_path / "results") == 1
    [result] = load_results(tmp_path / "results" / "runs" / f"{entry.identity}.json")
    assert result.experiment == trained.experiment.as_dict()
    assert result.tags["setr.damaged"] == "experiment.json"


def test_a_folder_that_is_another_experiments_costs_itself(
    config: Config, trained: Planned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = dataclasses.replace(trained, folder=tmp_path / "checkpoints" / trained.identity)
    other = dataclasses.replace(trained, experiment=dataclasses.replace(trained.experiment, seed=1))
    bad = dataclasses.replace(other, folder=tmp_path / "checkpoints" / other.identity)
    for entry in (whole, bad):
        shutil.copytree(trained.folder, entry.folder)
    stored = json.loads((bad.folder / "scores.json").read_text())
    stored["scores"]["ss"]["mIoU"] = 1000
    (bad.folder / "scores.json").write_text(json.dumps(stored))
    assert write_results(config, [bad, whole], tmp_path / "results") == 1
    said = capsys.readouterr().out
    assert f"note: {bad.name}: left out: E_RESULTS" in said
    assert "mIoU" in said


def test_clean_takes_what_is_ours_and_leaves_the_rest(
    config: Config, trained: Planned, strangers: dict[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_results(config, plan_sweep(config), tmp_path / "results")
    shutil.copytree(trained.folder, tmp_path / "checkpoints" / trained.identity)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "sweep-20260101-000000.log").touch()
    mine = {
        tmp_path / name: f"mine: {name}"
        for name in ("checkpoints/notes.txt", f"checkpoints/{'a' * 64}/thesis.txt", "logs/my.log", "mlflow.db")
    }
    for path, text in mine.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setenv("SETR_HOME", str(tmp_path))
    here = settings(section="sweep")
    with pytest.raises(InputError, match="--yes"):
        clean(here, argparse.Namespace(yes=False))  # nobody is there to be asked
    assert (tmp_path / "checkpoints" / trained.identity).is_dir()
    for busy in (tmp_path / "checkpoints", tmp_path / "checkpoints" / trained.identity):
        with exclusive(busy), pytest.raises(EnvironmentFailure, match="E_LEASE"):
            clean(here, argparse.Namespace(yes=True))
    assert (tmp_path / "checkpoints" / trained.identity / "scores.json").is_file()
    assert clean(here, argparse.Namespace(yes=True)) == 0
    kept = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert kept == strangers | mine
