"""Checks a data set and writes it into Arrow shards: `python pipelines/prepare.py data.name=camvid data.root=...`.

With --check nothing is written but the report: counts, sizes, label values, damage, and a sheet of pictures.
"""

import argparse
import contextlib
import sys
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this file's own project, whichever is installed

import cv2

from pipelines.inputs.sharding import dataset_of, write_all_shards
from pipelines.terminal.bar import progress_bar
from pipelines.terminal.command import run_command
from setr.data.checking.doctor import check, report_lines
from setr.data.checking.preview import preview_sheet
from setr.data.reading.own_labels import settled
from setr.data.reading.samples import Dataset
from setr.errors import InputError, SetrError
from setr.files.atomic import write_json
from setr.settings.config import Config
from setr.settings.home import resolve


def work(config: Config, arguments: argparse.Namespace) -> int:
    """Writes shards for every split, or with --check the report alone; returns the exit status."""
    if arguments.listed:
        config = replace(config, data=replace(config.data, root=listed_root(config)))
    dataset, root = dataset_of(config.data)
    if not root.exists():
        raise InputError(
            "E_DATA_ROOT",
            "no such folder of data",
            where=root,
            expected=f"{dataset.name} as published",
            remedy="set data.root" + (", or run `python pipelines/scenes.py`" if dataset.name == "scenes" else ""),
        )
    if arguments.check:
        return report(dataset, root, config)
    write_all_shards(config)
    return 0


def listed_root(config: Config) -> str:
    """Returns the folder that `datasets` names for `data.name`: as it is written, which no shell has read before."""
    name = config.data.name
    if name not in config.datasets:
        raise InputError(
            "E_CONFIG",
            "a data set that is not listed",
            where="datasets",
            found=name,
            expected=", ".join(config.datasets),
        )
    return config.datasets[name]


def report(dataset: Dataset, root: Path, config: Config) -> int:
    """Prints and stores what the check finds; returns 2 if something has to be mended."""
    with progress_bar() as bar:
        task = bar.add_task(f"checking {dataset.name}", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        found = check(dataset, root, config.data.splits, progress=show)
    for line in report_lines(found):
        print(line)
    folder = resolve(config.storage.results) / "data"
    write_json(folder / f"{dataset.name}.json", found.as_dict())
    if found.splits:
        samples = dataset.scan(root, found.splits[0].split).samples
        with contextlib.suppress(SetrError):
            dataset = settled(dataset, [sample.label for sample in samples if sample.label is not None])
        sheet = preview_sheet(samples, dataset)
        cv2.imwrite(str(folder / f"{dataset.name}.png"), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    print(f"report: {folder / dataset.name}.json, pictures: {folder / dataset.name}.png")
    return 0 if found.ok else 2


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="examine the data set and report; write no shards")
    parser.add_argument("--listed", action="store_true", help="data.root is what `datasets` says of data.name")


if __name__ == "__main__":
    run_command("Check a data set and write it into Arrow shards.", "data", work, add_arguments=_arguments)
