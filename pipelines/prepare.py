"""Checks a data set and writes it into Arrow shards: `python pipelines/prepare.py data.name=camvid data.root=...`.

With --check nothing is written but the report: counts, sizes, label values, damage, and a sheet of pictures.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this file's own project, whichever is installed

import cv2
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from pipelines.command import check_writable, resolve, run_command, write_json
from setr.config import Config, DataConfig
from setr.data.datasets import DATASETS, configured_dataset
from setr.data.doctor import check, report_lines
from setr.data.locations import is_uri, shown
from setr.data.preview import preview_sheet
from setr.data.samples import Dataset
from setr.data.shards import write_shards
from setr.errors import InputError


def work(config: Config, arguments: argparse.Namespace) -> int:
    """Writes shards for every split, or with --check the report alone; returns the exit status."""
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


def write_all_shards(config: Config) -> None:
    """Writes the shards of every split that the `data` section names."""
    dataset, root = dataset_of(config.data)
    if is_uri(config.data.shards):
        raise InputError(
            "E_CONFIG",
            "shards are written to a folder",
            where="data.shards",
            found=shown(config.data.shards),
            remedy="prepare into a folder, then copy it there, each manifest.json after its shards",
        )
    for split in config.data.splits:
        folder = resolve(config.data.shards) / config.data.name / split
        samples = dataset.list_samples(root, split)
        remark = dataset.count_remark(split, dataset.scan(root, split))
        if remark:
            print(f"note: {remark}")
        check_writable(folder.parent)
        with _bar() as bar:
            task = bar.add_task(f"{dataset.name}/{split}", total=len(samples))
            manifest = write_shards(
                samples,
                dataset,
                folder,
                split=split,
                storage=config.data.storage,
                rows_per_shard=config.data.rows_per_shard,
                workers=config.data.workers,
                progress=lambda done, _, task=task: bar.update(task, completed=done),  # type: ignore[misc]
            )
        print(f"{dataset.name}/{split}: {manifest.rows} images in {len(manifest.shards)} shards: {folder}")


def dataset_of(data: DataConfig) -> tuple[Dataset, Path]:
    """Returns the data set that the `data` section names, and its root."""
    if data.images and data.name in DATASETS:
        raise InputError(
            "E_CONFIG",
            "a data set of one's own needs a name of its own",
            where="data.name",
            found=data.name,
            remedy="add data.name=<name>; shards go to data/shards/<name>",
        )
    dataset, root = configured_dataset(replace(data, root=str(resolve(data.root))))
    return dataset, resolve(str(root))


def report(dataset: Dataset, root: Path, config: Config) -> int:
    """Prints and stores what the check finds; returns 2 if something has to be mended."""
    with _bar() as bar:
        task = bar.add_task(f"checking {dataset.name}", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        found = check(dataset, root, config.data.splits, progress=show)
    for line in report_lines(found):
        print(line)
    folder = resolve(config.storage.results) / "data"
    write_json(folder / f"{dataset.name}.json", found.as_dict())
    if found.splits:
        sheet = preview_sheet(dataset.scan(root, config.data.splits[0]).samples, dataset)
        cv2.imwrite(str(folder / f"{dataset.name}.png"), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    print(f"report: {folder / dataset.name}.json, pictures: {folder / dataset.name}.png")
    return 0 if found.ok else 2


def _bar() -> Progress:
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, transient=True, disable=not sys.stdout.isatty())


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="examine the data set and report; write no shards")


if __name__ == "__main__":
    run_command("Check a data set and write it into Arrow shards.", "data", work, add_arguments=_arguments)
