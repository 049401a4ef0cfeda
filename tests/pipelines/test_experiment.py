"""What one experiment writes down, whoever trains it."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import settings

from pipelines import experiment
from pipelines.jobs import Planned
from setr.training.context import Context
from setr.training.events import read_events


@pytest.mark.parametrize("rank", [0, 1])
def test_a_hang_is_in_the_record_whichever_rank_notices(
    rank: int, home: Path, trained: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(job: dict[str, Any], context: Context, stop: Any) -> dict[str, Any]:
        context.report({"event": "metrics", "step": 3, "loss": 1.0})
        context.report({"event": "hang", "step": 2, "cause": "no progress"})
        return {}

    monkeypatch.setattr(experiment, "_run", hang)
    job = {**json.loads(json.dumps(trained.job(settings(), tmp_path / "stop"))), "folder": str(tmp_path)}
    told: list[dict[str, Any]] = []
    experiment.run_experiment(job, Context(rank=rank, world_size=2, report=told.append))
    found = [(event["event"], event.get("rank")) for event in read_events(tmp_path / "events.jsonl")]
    assert found == ([("metrics", None)] if rank == 0 else []) + [("hang", rank)]
    assert [event["event"] for event in told] == [kind for kind, _ in found]
