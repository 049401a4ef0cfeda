"""A finished result under changed code: replayed, and then done, to do or to be scored; and why."""

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from setr.experiments.proving import prove_experiment
from setr.experiments.worker import run_experiment
from setr.planning.experiments import plan_training
from setr.planning.planned import Planned
from setr.record import equivalences
from setr.record.earlier import shelf
from setr.record.events import read_events
from setr.record.files import EQUIVALENCES
from setr.record.ledger import why_to_score
from setr.settings.config import Config
from setr.study import code
from setr.study.code import Slice, training_code
from setr.training.distributed import Context
from tests.helpers.tiny import CELL, settings

PLACE = ("setr.training.step", "train_step")


@pytest.fixture
def config(home: Path, trained: Planned, tmp_path: Path) -> Iterator[Config]:
    """Settings whose storage path holds a copy of the finished experiment."""
    storage = home / tmp_path.name
    shutil.copytree(trained.folder, storage / trained.identity)
    yield settings(f"cell={CELL}", f"storage.checkpoints={storage.name}")
    shutil.rmtree(storage)


def replace_everywhere(monkeypatch: pytest.MonkeyPatch, name: str, other: Callable[..., object]) -> None:
    """Gives every module that has imported a function of setr.study.code by its name another one, wherever it lies."""
    asking = [module for known, module in sys.modules.items() if known.startswith("setr.") and hasattr(module, name)]
    assert len(asking) > 1, "its own module alone"
    for module in asking:
        if module is not code:
            monkeypatch.setattr(module, name, other)


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes one definition of the training's code look like another one."""

    def other(structure: frozenset[str], own: object = None) -> Slice:
        here: Mapping[tuple[str, str], str] = training_code(structure).definitions
        return Slice({**here, PLACE: "0" * 64})

    replace_everywhere(monkeypatch, "training_code", other)


def prove(config: Config, entry: Planned) -> dict[str, object]:
    assert entry.earlier is not None
    job = json.loads(json.dumps(entry.earlier.job(config, Path("/nowhere/stop"))))
    return prove_experiment(job, Context())


def test_what_is_finished_is_done(config: Config, trained: Planned) -> None:
    assert (plan_training(config).state, plan_training(config).identity) == ("done", trained.identity)


def test_changed_code_is_replayed_and_the_result_stands(config: Config, trained: Planned, edited: None) -> None:
    entry = plan_training(config)
    assert (entry.state, entry.why) == (
        "changed",
        "code: setr/training/step.py (train_step); a replay would show",
    )
    assert prove(config, entry)["equal"] is True
    after = plan_training(config)
    assert (after.state, after.identity) == ("done", trained.identity)
    assert after.code == entry.code != trained.experiment.code
    [line] = equivalences.comparisons(after.folder)
    assert (line.trained, line.code, line.verdict.exact) == (trained.experiment.code, entry.code, True)


def test_code_that_computes_something_else_trains(
    config: Config, edited: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("setr.training.computation.set_learning_rate", lambda optimizer, recipe, at: 0.5)
    assert prove(config, plan_training(config))["equal"] is False
    after = plan_training(config)
    assert after.state == "to do"
    assert "learning rate" in after.why
    assert after.earlier is None


HINDRANCES: dict[str, Callable[[Path], None]] = {
    "a trace that is cut": lambda folder: cut(folder / "trace.bin"),
    "no trace": lambda folder: (folder / "trace.bin").unlink(),
    "a missing checkpoint": lambda folder: shutil.rmtree(min(folder.glob("step-*"))),
    "missing counts of images": lambda folder: (folder / "areas-ss.npz").unlink(),
}


def cut(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize("what", HINDRANCES)
def test_what_merely_hinders_a_replay_is_tried_again(config: Config, edited: None, tmp_path: Path, what: str) -> None:
    entry = plan_training(config)
    assert entry.earlier is not None
    folder = entry.earlier.folder
    shutil.copytree(folder, tmp_path / "kept")
    HINDRANCES[what](folder)
    assert prove(config, entry)["equal"] is False
    hindered = plan_training(config)
    assert hindered.state == "changed"
    assert "the last replay showed nothing: E_" in hindered.why
    told = (folder / EQUIVALENCES).read_bytes()
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "kept", folder)
    (folder / EQUIVALENCES).write_bytes(told)
    assert prove(config, plan_training(config))["equal"] is True
    assert plan_training(config).state == "done"


def test_a_failure_of_the_machine_is_no_difference(
    config: Config, edited: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("out of memory")

    for place in ("setr.training.computation.Computation.step", "setr.training.replay.foreseen_difference"):
        with monkeypatch.context() as patch:
            patch.setattr(place, fails)
            assert prove(config, plan_training(config))["equal"] is False
        assert "out of memory" in plan_training(config).why
        assert plan_training(config).state == "changed"
    assert prove(config, plan_training(config))["equal"] is True


def test_what_was_edited_since_the_last_proof_is_named(
    config: Config, edited: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prove(config, plan_training(config))["equal"] is True

    def other(structure: frozenset[str], own: object = None) -> Slice:
        here = training_code(structure).definitions
        return Slice({**here, PLACE: "0" * 64, ("setr.training.losses_again", "loss"): "1" * 64})

    replace_everywhere(monkeypatch, "training_code", other)
    entry = plan_training(config)
    assert entry.why == "code: setr/training/losses_again.py (loss); a replay would show"


def test_a_result_without_a_trace_trains(config: Config, trained: Planned, edited: None, home: Path) -> None:
    scores = plan_training(config).earlier
    assert scores is not None
    path = scores.folder / "scores.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"trace": ""}))
    entry = plan_training(config)
    assert (entry.state, entry.why) == (
        "to do",
        "code: setr/training/step.py (train_step); trained without a trace",
    )


def test_a_proof_that_was_edited_is_none(config: Config, edited: None) -> None:
    entry = plan_training(config)
    prove(config, entry)
    assert entry.earlier is not None
    path = entry.earlier.folder / EQUIVALENCES
    path.write_text(path.read_text().replace(entry.code, "1" * 64))
    assert plan_training(config).state == "changed"


def test_a_changed_evaluation_scores_again_without_a_step(
    config: Config, trained: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    was = code.scoring_code()
    replace_everywhere(monkeypatch, "scoring_code", lambda: "2" * 64)
    entry = plan_training(config)
    assert (entry.state, entry.identity) == ("to score", trained.identity)
    assert why_to_score(entry.folder, entry.protocols, entry.validation) == f"scoring code {was[:12]} -> {'2' * 12}"
    other = dataclasses.replace(entry.protocols[0], flip=True)
    assert why_to_score(entry.folder, [other], "").startswith("no score under protocol ss ")
    assert "images, their manifest" in why_to_score(entry.folder, entry.protocols, "3" * 64)
    before = len(read_events(entry.folder / "events.jsonl"))
    job = json.loads(json.dumps(entry.job(config, Path("/nowhere/stop"))))
    assert run_experiment(job, Context()) == {"status": "finished"}
    assert plan_training(config).state == "done"
    kinds = [event["event"] for event in read_events(entry.folder / "events.jsonl")[before:]]
    assert "metrics" not in kinds
    stored = json.loads((entry.folder / "scores.json").read_text())
    assert stored["scores"]["ss"]["scoring"] == "2" * 64
    assert stored["trace"] == json.loads((trained.folder / "scores.json").read_text())["trace"]


def test_code_and_scoring_may_change_together(
    config: Config, trained: Planned, edited: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_everywhere(monkeypatch, "scoring_code", lambda: "2" * 64)
    assert prove(config, plan_training(config))["equal"] is True
    entry = plan_training(config)
    assert (entry.state, entry.identity) == ("to score", trained.identity)
    job = json.loads(json.dumps(entry.job(config, Path("/nowhere/stop"))))
    assert run_experiment(job, Context()) == {"status": "finished"}
    assert plan_training(config).state == "done"


def test_why_names_the_setting(config: Config) -> None:
    entry = plan_training(dataclasses.replace(config, training=dataclasses.replace(config.training, seed=3)))
    assert (entry.state, entry.why) == ("to do", "seed 0 -> 3")
    recipe = {"base_lr": 0.5}
    entry = plan_training(dataclasses.replace(config, training=dataclasses.replace(config.training, recipe=recipe)))
    assert entry.why == "recipe.base_lr 0.01 -> 0.5"


def test_results_of_the_first_version_are_counted(config: Config, home: Path) -> None:
    storage = home / config.storage.checkpoints
    [folder] = [path for path in storage.iterdir() if len(path.name) == 64]
    path = folder / "identity.json"
    record = json.loads(path.read_text())
    record["experiment"] = {name: value for name, value in record["experiment"].items() if name != "spec"}
    path.write_text(json.dumps(record))
    found = shelf(storage)
    assert (len(found.finished), found.first_version) == (0, 1)
