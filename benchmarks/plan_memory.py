"""Predicted against measured peak memory of real training steps on a GPU: `python -m benchmarks.plan_memory`.

Each case is a row of the tables at paper scale, its recipe's crop, batches of random pixels and labels. `--write`
stores what was measured where plans look for it. Aim: the prediction is never below, and at most 10 % above. Status 1
if not.
"""

import argparse
import dataclasses
import gc
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from setr.data.loading.loader import Batch
from setr.data.reading.datasets import DATASETS
from setr.models.segmenter import build_model
from setr.models.variants import decoder_of_variant
from setr.planning.memory import CONTEXT
from setr.planning.plan import Ways, estimate
from setr.planning.throughput import Clock, Machine, kind_of
from setr.study.experiment import Experiment
from setr.study.published import protocol, recipe
from setr.training.distributed import Context
from setr.training.optim import build_optimizer
from setr.training.step import TrainingModule, train_step

CASES = (  # data set, variant, precision, images, activation checkpointing
    ("cityscapes", "setr-pup", "float32", 2, False),
    ("cityscapes", "setr-pup", "bfloat16", 8, False),
    ("cityscapes", "setr-pup", "bfloat16", 8, True),
    ("cityscapes", "setr-naive-base", "bfloat16", 8, False),
    ("ade20k", "setr-mla", "bfloat16", 16, False),
    ("ade20k", "hybrid-base", "float32", 8, False),
    ("cityscapes", "fcn", "float32", 4, False),
)
STEPS = 6


def measure(dataset: str, variant: str, precision: str, images: int, checkpointing: bool) -> dict[str, object]:
    """Returns predicted and measured bytes, seconds of a step, and the key by which plans find them."""
    made = dataclasses.replace(
        recipe(dataset, decoder_of_variant(variant), "80k"), precision=precision, batch_size=images
    )
    experiment = Experiment(dataset, variant, "80k", "paper", 0, made, manifest="", weights="", code="")
    ways = Ways(checkpointing=checkpointing)
    scoring = protocol(dataset, decoder_of_variant(variant), "ss")
    predicted = estimate(experiment, [scoring], ways, Clock(Machine()), images=500).memory
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    classes = DATASETS[dataset].num_classes
    model = build_model(variant, num_classes=classes, crop_size=made.crop_size).cuda().train()
    if checkpointing:
        model.encoder.grad_checkpointing = True
    optimizer = build_optimizer(model, made)
    training = TrainingModule(model, made)
    pixels = torch.randint(0, 256, (images, *made.crop_size, 3), dtype=torch.uint8)
    labels = torch.randint(0, classes, (images, *made.crop_size), dtype=torch.uint8)
    keys = tuple(str(number) for number in range(images))
    batch = Batch(step=0, samples=np.arange(images), keys=keys, images=pixels, labels=labels)
    for number in range(STEPS):
        if number == STEPS // 2:
            torch.cuda.synchronize()
            begun = time.perf_counter()
        train_step(training, optimizer, batch, context=Context(device="cuda"))
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - begun) / (STEPS - STEPS // 2)
    key = kind_of(
        variant=variant,
        scale="paper",
        recipe=made,
        workers=1,
        images=images,
        checkpointing=checkpointing,
        device="cuda",
    )
    return {
        "key": key,
        "predicted_bytes": predicted,
        "memory_bytes": torch.cuda.max_memory_reserved(),
        "step_seconds": seconds,
    }


def main() -> int:
    """Prints the cases; returns the exit status."""
    parser = argparse.ArgumentParser(description="Predicted against measured peak memory on a GPU.")
    parser.add_argument("--write", type=Path, help="e.g. results/measured.json, which plans read")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("needs a GPU")
    records, good = [], True
    for case in CASES:
        record = measure(*case)
        records.append(record)
        measured = int(record["memory_bytes"]) + CONTEXT["cuda"]  # type: ignore[call-overload]
        ratio = int(record["predicted_bytes"]) / measured  # type: ignore[call-overload]
        good = good and 1.0 <= ratio <= 1.1
        speed = f"{record['step_seconds']:.3f} s a step"
        print(f"{case}: predicted / measured = {ratio:.3f} of {measured / 1e9:.2f} GB, {speed}")
    if arguments.write:
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        arguments.write.write_text(json.dumps(records, indent=1) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
