"""The training step beside mmsegmentation 1.2.2's own, in one run: images per second from the same weights and batch.

    python -m benchmarks.train_step [--rounds 5] [--threads 1] [--cases naive pup mla]

Small: ViT-S (width 384, 12 layers, 6 heads), 256x256 pixels, batch 4, 19 classes; the cases `-512` have 512x512 pixels,
batch 1 and ADE20K's 150 classes. A step goes from uint8 images to
updated parameters: normalisation, forward, all losses, backward, SGD with momentum, by the code that each side trains
with. One round takes one step of everybody, in turns; times are medians of CPU time and the ratio is the median of the
rounds' ratios. The first run installs mmsegmentation into an environment of its own, which shares this one's torch.

Rows: `mmseg` is the same function as the published model, imported from its weights (the losses show it); `authors` is
the flavour that the tables train; `bfloat16` is `mmseg` under autocast, which rounds.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.train_step_peer import environment, published_model, published_step
from setr.data.loading.loader import Batch
from setr.models.segmenter import Segmenter, build_model
from setr.models.specification import EncoderSize
from setr.models.weights import import_checkpoint
from setr.study.published import recipe
from setr.study.recipes import Recipe
from setr.training.distributed import Context
from setr.training.optim import build_optimizer
from setr.training.step import TrainingModule, train_step

ROOT = Path(__file__).resolve().parent.parent
SETR_S = EncoderSize("t-small", embed_dim=384, depth=12, num_heads=6)

SAME_LOSS = 1e-5  # relative, of the first step from the same weights
PUBLISHED = "mmsegmentation"

Step = Callable[[], float]


@dataclass(frozen=True)
class Case:
    """A problem, and how many times the published images per second are aimed at."""

    decoder: str
    aims: dict[str, float]  # by row
    side: int = 256  # pixels
    batch: int = 4
    classes: int = 19
    dataset: str = "cityscapes"  # whose configuration and recipe
    schedule: str = "80k"


ADE20K: dict[str, Any] = {"dataset": "ade20k", "schedule": "160k"}
# mmsegmentation ships two Naive decoders: Cityscapes' auxiliary heads end at stride 4, ADE20K's (two stages) at the
# image's own size.
CASES = {
    "naive": Case("naive", {"mmseg": 2.0}),
    "naive-ade20k": Case("naive", {"mmseg": 2.0}, **ADE20K),
    "pup": Case("pup", {"mmseg": 2.0}),
    "mla": Case("mla", {"mmseg": 1.3}),
    "naive-512": Case("naive", {"mmseg": 1.3, "bfloat16": 1.7}, side=512, batch=1, classes=150, **ADE20K),
    "mla-512": Case("mla", {"mmseg": 1.3, "bfloat16": 1.7}, side=512, batch=1, classes=150, **ADE20K),
}


@dataclass(frozen=True)
class Run:
    """One side's steps: seconds of each measured one, losses from the first step on."""

    cpu: list[float]
    wall: list[float]
    losses: list[float]


def main() -> None:
    """Print the table; exit status 1 if an aim is missed or the losses of the first step differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cases", nargs="+", choices=tuple(CASES), default=tuple(CASES))
    default = Path.home() / ".cache" / "setr-tables" / "mmsegmentation"
    parser.add_argument("--environment", type=Path, default=default, help="where mmsegmentation is installed")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.inside:
        python = environment(arguments.environment)
        command = [str(python), "-m", "benchmarks.train_step", "--inside", *sys.argv[1:]]
        sys.exit(subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONWARNINGS": "ignore"}).returncode)
    torch.set_num_threads(arguments.threads)
    print(
        f"torch {torch.__version__}, {arguments.threads} thread(s), {arguments.rounds} rounds, ViT-S;"
        " CPU ms and images/s a step\n"
    )
    print(
        "| case | here | published ms | ours ms | published img/s | ours img/s | times | wall times"
        " | loss apart, first and last step | aim |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    missed = 0
    for case in arguments.cases:
        missed += report(case, side_by_side(contestants(case), arguments.rounds))
    sys.exit(1 if missed else 0)


def contestants(name: str) -> dict[str, Step]:
    """Returns the training steps by name, the published one first; all but `authors` start from its weights."""
    torch.manual_seed(0)
    case = CASES[name]
    images, labels = problem(case)
    published, config = published_model(name, SETR_S, num_classes=case.classes, side=case.side)
    models = {}
    with tempfile.TemporaryDirectory(prefix="train-step-benchmark-") as folder:
        file = Path(folder) / "published.pth"
        torch.save(published.state_dict(), file)
        for row in ("mmseg", "bfloat16"):
            models[row] = import_checkpoint(file)[0]
            # The shipped configuration has no such bias; the import makes it zero, and so it has to stay.
            models[row].encoder.patch_embed.proj.bias.requires_grad_(False)  # type: ignore[union-attr]
    size = (case.side, case.side)
    models["authors"] = build_model(
        f"setr-{case.decoder}", num_classes=case.classes, crop_size=size, flavour="authors", sizes=SETR_S
    )
    published_recipe = recipe(case.dataset, case.decoder, case.schedule, flavour="mmseg")
    recipes = {
        "mmseg": published_recipe,
        "authors": recipe(case.dataset, case.decoder, case.schedule),
        "bfloat16": replace(published_recipe, precision="bfloat16"),
    }
    return {PUBLISHED: published_step(published, config, images, labels)} | {
        row: our_step(models[row], chosen, images, labels) for row, chosen in recipes.items()
    }


def problem(case: Case) -> tuple[Tensor, Tensor]:
    """Returns images uint8 (B,H,W,3), RGB, and labels uint8 (B,H,W) in patches, about a tenth of them ignored."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (case.batch, case.side, case.side, 3), dtype=np.uint8)
    patches = generator.integers(0, case.classes, (case.batch, case.side // 8, case.side // 8), dtype=np.uint8)
    patches[generator.random(patches.shape) < 0.1] = 255
    return torch.from_numpy(images), torch.from_numpy(patches.repeat(8, axis=1).repeat(8, axis=2))


def our_step(model: Segmenter, chosen: Recipe, images: Tensor, labels: Tensor) -> Step:
    """Returns the step that a training takes; it returns the loss."""
    training = TrainingModule(model.train(), chosen)
    optimizer = build_optimizer(model, chosen)
    batch = Batch(0, np.arange(len(images)), tuple(map(str, range(len(images)))), images, labels)
    return lambda: train_step(training, optimizer, batch, context=Context()).loss


def side_by_side(steps: dict[str, Step], rounds: int) -> dict[str, Run]:
    """Returns the runs by name: one step each to warm up, then rounds of one step each, whose order rotates."""
    runs = {name: Run([], [], [step()]) for name, step in steps.items()}
    names = list(steps)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            cpu, wall = time.process_time(), time.perf_counter()
            loss = steps[name]()
            runs[name].cpu.append(time.process_time() - cpu)
            runs[name].wall.append(time.perf_counter() - wall)
            runs[name].losses.append(loss)
    return runs


def times_faster(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """Returns the median of the rounds' ratios."""
    return statistics.median(slow / fast for slow, fast in zip(theirs, ours, strict=True))


def report(case: str, runs: dict[str, Run]) -> int:
    """Prints a row for each of our runs; returns how many aims were missed, the same loss being one."""
    published, missed = runs[PUBLISHED], 0
    for name, run in runs.items():
        if name == PUBLISHED:
            continue
        faster, apart, aim = times_faster(published.cpu, run.cpu), "another function", ""
        if name != "authors":
            first, *_, last = (abs(a / b - 1) for a, b in zip(run.losses, published.losses, strict=True))
            apart = f"{first:.1e}, {last:.1e}"
        if wanted := CASES[case].aims.get(name):
            reached = faster >= wanted
            same = name != "mmseg" or first <= SAME_LOSS  # False for NaN
            missed += (not reached) + (not same)
            aim = f"{wanted} x: {'reached' if reached else 'MISSED'}{'' if same else ', LOSS DIFFERS'}"
        batch = CASES[case].batch
        theirs, ours = statistics.median(published.cpu), statistics.median(run.cpu)
        print(
            f"| {case} | {name} | {1e3 * theirs:.0f} | {1e3 * ours:.0f} | {batch / theirs:.2f} | {batch / ours:.2f}"
            f" | {faster:.2f} | {times_faster(published.wall, run.wall):.2f} | {apart} | {aim} |",
            flush=True,
        )
    return missed


if __name__ == "__main__":
    main()
