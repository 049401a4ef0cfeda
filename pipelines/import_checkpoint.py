"""Imports a released checkpoint: `python pipelines/import_checkpoint.py FILE [-o model.safetensors]`.

Prints what became of every tensor as a short table and stores the whole receipt in MLflow. Nothing that the file names
is executed.
"""

import argparse
import json
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this file's own project, whichever is installed

from rich.console import Console

from pipelines.terminal.checkpoint_words import add_allow_code, checkpoint_word, with_section
from pipelines.terminal.command import run_command
from pipelines.terminal.receipt_lines import describe, receipt_table
from setr.files.atomic import write_json
from setr.models.export import export_weights
from setr.models.importing.receipt import Receipt
from setr.models.weights import import_checkpoint
from setr.record.lineage import origin
from setr.settings.config import Config
from setr.settings.home import resolve


def work(config: Config, arguments: argparse.Namespace) -> None:
    """Imports the file, prints and stores the receipt, and writes the model where asked to."""
    settings = config.evaluation
    path = Path(checkpoint_word(arguments.words, config, arguments.overrides))
    console = Console()
    with console.status(f"reading {path}"):
        model, receipt = import_checkpoint(
            path,
            num_heads=arguments.num_heads if arguments.num_heads is not None else settings.num_heads or None,
            taps=arguments.taps if arguments.taps is not None else settings.taps or None,
            align_corners=arguments.align_corners,
            decoder=arguments.decoder,
            num_classes=arguments.num_classes,
            allow_code=arguments.allow_code,
        )
    console.print(describe(model, receipt), highlight=False)
    console.print(receipt_table(receipt))
    random = [entry for entry in receipt.with_status("missing") if "random" in entry.detail]
    if random:
        console.print(
            f"[bold]{len(random)} tensors are not in the file and start at random[/bold]: train before use.",
            highlight=False,
        )
    if arguments.out:
        out = Path(arguments.out).with_suffix(".safetensors")
        record = export_weights(model, out, about={"imported_from": path.name, "sha256": receipt.sha256})
        write_json(out.with_suffix(".receipt.json"), receipt.as_dict())
        console.print(f"written: {out} ({record.size_bytes / 1e6:.1f} MB)", highlight=False, soft_wrap=True)
    if not arguments.no_tracking:
        console.print(f"receipt: {store_receipt(config, receipt)}", highlight=False, soft_wrap=True)


def store_receipt(config: Config, receipt: Receipt) -> str:
    """Stores the receipt as a run of its own in MLflow; returns the run's address, or why there is none."""
    # Imported where it is needed: a receipt that is only printed does not wait for MLflow.
    from pipelines.tracking.tracker import OFFLINE, open_tracker

    tracker = open_tracker(config.tracking, resolve("."))
    if tracker is None:
        return f"not in MLflow: tracking is {OFFLINE}"
    tags = {
        "setr.import.sha256": receipt.sha256,
        "setr.import.format": receipt.format,
        **{f"setr.import.{status}": str(count) for status, count in receipt.counts().items()},
    }
    name = f"import {Path(receipt.path).name}"
    run = tracker.start_parent(name, {**tags, **origin()}, "A checkpoint imported by hand.")
    tracker.text_artifact(run, "receipt.json", json.dumps(receipt.as_dict(), indent=1))
    tracker.finish(run)
    return f"MLflow run {tracker.url(run)}"


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_allow_code(parser)
    parser.add_argument("-o", "--out", default="", help="write the model as .safetensors + .json + .receipt.json")
    parser.add_argument("--num-heads", type=int, help="attention heads (default: the file's config, else width / 64)")
    parser.add_argument(
        "--taps",
        type=_taps,
        help="layers that are read, from 0: 9,14,19,23 (default: the file's config, else the rule)",
    )
    parser.add_argument(
        "--align-corners",
        action=argparse.BooleanOptionalAction,
        help="whether the last resize aligns corners (default: the file's config; an FCN without one must say it)",
    )
    parser.add_argument("--decoder", choices=("naive", "pup", "mla"), default="naive", help="for an encoder's file")
    parser.add_argument("--num-classes", type=int, default=19, help="for an encoder's file (default: %(default)s)")
    parser.add_argument("--no-tracking", action="store_true", help="do not store the receipt in MLflow")


def _taps(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


if __name__ == "__main__":
    run_command(
        "Import a released checkpoint: of the authors, mmsegmentation, timm or DeiT; .pth or .safetensors.",
        "tracking",
        work,
        add_arguments=_arguments,
        words=True,
        rewrite=lambda words: with_section(words, ("checkpoint", "num_heads", "taps")),
    )
