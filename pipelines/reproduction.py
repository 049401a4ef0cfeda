"""The command that trains an experiment again, beside what is there: neither checkpoint nor tracked run is touched."""

import shlex
from typing import Any

import yaml

from pipelines.command import PROJECT
from pipelines.jobs import Planned
from setr.config import Config, load_config, to_dict

AGAIN = "again"  # storage path and MLflow experiment of trainings that are done a second time
# Settings that decide a training or the bits of its sums; of other sections, the experiment says what is needed.
_SETTINGS = {
    "data": ("shards",),
    "weights": ("folder",),
    "miniature": None,
    "training": ("threads", "loader_threads", "micro_batch", "recipe"),
}


def train_again(config: Config, planned: Planned, *, workers: int = 1) -> str:
    """Returns the command, quoted for a shell; what params.yaml says is left out of it."""
    experiment = planned.experiment
    start = ["python"] if workers == 1 else ["torchrun", f"--nproc-per-node={workers}"]
    words = [*start, "pipelines/train.py"]
    if planned.cells:
        words.append(f"cell={planned.cells[0]}")
    else:
        words += [f"variant={experiment.variant}", f"schedule={experiment.schedule}", f"data.name={experiment.dataset}"]
    words += [f"seed={experiment.seed}", f"sweep.scale={experiment.scale}"]
    if config.sweep.flavour != "authors":
        words.append(f"sweep.flavour={config.sweep.flavour}")
    words += changed_settings(config)
    return shlex.join([*words, f"storage.checkpoints={AGAIN}", f"tracking.experiment={AGAIN}"])


def changed_settings(config: Config) -> list[str]:
    """Returns `section.key=value` for each deciding setting that is not as params.yaml has it."""
    here, there = to_dict(config), to_dict(load_config(PROJECT / "params.yaml"))
    return [
        f"{section}.{key}={_yaml(here[section][key])}"
        for section, keys in _SETTINGS.items()
        for key in keys or here[section]
        if here[section][key] != there[section][key]
    ]


def _yaml(value: Any) -> str:
    """Returns a value as one line of YAML; JSON would write a number such as 1e-05, which YAML reads as text."""
    return yaml.safe_dump([value], default_flow_style=True, width=10_000, sort_keys=False).strip()[1:-1]
