"""The same loop through Ray Train and under torchrun, two workers on CPUs: what a step costs once both are under way.

    python -m benchmarks.ray_overhead [--rounds 4] [--steps 120] [--crop 96]

A round trains the miniature SETR-PUP once each way, in turns. A step's time is that from one `metrics` event to the
next on the same rank, the first 20 left out: CPU time of the worker's process, all its threads among them, and wall
time. Medians over the steps of both ranks, then the median of the rounds' ratios. The aim is on CPU time, which
neither the controller's process nor the machine's other loads disturb; wall time is printed beside it.

Ray starts its workers at a lower priority (nice 15); here `RAY_worker_niceness=0`, and every worker says its own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from setr.models.segmenter import build_model
from setr.settings.run import RunSettings
from setr.study.experiment import Experiment
from setr.study.recipes import Recipe
from setr.training.distributed import Context, distributed_context
from setr.training.execution import Execution
from setr.training.loop import train

ROOT = Path(__file__).resolve().parent.parent
WORKERS, CLASSES, WARM_UP = 2, 19, 20
AIM = 1.03  # times torchrun's CPU time a step
RAY, TORCHRUN = "Ray Train", "torchrun"

Job = dict[str, Any]


def main() -> None:
    """Print a line for each round and the medians; exit status 1 if the aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--crop", type=int, default=96)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        with distributed_context() as context:
            work(json.loads(arguments.worker), context)
        return
    os.environ.update(RAY_worker_niceness="0")  # before Ray is imported: its own processes read it as they start
    from pipelines.cluster import engine as cluster

    print(f"torch {torch.__version__}, {WORKERS} workers, {arguments.steps} steps, crop {arguments.crop}")
    print("| round | through | CPU ms a step | wall ms a step | niceness |\n|---|---|---:|---:|---|")
    ratios: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="ray-overhead-") as scratch:
        cluster.connect(log_folder=Path(scratch) / "logs")
        for turn in range(arguments.rounds):
            found = {}
            for name in (RAY, TORCHRUN) if turn % 2 else (TORCHRUN, RAY):
                folder = Path(scratch) / f"{turn}-{name.replace(' ', '-')}"
                job = {"folder": str(folder), "steps": arguments.steps, "crop": arguments.crop}
                (through_ray if name == RAY else through_torchrun)(job, Path(scratch))
                found[name] = times(folder)
                one = found[name]
                print(
                    f"| {turn + 1} | {name} | {1e3 * one['cpu']:.1f} | {1e3 * one['wall']:.1f} | {one['nice']} |",
                    flush=True,
                )
            ratios.append({kind: found[RAY][kind] / found[TORCHRUN][kind] for kind in ("cpu", "wall")})
        cluster.disconnect()
    medians = {kind: statistics.median(ratio[kind] for ratio in ratios) for kind in ("cpu", "wall")}
    reached = medians["cpu"] <= AIM
    print(f"\nRay Train over torchrun: CPU {medians['cpu']:.3f}, wall {medians['wall']:.3f}")
    print(f"aim {AIM} on CPU time: {'reached' if reached else 'MISSED'}")
    sys.exit(0 if reached else 1)


def through_ray(job: Job, storage: Path) -> None:
    """Trains through Ray Train as a sweep does."""
    from pipelines.cluster import engine as cluster

    outcome = cluster.run_on_workers(
        work,
        job,
        workers=WORKERS,
        resources={"CPU": 1.0},
        max_failures=0,
        storage=storage / "ray",
        name=Path(job["folder"]).name,
    )
    if outcome["status"] != "finished":
        sys.exit(f"Ray Train: {outcome['cause']}")


def through_torchrun(job: Job, storage: Path) -> None:
    """Trains under torchrun."""
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={WORKERS}", "--standalone"]
    subprocess.run(
        [*launcher, "-m", "benchmarks.ray_overhead", "--worker", json.dumps(job)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )


def work(job: Job, context: Context) -> dict[str, Any]:
    """Trains, and writes down when each step's event came; what both ways run."""
    torch.set_num_threads(1)
    folder, crop, marks = Path(job["folder"]), job["crop"], []

    def report(event: dict[str, Any]) -> None:
        if event["event"] == "metrics":
            marks.append((time.process_time(), time.perf_counter()))

    recipe = Recipe(
        iterations=job["steps"],
        batch_size=2 * WORKERS,
        crop_size=(crop, crop),
        base_size=None,
        base_lr=0.001,
        evaluate_every=job["steps"],
        checkpoint_every=job["steps"],
    )
    torch.manual_seed(0)
    model = build_model("setr-pup-random", num_classes=CLASSES, crop_size=(crop, crop), scale="miniature")
    train(
        Experiment("made-up", "setr-pup-random", "benchmark", "miniature", 0, recipe, "", "", ""),
        model=model,
        shards=Pictures(crop),  # type: ignore[arg-type]  # what the loader asks of shards
        evaluate=lambda _: {"mIoU": 0.0},
        execution=Execution(
            folder,
            Context(context.rank, context.world_size, context.device, report, context.local_rank),
            RunSettings(log_every=1),
        ),
    )
    record = {"marks": marks, "nice": os.nice(0)}
    (folder / f"rank-{context.rank}.json").write_text(json.dumps(record))
    return {"status": "finished"}


class Pictures:
    """Sixteen images and labels in memory, in the place of shards."""

    manifest = SimpleNamespace(
        classes=tuple(map(str, range(CLASSES))), num_classes=CLASSES, ignore_index=255, class_histogram=(1,) * CLASSES
    )

    def __init__(self, crop: int) -> None:
        """Draw them."""
        generator = np.random.default_rng(0)
        self.images = generator.integers(0, 256, (16, crop, 2 * crop, 3), dtype=np.uint8)
        coarse = generator.integers(0, CLASSES, (16, crop // 8, crop // 4), dtype=np.uint8)
        self.labels = coarse.repeat(8, axis=1).repeat(8, axis=2)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(key=str(index), image=self.images[index], label=self.labels[index], source_hash="")

    def where(self, index: int) -> str:
        """Returns the place of an image."""
        return str(index)


def times(folder: Path) -> dict[str, float]:
    """Returns the median seconds between two steps, CPU and wall, over all ranks, and the ranks' niceness."""
    records = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(WORKERS)]
    marks = [np.array(record["marks"])[WARM_UP:] for record in records]
    cpu, wall = np.median(np.concatenate([np.diff(one, axis=0) for one in marks]), axis=0)
    return {"cpu": float(cpu), "wall": float(wall), "nice": max(record["nice"] for record in records)}


if __name__ == "__main__":
    main()
