"""Checks a data set and writes it into Arrow shards: `python pipelines/prepare.py data.name=camvid data.root=...`.

With --check nothing is written but the report: counts, sizes, label values, damage, and a sheet of pictures.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this file's own project, whichever is installed

import cv2

from pipelines.bar import progress_bar
from pipelines.command import check_writable, resolve, run_command
from setr.config import Config, DataConfig
from setr.data.atomic import write_json
from setr.data.datasets import DATASETS, configured_dataset
from setr.data.doctor import check, report_lines
from setr.data.locations import is_uri, shown
from setr.data.own_labels import check_labels, settled
from setr.data.preview import preview_sheet
from setr.data.samples import Dataset, Listing
from setr.data.shards import write_shards
from setr.errors import InputError, SetrError

SPLIT_FILE = "split.json"  # in a folder of shards: what divided the images into splits


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
    # Everything is looked at before the first shard is written.
    listings = {split: dataset.scan(root, split) for split in config.data.splits}
    chosen = {split: dataset.complete(listing, root, split) for split, listing in listings.items()}
    everything = [sample for samples in chosen.values() for sample in samples]
    dataset = settled(dataset, [sample.label for sample in everything if sample.label is not None])
    with progress_bar() as bar:
        bar.add_task("reading the labels", total=None)
        check_labels(everything, dataset, threads=config.data.workers or len(os.sched_getaffinity(0)))
    for line in notes(dataset, listings):
        print(line)
    for split, samples in chosen.items():
        folder = resolve(config.data.shards) / config.data.name / split
        check_writable(folder.parent)
        with progress_bar() as bar:
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
        # Beside the manifest, whose hash is the data's identity: how they were divided decides no byte of them.
        listing = listings[split]
        record = {"split": split, "rule": listing.rule, "images": manifest.rows, "outside": len(listing.outside)}
        write_json(folder / SPLIT_FILE, record)
        print(f"{dataset.name}/{split}: {manifest.rows} images in {len(manifest.shards)} shards: {folder}")
        never = [name for name, pixels in zip(manifest.classes, manifest.class_histogram, strict=True) if not pixels]
        if manifest.labelled and never:
            print(f"warning: {dataset.name}/{split}: no label holds {', '.join(never)}")


def notes(dataset: Dataset, listings: Mapping[str, Listing]) -> list[str]:
    """Returns what is to be said of the splits before they are written: what divided them, what is left out."""
    lines = [f"{dataset.name}: split {rule}" for rule in dict.fromkeys(each.rule for each in listings.values())]
    remarks = (dataset.count_remark(split, listing) for split, listing in listings.items())
    lines += [f"note: {remark}" for remark in remarks if remark]
    for what, names in (
        ("images are in no split", {name for listing in listings.values() for name in listing.outside}),
        (
            "files are neither image nor label by their names",
            {name for each in listings.values() for name in each.others},
        ),
    ):
        if names:
            lines.append(f"note: {len(names)} {what}, such as {min(names)}")
    if dataset.shown_colors:
        lines.append("note: the labels hold class numbers; data.palette is for display")
    return lines


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
    if not data.name or data.name.startswith(".") or "/" in data.name or not data.name.isprintable():
        raise InputError(
            "E_CONFIG",
            "a name of a data set is one plain word: a folder of shards is called so",
            where="data.name",
            found=repr(data.name),
            remedy="set data.name=<name> without slashes",
        )
    dataset, root = configured_dataset(replace(data, root=str(resolve(data.root))))
    return dataset, resolve(str(root))


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
