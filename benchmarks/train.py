"""Training speed by model and crop: images per second, FLOP utilisation, peak memory, with and without what helps.

    python -m benchmarks.train [--device cuda] [--sizes t-base t-large] [--decoders naive pup mla] [--crops 512 768]
                               [--batch 8] [--steps 10] [--quick]

A step is the training's own (`setr.training.step`): pinned uint8 batch, forward, all losses, backward, SGD. Crop 768
has Cityscapes' 19 classes and batch 8, crop 512 ADE20K's 150 classes and batch 16, each on one device; `--batch` gives
a smaller card another one. Every case runs in a process of its own; one that does not fit says so.

Ours: bfloat16 autocast as it is, with compiled layers, with activation checkpointing, with both. `published` is the
published model's function restated with our weights (attention that keeps its N x N map, resize before the classifier
and to the image before the cross-entropy), in bfloat16 and in the float32 that it was trained with.

Utilisation: the work of the model (three times its forward: what checkpointing repeats does not count) per second,
over the fastest matrix product found in the same run, or over `--peak` TFLOP/s. On a GPU the exit status is 1 if no
case of T-Large reaches half of it. `--quick` is a look at whether it runs: miniature encoders and crops, two steps.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from setr.data.loading.loader import Batch
from setr.data.loading.transforms import normalise
from setr.models.decoders.blocks import upsample
from setr.models.decoders.mla_modules import MLAHead
from setr.models.decoders.up_head_module import UpHead
from setr.models.segmenter import Segmenter, build_model
from setr.models.specification import EncoderSize
from setr.models.variants import ENCODERS, MINIATURES
from setr.settings.run import RunSettings
from setr.study.published import recipe
from setr.study.recipes import Recipe
from setr.training.distributed import Context
from setr.training.model_setup import prepare_model
from setr.training.optim import build_optimizer
from setr.training.step import TrainingModule, train_step

ROOT = Path(__file__).resolve().parent.parent
CLASSES_AND_BATCH = {768: (19, 8), 512: (150, 16)}  # Cityscapes' and ADE20K's recipes
AIM = 0.5  # utilisation of T-Large on a GPU
QUICK = {"crop": 64, "classes": 7, "batch": 2, "steps": 2}
# name -> precision, compiled, checkpointed
OURS = {
    "eager": ("bfloat16", False, False),
    "compiled": ("bfloat16", True, False),
    "checkpointed": ("bfloat16", False, True),
    "compiled, checkpointed": ("bfloat16", True, True),
}
PUBLISHED = {"published": ("bfloat16", False, False), "published, float32": ("float32", False, False)}


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    size: str
    decoder: str
    crop: int
    classes: int
    batch: int
    name: str  # of OURS or PUBLISHED
    device: str
    steps: int
    miniature: bool = False

    @property
    def encoder(self) -> EncoderSize:
        """Returns the encoder's size."""
        return (MINIATURES if self.miniature else ENCODERS)[self.size]


def main() -> None:
    """Print the table; exit status 1 if the aim is missed on a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--sizes", nargs="+", choices=tuple(ENCODERS), default=tuple(ENCODERS))
    parser.add_argument("--decoders", nargs="+", choices=("naive", "pup", "mla"), default=("naive", "pup", "mla"))
    parser.add_argument("--crops", nargs="+", type=int, choices=tuple(CLASSES_AND_BATCH), default=(512, 768))
    parser.add_argument("--cases", nargs="+", choices=(*OURS, *PUBLISHED), default=(*OURS, *PUBLISHED))
    parser.add_argument("--batch", type=int, default=0, help="images per step; default: the recipe's")
    parser.add_argument("--steps", type=int, default=10, help="measured ones, after three to warm up")
    parser.add_argument("--peak", type=float, default=0.0, metavar="TFLOP/s", help="of the device, in bfloat16")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(Case(**json.loads(arguments.case)))))
        return
    peak = arguments.peak * 1e12 or fastest_product(arguments.device, 256 if arguments.quick else None)
    print(heading(arguments.device, peak), flush=True)
    best = 0.0
    for case in cases(arguments):
        found = in_a_process(case)
        print(line(case, found, peak), flush=True)
        if case.size == "t-large" and case.name in OURS and "seconds" in found:
            best = max(best, utilisation(case, found, peak))
    missed = torch.device(arguments.device).type == "cuda" and not arguments.quick and best < AIM
    sys.exit(1 if missed else 0)


def cases(arguments: argparse.Namespace) -> list[Case]:
    """Returns the lines that are asked for; the published model last in each group."""
    found = []
    for size in arguments.sizes:
        for decoder in arguments.decoders:
            for crop in arguments.crops[:1] if arguments.quick else arguments.crops:
                classes, batch = CLASSES_AND_BATCH[crop]
                terms: dict[str, Any] = {"crop": crop, "classes": classes, "steps": arguments.steps}
                terms |= {"batch": arguments.batch or batch}
                terms = QUICK if arguments.quick else terms
                found += [
                    Case(size, decoder, name=name, device=arguments.device, miniature=arguments.quick, **terms)
                    for name in arguments.cases
                ]
    return found


def in_a_process(case: Case) -> dict[str, Any]:
    """Returns measure() of a fresh process, or {"failed": reason}."""
    command = [sys.executable, "-m", "benchmarks.train", "--case", json.dumps(asdict(case))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        return {"failed": "out of memory" if "OutOfMemory" in done.stderr or done.returncode == -9 else said[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def measure(case: Case) -> dict[str, Any]:
    """Returns median seconds of a step, peak bytes, work of a step in FLOP, and the loss of the first step."""
    precision, compiled, checkpointed = (OURS | PUBLISHED)[case.name]
    published = case.name in PUBLISHED
    chosen = training_recipe(case, precision)
    device = torch.device(case.device)
    floor = _memory(device)
    model = training_model(case, published)
    kernel: Any = "foreach" if published else "auto"
    wanted = RunSettings(
        compile=compiled,
        channels_last=False if published else None,
        activation_checkpointing=checkpointed,
        optimizer_kernel=kernel,
    ).on_device(case.device, steps=1)
    model = model.to(device)
    prepare_model(model, wanted)
    training = (PublishedTraining if published else TrainingModule)(model.train(), chosen)
    optimizer = build_optimizer(model, chosen, kernel=wanted.optimizer_kernel)
    batch, context = problem(case), Context(device=case.device)

    def step() -> float:
        return train_step(training, optimizer, batch, context=context).loss

    first = step()
    seconds = timed(step, case.steps, warm_up=2)
    return {
        "seconds": statistics.median(seconds),
        "peak_bytes": _memory(device, peak=True) - floor,
        "flop": 3 * forward_flop(case) * case.batch,
        "loss": first,
    }


def training_recipe(case: Case, precision: str) -> Recipe:
    """Returns the recipe whose step is measured."""
    published = recipe("cityscapes" if case.classes == 19 else "ade20k", case.decoder, "80k")
    return Recipe(base_lr=published.base_lr, crop_size=(case.crop, case.crop), precision=precision)


def training_model(case: Case, published: bool) -> Segmenter:
    """Returns the model, the same weights for every name; `published` turns off the attention without a map."""
    torch.manual_seed(0)
    model = build_model(
        f"setr-{case.decoder}",
        num_classes=case.classes,
        crop_size=(case.crop, case.crop),
        sizes=case.encoder,
    )
    for block in model.encoder.blocks:  # type: ignore[union-attr]
        block.attn.fused_attn = not published
    return model


def problem(case: Case) -> Batch:
    """Returns a batch as the loader gives it: uint8, in pinned memory where it goes to a GPU."""
    generator = np.random.default_rng(0)
    shape = (case.batch, case.crop, case.crop)
    images = torch.from_numpy(generator.integers(0, 256, (*shape, 3), dtype=np.uint8))
    coarse = generator.integers(0, case.classes, (case.batch, case.crop // 16, case.crop // 16), dtype=np.uint8)
    labels = torch.from_numpy(coarse.repeat(16, axis=1).repeat(16, axis=2))
    if torch.device(case.device).type == "cuda":
        images, labels = images.pin_memory(), labels.pin_memory()
    return Batch(0, np.arange(case.batch), tuple(map(str, range(case.batch))), images, labels)


def forward_flop(case: Case) -> float:
    """Returns the work of one image's logits, auxiliary ones included, in FLOP: a multiply-add is two."""
    with torch.device("meta"):
        model = training_model(case, published=False).train()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.head_logits(torch.empty(1, 3, case.crop, case.crop))
    return float(counter.get_total_flops())


class PublishedTraining(TrainingModule):
    """The same function as TrainingModule by the published order of operations."""

    def forward(self, images: Tensor, labels: Tensor, divisor: Tensor | None) -> Tensor:
        """Return (1 + auxiliary heads,) losses: logits at the labels' size first, then the cross-entropy."""
        enabled = self.recipe.precision == "bfloat16"
        with torch.autocast(images.device.type, torch.bfloat16, enabled=enabled):
            logits = published_logits(self.model, normalise(images))
        size = tuple(labels.shape[-2:])
        full = [F.interpolate(each.float(), size=size, mode="bilinear", align_corners=False) for each in logits]
        losses = [
            F.cross_entropy(each, labels.long(), ignore_index=self.ignore_index, reduction="sum") for each in full
        ]
        total = labels.numel() if divisor is None else divisor
        return torch.stack([loss / total for loss in losses])


def published_logits(model: Segmenter, images: Tensor) -> list[Tensor]:
    """Returns the heads' logits (B,K,h,w), the main one first, each resized before it is classified."""
    spec = model.spec
    features = [each.contiguous() for each in model.encoder(images, spec.main_taps + spec.auxiliary_taps)]
    main, auxiliary = features[: len(spec.main_taps)], features[len(spec.main_taps) :]
    if model.neck is not None:
        main = model.neck(main)
    sources = auxiliary if spec.auxiliary_taps else main
    heads = zip(model.auxiliary_heads, sources, strict=True)
    return [_plain_head(model.decode_head, main), *(_plain_head(head, [source]) for head, source in heads)]


def _plain_head(head: nn.Module, features: Sequence[Tensor]) -> Tensor:
    if isinstance(head, MLAHead):
        scale, corners = head.spec.up_scale, head.spec.align_corners
        streams = [branch(feature) for branch, feature in zip(head.branches, features, strict=True)]
        return head.classifier(torch.cat([upsample(each, scale, align_corners=corners) for each in streams], dim=1))
    assert isinstance(head, UpHead)
    x = head.norm(features[-1])
    for stage, scale in zip(head.convs, head.spec.up_scales, strict=True):
        x = upsample(stage(x), scale)
    return head.classifier(x)


def timed(step: Callable[[], object], steps: int, *, warm_up: int) -> list[float]:
    """Returns the seconds of each measured step, the device's work included."""
    found = []
    for number in range(warm_up + steps):
        began = time.perf_counter()
        step()
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        if number >= warm_up:
            found.append(time.perf_counter() - began)
    return found


def fastest_product(device: str, side: int | None = None) -> float:
    """Returns the FLOP/s of the device's fastest square matrix product in bfloat16 among a few sizes."""
    cuda = torch.device(device).type == "cuda"
    best = 0.0
    for n in (side,) if side else (4096, 8192) if cuda else (1024, 2048):
        a = torch.randn(n, n, device=device).bfloat16()
        seconds = timed(lambda a=a: a @ a, 10, warm_up=3)  # type: ignore[misc]
        best = max(best, 2 * n**3 / min(seconds))
    return best


def heading(device: str, peak: float) -> str:
    """Returns what was measured where, and the table's head."""
    cuda = torch.device(device).type == "cuda"
    name = torch.cuda.get_device_name(device) if cuda else f"CPU, {torch.get_num_threads()} thread(s)"
    said = f"{name}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}"
    return (
        f"{said}; utilisation is of {peak / 1e12:.3g} TFLOP/s\n\n"
        "| model | crop, classes, batch | how | ms a step | images/s | utilisation | peak memory GB |\n"
        "|---|---|---|---:|---:|---:|---:|"
    )


def utilisation(case: Case, found: dict[str, Any], peak: float) -> float:
    """Returns the share of the peak that the model's work reached."""
    return found["flop"] / found["seconds"] / peak


def line(case: Case, found: dict[str, Any], peak: float) -> str:
    """Returns a case's row of the table."""
    start = f"| {case.decoder} {case.encoder.name} | {case.crop}, {case.classes}, {case.batch} | {case.name} |"
    if "failed" in found:
        return f"{start} {found['failed']} | | | |"
    seconds = found["seconds"]
    return (
        f"{start} {1e3 * seconds:.1f} | {case.batch / seconds:.1f} | {100 * utilisation(case, found, peak):.1f} %"
        f" | {found['peak_bytes'] / 1e9:.2f} |"
    )


def _memory(device: torch.device, *, peak: bool = False) -> int:
    """Returns the bytes that the process holds, or held at most: allocated ones on a GPU, else resident (Linux)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) if peak else torch.cuda.memory_allocated(device)
    found = re.search(rf"^{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    return int(found[1]) * 1024 if found else 0


if __name__ == "__main__":
    main()
