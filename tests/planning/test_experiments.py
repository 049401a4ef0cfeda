"""From settings to experiments: bare names, what counts as done, and folders that are not named by the identity."""

import dataclasses
import json
import shlex
import shutil
from pathlib import Path

import pytest

from setr.data.manifest import read_manifest
from setr.errors import InputError
from setr.experiments.worker import run_experiment
from setr.models.variants import VARIANTS
from setr.planning import experiments as jobs
from setr.planning.experiments import plan_sweep, plan_training
from setr.planning.inputs import weight_files
from setr.planning.planned import Planned, merge
from setr.record.events import read_events
from setr.record.ledger import state_of
from setr.reporting.numbers.results import Result
from setr.reporting.tracing.commands import train_command
from setr.settings.config import Config, load_config
from setr.study.cells import find_cell
from setr.training.distributed import Context
from tests.helpers.environment import PARAMS
from tests.helpers.untrained import write_untrained


def settings(*words: str) -> Config:
    """Returns the settings of tiny miniatures."""
    overrides = ["miniature.iterations={40k: 4, 80k: 4}", "miniature.crop_size=[32,32]", "miniature.batch_size=2"]
    return load_config(PARAMS, [*overrides, *words], section="training")


def plan(*words: str) -> Planned:
    """Returns what the training command plans for these words."""
    return plan_training(settings(*words))


def test_the_command_that_a_trace_prints(home: Path, weights: Path) -> None:
    planned = plan("cell=table2/setr-pup/80k", "sweep.scale=miniature", "seed=0")
    experiment = planned.experiment
    assert (experiment.variant, experiment.schedule, experiment.seed) == ("setr-pup", "80k", 0)
    assert experiment.dataset == "scenes"
    assert planned.cells[0] == "table2/setr-pup/80k"
    assert [protocol.name for protocol in planned.protocols] == ["ss"]
    assert planned.state == "to do"
    assert planned.folder == home / "checkpoints" / planned.identity
    assert plan("cell=table2/setr-pup/80k", "sweep.scale=miniature", "seed=1").identity != planned.identity


@pytest.fixture
def weights(home: Path) -> Path:
    """Makes files that stand for the miniatures' pre-trained weights."""
    write_untrained(home / "weights")
    return home / "weights"


CHANGED = ("training.recipe.base_lr=1.0e-5", "training.recipe.ratio_range=[0.8,1.2]", "miniature.evaluations=1")


@pytest.mark.parametrize(
    "words",
    [
        ("cell=table2/setr-pup/80k",),
        ("cell=table2/setr-mla/40k", "sweep.flavour=mmseg", "seed=3", *CHANGED),
        ("cell=table2/setr-pup/80k", "training.recipe.crop_size=[32,64]"),
        ("variant=setr-pup-random", "data.name=scenes", "sweep.scale=miniature", "training.recipe.crop_size=[32,32]"),
        ("variant=setr-naive", "data.name=scenes", "schedule=mine", *CHANGED[:2]),
    ],
    ids=["cell", "changed", "crop", "own", "named"],
)
def test_train_again_plans_the_same_experiment(home: Path, weights: Path, words: tuple[str, ...]) -> None:
    planned = plan(*words)
    scores = {protocol.name: {"protocol": dataclasses.asdict(protocol)} for protocol in planned.protocols}
    result = Result(planned.identity, planned.cells, planned.experiment.as_dict(), scores, {})
    command = shlex.split(train_command(result))
    assert command[:2] == ["python", "pipelines/train.py"]
    again = plan_training(load_config(PARAMS, command[2:], section="training"))
    assert again.experiment == planned.experiment
    assert again.protocols == planned.protocols


def test_all_cells_that_a_training_fills_are_tagged(home: Path, weights: Path) -> None:
    planned = plan("cell=table2/setr-pup/80k", "sweep.scale=miniature")
    all_schedules = "miniature.iterations={40k: 4, 80k: 4, 100k: 4, 160k: 4}"
    swept = plan_sweep(settings("sweep.tables=[2,3,4,5,6,7]", "sweep.variants=[setr-pup]", all_schedules))
    [same] = [entry for entry in swept if entry.identity == planned.identity]
    single_scale = {key for key in same.cells if find_cell(key).protocol == "ss"}
    assert len(single_scale) > 1
    assert set(planned.cells) == single_scale
    at_paper_scale = {find_cell(key).dataset for key in planned.cells}
    assert "cityscapes" in at_paper_scale


def test_scores_of_other_images_are_not_what_is_asked_for(trained: Planned, home: Path) -> None:
    manifest = read_manifest(home / "data" / "shards" / "scenes" / "val")[1]
    assert trained.validation == manifest
    stored = json.loads((trained.folder / "scores.json").read_text())
    assert stored["scores"]["ss"]["manifest"] == manifest
    assert trained.state_now() == ("done", 4)
    assert dataclasses.replace(trained, validation="0" * 64).state_now() == ("to score", 4)


def test_the_precision_is_settled_when_it_is_planned(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("variant=setr-pup-random", "data.name=scenes", "training.recipe.crop_size=[32,32]")
    on_cpu = plan(*words)
    assert on_cpu.experiment.recipe.precision == "float32"
    monkeypatch.setattr(jobs, "has_bfloat16", lambda: True)
    on_gpu = plan(*words)
    assert on_gpu.experiment.recipe.precision == "bfloat16"
    assert on_gpu.identity != on_cpu.identity
    assert plan(*words, "training.precision=float32") == on_cpu
    assert plan(*words, "training.recipe.precision=float32") == on_cpu


def test_what_another_worker_finished_meanwhile_is_not_begun_again(
    trained: Planned, home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / trained.identity
    shutil.copytree(trained.folder, folder)
    planned = dataclasses.replace(trained, folder=folder, state="resumable")  # as it was when the sweep was planned
    record = (folder / "events.jsonl").read_bytes()
    job = json.loads(json.dumps(planned.job(settings(), tmp_path / "stop")))
    assert run_experiment(job, Context()) == {"status": "finished"}
    assert (folder / "events.jsonl").read_bytes() == record


def test_an_own_experiment(home: Path) -> None:
    words = ("variant=setr-pup-random", "data.name=scenes", "seed=2", "sweep.scale=miniature")
    planned = plan(*words, "training.recipe.iterations=7")
    experiment = planned.experiment
    assert (experiment.variant, experiment.schedule, experiment.recipe.iterations) == ("setr-pup-random", "7 steps", 7)
    assert planned.cells == ()
    assert planned.protocols[0].window == (32, 32)
    assert plan(*words, "schedule=80k").experiment.schedule == "80k", "what somebody calls it is not taken for unsaid"


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
    assert state_of(trained.folder, [*trained.protocols, other]) == ("to score", 4)
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
        weight_files(VARIANTS["setr-pup"], "paper", tmp_path)
    (tmp_path / f"{name}.pth").write_bytes(b"a")
    assert weight_files(VARIANTS["setr-pup"], "paper", tmp_path) == (tmp_path / f"{name}.pth",)
    (tmp_path / f"{name}.safetensors").write_bytes(b"b")
    assert weight_files(VARIANTS["setr-pup"], "paper", tmp_path) == (tmp_path / f"{name}.safetensors",)
