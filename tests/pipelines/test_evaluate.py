"""Checkpoints of this project and of others are scored alike; what does not fit is refused in one line."""

import argparse
import dataclasses
import json
import runpy
import shlex
import socket
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from pipelines.evaluate import _arguments, track, work
from pipelines.terminal.command import split_words
from pipelines.tracking.recording import finished_result
from setr.data.shards import open_shards
from setr.errors import InputError
from setr.evaluation.protocol_names import named_protocol
from setr.evaluation.subject import open_checkpoint, require_same_classes
from setr.models.decoders.decoder import Decoder, Heads
from setr.models.decoders.naive import NAIVE
from setr.models.decoders.table import DECODERS
from setr.models.export import export_weights
from setr.models.specification import HeadSpec
from setr.models.variants import VARIANTS, variant_spec
from setr.planning.planned import Planned
from setr.reporting.tracing.commands import score_command
from setr.settings.config import EvaluationConfig, load_config
from setr.settings.home import PROJECT
from setr.study.published import protocol
from tests.helpers.running import Command


def command(*words: str) -> int:
    """Runs the command in this process."""
    parser = argparse.ArgumentParser()
    _arguments(parser)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args(words)
    arguments.words, arguments.overrides = split_words(arguments.overrides)
    return work(load_config(PROJECT / "params.yaml", arguments.overrides, section="evaluation"), arguments)


def records(home: Path) -> dict[str, dict[str, Any]]:
    return {path.name: json.loads(path.read_text()) for path in (home / "results" / "evaluations").glob("*.json")}


@pytest.fixture
def own(trained: Planned, home: Path) -> Path:
    """Returns the step folder of a trained miniature, with the results folder empty."""
    for path in (home / "results" / "evaluations").glob("*.json"):
        path.unlink()
    torch.set_num_threads(1)
    return max(trained.folder.glob("step-*"))


def test_the_command_that_a_trace_prints_gives_the_stored_score_to_the_digit(
    own: Path, trained: Planned, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(score_command(finished_result(trained), "ss"))
    assert words[:2] == ["python", "pipelines/evaluate.py"]
    assert command(*words[2:], "--no-tracking") == 0
    printed = capsys.readouterr().out
    assert "as recorded when it was trained" in printed
    assert "road" in printed
    [(name, record)] = records(home).items()
    stored = json.loads((trained.folder / "scores.json").read_text())
    assert {key: record[key] for key in stored["scores"]["ss"]} == stored["scores"]["ss"]
    assert name == f"{stored['checkpoint'][:12]}-{stored['scores']['ss']['digest'][:12]}-scenes-val.json"
    assert record["checkpoint"]["identity"] == trained.identity
    assert record["data"]["manifest"] == open_shards(home / "data/shards/scenes/val").manifest_hash


def test_without_a_protocol_it_is_scored_as_it_was(own: Path, home: Path) -> None:
    assert command(f"checkpoint={own.parent}", "--no-tracking", "--boundary") == 0
    [record] = records(home).values()
    assert record["protocol"]["name"] == "ss"
    assert 0 <= record["boundary_iou"] <= 100


def test_two_processes_count_the_same(own: Path, trained: Planned, home: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    words = (f"checkpoint={own}", "--no-tracking")
    ranks = [Command(home, "evaluate", *words, RANK=str(rank), LOCAL_RANK=str(rank), **group) for rank in range(2)]
    assert [rank.end(0).count("as recorded when it was trained") for rank in ranks] == [1, 0]
    [record] = records(home).values()
    assert record["images"] == 3


def test_a_miniature_under_the_multi_scale_protocols(own: Path, home: Path) -> None:
    assert command(f"checkpoint={own}", "protocol=[ms,authors-head]", "--no-tracking") == 0
    found = {record["protocol"]["name"]: record["protocol"] for record in records(home).values()}
    assert set(found) == {"ms", "ms-authors-head"}
    assert found["ms"]["window"] == [32, 32]
    assert found["ms-authors-head"]["flip"]


def test_a_released_checkpoint_with_its_receipt(
    reference: Path, own: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(reference / "tiny_naive.pth"), "num_heads=3", "data.name=own", "--no-tracking"]
    assert command(*words, "protocol=paper") == 0
    printed = capsys.readouterr().out
    assert "float16 to float32" in printed
    assert "own val, ms-paper: mIoU" in printed
    [record] = records(home).values()
    assert record["receipt"]["counts"]["missing"] == 0
    assert record["checkpoint"]["sha256"] == record["receipt"]["sha256"]
    assert record["protocol"]["num_classes"] == 6
    assert len(record["per_class_iou"]) == 6


def test_what_does_not_fit_is_refused(reference: Path, own: Path, home: Path, tmp_path: Path) -> None:
    released = [f"checkpoint={reference / 'tiny_naive.pth'}", "num_heads=3"]
    exported = tmp_path / "model.safetensors"
    export_weights(open_checkpoint(EvaluationConfig(checkpoint=str(own))).model, exported)
    for words, code in (
        ([], "E_CONFIG"),
        ([f"checkpoint={tmp_path / 'absent.pth'}"], "E_CKPT_NOT_FOUND"),
        ([f"checkpoint={own}", "data.name=absent"], "E_MANIFEST"),
        ([f"checkpoint={own}", "split=test"], "E_NO_LABELS"),
        ([f"checkpoint={own}", "protocol=sss"], "E_CHOICE"),
        ([f"checkpoint={own}", "data.name=own"], "E_CLASS_COUNT"),
        ([*released], "E_CLASS_COUNT"),
        # An export is a file like any other: on this data set the paper's windows of 768 pixels are meant.
        ([f"checkpoint={exported}"], "E_WINDOW_REACH"),
        ([*released, "data.name=own", "--submission", str(tmp_path / "out.zip"), "split=val"], "E_NO_SERVER"),
        ([f"checkpoint={own}", "protocol=[ss,ms]", "--submission", str(tmp_path / "out.zip")], "one protocol"),
    ):
        with pytest.raises(InputError, match=code) as caught:
            command(*words, "--no-tracking")
        assert caught.value.exit_status == 2
        assert "\n" not in str(caught.value)
    assert not records(home)


def test_the_same_number_of_other_classes_is_refused(own: Path, home: Path) -> None:
    subject = open_checkpoint(EvaluationConfig(checkpoint=str(own)))
    shards = open_shards(home / "data/shards/scenes/val")
    require_same_classes(subject, shards)
    require_same_classes(dataclasses.replace(subject, classes=()), shards)
    with pytest.raises(InputError, match=r"E_CLASS_NAMES.*found road, expected lane"):
        require_same_classes(dataclasses.replace(subject, classes=("lane", *subject.classes[1:])), shards)


def test_an_error_is_one_line_with_its_exit_status(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = PROJECT / "pipelines" / "evaluate.py"
    monkeypatch.setattr(sys, "argv", [str(script), "checkpoint=absent.pth", "--no-tracking"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(script), run_name="__main__")
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: E_CKPT_NOT_FOUND")


def test_the_score_goes_to_mlflow_where_there_is_one(
    own: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(f"checkpoint={own}") == 0
    assert "MLflow run" in capsys.readouterr().out
    [(name, record)] = records(home).items()
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    experiment = client.get_experiment_by_name("setr-tables")
    [run] = client.search_runs([experiment.experiment_id], f"tags.`setr.protocol` = '{record['digest']}'")
    assert run.info.status == "FINISHED"
    assert run.data.tags["setr.checkpoint"] == record["checkpoint"]["sha256"]
    assert run.data.tags["setr.dataset"] == "scenes"
    assert "setr.identity" not in run.data.tags  # no experiment's run: a report counts those
    assert run.data.metrics["val/mIoU"] == record["mIoU"]
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == [name]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    config = load_config(PROJECT / "params.yaml", ["tracking.timeout_seconds=2"])
    assert track(config, record, home / "results" / "evaluations" / name).startswith("not in MLflow: E_TRACKING")


def test_a_submission(own: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.zip"
    assert command(f"checkpoint={own}", "--submission", str(path)) == 0
    assert "2 files for the cityscapes server" in capsys.readouterr().out
    assert zipfile.ZipFile(path).namelist() == [
        "test_000000_000000_gtFine_labelIds.png",
        "test_000001_000001_gtFine_labelIds.png",
    ]


@pytest.mark.parametrize("variant", ["setr-naive", "setr-pup", "setr-mla", "hybrid-base", "fcn", "semantic-fpn"])
@pytest.mark.parametrize("scale", ["paper", "miniature"])
def test_names_are_the_papers_protocols(variant: str, scale: str) -> None:
    spec = variant_spec(variant, num_classes=19, crop_size=(768, 768), scale=scale)
    decoder = VARIANTS[variant].decoder
    for name, kind, rule in (
        ("ss", "ss", "authors-2021-03"),
        ("ms", "ms", "authors-2021-03"),
        ("authors-2021-03", "ms", "authors-2021-03"),
        ("authors-head", "ms", "authors-head"),
        ("ms-mmseg", "ms", "mmseg"),
    ):
        found = named_protocol(name, spec, "cityscapes", num_classes=19)
        assert found == protocol("cityscapes", decoder, kind, short_side=rule)
    same = named_protocol("ms", spec, "cityscapes_trainids", num_classes=19)
    assert same == protocol("cityscapes", decoder, "ms")
    assert named_protocol("ss", spec, "pascal_context_59", num_classes=59).num_classes == 59


def test_a_decoder_of_ones_own_is_scored_in_windows_of_its_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass(frozen=True)
    class ConcatSpec(HeadSpec):
        in_channels: int = 8

    own = Decoder("concat", ConcatSpec, layers=(24,), heads=lambda asked: Heads(ConcatSpec()), cost=NAIVE.cost)
    monkeypatch.setitem(DECODERS, "concat", own)
    spec = dataclasses.replace(variant_spec("setr-naive", num_classes=19, crop_size=(768, 768)), decoder=ConcatSpec())
    assert named_protocol("ms", spec, "cityscapes", num_classes=19) == protocol("cityscapes", "naive", "ms")
