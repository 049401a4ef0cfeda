"""Prepared data of a few generated images in a home folder of their own, and a small experiment trained on them.

Every folder of tests may ask for them: tests/conftest.py registers them once, so that nothing is trained twice.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from setr.data.reading.cityscapes import TRAIN_ID_TO_ID
from setr.data.reading.datasets import DATASETS
from setr.data.reading.folder import FolderSettings, folder_dataset
from setr.data.reading.samples import Dataset, Sample
from setr.data.shards import write_shards
from setr.experiments.worker import run_experiment
from setr.planning.experiments import plan_training
from setr.planning.planned import Planned
from setr.record.files import EVENTS, EXPERIMENT
from setr.settings.config import Config, TrackingConfig
from setr.training.distributed import Context
from tests.helpers.tiny import CELL, settings

if TYPE_CHECKING:
    from pipelines.tracking.tracker import Tracker

HEIGHT, WIDTH = 32, 64  # pixels


def write_data(home: Path, dataset: Dataset, ids: tuple[int, ...], counts: dict[str, int]) -> None:
    """Writes shards of pictures whose colour tells the class; the test split has no labels."""
    generator = np.random.default_rng(0)
    colours = generator.integers(0, 256, (len(ids), 3))
    source = home / "source" / dataset.name
    source.mkdir(parents=True)
    for split, count in counts.items():
        samples = []
        for number in range(count):
            classes = generator.integers(0, len(ids), (4, 8)).repeat(8, 0).repeat(8, 1)
            name = f"{split}_{number:06d}_{number:06d}"
            image, label = source / f"{name}.png", source / f"{name}_ids.png"
            noise = generator.integers(-20, 21, (HEIGHT, WIDTH, 3))
            cv2.imwrite(str(image), (colours[classes] + noise).clip(0, 255).astype(np.uint8))
            cv2.imwrite(str(label), np.asarray(ids, np.uint8)[classes])
            samples.append(Sample(f"{split}/{name}", image, None if split == "test" else label))
        write_shards(samples, dataset, home / "data" / "shards" / dataset.name / split, split=split, workers=1)


@pytest.fixture(scope="session")
def tiny_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a home folder with shards of `scenes` (19 classes) and of `own`, a data set of 6 classes."""
    home = tmp_path_factory.mktemp("a home")
    write_data(home, DATASETS["scenes"], TRAIN_ID_TO_ID[:5], {"train": 6, "val": 3, "test": 2})
    own = folder_dataset("own", FolderSettings("images", "labels"), [f"kind {number}" for number in range(6)])
    write_data(home, own, tuple(range(6)), {"val": 2})
    return home


@pytest.fixture
def home(tiny_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes the tiny home the one that commands of this process work in."""
    monkeypatch.setenv("SETR_HOME", str(tiny_home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tiny_home


@pytest.fixture(scope="session")
def trained(tiny_home: Path) -> Planned:
    """Returns an experiment of four steps that is trained and scored."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SETR_HOME", str(tiny_home))
        config = settings(f"cell={CELL}", "storage.checkpoints=trained")
        job = plan_training(config).job(config, tiny_home / "no-stop-file")
        outcome = run_experiment(json.loads(json.dumps(job)), Context())
        assert outcome == {"status": "finished"}, outcome
        return plan_training(config)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a tracking database with its tables and nothing in them: making one takes seconds, copying it nothing."""
    from pipelines.tracking.tracker import Tracker  # loads MLflow, which few folders of tests need

    folder = tmp_path_factory.mktemp("database")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        Tracker(TrackingConfig(experiment="another"), folder)
    return folder / "mlflow.db"


@pytest.fixture
def told(
    home: Path, trained: Planned, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> "tuple[Config, Planned, Tracker]":
    """A copy of the trained experiment in a home of its own, with its run in MLflow, a model and a local copy."""
    from pipelines.tracking.recording import send_records
    from pipelines.tracking.results_folder import write_results
    from pipelines.tracking.tracker import Tracker

    mine = tmp_path / "home"
    mine.mkdir()
    (mine / "data").symlink_to(home / "data")
    shutil.copy(empty_database, mine)
    entry = dataclasses.replace(trained, folder=mine / "checkpoints" / trained.identity)
    shutil.copytree(trained.folder, entry.folder)
    monkeypatch.setenv("SETR_HOME", str(mine))
    tags = {"git.commit": "c" * 40, "git.dirty": "false", "setr.environment": "python 3"}
    _say_that_it_was_trained_with(tags, entry.folder)
    config = settings(section="sweep")
    tracker = Tracker(config.tracking, mine)
    parent = tracker.start_parent("sweep", tags, "")
    send_records(tracker, parent, [entry], register=True)
    write_results(config, [entry], mine / "results")
    return config, entry, tracker


def _say_that_it_was_trained_with(tags: dict[str, str], folder: Path) -> None:
    record = json.loads((folder / EXPERIMENT).read_text())
    record["job"]["tags"] = tags
    (folder / EXPERIMENT).write_text(json.dumps(record))
    events = [json.loads(line) for line in (folder / EVENTS).read_text().splitlines()]
    lines = [json.dumps(event | ({"tags": tags} if event["event"] == "start" else {})) for event in events]
    (folder / EVENTS).write_text("".join(f"{line}\n" for line in lines))
