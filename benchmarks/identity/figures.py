"""What traces and replays cost: measured in miniature, counted at the paper's scale."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.identity.base import SECONDS, Base
from benchmarks.identity.children import call
from benchmarks.trace_cost import AIM as TRACE_AIM
from benchmarks.trace_cost import measure

TRACE_BYTES = 8_000_000
REPLAY_AIM, PAPER_AIM = 0.2, 0.001
# Said otherwise, so that its code is another, and computed as before.
SAME = (
    "setr/training/step.py",
    "size = micro_batch or len(labels)",
    "size = len(labels) if not micro_batch else micro_batch",
)
OTHER_SCORE = ("setr/evaluation/metrics.py", "labelled + predicted - intersection", "labelled + predicted")
_BACKWARD = 3  # a training step costs as much as so many forward passes


def trace(steps: int = 80_000, kept: int = 3) -> bool:
    """Prints a trace's size at the paper's length, for the model of most tensors, and its share of a step."""
    from setr.models.segmenter import Segmenter
    from setr.models.variants import VARIANTS, variant_spec
    from setr.record.trace import PARAMETERS_AFTER, PIXELS, STEP, STEPS_BEYOND, Trace, pixel_steps, write_trace
    from setr.study.recipes import Recipe

    with torch.device("meta"):
        specs = {name: variant_spec(name, num_classes=150, crop_size=(512, 512)) for name in VARIANTS}
        models = {name: tuple(Segmenter(spec).state_dict()) for name, spec in specs.items()}
    name, names = max(models.items(), key=lambda entry: len(entry[1]))
    names += tuple(f"ema/{tensor}" for tensor in names)
    generator = np.random.default_rng(0)
    saves = [steps - number * (steps // 10) for number in range(kept)]
    after = sorted({*PARAMETERS_AFTER, *(save + beyond for save in saves for beyond in STEPS_BEYOND if save < steps)})
    rows = np.frombuffer(generator.bytes(steps * STEP.itemsize), STEP).copy()
    pixels = pixel_steps(steps)
    made = Trace(
        identity="0" * 64, seed=0, batch_size=16, iterations=steps, machines=((0, {"cpu": "x" * 500}),),
        tensors=names, saves=tuple(sorted(saves)), kept=dict.fromkeys(saves, "0" * 64), steps=rows,
        pixels=np.array([(step, 0) for step in pixels], PIXELS),
        parameters={step: generator.integers(0, 2**63, len(names), np.uint64) for step in after},
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="setr-trace-") as folder:
        write_trace(Path(folder, "trace.bin"), made)
        size = Path(folder, "trace.bin").stat().st_size
    print(f"trace of {steps} steps of {name} with averages, {len(names)} tensors: {size / 1e6:.2f} MB (aim: under 8)")
    recipe = replace(Recipe(crop_size=(128, 128), base_size=None, batch_size=4), iterations=60)
    cost = measure(replace(recipe, checkpoint_every=30, evaluate_every=60))
    print(f"its share of a miniature step's CPU time: {cost.share:.2%} (aim: under {TRACE_AIM:.0%})")
    return size < TRACE_BYTES and cost.share < TRACE_AIM


def replay(base: Base) -> bool:
    """Prints what replaying small experiments costs beside training and scoring them, and what a large one would."""
    from benchmarks.identity import experiments

    with base.edited(_files(base, SAME)) as folder:
        from benchmarks.identity.workshop import copy_home

        home = copy_home(base.home, folder / "replayed")
        times = call(experiments.replay_seconds, folder / "project", str(home), base.names, seconds=SECONDS)
    times.pop("cpu")
    print(f"{'CPU seconds':14}{'training':>10}{'replay':>10}{'share':>8}")
    for name in base.names:
        trained, replayed = base.cpu_seconds[name], times[name]
        print(f"{name:14}{trained:10.2f}{replayed:10.2f}{replayed / trained:8.1%}")
    share = sum(times.values()) / sum(base.cpu_seconds.values())
    print(f"{'all':14}{sum(base.cpu_seconds.values()):10.2f}{sum(times.values()):10.2f}{share:8.1%} (aim: under 20 %)")
    return paper_scale() and share < REPLAY_AIM


def paper_scale(cell: str = "table2/setr-pup/80k", images: int = 500, kept: int = 2) -> bool:
    """Prints the share of an experiment's work that its replay is, counted in crops that go through the model."""
    from setr.data.loading.sizes import keep_ratio_size
    from setr.evaluation.recount import SAMPLE
    from setr.evaluation.windows import windows
    from setr.record.equivalences import FIRST_STEPS
    from setr.record.trace import STEPS_FROM_CHECKPOINT
    from setr.study.cells import find_cell

    found = find_cell(cell)
    recipe, protocol = found.published_recipe(), found.published_protocol()
    size = keep_ratio_size((1024, 2048), protocol.resize or (2048, 1024))
    crops = len(windows(*size, protocol.window, protocol.stride))
    evaluations = recipe.iterations // recipe.evaluate_every
    trained = recipe.iterations * recipe.batch_size * _BACKWARD + evaluations * images * crops
    steps = FIRST_STEPS + kept * STEPS_FROM_CHECKPOINT
    replayed = steps * recipe.batch_size * _BACKWARD + SAMPLE * crops
    share = replayed / trained
    print(
        f"{cell}: {steps} of {recipe.iterations} steps and {SAMPLE} of {evaluations} x {images} images again, "
        f"{share:.4%} of the work (aim: under 0.1 %)"
    )
    return share < PAPER_AIM


def evaluation(base: Base) -> bool:
    """Prints what becomes of results when another score is computed: they are scored again, and no step is made."""
    with base.edited(_files(base, OTHER_SCORE)) as folder:
        judged = base.judge(folder)
    for name, verdict in judged.items():
        same = verdict["numbers"].get("training") == base.numbers[name]["training"]
        other = verdict["numbers"].get("scores") != base.numbers[name]["scores"]
        print(f"{name}: {verdict['verdict']}, parameters {'as before' if same else 'CHANGED'}, other scores: {other}")
    return all(
        verdict["verdict"] == "scored again" and verdict["numbers"]["training"] == base.numbers[name]["training"]
        for name, verdict in judged.items()
    )


def _files(base: Base, edit: tuple[str, str, str]) -> dict[str, str]:
    file, before, after = edit
    text = (base.project / file).read_text()
    assert text.count(before) >= 1, edit
    return {file: text.replace(before, after)}
