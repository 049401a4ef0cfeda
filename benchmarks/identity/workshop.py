"""Copies of the project that are edited, and copies of a home with finished results: each costs milliseconds."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
CODE = ("setr", "pipelines", "studies")
SETTINGS = "params.yaml"
RESULTS = "checkpoints"


def copy_project(to: Path, source: Path = PROJECT) -> Path:
    """Returns a copy of the code of a project, without what Python has compiled."""
    for name in CODE:
        shutil.copytree(source / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(source / SETTINGS, to)
    return to


def edited_project(base: Path, to: Path, files: Mapping[str, str]) -> Path:
    """Returns a copy of a copied project in which `files` have other texts; the others are the same files."""
    for name in CODE:
        shutil.copytree(base / name, to / name, copy_function=os.link)
    os.link(base / SETTINGS, to / SETTINGS)
    for file, text in files.items():
        (to / file).unlink(missing_ok=True)
        (to / file).write_text(text, encoding="utf-8")
    return to


def copy_home(base: Path, to: Path, *, results: bool = True) -> Path:
    """Returns a home with the data and weights of another one, and with copies of its results, or without them."""
    to.mkdir(parents=True)
    for name in ("data", "weights"):
        (to / name).symlink_to(base / name)
    if results:
        shutil.copytree(base / RESULTS, to / RESULTS)
    return to
