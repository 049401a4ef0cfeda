"""The report over 500 generated runs in a real MLflow store: time, size, and what a rebuild costs.

    python -m benchmarks.report [--runs 500] [--keep FOLDER]

Runs are written into SQLite first, each with its record, picture and counts of 120 images; that is not timed. Then
`pipelines/report.py` runs as a process of its own: the whole command, and of it the site alone. Times are CPU time.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.progress import track

from benchmarks.generated_results import CLASSES, make_picture, make_results
from pipelines.report import collect
from pipelines.tracking.tracker import IDENTITY_TAG, PARENT_TAG, RECORD_ARTIFACT, Tracker
from setr.reporting.numbers.results import Result, save_results
from setr.reporting.site.site import build_site
from setr.settings.config import Config, TrackingConfig
from setr.settings.home import PROJECT

IMAGES = 120
AIM_SECONDS, AIM_AGAIN_SECONDS, AIM_BYTES, AIM_PAGE_BYTES = 20.0, 2.0, 30e6, 300e3


def main() -> int:
    """Print one line per number; exit status 1 if an aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--keep", metavar="FOLDER", default="", help="leave store and site in this new folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(arguments.keep or temporary).absolute()
        home.mkdir(parents=True, exist_ok=True)
        os.environ["SETR_HOME"] = str(home)
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        fill(home, arguments.runs)
        return measure(home)


def fill(home: Path, runs: int) -> None:
    """Writes the runs into the home's MLflow store."""
    generator = np.random.default_rng(0)
    made = make_results((2,), seeds=-(-runs // 28), points=40)[:runs]
    tracker = Tracker(TrackingConfig(), home)
    parent = tracker.start_parent("generated", {}, "Nothing here was measured.")
    with tempfile.TemporaryDirectory() as folder:
        picture = make_picture(Path(folder) / "qualitative.png")
        for one in track(made, "runs", transient=True):
            result, files = with_files(one, Path(folder), generator)
            run = tracker.start_child(parent, one.identity, f"{one.of('variant')} {one.of('schedule')}", {})
            tracker.set_tags(run, {IDENTITY_TAG: one.identity, PARENT_TAG: parent, **one.tags})
            save_results(Path(folder) / RECORD_ARTIFACT, [result])
            tracker.artifacts(run, [Path(folder) / RECORD_ARTIFACT, picture, *files])
            tracker.finish(run)


def with_files(one: Result, folder: Path, generator: np.random.Generator) -> tuple[Result, list[Path]]:
    """Returns the result with the counts of its images, which are written into `folder`."""
    label = generator.integers(0, 4000, (IMAGES, len(CLASSES)))
    hits = (label * generator.uniform(0.2, 0.8, label.shape)).astype(np.int64)
    file = folder / "areas-ss.npz"
    keys = np.array([f"val/scene_{index:06d}" for index in range(IMAGES)])
    np.savez_compressed(file, keys=keys, areas=np.stack([hits, label, label], 1))
    return replace(one, per_image={"ss": file}), [file]


def measure(home: Path) -> int:
    """Prints times and sizes; returns 1 if an aim is missed."""
    first, again = (timed_command() for _ in range(2))
    files = [file for file in (home / "report").rglob("*") if file.is_file()]
    page = (home / "report/index.html").stat().st_size
    size = sum(file.stat().st_size for file in files)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.process_time()
        found = collect(Config(), Path(folder))
        reading = time.process_time() - begun
        begun = time.process_time()
        build_site(found.results, home / "site", notes=found.notes)
        site = time.process_time() - begun
        before = {file: file.read_bytes() for file in (home / "site").rglob("*") if file.is_file()}
        begun = time.process_time()
        rebuilt = build_site(found.results, home / "site", notes=found.notes).rebuilt
        nothing = time.process_time() - begun
    same = before == {file: file.read_bytes() for file in (home / "site").rglob("*") if file.is_file()}
    rows = [
        ("whole command, first", first, AIM_SECONDS, "s"),
        ("  of it reading the store", reading, None, "s"),
        ("  of it the site", site, None, "s"),
        ("whole command again, nothing changed", again, None, "s"),
        ("  of it the site", nothing, AIM_AGAIN_SECONDS, "s"),
        ("site", size / 1e6, AIM_BYTES / 1e6, "MB"),
        ("first page", page / 1e3, AIM_PAGE_BYTES / 1e3, "KB"),
    ]
    print(f"{len(found.results)} runs, {len(files)} files, {os.cpu_count()} cores")
    for name, value, aim, unit in rows:
        print(f"{name:<40}{value:8.2f} {unit:<3}{f'aim {aim:g}' if aim else ''}")
    print(f"rebuilt with nothing changed: {'yes' if rebuilt else 'no'}; byte-identical: {'yes' if same else 'no'}")
    return int(rebuilt or not same or any(aim is not None and value >= aim for _, value, aim, _ in rows))


def timed_command() -> float:
    """Returns the CPU seconds that the report's command takes, its imports among them."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, PROJECT / "pipelines/report.py"], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    sys.exit(main())
