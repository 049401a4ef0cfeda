"""The report's command on an experiment that was really trained: chain, verification, and what may be wrong."""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.report import collect, work
from pipelines.tracking import recheck
from pipelines.tracking.recording import send_proofs
from pipelines.tracking.results_folder import write_results
from pipelines.tracking.tracker import Tracker
from setr.planning.planned import Planned
from setr.record import equivalences
from setr.record.equivalences import Proof, Verdict
from setr.settings.config import Config
from tests.helpers.tiny import CELL, settings

KEY = CELL
Told = tuple[Config, Planned, Tracker]


def report(config: Config, *words: str, verify: bool = False) -> int:
    return work(config, argparse.Namespace(where=False, words=list(words), verify=verify, images=2, allow_code=False))


def test_the_chain_is_whole_and_everything_is_as_it_was(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    status = report(told[0], "trace", KEY, verify=True)
    said = capsys.readouterr().out
    assert "BROKEN" not in said
    assert status == 0
    for name in ("checkpoint bytes", "data bytes", "validation bytes", "run", "train again", "images scored again"):
        assert f"verify {name}: ok" in said
    assert f"gives spec {told[1].experiment.spec[:12]}" in said
    assert "3 of 3, mIoU" in said
    assert "every count as recorded" in said


def test_recorded_images_that_the_checkpoint_does_not_give_are_found_by_scoring_it(
    told: Told, capsys: pytest.CaptureFixture[str]
) -> None:
    config, entry, tracker = told
    areas = entry.folder / "areas-ss.npz"
    with np.load(areas) as stored:
        kept = dict(stored)
    kept["areas"][0, :2, 0] += 200
    np.savez(areas, **kept)
    tracker.artifacts(tracker.find(entry.identity)[0].run_id, [areas])
    assert report(config, "trace", KEY, verify=True) == 1
    said = capsys.readouterr().out
    assert "verify score of its images: BROKEN" in said
    assert "verify images scored again: BROKEN" in said


def test_a_checkpoint_whose_hash_differs_is_named(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    config, entry, _ = told
    [manifest] = entry.folder.glob("step-*4/manifest.json")
    manifest.chmod(0o644)
    manifest.write_text(manifest.read_text().replace('"step"', '"Step"'))
    assert report(config, "trace", KEY, verify=True) == 1
    said = capsys.readouterr().out
    assert "verify checkpoint bytes: BROKEN" in said


def test_a_missing_artifact_is_named_and_the_number_stays(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    config, entry, _ = told
    for file in (entry.folder.parent.parent / "mlartifacts").rglob("*"):
        if file.name in ("qualitative.png", "areas-ss.npz"):
            file.unlink()
    assert report(config) == 0
    said = capsys.readouterr().out
    assert "artifact qualitative.png is missing" in said
    assert "artifact areas-ss.npz is missing" in said
    assert report(config, "trace", KEY, verify=True) == 1
    said = capsys.readouterr().out
    assert "verify score of its images: BROKEN: no scores of single images were kept" in said
    assert "verify images scored again: ok; all 3, mIoU" in said


def test_without_the_server_the_local_copy_counts_and_says_so(
    told: Told, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, entry, _ = told
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert report(config) == 0
    said = capsys.readouterr().out
    assert "could not be reached: these are the last sweep's local copies" in said
    home = entry.folder.parent.parent
    assert "could not be reached" in (home / "report/index.html").read_text()
    assert report(config, "trace", KEY) == 0  # run, commit and command are known from the copy
    said = capsys.readouterr().out
    assert "could not be reached" in said
    assert "c" * 40 in said
    assert report(config, "trace", KEY, verify=True) == 1
    assert "verify run: BROKEN: the tracking server cannot be reached" in capsys.readouterr().out


def test_runs_of_another_project_in_the_same_store_change_nothing(
    told: Told, capsys: pytest.CaptureFixture[str]
) -> None:
    config, entry, tracker = told
    home = entry.folder.parent.parent
    tracker.start_parent("<script>alert(1)</script>\nnew line", {"team": "other"}, "")
    other = tracker.start_child(tracker.start_parent("other", {}, ""), "f" * 64, "<script>\nalert(1)", {})
    tracker.text_artifact(other, "record.json", json.dumps([{"accuracy": 1}]))
    assert report(config) == 0
    said = capsys.readouterr().out
    assert "1 experiments" in said
    assert [line for line in said.splitlines() if "left out" in line]
    assert not [line for line in said.splitlines() if line.startswith("alert")]
    assert "<script>alert" not in (home / "report/index.html").read_text()


def test_a_check_writes_nothing(told: Told) -> None:
    config, entry, _ = told
    place = entry.folder.parent.parent

    def files() -> dict[str, int]:
        """Returns every file of the home but those of the tracking server's database."""
        return {str(path): path.stat().st_mtime_ns for path in place.rglob("*") if "mlflow.db" not in path.name}

    before = files()
    assert report(config, "trace", KEY, verify=True) == 0
    assert files() == before


def test_other_code_is_ok_only_if_a_replay_has_shown_it_equal(
    told: Told, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, entry, _ = told
    was = recheck.plan_training
    monkeypatch.setattr(recheck, "plan_training", lambda config: dataclasses.replace(was(config), code="e" * 64))
    report(config, "trace", KEY, verify=True)
    said = capsys.readouterr().out
    assert "verify train again: not shown: the code here is another: `python pipelines/sweep.py --prove`" in said
    assert f"git checkout {'c' * 12}" in said
    verdict = Verdict(True, True, 0.0, "", {})
    proof = Proof(entry.experiment.code, "e" * 64, verdict, 1e9, "host")
    monkeypatch.setattr(recheck, "is_equivalent", lambda *_, **__: proof)
    report(config, "trace", KEY, verify=True)
    said = capsys.readouterr().out
    assert "verify train again: ok; gives spec" in said
    assert "the code here is another, and a replay on host has found it equal to the bit" in said


@pytest.mark.parametrize("name", ["trace.bin", "equivalences.jsonl"])
def test_what_replays_rest_on_is_read_too(told: Told, capsys: pytest.CaptureFixture[str], name: str) -> None:
    config, entry, _ = told
    equivalences.record(
        entry.folder, trained=entry.experiment.code, code="e" * 64, verdict=Verdict(True, True, 0.0, "", {})
    )
    assert report(config, "trace", KEY, verify=True) == 0
    said = capsys.readouterr().out
    assert "verify trace of its steps: ok" in said
    assert "verify replays: ok; 1 recorded" in said
    damaged = entry.folder / name
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes()[:-5])
    assert report(config, "trace", KEY, verify=True) == 1
    said = capsys.readouterr().out
    told_of = {
        "trace.bin": "verify trace of its steps: BROKEN: E_TRACE | the trace is not the one that was finished",
        "equivalences.jsonl": "verify replays: BROKEN: line 1 of equivalences.jsonl, cut or edited, counts for nothing",
    }
    assert told_of[name] in said


def test_no_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SETR_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert report(settings(section="sweep")) == 0
    assert "0 of 79 numbers" in (tmp_path / "report/index.html").read_text()
    assert report(settings(section="sweep"), "trace", KEY) == 1
    assert "BROKEN: not run" in capsys.readouterr().out


def test_what_the_last_sweep_wrote_is_what_counts_as_done(told: Told, tmp_path: Path) -> None:
    config, entry, _ = told
    [found] = collect(config, tmp_path).results
    assert found.run_id  # the tracked one, with its pictures
    assert found.done
    (entry.folder.parent.parent / f"results/runs/{entry.identity}.json").unlink()
    [found] = collect(config, tmp_path).results
    assert not found.done


def test_a_proof_made_later_reaches_record_run_and_every_form_of_the_table(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, entry, tracker = told
    place, code = entry.folder.parent.parent, "e" * 64
    verdict = Verdict(True, False, 1e-4, "", {"differences": ["threads 2 -> 1"]})
    proof = Proof(entry.experiment.code, code, verdict, 1e9, "host")
    monkeypatch.setattr("pipelines.tracking.recording.is_equivalent", lambda *_, **__: proof)
    proven = dataclasses.replace(entry, code=code)
    runs = {run.tags["setr.identity"]: run for run in tracker.find(entry.identity)}
    assert send_proofs(tracker, [proven], runs) == 1
    runs = {run.tags["setr.identity"]: run for run in tracker.find(entry.identity)}
    assert send_proofs(tracker, [proven], runs) == 0  # it is there
    (place / f"results/runs/{entry.identity}.json").unlink()
    assert collect(config, tmp_path).results[0].proof["code"] == code  # as the run has it
    write_results(config, [proven], place / "results", keep_all=True)
    assert collect(config, tmp_path).results[0].proof["code"] == code
    assert report(config) == 0
    for suffix in ("md", "csv", "json", "tex"):
        said = (place / f"report/table-2.{suffix}").read_text()
        assert "replayed within a relative 0.0001, not to the bit: threads 2" in said, suffix
