"""The plan of a sweep as a user reads it: whole without data, refused where it cannot fit, measured where it can be."""

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.sweep import words_of_simulation
from pipelines.terminal.plan import Plan, machine_of, print_plan, print_reasons, print_simulation
from pipelines.tracking.results_folder import write_results
from setr.errors import InputError
from setr.planning.experiments import plan_earlier, plan_sweep
from setr.planning.measured import measurements
from setr.planning.planned import Planned
from setr.reporting.numbers.results import load_results
from setr.settings.config import Config, load_config
from setr.study.shelf import setr_study
from tests.helpers.environment import PARAMS

CELL = "table2/setr-pup-random/40k"
TINY = (  # as the experiment of the fixture `trained`
    "sweep.scale=miniature",
    "miniature.iterations={40k: 4, 80k: 4, 100k: 4, 160k: 4}",
    "miniature.crop_size=[32,32]",
    "miniature.batch_size=2",
    "training.log_every=1",
)


def settings(*words: str) -> Config:
    return load_config(PARAMS, [*TINY, *words], section="sweep")


def paper(*words: str) -> Config:
    base = ("scale=paper", "tables=[2,3,4,5,6,7]", "training.workers=1")
    return load_config(PARAMS, [*base, *words], section="sweep")


def test_all_tables_are_planned_without_data_in_under_two_seconds(home: Path, capsys: pytest.CaptureFixture) -> None:
    begun = time.process_time()
    config = paper("seeds=3", "gpus=8", "price_per_gpu_hour=2.5")
    plan = Plan(config, plan_sweep(config, lenient=True))
    print_plan(plan)
    assert time.process_time() - begun < 2.0
    said = capsys.readouterr().out
    assert "129 experiments: 129 to do" in said
    assert all(f"Table {number} " in said for number in range(2, 8))
    assert "data set cityscapes" in said
    assert f"cost {plan.gpu_hours * 2.5:.2f}" in said
    assert len({entry.identity for entry in plan.planned}) == 129


def test_the_command_loads_neither_torch_nor_ray_nor_mlflow(home: Path) -> None:
    script = PARAMS.parent / "pipelines" / "sweep.py"
    code = (
        "import atexit, runpy, sys\n"
        "atexit.register(lambda: print('loaded', sorted({'torch', 'ray', 'mlflow'} & set(sys.modules))))\n"
        f"sys.path.insert(0, {str(PARAMS.parent)!r})\n"
        f"sys.argv = [{str(script)!r}, '--plan', 'sweep.scale=paper', 'sweep.gpus=8', 'sweep.tables=[2,3,4,5,6,7]']\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "43 experiments: 43 to do" in done.stdout
    assert "loaded []" in done.stdout


def test_what_cannot_fit_is_refused_with_what_would(home: Path) -> None:
    config = paper("gpu_memory_gb=24", "variants=[setr-pup]", "datasets=[cityscapes]")
    plan = Plan(config, plan_sweep(config, lenient=True))
    assert {entry.experiment.dataset for entry in plan.planned} == {"cityscapes"}
    with pytest.raises(InputError, match=r"E_PLAN.*setr-pup.*training\.(micro_batch|workers)=") as caught:
        plan.check()
    assert "\n" not in str(caught.value)
    enough = paper("gpu_memory_gb=200", "variants=[setr-pup]")
    Plan(enough, plan_sweep(enough, lenient=True)).check()
    wide = paper("gpu_memory_gb=200", "variants=[setr-pup]", "gpus=4", "training.workers=8")
    with pytest.raises(InputError, match="8 GPUs"):
        Plan(wide, plan_sweep(wide, lenient=True)).check()


@pytest.mark.parametrize("word", ["price_per_gpu_hour=-1", "price_per_gpu_hour=cheap", "gpus=-1", "gpu_memory_gb=0"])
def test_prices_and_sizes_are_numbers(word: str) -> None:
    with pytest.raises(InputError, match=word.partition("=")[0]):
        paper(word)


def test_an_unknown_data_set_is_named(home: Path) -> None:
    with pytest.raises(InputError, match="ade21k"):
        plan_sweep(paper("datasets=[ade21k]"), lenient=True)


def test_finished_experiments_measure_the_others(trained: Planned, home: Path, capsys: pytest.CaptureFixture) -> None:
    [found] = measurements(home / "trained", home / "results")
    assert found.step > 0
    assert found.evaluation > 0
    words = ("sweep.cells=[table2/setr-pup-random/40k]", "storage.checkpoints=trained", "sweep.seeds=2")
    config = settings(*words)
    plan = Plan(config, plan_sweep(config, lenient=True))
    assert machine_of(config).device == "cpu"
    assert [entry.state for entry in plan.planned] == ["done", "to do"]
    again = plan.estimates[plan.planned[1].identity]
    assert again.seconds_source == "measured"
    assert again.seconds == pytest.approx(4 * found.step + found.evaluation * 2 + found.other, rel=0.6)
    print_plan(plan)
    print_simulation(plan, config.simulate)
    said = capsys.readouterr().out
    assert "1 done, 1 to do" in said
    assert "makespan" in said


def test_the_words_after_simulate_are_its_own() -> None:
    words = ["tables=[2]", "--simulate", "nodes=64", "gpus=8", "mtbf_hours=500", "scale=paper"]
    assert words_of_simulation(words) == [
        "tables=[2]",
        "--simulate",
        "simulate.nodes=64",
        "simulate.gpus=8",
        "simulate.mtbf_hours=500",
        "scale=paper",
    ]
    assert words_of_simulation(["gpus=8"]) == ["gpus=8"]


def test_a_narrowed_sweep_keeps_earlier_results_that_still_hold(trained: Planned, home: Path, tmp_path: Path) -> None:
    words = ("storage.checkpoints=trained", f"sweep.cells=[{CELL}]")
    runs = tmp_path / "runs"
    assert write_results(settings(*words), plan_sweep(settings(*words)), tmp_path) == 1
    record = runs / f"{trained.identity}.json"
    assert load_results(record)[0].cells == (CELL,)
    stranger = runs / f"{'0' * 64}.json"
    stranger.write_text(json.dumps([]))
    # Another seed alone is asked for: the first stays, and so does what no sweep has written.
    other = [entry for entry in plan_sweep(settings(*words, "sweep.seeds=2")) if entry.experiment.seed == 1]
    assert [entry.identity for entry in plan_earlier(settings(*words), other, [setr_study()])] == [trained.identity]
    assert write_results(settings(*words), other, tmp_path) == 0
    assert {path.name for path in runs.iterdir()} == {record.name, stranger.name}
    assert load_results(record)[0].cells == (CELL,)
    # Another recipe is another identity: the earlier record no longer stands for the cell.
    changed = settings(*words, "miniature.iterations={40k: 5, 80k: 4, 100k: 4, 160k: 4}")
    assert write_results(changed, plan_sweep(changed), tmp_path) == 0
    assert list(runs.iterdir()) == [stranger]


def test_a_reason_that_experiments_share_is_told_once_and_damaged_comparisons_by_line(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = settings("sweep.tables=[2]", "sweep.seeds=1")
    found = plan_sweep(config, lenient=True)[:3]
    why = "code: setr/models/a.py (A), setr/models/b.py (B) and {} more; a replay would show"
    folders = [tmp_path / str(number) for number in range(3)]
    for folder in folders:
        folder.mkdir()
    (folders[1] / "equivalences.jsonl").write_text("{}\ncut")
    entries = [
        dataclasses.replace(entry, state="changed", why=why.format(number), folder=folder)
        for entry, number, folder in zip(found, (34, 29, 34), folders, strict=True)
    ]
    print_reasons(Plan(config, entries))
    reason, note = capsys.readouterr().out.splitlines()
    assert reason == f"3 experiments changed: {why.replace('{} more', 'more').format()}"
    assert note.startswith(f"note: {found[1].name}: lines 1, 2 of equivalences.jsonl, cut or edited, count for nothing")
