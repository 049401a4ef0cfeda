"""A checkpoint that other scoring code scores again: the training keeps its origin, the score gets its own."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from pipelines.terminal.progress import Board, BoardRow
from pipelines.tracking.recording import finished_result
from setr.evaluation import evaluate
from setr.experiments import scores as kept_scores
from setr.experiments.worker import run_experiment
from setr.planning.planned import Planned
from setr.record import ledger
from setr.record.events import read_events
from setr.reporting.tracing.trace import links
from setr.training.distributed import Context
from tests.helpers.tiny import settings

TRAINED, SCORED = ({"git.commit": digit * 40, "git.dirty": "false"} for digit in "cd")


@pytest.fixture
def again(home: Path, trained: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planned:
    """The trained experiment, scored a second time by a mended metric and from another commit."""
    entry = dataclasses.replace(trained, folder=tmp_path / trained.identity)
    shutil.copytree(trained.folder, entry.folder)
    events = read_events(entry.folder / "events.jsonl")
    lines = [json.dumps(event | ({"tags": TRAINED} if event["event"] == "start" else {})) for event in events]
    (entry.folder / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))
    for module in (ledger, kept_scores):
        monkeypatch.setattr(module, "scoring_code", lambda: "f" * 64)
    was = evaluate.scores
    monkeypatch.setattr(evaluate, "scores", lambda *counts: dataclasses.replace(was(*counts), mIoU=12.9))
    job = entry.job(settings("cell=table2/setr-pup/80k"), tmp_path / "no-stop-file") | {"tags": SCORED}
    assert run_experiment(job, Context()) == {"status": "finished"}
    assert run_experiment(job, Context()) == {"status": "finished"}  # nothing is left to do
    return entry


def test_training_and_score_keep_their_own_origin(again: Planned) -> None:
    result = finished_result(again)
    assert result.tag("commit") == "c" * 40
    chain = {link.name: link.value for link in links(None, result)}
    assert chain["commit"] == "c" * 40
    assert chain["scored by"] == f"commit {'d' * 40}, the commit is the code"
    assert result.scores["ss"]["tags"] == SCORED
    assert json.loads((again.folder / "experiment.json").read_text())["job"]["tags"] == TRAINED


def test_what_is_shown_last_is_the_new_score(again: Planned) -> None:
    events = read_events(again.folder / "events.jsonl")
    assert [event["mIoU"] for event in events if event["event"] == "evaluation"][-1] == 12.9
    board = Board({"a": BoardRow("pup", again.experiment.recipe.iterations)})
    said = [board.apply("a", event) for event in events]
    assert said[-1] == "pup: finished, mIoU 12.9 %"
