"""A data set as published written into Arrow shards, split by split, with what is to be said of it."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pipelines.terminal.bar import progress_bar
from pipelines.terminal.command import check_writable
from setr.data.locations import is_uri, shown
from setr.data.reading.datasets import DATASETS, configured_dataset
from setr.data.reading.own_labels import check_labels, settled
from setr.data.reading.samples import Dataset, Listing
from setr.data.shards import write_shards
from setr.errors import InputError
from setr.files.atomic import write_json
from setr.settings.config import Config, DataConfig
from setr.settings.home import resolve

SPLIT_FILE = "split.json"  # in a folder of shards: what divided the images into splits


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
