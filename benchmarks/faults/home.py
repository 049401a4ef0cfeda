"""A home folder with tiny data, sweeps of tiny experiments in it, and the audit of what they left behind."""

import contextlib
import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.inputs.drawing import draw_scenes
from pipelines.inputs.sharding import write_all_shards
from pipelines.tracking.tracker import Tracker
from setr.planning.experiments import plan_sweep
from setr.record.events import read_events
from setr.settings.config import Config, load_config
from setr.settings.home import PROJECT
from setr.training.proxies import PROXIES

CELL = "table2/setr-pup-random/40k"  # starts from random weights
DATA = ("scenes.train_images=8", "scenes.val_images=3", "scenes.height=64", "scenes.width=128", "data.workers=1")


@contextlib.contextmanager
def working_in(home: Path) -> Iterator[None]:
    """Makes `home` the folder that this process's settings are below."""
    before = {name: os.environ.get(name) for name in ("SETR_HOME", "MLFLOW_TRACKING_URI")}
    os.environ["SETR_HOME"] = str(home)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def prepare(home: Path) -> None:
    """Writes shards of a few scenes into `home`, and says that the weights which nobody needs here are there."""
    with working_in(home):
        config = settings(*DATA, "data.name=scenes")
        draw_scenes(config)
        write_all_shards(config)
    (home / "weights").mkdir()
    for proxy in PROXIES:
        (home / "weights" / f"{proxy.name}.safetensors").touch()


def sweep_words(experiments: int, iterations: int, name: str) -> list[str]:
    """Returns the settings of a sweep of single-worker experiments that differ in their seed."""
    return [
        f"sweep.cells=[{CELL}]",
        f"sweep.seeds={experiments}",
        f"miniature.iterations={{40k: {iterations}}}",
        "miniature.crop_size=[32,32]",
        "miniature.batch_size=2",
        "training.log_every=1",
        f"storage.checkpoints={name}",
        f"storage.results=results-{name}",
        f"tracking.experiment={name}",
    ]


def settings(*words: str) -> Config:
    """Returns the project's settings with these in place."""
    return load_config(PROJECT / "params.yaml", words, section="sweep")


def environment(home: Path, **more: str) -> dict[str, str]:
    """Returns the variables of a command that works in `home`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "RAY_", "SETR_"))}
    return {**kept, "SETR_HOME": str(home), "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1", **more}


def command(name: str, *words: str) -> list[str]:
    """Returns the command line of pipelines/<name>.py."""
    return [sys.executable, str(PROJECT / "pipelines" / f"{name}.py"), *words]


@dataclass(frozen=True)
class Audit:
    """What a sweep left behind; all but the first two have to be 0."""

    experiments: int
    attempts: int
    lost: int  # without scores, or whose step of a checkpoint on disk was taken again
    trained_twice: int  # trained on after they were finished, or finished twice
    duplicate_runs: int
    duplicate_steps: int
    missing_steps: int  # in MLflow

    @property
    def clean(self) -> bool:
        """Returns whether nothing was lost or doubled."""
        return not any((self.lost, self.trained_twice, self.duplicate_runs, self.duplicate_steps, self.missing_steps))


def audit(home: Path, words: Sequence[str]) -> Audit:
    """Returns what the ledger and MLflow say of the sweep of these settings."""
    with working_in(home):
        config = settings(*words)
        planned = plan_sweep(config)
        tracker = Tracker(config.tracking, home)
    lost = twice = attempts = duplicate_steps = missing = 0
    for entry in planned:
        events = read_events(entry.folder / "events.jsonl")
        attempts += sum(event["event"] == "start" for event in events)
        saved, finished, again, repeated = 0, 0, False, False
        for event in events:
            if event["event"] == "checkpoint":
                saved = max(saved, event["step"])
            elif event["event"] == "start":
                repeated |= event["step"] < saved
            elif event["event"] == "metrics":
                again |= finished > 0
            finished += event["event"] == "finished"
        lost += entry.state != "done" or repeated
        twice += again or finished > 1
        for run in tracker.find(entry.identity)[:1]:
            steps = [point.step for point in tracker.client.get_metric_history(run.run_id, "train/loss")]
            duplicate_steps += len(steps) - len(set(steps))
            missing += len({event["step"] for event in events if event["event"] == "metrics"} - set(steps))
    runs = Counter(run.tags.get("setr.identity", run.name) for run in tracker.runs())
    missing += sum(entry.identity not in runs for entry in planned)
    doubled = sum(count - 1 for count in runs.values())
    return Audit(len(planned), attempts, lost, twice, doubled, duplicate_steps, missing)


def final_weights(storage: Path) -> dict[str, str]:
    """Returns {identity: SHA-256 of the newest checkpoint's weights}."""
    return {
        record.parent.name: hashlib.sha256(
            (max(record.parent.glob("step-*")) / "model.safetensors").read_bytes()
        ).hexdigest()
        for record in storage.glob("*/events.jsonl")
    }
