"""Prints every model of the tables with its size, cost, weights and layers: `python pipelines/models.py`."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this file's own project, whichever is installed

from rich.console import Console
from rich.table import Table

from pipelines.terminal.command import run_command
from setr.data.reading.ade20k import ADE20K
from setr.data.reading.datasets import DATASETS, PUBLISHED
from setr.models.counting import count_model, hybrid_readings
from setr.models.decoders.table import DECODERS
from setr.models.flavours import FLAVOURS
from setr.models.variants import SCALES, VARIANTS, Variant, variant_spec
from setr.settings.choices import require_choice
from setr.settings.config import Config
from setr.study.published import recipe
from setr.study.shelf import setr_study

HEADINGS = ("variant", "crop", "parameters (M)", "the paper's way (M)", "printed (M)", "GFLOPs", "weights", "layers")
ADE20K_CROP = (512, 512)


@dataclass(frozen=True)
class Selection:
    """Which models the table is about."""

    dataset: str
    scale: str
    flavour: str
    miniature_crop: tuple[int, int]


def work(config: Config, arguments: argparse.Namespace) -> None:
    """Prints the table and, below it, what needs saying about single rows."""
    choice = Selection(arguments.dataset, arguments.scale, arguments.flavour, config.miniature.crop_size)
    rows = [row(variant, choice) for variant in VARIANTS.values()]
    if arguments.markdown:
        print("\n".join(markdown(rows)))
        print()
        print("\n".join(f"- {note}" for note in notes(choice)))
        return
    console = Console()
    # A table wider than the window breaks its own columns; a pipe has no width at all.
    console = console if console.is_terminal else Console(width=200)
    table = Table(
        title=f"{choice.dataset}, {DATASETS[choice.dataset].num_classes} classes, {choice.flavour}, {choice.scale}"
    )
    for index, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if 1 <= index <= 5 else "left", overflow="fold")
    for cells in rows:
        table.add_row(*cells)
    console.print(table)
    for note in notes(choice):
        console.print(note, markup=False, highlight=False)


def row(variant: Variant, choice: Selection) -> tuple[str, ...]:
    """Returns one line of the table; the paper's columns are empty in miniature."""
    crop = crop_size(variant, choice)
    scale, flavour, classes = choice.scale, choice.flavour, DATASETS[choice.dataset].num_classes
    count = count_model(variant.name, num_classes=classes, crop_size=crop, scale=scale, flavour=flavour)
    ours, printed = "", ""
    if scale == "paper":
        ade20k = count_model(variant.name, num_classes=ADE20K.num_classes, crop_size=ADE20K_CROP, flavour=flavour)
        ours = f"{ade20k.paper_parameters / 1e6:.2f}"
        printed = next(
            (f"{entry.paper:.2f}" for entry in setr_study().parameter_counts if variant.name in entry.variants), ""
        )
    spec = variant_spec(variant.name, num_classes=classes, crop_size=crop, scale=scale, flavour=flavour)
    # Layers are counted from 1, as the paper does; for the baselines they are stages.
    read = ",".join(str(tap + 1) for tap in spec.main_taps)
    auxiliary = ",".join(str(tap + 1) for tap in spec.auxiliary_taps) or ("neck" if spec.auxiliary else "none")
    return (
        variant.name,
        f"{crop[0]}x{crop[1]}",
        f"{count.parameters / 1e6:.2f}",
        ours,
        printed,
        f"{count.gflops:.1f}" if scale == "paper" else f"{count.gflops:.3f}",
        weights(variant, scale),
        f"{read}; auxiliary {auxiliary}",
    )


def crop_size(variant: Variant, choice: Selection) -> tuple[int, int]:
    """Returns the crop the variant trains on: its recipe's, or the miniature's; the SETR models' without a recipe."""
    if choice.scale == "miniature":
        return choice.miniature_crop
    return recipe(
        choice.dataset, DECODERS[require_choice("decoder", variant.decoder, DECODERS)].published_as, "80k"
    ).crop_size


def weights(variant: Variant, scale: str) -> str:
    """Returns timm's names of what the variant starts from; a star marks the nearest there is, not the paper's own."""
    if scale == "miniature":
        return "random" if variant.pretrained is None else f"a miniature's, in place of {variant.pre}"
    parts = [weight for weight in (variant.cnn_pretrained, variant.pretrained) if weight is not None]
    named = [weight.timm_name + ("" if weight.exact else " *") for weight in parts]
    if variant.pretrained is None:
        named.append("random")
    return f"{variant.pre}: " + " + ".join(named)


def notes(choice: Selection) -> list[str]:
    """Returns the sentences that belong below the table."""
    lines = [
        "parameters: as trained on this data set, auxiliary heads included. GFLOPs: logits of one crop, without "
        "auxiliary heads; a multiply-add is two."
    ]
    if choice.scale == "miniature":
        return lines
    starred = {row.pretrained for row in VARIANTS.values() if row.pretrained is not None and not row.pretrained.exact}
    counted, *readings = hybrid_readings()
    meets = "; ".join(f"{reading.meaning} ({reading.parameters / 1e6:.2f}M)" for reading in readings)
    return [
        *lines,
        "The paper's way: ADE20K (150 classes, 512x512), auxiliary heads, and the 512 -> classes convolution that each "
        "SETR head owned and never called.",
        *(f"* {weight.timm_name}: {weight.note}." for weight in sorted(starred, key=lambda weight: weight.timm_name)),
        "fcn-21k: the printed number is that of fcn's network; Big Transfer's ResNet-101 is another (pre-activation, "
        "GroupNorm).",
        f"Hybrid: no configuration was released; {counted.parameters / 1e6:.2f}M here, 112.59M printed. Readings that "
        f"meet the printed number, none confirmed: {meets}.",
    ]


def markdown(rows: list[tuple[str, ...]]) -> list[str]:
    """Returns the table's lines in Markdown."""
    rule = ["---" if heading in ("variant", "weights", "layers") else "---:" for heading in HEADINGS]
    return ["| " + " | ".join(cells) + " |" for cells in (HEADINGS, rule, *rows)]


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", choices=tuple(PUBLISHED), default="cityscapes", help="decides crop and classes")
    parser.add_argument("--scale", choices=SCALES, default="paper")
    parser.add_argument("--flavour", choices=FLAVOURS, default="authors", help="where the sources differ")
    parser.add_argument("--markdown", action="store_true", help="print Markdown, for the documentation")


if __name__ == "__main__":
    run_command("Print every model of the tables.", "miniature", work, sections=(), add_arguments=_arguments)
