"""Settings changed at random end in a plan or in one line: no traceback, no hang, nothing half understood.

SETR_MUTATIONS=2000 tries more, SETR_MUTATIONS_SEED=7 others; both are printed.
"""

import os
import random
import time

import pytest

from pipelines.terminal.plan import Plan, print_plan, print_simulation
from setr.errors import SetrError
from setr.planning.experiments import plan_sweep
from setr.settings.config import load_config
from setr.settings.folders import check_folders
from tests.helpers import mutations
from tests.helpers.environment import PARAMS

TEXT = PARAMS.read_text()
COUNT = int(os.environ.get("SETR_MUTATIONS", "300"))
SEED = int(os.environ.get("SETR_MUTATIONS_SEED", "18"))
LONGEST_SECONDS = 10.0


def plan_of(path, overrides):
    """Does what `sweep.py --plan --simulate` does with the settings of a file."""
    config = load_config(path, overrides, section="sweep")
    check_folders(config)
    plan = Plan(config, plan_sweep(config, lenient=True))
    print_plan(plan)
    plan.check()
    print_simulation(plan, config.simulate)


@pytest.fixture
def outcome(tmp_path, monkeypatch, capsys):
    """Returns a function that plans under changed settings: "" for a plan, or the one line of what is refused."""
    monkeypatch.setenv("SETR_HOME", str(tmp_path / "home"))
    path = tmp_path / "params.yaml"

    def tried(text, *overrides):
        path.write_bytes(text.encode(errors="surrogateescape"))
        try:
            plan_of(path, overrides)
        except SetrError as error:
            return str(error)
        finally:
            capsys.readouterr()
        return ""

    return tried


def test_a_changed_setting_ends_in_a_plan_or_in_one_line(outcome, capsys):
    chance = random.Random(SEED)
    refused, longest = 0, (0.0, "")
    for number in range(COUNT):
        if number % 3 == 0:
            text, overrides = mutations.file(TEXT, chance), []
        else:
            text, overrides = TEXT, [mutations.override(chance) for _ in range(chance.randint(1, 2))]
        told = f"{number}: {overrides or text!r}"[:2000]
        begun = time.process_time()
        try:
            line = outcome(text, *overrides)
        except Exception as error:
            raise AssertionError(f"seed {SEED}, {told}: {type(error).__name__}: {error}") from error
        longest = max(longest, (time.process_time() - begun, told[:300]))
        assert line.isprintable(), told
        assert len(line) < 2500, told
        refused += bool(line)
    assert longest[0] < LONGEST_SECONDS, longest
    assert 0 < refused < COUNT
    with capsys.disabled():
        print(f"\n{COUNT} mutations of settings, seed {SEED}: {refused} refused, longest {longest[0]:.1f} s of CPU")


# What no one can mean; each has to be refused before anything is made.
NONSENSE = (
    "storage.checkpoints=data",
    "storage.checkpoints=data/shards",
    "storage.checkpoints=data/raw/scenes/x",
    "storage.results=checkpoints",
    "storage.report=results/report",
    "storage.checkpoints=.",
    "storage.checkpoints=/",
    "storage.logs=",
    "storage.logs= ",
    "storage.report=weights",
    "weights.folder=checkpoints",
    "data.shards=checkpoints",
    "storage.results=mlartifacts",
    "storage.results=s3://bucket/results",
    "weights.folder=s3://bucket/weights",
    "datasets.mine=checkpoints/mine",
    "datasets.mine=",
    "datasets.../../x=/data/x",
    "datasets.$(ls)=/data/x",
    "data.name=../../x",
    "data.name=",
    "data.splits=[..]",
    "training.threads=1000000",
    "training.threads=0",
    "training.workers=1000000",
    "training.loader_threads=-1",
    "training.seed=-1",
    "training.seed=4294967296",
    "training.max_quarantined=1.5",
    "training.log_every=9223372036854775808",
    "training.recipe.iterations=9223372036854775808",
    "training.recipe.iterations=9223372036854775807",
    "training.recipe.iterations=0",
    "training.recipe.batch_size=-8",
    "training.recipe.base_lr=0.0",
    "training.recipe.base_lr=-1.0",
    "training.recipe.momentum=1.0",
    "training.recipe.crop_size=[0, 0]",
    "training.recipe.crop_size=[1000000, 16]",
    "training.recipe.ratio_range=[0.0, 2.0]",
    "training.recipe.flip_probability=2.0",
    "training.recipe.cat_max_ratio=0.0",
    "training.watchdog.step=0",
    "training.watchdog.step=1000000000",
    "miniature.iterations.40k=0",
    "miniature.iterations.40k=9223372036854775807",
    "miniature.crop_size=[-32, 32]",
    "miniature.batch_size=1000000000",
    "sweep.seeds=1000000000",
    "sweep.concurrent=1000000",
    "sweep.utilisation=2.0",
    "sweep.utilisation=1.0e-300",
    "sweep.gpu_memory_gb=1.0e-9",
    "sweep.price_per_gpu_hour=-1.0",
    "simulate.nodes=1000000000",
    "simulate.repeats=1000000000",
    "simulate.mtbf_hours=1.0e-9",
    "scenes.height=1000000",
    "scenes.train_images=0",
    "weights.size=1000000",
    "search.samples=0",
    "search.space={a: !!int x}",
    "tracking.timeout_seconds=1000000",
    "tracking.experiment=",
    "evaluation.device=cpu; rm",
    "data.palette=[[256, 0, 0]]",
    "data.name=a\0b",
    "data.name=\udcff",
    f"data.name={'x' * 300}",
)


@pytest.mark.parametrize("override", NONSENSE, ids=ascii)
def test_nonsense_is_refused(outcome, override):
    line = outcome(TEXT, override)
    assert line.startswith("E_"), line
    assert override.partition("=")[0].rpartition(".")[0].partition(".")[0] in line, line
