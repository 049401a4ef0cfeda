"""What the trace costs a training: its share of a step's CPU time, and its size.

    python -m benchmarks.trace_cost [--iterations 60] [--crop 128]

Trains SETR-PUP of the miniature's size on images made in code, and counts the CPU seconds of the thread that writes the
trace beside the process's. Status 1 if the share is above 1 %.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch

from setr.data.shards import Record, Shards
from setr.models.segmenter import build_model
from setr.record.files import TRACE
from setr.study.experiment import Experiment
from setr.study.recipes import Recipe
from setr.training.distributed import Context
from setr.training.execution import Execution
from setr.training.loop import train
from setr.training.trace_writer import TraceWriter

AIM = 0.01  # of a step's CPU time
CLASSES = 19
_WORK = ("add", "save", "finish", "forget")


@dataclass(frozen=True)
class TraceCost:
    """What was measured over one training."""

    steps: int
    cpu_seconds: float  # of the training without evaluation, in all threads
    trace_seconds: float  # of them, for the trace
    size_bytes: int  # of the finished trace

    @property
    def share(self) -> float:
        """Returns the trace's share of the training's CPU time."""
        return self.trace_seconds / self.cpu_seconds


def measure(recipe: Recipe, *, variant: str = "setr-pup-random", images: int = 32) -> TraceCost:
    """Returns what the trace costs a miniature training under `recipe`, in this process."""
    torch.manual_seed(0)
    model = build_model(variant, num_classes=CLASSES, crop_size=recipe.crop_size, scale="miniature")
    experiment = Experiment("made-up", variant, "", "miniature", 0, recipe, manifest="", weights="", code="")
    shards = made_up_shards(images, recipe.crop_size)
    with tempfile.TemporaryDirectory(prefix="setr-trace-") as name, traced_seconds() as traced:
        folder, begun = Path(name), time.process_time()
        train(
            experiment,
            model=model,
            shards=shards,
            evaluate=lambda model: {"mIoU": 0.0},
            execution=Execution(folder, Context()),
        )
        seconds = time.process_time() - begun
        return TraceCost(recipe.iterations, seconds, traced[0], (folder / TRACE).stat().st_size)


@contextmanager
def traced_seconds() -> Iterator[list[float]]:
    """Gives a list of one number: the CPU seconds that traces have taken so far, in the threads that write them."""
    spent = [0.0]

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def work(*arguments: Any, **options: Any) -> Any:
            begun = time.thread_time()
            try:
                return real(*arguments, **options)
            finally:
                spent[0] += time.thread_time() - begun

        return work

    originals = {name: getattr(TraceWriter, name) for name in _WORK}
    begin = TraceWriter.__dict__["begin"]
    for name, real in originals.items():
        setattr(TraceWriter, name, counted(real))
    TraceWriter.begin = classmethod(counted(begin.__func__))  # type: ignore[method-assign,assignment]
    try:
        yield spent
    finally:
        for name, real in originals.items():
            setattr(TraceWriter, name, real)
        TraceWriter.begin = begin  # type: ignore[method-assign]


def made_up_shards(images: int, size: tuple[int, int]) -> Shards:
    """Returns records of noise, twice as wide as the crop."""
    generator = np.random.default_rng(0)
    height, width = size[0], 2 * size[1]

    class Records(list[Record]):
        manifest = SimpleNamespace(
            classes=("x",) * CLASSES, num_classes=CLASSES, ignore_index=255, class_histogram=(1,) * CLASSES
        )

    return cast(
        Shards,
        Records(
            Record(
                f"image{number}",
                generator.integers(0, 256, (height, width, 3), np.uint8),
                generator.integers(0, CLASSES, (height, width), np.uint8),
                "",
            )
            for number in range(images)
        ),
    )


def main() -> None:
    """Print the cost; exit status 1 if the aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--crop", type=int, default=128, help="pixels, square")
    arguments = parser.parse_args()
    half = max(1, arguments.iterations // 2)
    recipe = replace(
        Recipe(crop_size=(arguments.crop, arguments.crop), base_size=None, batch_size=4),
        iterations=arguments.iterations,
        checkpoint_every=half,
        evaluate_every=arguments.iterations,
    )
    cost = measure(recipe)
    print(
        f"{cost.steps} steps of {1000 * cost.cpu_seconds / cost.steps:.1f} ms of CPU, the trace "
        f"{1000 * cost.trace_seconds / cost.steps:.2f} ms of them: {cost.share:.2%} (aim {AIM:.0%}); "
        f"{cost.size_bytes} bytes"
    )
    sys.exit(cost.share > AIM)


if __name__ == "__main__":
    main()
