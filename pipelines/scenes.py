"""Draws the built-in data set of synthetic street scenes in Cityscapes' folder layout: `python pipelines/scenes.py`."""

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this file's own project, whichever is installed

from pipelines.inputs.drawing import draw_scenes
from pipelines.terminal.command import run_command
from setr.settings.config import Config


def work(config: Config, arguments: argparse.Namespace) -> None:
    """Draws the scenes."""
    draw_scenes(config)


if __name__ == "__main__":
    run_command("Draw the built-in data set of synthetic street scenes.", "scenes", work)
