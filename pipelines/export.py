"""Exports a trained model: `python pipelines/export.py CHECKPOINT -o exported/ [--to onnx]`.

Writes `model.safetensors` + `model.json`, `model.onnx` and `model.pt2` (torch.export), each read back and compared with
the model; ONNX and torch.export take any batch, height and width.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this file's own project, whichever is installed

from rich.console import Console
from rich.table import Table

from pipelines.terminal.checkpoint_words import add_allow_code, read_checkpoint_words
from pipelines.terminal.command import check_writable, exit_status
from setr.evaluation.opened import Opened, open_model
from setr.models.export import ExportRecord, export_onnx, export_program, export_weights

FORMATS = {"safetensors": "model.safetensors", "onnx": "model.onnx", "torch-export": "model.pt2"}


def export(opened: Opened, folder: Path, formats: Sequence[str], console: Console) -> list[ExportRecord]:
    """Writes the files of the formats asked for and returns their records."""
    records = []
    for name in formats:
        path = folder / FORMATS[name]
        with console.status(f"{name}: writing and comparing"):
            if name == "safetensors":
                about = {
                    "source": opened.source,
                    "classes": list(opened.classes),
                    "palette": [list(color) for color in opened.palette],
                }
                records.append(export_weights(opened.model, path, about=about))
            elif name == "onnx":
                records.append(export_onnx(opened.model, path))
            else:
                records.append(export_program(opened.model, path))
    return records


def work(arguments: argparse.Namespace) -> int:
    """Exports what the command line asks for and returns the exit status."""
    console = Console()
    asked = read_checkpoint_words(arguments, unused=("device", "precision"))
    folder = Path(arguments.out)
    check_writable(folder)
    opened = open_model(
        asked.path, data=asked.data, num_heads=asked.num_heads, taps=asked.taps, allow_code=asked.allow_code
    )
    console.print(f"{opened.source} to {folder}", highlight=False, soft_wrap=True)
    table = Table("file", "MB", "difference", "tried at", "sha256", caption="difference: of logits, the largest")
    for record in export(opened, folder, arguments.to, console):
        sizes = ", ".join(f"{height}x{width}" for height, width in record.sizes)
        table.add_row(
            Path(record.path).name,
            f"{record.size_bytes / 1e6:.1f}",
            f"{record.largest_difference:.1e}",
            sizes,
            record.sha256[:16],
        )
    console.print(table)
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Parses the command line, runs it, and returns the exit status: 2 to 4 for an error that the user can mend."""
    parser = argparse.ArgumentParser(
        description="Export a trained model for use elsewhere.",
        usage="%(prog)s CHECKPOINT [-o OUT] [options] [section.key=value ...]",
    )
    parser.add_argument(
        "words", nargs="*", metavar="CHECKPOINT", help="step folder, experiment folder, or file (.pth, .safetensors)"
    )
    parser.add_argument("-o", "--out", default="exported", help="folder for the files (default: %(default)s)")
    parser.add_argument("--to", nargs="+", choices=tuple(FORMATS), default=tuple(FORMATS), help="default: all")
    parser.add_argument("--data", default="", help="data set whose class names are stored, where it cannot be told")
    parser.add_argument("--num-heads", type=int, help="attention heads, for a checkpoint whose width / 64 is wrong")
    add_allow_code(parser)
    arguments = parser.parse_intermixed_args(words)
    return exit_status(lambda: work(arguments))


if __name__ == "__main__":
    sys.exit(main())
