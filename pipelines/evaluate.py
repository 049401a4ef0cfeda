"""Scores a checkpoint: `python pipelines/evaluate.py CHECKPOINT data.name=cityscapes protocol=authors-head`.

The checkpoint is a step folder or an experiment's folder of this project, one of its exports, or a file released by
the authors or with mmsegmentation; the data are prepared shards. Under torchrun the images are shared out.
`--submission out.zip` writes the files for the data set's test server instead.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this file's own project, whichever is installed

import cv2
import torch
from rich.console import Console
from rich.table import Table

from pipelines.terminal.bar import progress_bar
from pipelines.terminal.checkpoint_words import add_allow_code, checkpoint_word
from pipelines.terminal.command import run_command
from pipelines.terminal.receipt_lines import describe, receipt_table
from setr.data.locations import below, open_location
from setr.data.shards import Shards
from setr.errors import EnvironmentFailure, InputError
from setr.evaluation.evaluate import evaluate
from setr.evaluation.inference import autocast
from setr.evaluation.subject import Subject, choose_protocols, open_checkpoint, require_same_classes
from setr.evaluation.submission import server_for, submit
from setr.experiments.scores import score_record
from setr.experiments.worker import let_first_rank_speak
from setr.files.atomic import write_json
from setr.record.lineage import origin
from setr.redaction import first_line
from setr.reporting.numbers.results import CHECKPOINT_TAG
from setr.settings.config import Config
from setr.settings.home import resolve, resolve_location
from setr.study.experiment import canonical_json
from setr.study.protocols import Protocol
from setr.training.distributed import Context, distributed_context

EVALUATIONS = "evaluations"  # below storage.results


def work(config: Config, arguments: argparse.Namespace) -> int:
    """Scores what the `evaluation` section asks for, or writes a submission; returns the exit status."""
    checkpoint = checkpoint_word(arguments.words, config, arguments.overrides)
    settings = dataclasses.replace(config.evaluation, checkpoint=checkpoint)
    split = settings.split or ("test" if arguments.submission else "val")
    with distributed_context() as context:
        location = below(resolve_location(config.data.shards), config.data.name, split)
        shards = open_location(location, local_copy=config.data.local_copy)
        subject = open_checkpoint(settings, allow_code=arguments.allow_code)
        require_same_classes(subject, shards)
        protocols = choose_protocols(config, subject, shards)
        place = _place(config, subject, context)
        if arguments.submission:
            return write_zip(subject, shards, protocols, Path(arguments.submission), place)
        for protocol in protocols:
            record = score(subject, shards, protocol, place, boundary=arguments.boundary)
            if context.is_main:
                path = store(config, record)
                present(record, subject, path)
                if not arguments.no_tracking:
                    print(track(config, record, path))
    return 0


@dataclass(frozen=True)
class Computing:
    """Where and how numbers are computed."""

    context: Context
    device: str
    precision: str


def _place(config: Config, subject: Subject, context: Context) -> Computing:
    """Returns device and precision, and sets the threads: as the checkpoint was scored, where nothing else is asked."""
    settings = config.evaluation
    device = settings.device if settings.device and context.world_size == 1 else context.device
    precision = settings.precision
    if precision == "auto":
        precision = (
            "bfloat16" if subject.experiment and subject.experiment.recipe.precision == "bfloat16" else "float32"
        )
    if torch.device(device).type == "cpu" and (settings.threads or subject.threads):
        torch.set_num_threads(settings.threads or subject.threads)
    cv2.setNumThreads(1)
    return Computing(context, device, precision)


def score(subject: Subject, shards: Shards, protocol: Protocol, place: Computing, *, boundary: bool) -> dict[str, Any]:
    """Returns the record of one evaluation: scores, protocol, checkpoint, data, and the receipt of the import."""
    with _bar(f"{shards.manifest.dataset}/{shards.manifest.split}, {protocol.name}") as progress:
        evaluation = evaluate(
            subject.model,
            shards,
            protocol,
            device=place.device,
            rank=place.context.rank,
            world_size=place.context.world_size,
            precision=place.precision,
            boundary=boundary,
            progress=progress,
        )
    own = subject.experiment
    return {
        **score_record(evaluation, shards.manifest_hash, tags=origin()),
        "checkpoint": {"source": str(subject.source), "sha256": subject.sha256, "identity": own and own.identity},
        "data": {
            "dataset": shards.manifest.dataset,
            "split": shards.manifest.split,
            "manifest": shards.manifest_hash,
            "classes": list(shards.manifest.classes),
        },
        "device": place.device,
        "precision": place.precision,
        "receipt": subject.receipt and subject.receipt.as_dict(),
    }


def store(config: Config, record: Mapping[str, Any]) -> Path:
    """Writes the record under the hashes of what was scored, how, and on what; returns its path."""
    data = record["data"]
    name = f"{record['checkpoint']['sha256'][:12]}-{record['digest'][:12]}-{data['dataset']}-{data['split']}.json"
    path = resolve(config.storage.results) / EVALUATIONS / name
    write_json(path, record)
    return path


def present(record: Mapping[str, Any], subject: Subject, path: Path) -> None:
    """Prints the scores, the protocol and the import's receipt."""
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    if subject.receipt is not None:
        console.print(describe(subject.model, subject.receipt))
        console.print(receipt_table(subject.receipt))
    console.print(class_table(record))
    data, protocol = record["data"], record["protocol"]
    said = (
        f"{data['dataset']} {data['split']}, {protocol['name']}: mIoU {_percent(record['mIoU'])} %, "
        f"pixel accuracy {_percent(record['pixel_accuracy'])} %, mean accuracy {_percent(record['mean_accuracy'])} %"
    )
    if record["boundary_iou"] is not None:
        said += f", boundary IoU {_percent(record['boundary_iou'])} %"
    print(f"{said} over {record['images']} images")
    recorded = subject.recorded.get(protocol["name"], {})
    if (recorded.get("digest"), recorded.get("manifest")) == (record["digest"], record["manifest"]):
        same = all(recorded.get(name) == record[name] for name in ("mIoU", "pixel_accuracy", "per_class_iou"))
        print("as recorded when it was trained" if same else f"recorded was mIoU {recorded.get('mIoU')} %")
    print(f"protocol {record['digest'][:12]}: {canonical_json(protocol)}")
    print(f"checkpoint {record['checkpoint']['sha256'][:12]}: {record['checkpoint']['source']}")
    print(f"written: {path}")


def class_table(record: Mapping[str, Any]) -> Table:
    """Returns one line for each class with its scores in percent."""
    columns = {"IoU %": record["per_class_iou"], "accuracy %": record["per_class_accuracy"]}
    if record["per_class_boundary_iou"] is not None:
        columns["boundary IoU %"] = record["per_class_boundary_iou"]
    table = Table("class", box=None, pad_edge=False)
    for title in columns:
        table.add_column(title, justify="right")
    for name, *values in zip(record["data"]["classes"], *columns.values(), strict=True):
        table.add_row(name, *map(_percent, values))
    return table


def track(config: Config, record: Mapping[str, Any], path: Path) -> str:
    """Stores the record as a run of its own in MLflow; returns the run's address, or why there is none."""
    # Imported where it is needed: a score that is only printed does not wait for MLflow.
    from pipelines.tracking.tracker import OFFLINE, open_tracker

    data, protocol = record["data"], record["protocol"]
    tags = {
        CHECKPOINT_TAG: record["checkpoint"]["sha256"],
        "setr.protocol": record["digest"],
        "setr.dataset": data["dataset"],
        "setr.split": data["split"],
        "setr.data_manifest": data["manifest"],
        **record["tags"],
    }
    name = f"evaluate {Path(record['checkpoint']['source']).name} on {data['dataset']}, {protocol['name']}"
    try:
        tracker = open_tracker(config.tracking, resolve("."))
        if tracker is None:
            return f"not in MLflow: tracking is {OFFLINE}"
        run = tracker.start_parent(name, tags, "A checkpoint scored by hand.")
        tracker.replay(run, [{"event": "evaluation", "step": 0, "time": time.time(), **record}])
        tracker.artifacts(run, [path])
        tracker.finish(run)
    except EnvironmentFailure as error:
        return f"not in MLflow: {error}"
    except Exception as error:  # the score is computed and stored; the server's answer must not end that
        return f"not in MLflow: {first_line(error)}"
    return f"MLflow run {tracker.url(run)}"


def write_zip(subject: Subject, shards: Shards, protocols: list[Protocol], path: Path, place: Computing) -> int:
    """Writes the checked archive for the data set's test server and prints what is in it."""
    server = server_for(shards.manifest.dataset)
    if place.context.world_size > 1:
        raise InputError("E_COMMAND", "a submission is written by one process", remedy="start it without torchrun")
    if len(protocols) > 1:
        names = ", ".join(protocol.name for protocol in protocols)
        raise InputError("E_CONFIG", "a submission has one protocol", found=names, remedy="name one: protocol=ms")
    model = subject.model.to(place.device).eval()
    with (
        _bar(f"{shards.manifest.dataset}/{shards.manifest.split}, {protocols[0].name}") as progress,
        torch.inference_mode(),
        autocast(torch.device(place.device), place.precision),
    ):
        written = submit(model, shards, protocols[0], path, progress=progress)
    print(f"{written.files} files for the {server.name} server, {written.bytes / 1e6:.1f} MB: {written.path}")
    print(f"sha256 {written.sha256}, protocol {protocols[0].digest()[:12]}, checkpoint {subject.sha256[:12]}")
    return 0


@contextmanager
def _bar(title: str) -> Iterator[Callable[[int, int], None]]:
    with progress_bar() as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_allow_code(parser)
    parser.add_argument("--boundary", action="store_true", help="compute the boundary IoU too")
    parser.add_argument("--submission", metavar="FILE.zip", default="", help="write the test server's files instead")
    parser.add_argument("--no-tracking", action="store_true", help="do not store the scores in MLflow")


if __name__ == "__main__":
    let_first_rank_speak()
    run_command(
        "Score a checkpoint.", "evaluation", work, sections=("data", "evaluation"), add_arguments=_arguments, words=True
    )
