"""Segments images, folders of images and videos: `python pipelines/predict.py CHECKPOINT INPUT -o out/`.

For each image: `<name>_colours.png`, `<name>_overlay.png`, and `<name>_ids.png` with the class numbers themselves (0 to
K-1, 8-bit grey); for a video the first two as films and a folder of ids. `legend.png` and `legend.json` name the
classes.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this file's own project, whichever is installed

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from pipelines.terminal.checkpoint_words import add_allow_code, read_checkpoint_words
from pipelines.terminal.command import check_writable, exit_status
from setr.data.checking.preview import colorize
from setr.data.reading.samples import Color
from setr.data.reading.sources import is_junk
from setr.errors import EnvironmentFailure, InputError, SetrError
from setr.evaluation.inference import autocast, predict
from setr.evaluation.opened import Opened, load_image, open_model
from setr.evaluation.qualitative import legend, overlay
from setr.files.atomic import make_folder, write_json
from setr.study.protocols import RATIOS

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
OTHER_PICTURES = (  # passed over in a folder, but never in silence
    *(".tif", ".tiff", ".webp", ".bmp", ".gif", ".heic", ".heif", ".avif", ".jfif", ".jpe", ".jp2", ".jxl", ".psd"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".exr", ".hdr", ".tga", ".svg", ".ico", ".dng", ".cr2", ".cr3", ".nef", ".arw"),
    *(".apng", ".dcm", ".npy"),
)
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")


@dataclass(frozen=True)
class PassedOver:
    """Files of a folder that no result is made for."""

    pictures: tuple[Path, ...]  # of kinds that are not read, or broken links
    others: tuple[Path, ...]  # no pictures by their names


def passed_over(source: Path) -> PassedOver:
    """Returns what of a folder `list_images` does not take; raises E_FILE_READ for a folder that cannot be listed."""
    pictures: list[Path] = []
    others: list[Path] = []

    def refuse(error: OSError) -> None:
        raise InputError("E_FILE_READ", f"cannot list the folder ({error.strerror})", where=error.filename)

    for folder, subfolders, names in os.walk(source, onerror=refuse):
        others += [Path(folder, name) for name in subfolders if Path(folder, name).is_symlink()]
        for path in (Path(folder, name) for name in names):
            suffix = path.suffix.lower()
            if is_junk(path.name) or (suffix in IMAGE_SUFFIXES and path.is_file()):
                continue
            (pictures if suffix in (*IMAGE_SUFFIXES, *OTHER_PICTURES) else others).append(path)
    return PassedOver(tuple(sorted(pictures)), tuple(sorted(others)))


def list_images(source: Path) -> list[tuple[Path, str]]:
    """Returns the images of a file or folder with the name of their results; sub-folders are kept in the name."""
    if source.is_file():
        return [(source, source.stem)]
    found = (path for path in source.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    paths = sorted(path for path in found if not is_junk(path.name))
    if not paths:
        others = [*passed_over(source).pictures, *passed_over(source).others]
        raise InputError(
            "E_DATA_EMPTY",
            "no image found",
            where=source,
            found=f"{len(others)} other files such as {others[0].name}" if others else "",
            expected=", ".join(IMAGE_SUFFIXES),
            remedy="convert them to PNG" if others else "",
        )
    stems = [str(path.relative_to(source).with_suffix("")) for path in paths]
    # Two images that differ in their suffix alone keep it.
    return [
        (path, stem if stems.count(stem) == 1 else str(path.relative_to(source)))
        for path, stem in zip(paths, stems, strict=True)
    ]


def predict_images(opened: Opened, source: Path, out: Path, *, opacity: float) -> int:
    """Writes the results of all images and returns how many could not be read; those are named on stderr.

    Pictures of other kinds in a folder count among them; other files are named together, and do not count.
    """
    images = list_images(source)
    left_out = passed_over(source) if source.is_dir() else PassedOver((), ())
    for path in left_out.pictures:
        error = InputError("E_IMAGE_DECODE", "not read", where=path, expected="PNG or JPEG", remedy="convert it to PNG")
        print(f"error: {error}", file=sys.stderr, flush=True)
    if left_out.others:
        print(f"note: {len(left_out.others)} files that are no images: {_names(left_out.others)}", file=sys.stderr)
    failed = len(left_out.pictures)
    for path, name in track(images, "images", console=Console(stderr=True), disable=len(images) == 1):
        try:
            image = load_image(path)
            classes = predict(opened.model, image, opened.protocol)
        except SetrError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr, flush=True)
            continue
        make_folder((out / name).parent)
        write_image(out / f"{name}_ids.png", classes)
        write_image(out / f"{name}_colours.png", colorize(classes, opened.palette))
        write_image(out / f"{name}_overlay.png", overlay(image, classes, opened.palette, opacity=opacity))
    return failed


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths[:5]) + (", ..." if len(paths) > 5 else "")


def predict_video(opened: Opened, source: Path, out: Path, *, opacity: float) -> None:
    """Writes a video's colours and overlay as films and its ids as numbered PNGs."""
    capture = cv2.VideoCapture(str(source))
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
    ids = out / f"{source.stem}_ids"
    make_folder(ids)
    writers: dict[str, cv2.VideoWriter] = {}
    frames = 0
    try:
        shown = track(_frames(capture), "frames", total=total or None, console=Console(stderr=True))
        for frames, image in enumerate(shown, start=1):
            classes = predict(opened.model, image, opened.protocol)
            write_image(ids / f"{frames - 1:06d}.png", classes)
            pictures = {
                "colours": colorize(classes, opened.palette),
                "overlay": overlay(image, classes, opened.palette, opacity=opacity),
            }
            for kind, picture in pictures.items():
                if kind not in writers:
                    writers[kind] = _video_writer(out / f"{source.stem}_{kind}.mp4", rate, picture)
                writers[kind].write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    finally:
        capture.release()
        for writer in writers.values():
            writer.release()
    if frames == 0:
        raise InputError("E_VIDEO", "no frame can be read", where=source, remedy="convert it, e.g. to H.264 in MP4")


def _frames(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    while True:
        there, frame = capture.read()
        if not there:
            return
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def _video_writer(path: Path, rate: float, picture: np.ndarray) -> cv2.VideoWriter:
    size = (picture.shape[1], picture.shape[0])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
    if not writer.isOpened():
        raise EnvironmentFailure("E_VIDEO", "this OpenCV cannot write videos", where=path, remedy="install ffmpeg")
    return writer


def write_image(path: Path, picture: np.ndarray) -> None:
    """Writes an RGB picture or a map of ids as PNG; raises EnvironmentFailure where that is not possible."""
    pixels = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.ndim == 3 else picture
    if not cv2.imwrite(str(path), pixels):
        raise EnvironmentFailure("E_STORAGE", "cannot write", where=path, remedy="is there space and permission?")


def write_legend(opened: Opened, out: Path) -> None:
    """Writes the classes' numbers, names and colours as a picture and as JSON."""
    write_image(out / "legend.png", legend(opened.classes, opened.palette))
    rows: Iterable[tuple[str, Color]] = zip(opened.classes, opened.palette, strict=True)
    entries = [{"id": index, "name": name, "rgb": list(rgb)} for index, (name, rgb) in enumerate(rows)]
    write_json(out / "legend.json", {"classes": entries})


def work(arguments: argparse.Namespace) -> int:
    """Predicts what the command line asks for and returns the exit status."""
    asked = read_checkpoint_words(arguments, others=("INPUT",))
    source, out = Path(asked.others[0]), Path(arguments.out)
    if not source.exists():
        raise InputError("E_DATA_EMPTY", "no such image, folder or video", where=source)
    check_writable(out)
    opened = open_model(
        asked.path, data=asked.data, num_heads=asked.num_heads, taps=asked.taps, allow_code=asked.allow_code
    )
    if arguments.multi_scale:
        rules = replace(opened.protocol, name="predict-ms", ratios=RATIOS, flip=True, short_side="authors-head")
        opened = replace(opened, protocol=rules)
    device = torch.device(asked.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    opened.model.to(device)
    print(f"{opened.source}: {len(opened.classes)} classes, on {device}")
    failed = 0
    with torch.inference_mode(), autocast(device, asked.precision):
        if source.suffix.lower() in VIDEO_SUFFIXES and source.is_file():
            predict_video(opened, source, out, opacity=arguments.opacity)
        else:
            failed = predict_images(opened, source, out, opacity=arguments.opacity)
    write_legend(opened, out)
    print(f"results in {out}" + (f"; {failed} images could not be read" if failed else ""))
    return 2 if failed else 0


def main(words: Sequence[str] | None = None) -> int:
    """Parses the command line, runs it, and returns the exit status: 2 to 4 for an error that the user can mend."""
    parser = argparse.ArgumentParser(
        description="Segment images, folders of images and videos.",
        usage="%(prog)s CHECKPOINT INPUT [-o OUT] [options] [section.key=value ...]",
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="CHECKPOINT INPUT",
        help="step folder, experiment folder or file (.pth, .safetensors); an image, a folder of images, or a video",
    )
    parser.add_argument("-o", "--out", default="out", help="folder for the results (default: %(default)s)")
    parser.add_argument(
        "--data", default="", help="data set whose classes and resize are used, where it cannot be told"
    )
    parser.add_argument("--num-heads", type=int, help="attention heads, for a checkpoint whose width / 64 is wrong")
    parser.add_argument("--multi-scale", action="store_true", help="average six scales and their mirror images")
    parser.add_argument("--opacity", type=float, default=0.5, help="of the colours in the overlay (default: 0.5)")
    parser.add_argument("--device", default="", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="default: float32")
    add_allow_code(parser)
    arguments = parser.parse_intermixed_args(words)
    return exit_status(lambda: work(arguments))


if __name__ == "__main__":
    sys.exit(main())
