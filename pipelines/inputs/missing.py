"""What a sweep in miniature needs and does not find: made on the spot."""

import dataclasses
import os
from collections.abc import Callable, Iterable

from setr.data.locations import is_uri
from setr.data.manifest import MANIFEST_NAME
from setr.planning.planned import Planned
from setr.settings.config import Config, DataConfig
from setr.settings.home import resolve
from setr.study.miniature import DATASET
from setr.training.proxies import PROXIES


def make_missing_inputs(config: Config, plan: Callable[[], Iterable[Planned]] | None = None) -> None:
    """Draws the scenes, writes their shards and pre-trains the miniatures where they are missing and wanted.

    `dvc repro` has made them before; a job on a cluster starts with nothing but the code. `plan` is asked, where
    something is not there, which experiments do without what; None: all is wanted.
    """
    shards, weights = resolve(config.data.shards) / DATASET, resolve(config.weights.folder)
    here = not is_uri(config.data.shards)  # what lies elsewhere is not made from here
    no_data = here and not all((shards / split / MANIFEST_NAME).is_file() for split in ("train", "val"))
    no_weights = not all((weights / f"{proxy.name}.safetensors").is_file() for proxy in PROXIES)
    if not (no_data or no_weights):
        return
    wanted = None if plan is None else [missing for entry in plan() for missing in entry.missing]
    if no_data and (wanted is None or f"data set {DATASET}" in wanted):
        _make_scenes(config)
    if no_weights and (wanted is None or any(missing.startswith("weights of ") for missing in wanted)):
        from pipelines.inputs.pretraining import make_weights

        make_weights(config.weights, weights, workers=os.cpu_count() or 1)


def _make_scenes(config: Config) -> None:
    from pipelines.inputs.drawing import draw_scenes
    from pipelines.inputs.sharding import write_all_shards

    root = resolve(config.datasets.get(DATASET, DataConfig.root))
    if not root.exists():
        draw_scenes(config)
    data = dataclasses.replace(config.data, name=DATASET, root=str(root), images="", labels="")
    write_all_shards(dataclasses.replace(config, data=data))
