"""Training steps with a frozen encoder against the same with a trained one: `python -m benchmarks.frozen`.

Miniature models on the CPU, both sides in turn, medians; beside them the bytes that autograd keeps, as a plan counts
them.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable

import torch

from setr.models.decoders.up_head import UpHeadSpec
from setr.models.encoder_facts import encoder_facts
from setr.models.segmenter import build_segmenter
from setr.models.specification import SegmenterSpec, TimmSpec
from setr.models.timm_miniatures import miniature_options
from setr.models.variants import variant_spec
from setr.planning.footprint import footprint
from setr.study.recipes import Recipe
from setr.training.optim import build_optimizer
from setr.training.step import TrainingModule

CROP, CLASSES, IMAGES = (64, 128), 19, 8
WARM_STEPS, STEPS = 4, 24
NAMES = (
    "setr-pup",
    "setr-naive",
    "vit_small_patch14_reg4_dinov2.lvd142m",
    "swin_tiny_patch4_window7_224.ms_in22k",
    "convnext_tiny.fb_in22k",
)


def spec_of(name: str) -> SegmenterSpec:
    """Returns the miniature of a row of the tables, or of an encoder of timm's with a 1x1 head on its last map."""
    if name.startswith("setr-"):
        return variant_spec(name, num_classes=CLASSES, crop_size=CROP, scale="miniature")
    encoder = TimmSpec(name, miniature_options(name))
    channels = encoder_facts(encoder).channels
    return SegmenterSpec(encoder, CROP, CLASSES, UpHeadSpec(channels[-1], 32), (len(channels) - 1,))


def step_of(spec: SegmenterSpec) -> Callable[[], float]:
    """Returns a function that takes one training step and returns its milliseconds."""
    model, recipe = build_segmenter(spec).train(), Recipe()
    training, optimizer = TrainingModule(model, recipe), build_optimizer(model, recipe)
    images = torch.randint(0, 256, (IMAGES, *CROP, 3), dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (IMAGES, *CROP), dtype=torch.uint8)

    def step() -> float:
        begun = time.perf_counter()
        training(images, labels, None).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return 1000 * (time.perf_counter() - begun)

    return step


def main() -> None:
    """Prints one row a model."""
    torch.set_num_threads(2)
    print("| model | trained ms | frozen ms | faster | kept, trained MB | kept, frozen MB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in NAMES:
        specs = [dataclasses.replace(spec_of(name), frozen=frozen) for frozen in (False, True)]
        steps = [step_of(spec) for spec in specs]
        taken: tuple[list[float], list[float]] = ([], [])
        for _ in range(WARM_STEPS + STEPS):
            for side, step in enumerate(steps):
                taken[side].append(step())
        trained, frozen = (statistics.median(times[WARM_STEPS:]) for times in taken)
        counts = [footprint(spec, CROP, "float32", "cpu") for spec in specs]
        kept = [(IMAGES * count.saved + count.fixed) / 2**20 for count in counts]
        print(f"| {name} | {trained:.0f} | {frozen:.0f} | {trained / frozen:.1f}x | {kept[0]:.1f} | {kept[1]:.1f} |")


if __name__ == "__main__":
    main()
