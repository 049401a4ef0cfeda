"""Draws the built-in data set of synthetic street scenes in Cityscapes' folder layout: `python pipelines/scenes.py`."""

import argparse
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this file's own project, whichever is installed

from pipelines.command import resolve, run_command
from setr.config import Config
from setr.scenes.scenes import write_scenes


def work(config: Config, arguments: argparse.Namespace) -> None:
    """Draws the scenes."""
    draw_scenes(config)


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


if __name__ == "__main__":
    run_command("Draw the built-in data set of synthetic street scenes.", "scenes", work)
