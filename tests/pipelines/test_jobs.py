"""From settings to experiments: bare names, what counts as done, and folders that are not named by the identity."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from pipelines.experiment import run_experiment
from pipelines.jobs import Planned, merge, plan_training, state_of, weight_files
from setr.config import load_config
from setr.data.manifest import read_manifest
from setr.errors import InputError
from setr.training.context import Context
from setr.training.events import read_events
from setr.training.pretraining import PROXIES

PARAMS = Path(__file__).resolve().parents[2] / "params.yaml"


def plan(*words: str) -> Planned:
    """Returns what the training command plans for these words."""
    overrides = ["miniature.iterations={40k: 4, 80k: 4}", "miniature.crop_size=[32,32]", "miniature.batch_size=2"]
    return plan_training(load_config(PARAMS, [*overrides, *words], section="training"))


def test_the_command_that_a_trace_prints(home: Path) -> None:
    weights = home / "weights"
    weights.mkdir(exist_ok=True)
    for proxy in PROXIES:
        (weights / f"{proxy.name}.safetensors").write_bytes(proxy.name.encode())
    planned = plan("cell=table2/setr-pup/80k", "sweep.scale=miniature", "seed=0")
    experiment = planned.experiment
    assert (experiment.variant, experiment.schedule, experiment.seed) == ("setr-pup", "80k", 0)
    assert experiment.dataset == "scenes"
    assert planned.cells == ("table2/setr-pup/80k",)
    assert [protocol.name for protocol in planned.protocols] == ["ss"]
    assert planned.state == "to do"
    assert planned.folder == home / "checkpoints" / planned.identity
    assert plan("cell=table2/setr-pup/80k", "sweep.scale=miniature", "seed=1").identity != planned.identity


def test_an_own_experiment(home: Path) -> None:
    words = ("variant=setr-pup-random", "data.name=scenes", "seed=2", "sweep.scale=miniature")
    planned = plan(*words, "training.recipe.iterations=7")
    experiment = planned.experiment
    assert (experiment.variant, experiment.schedule, experiment.recipe.iterations) == ("setr-pup-random", "7 steps", 7)
    assert planned.cells == ()
    assert planned.protocols[0].window == (32, 32)


def test_what_cannot_be_trained_is_named(home: Path) -> None:
    with pytest.raises(InputError, match=r"E_CELL.*table2/setr-pup/80k"):
        plan("cell=table2/setr-pup/80q")
    with pytest.raises(InputError, match=r"E_CONFIG.*unknown variant"):
        plan("variant=setr-pop")
    with pytest.raises(InputError, match=r"training\.sead.*did you mean seed"):
        plan("sead=1")


def test_done_means_scored_by_every_protocol_that_is_asked_for(trained: Planned, home: Path) -> None:
    assert state_of(trained.folder) == ("done", 4)
    assert state_of(trained.folder, trained.protocols) == ("done", 4)
    other = dataclasses.replace(trained.protocols[0], name="ms", flip=True)
    assert state_of(trained.folder, [*trained.protocols, other]) == ("resumable", 4)
    assert state_of(trained.folder, trained.protocols, identity="0" * 64) == ("resumable", 4)
    wider = dataclasses.replace(trained, cells=("another",), protocols=(other,), state="resumable")
    for order in ([trained, wider], [wider, trained]):
        [both] = merge(order)
        assert both.state == "resumable"
        assert {protocol.name for protocol in both.protocols} == {"ss", "ms"}
        assert set(both.cells) == {*trained.cells, "another"}


def test_a_protocol_that_was_added_is_scored_without_training(trained: Planned, home: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained.folder, tmp_path / trained.identity)
    before = json.loads((folder / "scores.json").read_text())["scores"]
    events = len(read_events(folder / "events.jsonl"))
    mirrored = dataclasses.replace(trained.protocols[0], name="ms", flip=True)
    wider = dataclasses.replace(trained, folder=folder, protocols=(*trained.protocols, mirrored))
    job = wider.job(load_config(PARAMS), home / "no-stop-file")
    assert run_experiment(job, Context()) == {"status": "finished"}
    assert state_of(folder, wider.protocols) == ("done", 4)
    scores = json.loads((folder / "scores.json").read_text())["scores"]
    assert scores["ss"] == before["ss"]
    assert scores["ms"]["digest"] == mirrored.digest()
    news = read_events(folder / "events.jsonl")[events:]
    assert [event["event"] for event in news] == ["start", "evaluation", "finished"]


def test_the_job_carries_what_a_worker_needs(trained: Planned, home: Path) -> None:
    job = trained.job(load_config(PARAMS), home / "stop", allow_drift=True)
    assert job["allow_drift"]
    assert not trained.job(load_config(PARAMS), home / "stop")["allow_drift"]
    assert read_manifest(Path(job["shards"]["train"]))[1] == trained.experiment.manifest


def test_published_weights_may_be_files_of_any_kind(tmp_path: Path) -> None:
    name = "vit_large_patch16_384.augreg_in21k_ft_in1k"
    with pytest.raises(InputError, match=r"E_WEIGHTS.*setr-pup.*pipelines/weights.py. sweep.scale=paper"):
        weight_files("setr-pup", "paper", tmp_path)
    (tmp_path / f"{name}.pth").write_bytes(b"a")
    assert weight_files("setr-pup", "paper", tmp_path) == (tmp_path / f"{name}.pth",)
    (tmp_path / f"{name}.safetensors").write_bytes(b"b")
    assert weight_files("setr-pup", "paper", tmp_path) == (tmp_path / f"{name}.safetensors",)
