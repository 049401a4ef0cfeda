"""An experiment with a decoder of a user's own: trained, replayed, scored, and opened elsewhere only when asked to."""

import argparse
import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pipelines import evaluate, export, figures, import_checkpoint, predict
from pipelines.terminal.command import split_words
from pipelines.tracking import recheck
from pipelines.tracking.recording import Sender
from pipelines.tracking.serving import write_published
from setr.errors import InputError, IntegrityError
from setr.evaluation.opened import open_model
from setr.evaluation.subject import open_checkpoint
from setr.experiments.job import Job
from setr.experiments.proving import prove_experiment
from setr.experiments.worker import run_experiment
from setr.models.export import export_weights
from setr.models.own_code import OwnCode, allow
from setr.models.weights import OWN_KEY
from setr.planning.planned import Planned
from setr.record.equivalences import comparisons
from setr.record.files import EXPERIMENT, SCORES, own_name
from setr.reporting.figures.drawn import draw
from setr.reporting.figures.figure_store import INSIDE, Wanted
from setr.reporting.numbers.results import read_experiment
from setr.settings.config import EvaluationConfig, load_config
from setr.settings.home import PROJECT
from setr.training.distributed import Context
from tests.helpers.own_decoder import SOURCE, own_planned, text_of_the_docs
from tests.helpers.tiny import CELL, settings

REFUSED = r"E_CODE_NOT_ALLOWED.*mine\.py:ConcatHead.*own-mine\.py.*--allow-code"


def job_of(planned: Planned, home: Path) -> dict[str, Any]:
    return json.loads(json.dumps(planned.job(settings(), home / "no-stop-file")))


@pytest.fixture(scope="module")
def own(tiny_home: Path) -> Planned:
    """Returns an experiment of four steps with the decoder of the docs, trained and scored."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SETR_HOME", str(tiny_home))
        code = OwnCode(SOURCE, text_of_the_docs())
        planned = own_planned(settings(f"cell={CELL}"), tiny_home / "own-decoder", code, channels=8)
        outcome = run_experiment(job_of(planned, tiny_home), Context())
        assert outcome == {"status": "finished"}, outcome
        return planned


def test_a_job_carries_the_text_and_its_folder_keeps_it(own: Planned, tiny_home: Path) -> None:
    job = Job.from_dict(job_of(own, tiny_home))
    assert job.own == {SOURCE: text_of_the_docs()}
    assert (own.folder / own_name(SOURCE)).read_text() == text_of_the_docs()
    kept = json.loads((own.folder / EXPERIMENT).read_text())["job"]
    assert kept["own_sha256"] == {SOURCE: OwnCode(SOURCE, text_of_the_docs()).sha256}
    assert "own" not in kept
    assert own.experiment.modules["mine.py"].keys() == {"ConcatHead"}
    assert own.state_now()[0] == "done"


@pytest.mark.parametrize("texts", [{}, {SOURCE: "{canary}\nraise RuntimeError\n"}, {"other.py:ConcatHead": "{canary}"}])
@pytest.mark.parametrize("start", [run_experiment, prove_experiment])
def test_a_worker_runs_no_other_text_than_was_planned(
    own: Planned, home: Path, tmp_path: Path, texts: dict[str, str], start: Callable[..., dict[str, Any]]
) -> None:
    canary = tmp_path / "canary"
    write = f"open({str(canary)!r}, 'w')\nclass ConcatHead: pass\n"
    job = job_of(own, home) | {"own": {source: text.format(canary=write) for source, text in texts.items()}}
    job["folder"] = str(tmp_path / "elsewhere")
    outcome = start(job, Context())
    assert outcome["status"] == "failed"
    assert "E_CODE |" in outcome["cause"] or "E_MODULE |" in outcome["cause"]
    assert not canary.exists()
    assert not (tmp_path / "elsewhere" / EXPERIMENT).exists()


def test_it_is_replayed_and_scored_again_with_the_text_of_the_job(own: Planned, home: Path, tmp_path: Path) -> None:
    copy = dataclasses.replace(own, folder=Path(shutil.copytree(own.folder, tmp_path / own.identity)))
    assert prove_experiment(job_of(copy, home), Context()) == {"status": "finished", "equal": True, "difference": ""}
    assert [one.verdict.equal for one in comparisons(copy.folder)] == [True]
    scores = json.loads((copy.folder / SCORES).read_text())
    (copy.folder / SCORES).unlink()
    assert run_experiment(job_of(copy, home), Context()) == {"status": "finished"}
    again = json.loads((copy.folder / SCORES).read_text())
    assert again["scores"] == scores["scores"]
    assert again["gflops"] > 0


@pytest.fixture
def foreign(own: Planned, tmp_path: Path) -> tuple[Path, Path]:
    """Returns the folder of somebody else's experiment, and the file that their code writes when it runs."""
    folder, canary = Path(shutil.copytree(own.folder, tmp_path / own.identity)), tmp_path / "canary"
    text = f"open({str(canary)!r}, 'w').write('ran')\n{text_of_the_docs()}"
    (folder / own_name(SOURCE)).write_text(text)
    record = json.loads((folder / EXPERIMENT).read_text())
    record["job"]["own_sha256"] = {SOURCE: OwnCode(SOURCE, text).sha256}
    (folder / EXPERIMENT).write_text(json.dumps(record))
    return folder, canary


def scored(folder: Path, *flags: str) -> int:
    parser = argparse.ArgumentParser()
    evaluate._arguments(parser)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args([str(folder), "data.name=scenes", "--no-tracking", *flags])
    arguments.words, arguments.overrides = split_words(arguments.overrides)
    config = load_config(PROJECT / "params.yaml", arguments.overrides, section="evaluation")
    return evaluate.work(config, arguments)


def picture(folder: Path) -> str:
    path = folder.parent / "photo.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8))
    return str(path)


def drawn(folder: Path, *flags: str) -> int:
    result = read_experiment(folder)
    wanted = Wanted(INSIDE, (result,))
    val = Path(json.loads((folder / EXPERIMENT).read_text())["job"]["shards"]["val"])
    return 0 if draw(wanted, val, "cpu", allow_code=bool(flags)) else 1


def verified(folder: Path, *flags: str) -> int:
    config = load_config(PROJECT / "params.yaml", [], section="evaluation")
    recheck._evaluate(config, read_experiment(folder), "ss", 1, bool(flags))
    return 0


WAYS: dict[str, Callable[..., Any]] = {
    "open_model": lambda folder, *flags: open_model(folder, allow_code=bool(flags)) and 0,
    "evaluate": scored,
    "predict": lambda folder, *flags: predict.main([str(folder), picture(folder), "-o", f"{folder}-out", *flags]),
    "export": lambda folder, *flags: export.main([str(folder), "-o", f"{folder}-out", "--to", "safetensors", *flags]),
    "figures": lambda folder, *flags: figures.main([str(folder), picture(folder), "-o", f"{folder}-out", *flags]),
    "figures --report": drawn,
    "report trace --verify": verified,
}


@pytest.mark.parametrize("way", WAYS)
def test_somebody_elses_code_runs_only_when_asked_to(
    way: str, foreign: tuple[Path, Path], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, canary = foreign
    try:
        status = WAYS[way](folder)
        said = capsys.readouterr().err
    except InputError as error:
        status, said = error.exit_status, str(error)
    assert status == 2
    assert re.search(REFUSED, said), said
    assert said.strip().count("\n") == 0
    assert not canary.exists()
    assert WAYS[way](folder, "--allow-code") == 0
    assert canary.read_text() == "ran"


def imported(file: Path, *flags: str) -> int:
    parser = argparse.ArgumentParser()
    import_checkpoint._arguments(parser)
    parser.add_argument("words", nargs="*")
    arguments = parser.parse_intermixed_args([str(file), "--no-tracking", *flags])
    arguments.overrides = []
    import_checkpoint.work(load_config(PROJECT / "params.yaml", [], section="tracking"), arguments)
    return 0


def opened_to_score(file: Path, *flags: str) -> int:
    open_checkpoint(EvaluationConfig(checkpoint=str(file)), allow_code=bool(flags))
    return 0


@pytest.mark.parametrize("way", ["open_model", "evaluate", "predict", "export", "figures", "import_checkpoint"])
def test_nor_does_the_code_in_an_export(
    way: str, foreign: tuple[Path, Path], home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, canary = foreign
    file = tmp_path / "model.safetensors"
    export_weights(open_model(folder, allow_code=True).model, file)
    canary.unlink()
    text = f"{(folder / own_name(SOURCE)).read_text()}# {way}\n"  # has not run in this process yet
    with safe_open(file, "pt") as opened:
        header = {**opened.metadata(), OWN_KEY: json.dumps({SOURCE: text})}
    save_file(load_file(file), file, header)
    run = {**WAYS, "import_checkpoint": imported, "evaluate": opened_to_score}[way]
    try:
        status = run(file)
        said = capsys.readouterr().err
    except InputError as error:
        status, said = error.exit_status, str(error)
    assert status == 2
    assert re.search(
        r"E_CODE_NOT_ALLOWED.*mine\.py:ConcatHead.*model\.safetensors \(setr\.own in its header\)", said
    ), said
    assert not canary.exists()
    assert run(file, "--allow-code") == 0
    assert canary.read_text() == "ran"


def test_code_that_this_process_uses_anyway_is_not_asked_for(own: Planned, home: Path) -> None:
    with pytest.raises(InputError, match=REFUSED):
        open_model(own.folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("setr.models.own_code._allowed", {})
        allow(OwnCode(SOURCE, text_of_the_docs()))
        assert open_model(own.folder).model.spec.num_classes == 19


@pytest.mark.parametrize("damage", ["changed", "missing", "no hash"])
def test_code_that_is_not_what_was_trained_with_is_not_run(foreign: tuple[Path, Path], home: Path, damage: str) -> None:
    folder, canary = foreign
    if damage == "changed":
        (folder / own_name(SOURCE)).write_text(text_of_the_docs())
    elif damage == "missing":
        (folder / own_name(SOURCE)).unlink()
    else:
        record = json.loads((folder / EXPERIMENT).read_text())
        del record["job"]["own_sha256"]
        (folder / EXPERIMENT).write_text(json.dumps(record))
    with pytest.raises(IntegrityError, match=r"E_OWN_CODE.*own-mine\.py"):
        open_model(folder, allow_code=True)
    assert not canary.exists()


def test_what_is_published_holds_no_code(own: Planned, home: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"E_PUBLISHED.*mine\.py:ConcatHead"):
        write_published(own.folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    tags: dict[str, str] = {}

    class Tracker:
        def metrics(self, run: str) -> dict[str, float]:
            return {}

        def set_tags(self, run: str, values: dict[str, str]) -> None:
            tags.update(values)

        def replay(self, *_: object) -> None: ...

        def artifacts(self, *_: object) -> None: ...

        def finish(self, *_: object) -> None: ...

    Sender(Tracker(), "parent", {}, register=True).finish(own, "run")  # type: ignore[arg-type]
    assert tags["setr.not_registered"] == "runs code of its own: mine.py:ConcatHead"
