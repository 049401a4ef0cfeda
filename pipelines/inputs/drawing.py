"""The built-in data set drawn as the `scenes` section says."""

import os

from setr.scenes.scenes import write_scenes
from setr.settings.config import Config
from setr.settings.home import resolve


def draw_scenes(config: Config) -> None:
    """Writes the images and labels that the `scenes` section asks for."""
    scenes = config.scenes
    folder = resolve(config.datasets.get("scenes", "data/raw/scenes"))
    write_scenes(
        folder,
        seed=scenes.seed,
        train_images=scenes.train_images,
        val_images=scenes.val_images,
        height=scenes.height,
        width=scenes.width,
        workers=os.cpu_count() or 1,
    )
    print(f"{scenes.train_images} train and {scenes.val_images} val scenes of {scenes.width}x{scenes.height}: {folder}")
