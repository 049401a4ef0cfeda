"""Draws what a model sees in an image: `python pipelines/figures.py CHECKPOINT IMAGE -o out/`.

Features by layer, the decoder's stages, attention of chosen points by head and layer with roll-out, similarity of the
position embeddings, and the prediction: PNGs with an index.html. `--report` makes the report's figures of the trained
experiments instead, below storage.results; what is there already and still fits is kept.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this file's own project, whichever is installed

from pipelines.terminal.checkpoint_words import CheckpointAsked, add_allow_code, read_checkpoint_words
from pipelines.terminal.command import check_writable, exit_status, print_config, read_settings
from setr.data.manifest import read_manifest
from setr.errors import InputError, SetrError
from setr.files.atomic import write_text
from setr.reporting.figures import figure_store
from setr.reporting.figures.figure_store import Wanted
from setr.reporting.numbers.results import ELSEWHERE_TAG, Result, read_results, usable
from setr.reporting.site.places import located
from setr.reporting.tracing.trace import one_line
from setr.settings.config import Config
from setr.settings.home import PROJECT, home, resolve

# A model is opened, and PyTorch imported, only if there is something to draw: see _draw and work.
if TYPE_CHECKING:
    from setr.reporting.figures.image_grid import Mosaic

FOLDER = "figures"  # below storage.results
_DRAWING_PACKAGES = ("data", "evaluation", "models", "reporting")  # of setr: their files decide what is drawn


def work(arguments: argparse.Namespace) -> int:
    """Draws one image, or the report's figures; returns the exit status."""
    if arguments.report:
        config = read_settings(arguments.words, section="storage")
        print_config(config, ("storage",))
        device = arguments.device or config.evaluation.device
        return report_figures(config, device=device, allow_code=arguments.allow_code)
    asked = read_checkpoint_words(arguments, others=("IMAGE",), unused=("precision",))
    source = Path(asked.others[0])
    if not source.is_file():
        raise InputError("E_DATA_EMPTY", "no such image", where=source)
    out = Path(arguments.out)
    check_writable(out)
    from setr.reporting.site.figure_page import page

    model, mosaics = draw_image(asked, source, arguments.points)
    for mosaic in mosaics:
        (out / f"{mosaic.name}.png").write_bytes(mosaic.png())
    write_text(out / "index.html", page(source.name, f"As {model} sees it.", mosaics))
    print(f"{len(mosaics)} figures of {source.name} by {model}: {out / 'index.html'}")
    return 0


def draw_image(asked: CheckpointAsked, source: Path, points: Sequence[str]) -> "tuple[str, list[Mosaic]]":
    """Returns the model, in words, and the figures of an image file; attention is shown of `points`, as "x,y"."""
    import torch

    from setr.evaluation.inference import predict
    from setr.evaluation.introspection import token_grid, token_of
    from setr.evaluation.opened import load_image, open_model
    from setr.models.encoder import TappedVisionTransformer
    from setr.reporting.figures.inside_figures import inside_figures
    from setr.reporting.figures.prediction_figures import Names, prediction

    opened = open_model(
        asked.path, data=asked.data, num_heads=asked.num_heads, taps=asked.taps, allow_code=asked.allow_code
    )
    opened.model.to(_device(asked.device))
    image = load_image(source)
    tokens = []
    if isinstance(opened.model.encoder, TappedVisionTransformer):
        grid = token_grid(opened.model, opened.model.spec.image_size)
        places = [_point(text, (image.shape[0], image.shape[1])) for text in points]
        tokens = [token_of(x, y, (image.shape[0], image.shape[1]), grid) for x, y in places]
    elif points:
        raise InputError("E_FIGURE", "the model has no attention", where=asked.path, remedy="leave --points out")
    with torch.inference_mode():
        classes = predict(opened.model, image, opened.protocol)
        names = Names("", opened.classes, opened.palette)
        figures = [prediction(image, classes, names), *inside_figures(opened.model, image, tokens)]
    return opened.source, figures


def report_figures(config: Config, *, device: str = "", allow_code: bool = False) -> int:
    """Makes the figures that a report of the finished experiments shows, and removes those of others."""
    folder = resolve(config.storage.results) / FOLDER
    check_writable(folder)
    wanted = figure_store.wanted_figures(finished_results(config))
    made = 0
    for one in wanted:
        val = resolve(config.data.shards) / one.group[0] / "val"
        try:
            manifest, manifest_hash = read_manifest(val)
            protocol = one.results[-1].scores["ss"]["protocol"]
            key = one.key(data=manifest_hash, images=manifest.rows, protocol=protocol, code=drawing_code())
            if figure_store.is_made(folder, one, key):
                continue
            figures = [mosaic.figure() for mosaic in _draw(one, val, device, allow_code=allow_code)]
        except SetrError as error:  # the other figures are of use without these
            print(f"note: no figures for {one.name}: {error}", file=sys.stderr, flush=True)
            continue
        figure_store.keep(folder, one, key, figures)
        made += 1
        print(f"{one.name}: {len(figures)} figures", flush=True)
    figure_store.forget_others(folder, wanted)
    print(f"{made} of {len(wanted)} groups of figures drawn, the others as they were: {folder}")
    return 0


def finished_results(config: Config) -> list[Result]:
    """Returns the results that the last sweep wrote into results/runs and whose checkpoint is still there."""
    read, notes = read_results(resolve(config.storage.results) / "runs")
    for note in notes:
        print(one_line(f"note: {note.subject}: {note.text}"), file=sys.stderr)
    storage = resolve(config.storage.checkpoints)
    there = []
    for one in usable(located(result, home(), storage) for result in read)[0]:
        if one.checkpoint and Path(one.checkpoint).is_dir():
            there.append(one)
        elif one.scores:
            where = one.checkpoint or one.tags.get(ELSEWHERE_TAG)
            print(one_line(f"note: no figures of {one.short}: its checkpoint is not at {where}"), file=sys.stderr)
    return there


def drawing_code() -> str:
    """Returns the SHA-256 of the files of all modules that decide how a figure looks."""
    digest = hashlib.sha256()
    for package in _DRAWING_PACKAGES:
        for file in sorted((PROJECT / "setr" / package).rglob("*.py")):
            digest.update(f"{package}/{file.name} {len(data := file.read_bytes())}\n".encode() + data)
    return digest.hexdigest()


def _draw(wanted: Wanted, val: Path, device: str, *, allow_code: bool) -> "list[Mosaic]":
    """Returns the figures of one kind, drawn from the experiments' checkpoints and validation images."""
    from setr.reporting.figures.drawn import draw

    return draw(wanted, val, _device(device), allow_code=allow_code)


def _device(name: str) -> str:
    import torch

    return name or ("cuda" if torch.cuda.is_available() else "cpu")


def _point(text: str, size: tuple[int, int]) -> tuple[float, float]:
    """Returns x, y of a point in the image; raises InputError for anything else."""
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        x = y = -1.0
    if not (0 <= x < size[1] and 0 <= y < size[0]):
        expected = f"x,y in pixels, below {size[1]},{size[0]}"
        raise InputError("E_COMMAND", "not a point of the image", where="--points", found=text, expected=expected)
    return x, y


def main(words: Sequence[str] | None = None) -> int:
    """Parses the command line, runs it, and returns the exit status: 2 to 4 for an error that the user can mend."""
    parser = argparse.ArgumentParser(
        description="Draw what a model sees in an image, or, with --report, the report's figures.",
        usage="%(prog)s CHECKPOINT IMAGE [-o OUT] [options] [section.key=value ...], "
        "or %(prog)s --report [section.key=value ...]",
    )
    parser.add_argument("words", nargs="*", metavar="CHECKPOINT IMAGE", help="step or experiment folder, or file")
    parser.add_argument("-o", "--out", default="out", help="folder for the figures (default: %(default)s)")
    parser.add_argument("--points", nargs="+", default=[], metavar="x,y", help="in pixels (default: a grid of points)")
    parser.add_argument("--data", default="", help="data set whose classes are shown, where it cannot be told")
    parser.add_argument("--num-heads", type=int, help="attention heads, for a checkpoint whose width / 64 is wrong")
    parser.add_argument("--device", default="", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    parser.add_argument("--report", action="store_true", help="make the report's figures of the finished experiments")
    add_allow_code(parser)
    arguments = parser.parse_intermixed_args(words)
    return exit_status(lambda: work(arguments))


if __name__ == "__main__":
    sys.exit(main())
