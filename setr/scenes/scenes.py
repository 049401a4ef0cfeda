"""The built-in data set `scenes`: synthetic street scenes with exact labels, written in Cityscapes' own layout.

Every scene is a function of (seed, split, index) alone: a city, its weather, a street and what stands in it, seen
through a camera. Its lengths are metres, so one scene can be rendered at any size. The cities of `val` are not those of
`train`.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from setr.errors import EnvironmentFailure, InputError
from setr.files.atomic import make_folder, storage_failure
from setr.scenes.cities import TRAIN_CITIES, VAL_CITIES, City
from setr.scenes.render import draw
from setr.scenes.shapes import Dice

CITIES: dict[str, tuple[City, ...]] = {"train": TRAIN_CITIES, "val": VAL_CITIES}
SETTINGS_FILE = "scenes.json"  # says what was written; a folder without it is never replaced
BATCH = 10  # scenes that a process draws before it reports back


def render_scene(*, seed: int, split: str, index: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns image uint8 (height,width,3) RGB and Cityscapes label ids uint8 (height,width) of one scene.

    The same (seed, split, index) gives the same bytes whatever was drawn before, and the same scene at every size.
    Raises InputError (E_SCENES) for a split other than train and val and for sizes below 16 pixels.
    """
    if split not in CITIES:
        raise InputError("E_SCENES", "no scenes for this split", where="split", found=split, expected=", ".join(CITIES))
    if min(height, width) < 16 or min(seed, index) < 0:
        found = f"seed {seed}, index {index}, {height}x{width}"
        raise InputError(
            "E_SCENES", "cannot draw this scene", found=found, expected="seed and index from 0, 16x16 pixels"
        )
    keys = np.random.SeedSequence([seed, list(CITIES).index(split), index]).spawn(2)
    city = CITIES[split][index % len(CITIES[split])]
    return draw(city, Dice(keys[0]), Dice(keys[1]), height=height, width=width)


def write_scenes(
    root: Path,
    *,
    seed: int,
    train_images: int,
    val_images: int,
    height: int,
    width: int,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes both splits under `root`, all or nothing; with `workers` 0 in this process, else in so many others.

    The files do not depend on `workers`. `progress` is told how many scenes are done, of how many. What an earlier
    call wrote at `root` is replaced; any other folder that is not empty is refused (E_SCENES). Raises E_STORAGE for
    what the disk or its permissions refuse.
    """
    if not _replaceable(root):
        raise InputError(
            "E_SCENES",
            "folder is not empty and holds no scenes written by this program",
            where=root,
            remedy="name another folder, or remove what is in it",
        )
    partial_root = root.with_name(f".{root.name}.partial")
    settings = {"seed": seed, "train_images": train_images, "val_images": val_images, "height": height, "width": width}
    draw = partial(_write_scene, partial_root, seed=seed, height=height, width=width)
    jobs = [
        (split, index) for split, number in (("train", train_images), ("val", val_images)) for index in range(number)
    ]
    try:
        shutil.rmtree(partial_root, ignore_errors=True)  # what a killed run left
        make_folder(partial_root)
        for done, _ in enumerate(_run(draw, jobs, workers), start=1):
            if progress is not None:
                progress(done, len(jobs))
        (partial_root / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n")
        if root.exists():
            shutil.rmtree(root)
        partial_root.rename(root)
    except OSError as error:
        raise storage_failure(root, error) from error
    except BrokenProcessPool as error:
        raise EnvironmentFailure(
            "E_WORKER", "a process that draws scenes was ended", where=root, remedy="free memory, or use fewer workers"
        ) from error
    finally:
        with suppress(OSError):
            shutil.rmtree(partial_root)


def _replaceable(root: Path) -> bool:
    try:
        return not root.exists() or (root / SETTINGS_FILE).is_file() or not any(root.iterdir())
    except OSError as error:
        raise storage_failure(root, error) from error


def _run(draw: Callable[[tuple[str, int]], None], jobs: list[tuple[str, int]], workers: int) -> Iterator[None]:
    """Yields once for each scene that is written, in order."""
    if workers == 0:
        yield from map(draw, jobs)
        return
    # Fresh processes: a fork of a parent that runs threads (torch, a progress display) can hang.
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        yield from pool.map(draw, jobs, chunksize=BATCH)


def _write_scene(root: Path, job: tuple[str, int], *, seed: int, height: int, width: int) -> None:
    split, index = job
    image, label = render_scene(seed=seed, split=split, index=index, height=height, width=width)
    cities = CITIES[split]
    city = cities[index % len(cities)].name
    key = f"{city}_{index // len(cities):06d}_000019"  # in Cityscapes' manner: city, sequence, frame
    _write_png(root / "leftImg8bit" / split / city / f"{key}_leftImg8bit.png", image[..., ::-1])
    _write_png(root / "gtFine" / split / city / f"{key}_gtFine_labelIds.png", label)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    make_folder(path.parent)
    encoded, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 2])
    assert encoded
    path.write_bytes(data.tobytes())
