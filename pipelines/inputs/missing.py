"""What a sweep in miniature needs and does not find: made on the spot."""

import dataclasses
import os

from setr.data.locations import is_uri
from setr.data.manifest import MANIFEST_NAME
from setr.settings.config import Config, DataConfig
from setr.settings.home import resolve
from setr.study.miniature import DATASET
from setr.training.proxies import PROXIES


def make_missing_inputs(config: Config) -> None:
    """Draws the scenes, writes their shards and pre-trains the miniatures where they are missing.

    `dvc repro` has made them before; a job on a cluster starts with nothing but the code.
    """
    shards = resolve(config.data.shards) / DATASET
    here = not is_uri(config.data.shards)  # what lies elsewhere is not made from here
    if here and not all((shards / split / MANIFEST_NAME).is_file() for split in ("train", "val")):
        root = resolve(config.datasets.get(DATASET, DataConfig.root))
        from pipelines.inputs.drawing import draw_scenes
        from pipelines.inputs.sharding import write_all_shards

        if not root.exists():
            draw_scenes(config)
        data = dataclasses.replace(config.data, name=DATASET, root=str(root), images="", labels="")
        write_all_shards(dataclasses.replace(config, data=data))
    weights = resolve(config.weights.folder)
    if not all((weights / f"{proxy.name}.safetensors").is_file() for proxy in PROXIES):
        from pipelines.inputs.pretraining import make_weights

        make_weights(config.weights, weights, workers=os.cpu_count() or 1)
