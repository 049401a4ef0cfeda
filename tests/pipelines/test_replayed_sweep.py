"""A copy of the project whose code is edited between sweeps: what its finished results become."""

import json
from pathlib import Path

import pytest

from setr.record.events import read_events
from tests.helpers.project_copy import copy_of_project, run

CELLS = ("sweep.cells=[table2/setr-pup-random/40k,table2/setr-mla/80k]", "sweep.seeds=1", "tracking.uri=offline")
REWORDED = ("self.norm(features[-1])", "self.norm(features[len(features) - 1])")  # of the heads that UpHead is
REWORDED_AGAIN = (REWORDED[1], "self.norm(features[0 - 1])")
UP_HEAD, BLOCKS = "setr/models/decoders/up_head_module.py", "setr/models/decoders/blocks.py"
CHANGED = ("F.relu(self.bn(x), inplace=True)", "F.relu(self.bn(x) * 1.001, inplace=True)")


def edit(project: Path, before: str, after: str, name: str) -> None:
    path = project / name
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


@pytest.mark.slow
def test_results_outlive_rewordings_and_not_what_is_computed(tiny_home: Path, tmp_path: Path) -> None:
    from tests.helpers.untrained import write_untrained

    project, home = copy_of_project(tmp_path / "project"), tmp_path / "home"
    home.mkdir()
    (home / "data").symlink_to(tiny_home / "data")
    write_untrained(home / "weights")
    run(project, home, "sweep", *CELLS)
    folders = sorted(path.parent for path in (home / "checkpoints").glob("*/scores.json"))
    assert len(folders) == 2
    records = {folder: len(read_events(folder / "events.jsonl")) for folder in folders}

    edit(project, *REWORDED, UP_HEAD)
    planned = run(project, home, "sweep", *CELLS, "--plan")
    assert "2 experiments: 2 changed" in planned
    assert f"code: {UP_HEAD} (UpHead); a replay would show" in planned
    said = run(project, home, "sweep", *CELLS)
    assert "replayed 2 finished results" in said
    assert "2 stand under this code" in said
    assert {folder: len(read_events(folder / "events.jsonl")) for folder in folders} == records, "nothing was trained"
    [record] = json.loads((home / "results" / "runs" / f"{folders[0].name}.json").read_text())
    assert record["proof"]["how"] == "equal to the bit"

    edit(project, *REWORDED_AGAIN, UP_HEAD)
    assert "2 stand under this code" in run(project, home, "sweep", *CELLS, "--prove")
    [proven] = json.loads((home / "results" / "runs" / f"{folders[0].name}.json").read_text())
    assert proven["proof"]["code"] != record["proof"]["code"]

    edit(project, *CHANGED, BLOCKS)
    said = run(project, home, "sweep", *CELLS, "--prove", status=1)
    assert "0 stand under this code" in said
    assert "loss at step 1" in said
    assert {folder: len(read_events(folder / "events.jsonl")) for folder in folders} == records
    planned = run(project, home, "sweep", *CELLS, "--plan")
    assert "2 experiments: 2 to do" in planned
    assert f"code: {BLOCKS} (ConvNormAct); loss at step 1" in planned
