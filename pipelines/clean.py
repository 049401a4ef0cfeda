"""Removes what the pipeline made: `make clean`, or `python pipelines/clean.py --yes`.

Only what is known by its contents or its name to be the pipeline's own goes: what else lies in these folders stays,
and so does everything while a sweep or a training is at work.
"""

import argparse
import contextlib
import re
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this file's own project, whichever is installed

from pipelines.terminal.command import run_command
from pipelines.tracking.results_folder import STUDIES, earlier_results
from setr.data.locations import is_uri
from setr.data.manifest import MANIFEST_NAME, read_manifest
from setr.errors import InputError, SetrError
from setr.record.files import EVENTS, EXPERIMENT, IDENTITY
from setr.record.lease import NAME as LEASE
from setr.record.lease import exclusive
from setr.reporting.figures.figure_store import kept_files
from setr.reporting.site.site_folder import STATE, files_of
from setr.scenes.scenes import SETTINGS_FILE
from setr.settings.config import Config
from setr.settings.home import resolve
from setr.study.shelf import known_study
from setr.training.proxies import PROXIES

_HASH = re.compile(r"[0-9a-f]{64}")
_RUN = re.compile(r"[0-9a-f]{32}")
_LOG = re.compile(r"(sweep|search)-\d{8}-\d{6}\.log")
_EVALUATION = re.compile(r"[0-9a-f]{12}-[0-9a-f]{12}-.+\.json")


def work(config: Config, arguments: argparse.Namespace) -> int:
    """Asks, and removes; returns the exit status: 1 if the answer was no."""
    storage = resolve(config.storage.checkpoints)
    with contextlib.ExitStack() as held:
        if storage.is_dir():
            held.enter_context(exclusive(storage, busy="a sweep is at work here", wait_seconds=0.0))
        experiments = list(own_experiments(storage))
        for folder in experiments:
            held.enter_context(exclusive(folder, busy="a training is at work here", wait_seconds=0.0))
        found = [*experiments, *own_files(config)]
        if not found:
            print("nothing here that the pipeline made")
            return 0
        for folder in sorted({path.parent for path in found}):
            print(f"{sum(path.parent == folder for path in found):6d} in {folder}")
        if not arguments.yes and not _agreed():
            print("nothing was removed")
            return 1
        for path in found:
            _remove(path)
    for path in storage.glob(f"{LEASE}*"):  # what says whose the storage path is: nobody's now
        _remove(path)
    for folder in sorted({path.parent for path in found}, key=lambda path: len(path.parts), reverse=True):
        _remove_empty(folder)
    return 0


def own_experiments(storage: Path) -> Iterator[Path]:
    """Yields the folders of experiments: named by an identity, with a record in them."""
    for folder in sorted(storage.glob("*")):
        known = any((folder / name).is_file() for name in (IDENTITY, EXPERIMENT, EVENTS))
        if _HASH.fullmatch(folder.name) and known and not folder.is_symlink():
            yield folder


def own_files(config: Config) -> Iterator[Path]:
    """Yields everything else that the pipeline made, file by file where a folder may hold somebody else's too."""
    yield from _data(config)
    weights = resolve(config.weights.folder)
    yield from (
        path
        for proxy in PROXIES
        for path in (weights / f"{proxy.name}.safetensors", weights / f"{proxy.name}.json")
        if path.is_file()
    )
    storage = resolve(config.storage.checkpoints)
    yield from (path for path in sorted(storage.glob("diffs/*.diff")) if _HASH.fullmatch(path.stem))
    yield from (
        path for pattern in ("ray-tune-*", "ray-search-*", "ray-train") for path in sorted(storage.glob(pattern))
    )
    yield from _results(resolve(config.storage.results))
    report = resolve(config.storage.report)
    yield from (path for name in files_of(report) if (path := report / name).is_file())
    yield from (path for path in (report / STATE,) if path.is_file())
    yield from (path for path in sorted(resolve(config.storage.logs).glob("*.log")) if _LOG.fullmatch(path.name))
    yield from _tracking(resolve("."))


def _data(config: Config) -> Iterator[Path]:
    scenes = resolve(config.datasets.get("scenes", "data/raw/scenes"))
    if (scenes / SETTINGS_FILE).is_file():
        yield scenes
    shards = "" if is_uri(config.data.shards) else config.data.shards
    for path in sorted(resolve(shards).glob(f"*/*/{MANIFEST_NAME}")) if shards else ():
        try:
            manifest, _ = read_manifest(path.parent)
        except SetrError:
            continue
        yield from (file for entry in manifest.shards if (file := path.parent / entry.file).is_file())
        yield path  # last: what is cut off is still known


def _results(folder: Path) -> Iterator[Path]:
    yield from (folder / "runs" / f"{identity}.json" for identity in earlier_results(folder / "runs"))
    yield from (path for path in sorted((folder / STUDIES).glob("*.yaml")) if _is_study(path))
    yield from kept_files(folder / "figures")
    yield from (path for path in sorted(folder.glob("evaluations/*.json")) if _EVALUATION.fullmatch(path.name))
    yield from (path for name in ("scores.json", "parameters.json") if (path := folder / name).is_file())


def _is_study(path: Path) -> bool:
    """Returns whether a file is a study as sweeps keep them beside results."""
    with contextlib.suppress(InputError):
        return known_study(path.stem, path).prefix != ""
    return False


def _tracking(home: Path) -> Iterator[Path]:
    """Yields MLflow's database beside the project, if it is one, and the files of its runs."""
    database = home / "mlflow.db"
    if not database.is_file():
        return
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            runs = {row[0] for row in connection.execute("SELECT run_uuid FROM runs")}
    except sqlite3.Error:
        return
    yield from (path for path in sorted(home.glob("mlartifacts/*")) if _RUN.fullmatch(path.name) and path.name in runs)
    yield from (path for suffix in ("-wal", "-shm", "-journal", "") if (path := Path(f"{database}{suffix}")).is_file())


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise InputError("E_COMMAND", "nobody is there to be asked", remedy="give --yes (make clean YES=1)")
    return input("remove all of this? [y/N] ").strip().lower() in ("y", "yes")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_empty(folder: Path) -> None:
    """Removes a folder and those above it, below the project's own, as far as nothing is in them."""
    with contextlib.suppress(OSError):
        while folder not in (resolve("."), folder.parent):
            folder.rmdir()
            folder = folder.parent


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")


if __name__ == "__main__":
    run_command("Remove what the pipeline made.", "storage", work, add_arguments=_arguments)
