"""Verdicts: how our number stands to the paper's, by the spread of what others measured and of our own seeds."""

import functools
import statistics
from dataclasses import dataclass

from setr.study.cells import Cell, Training, cells
from setr.study.records import SETR_NAME, Reproduction
from setr.study.shelf import known_study
from setr.study.terms import KINDS

REPRODUCED = "reproduced"
WITHIN = "within others' spread"
OFF = "off"
NOT_RUN = "not run"
UNFINISHED = "unfinished"
NOT_COMPARABLE = "not comparable"
MINIATURE = "miniature"
QUOTED = "quoted"
UNPRINTED = "no printed value"


@dataclass(frozen=True)
class Band:
    """The tolerance of one cell, in percent mIoU."""

    low: float
    high: float
    half_width: float  # around the paper's value: inside counts as reproduced
    origin: str
    measured: bool = True  # False: nobody measured the cell again


def verdict_of(cell: Cell, mean: float, spread: float | None) -> tuple[str, str, Band | None]:
    """Returns the verdict on a comparable number, a sentence with the reason, and the band.

    reproduced: within half of the others' range (and our own spread) of the paper's value; within others' spread:
    inside their range, widened by our own spread; off: outside.
    """
    if cell.paper is None:
        said = "the paper's value has not been found" if cell.not_found else "the paper prints no value for this cell"
        return UNPRINTED, said, None
    band = band_of(cell)
    own = spread or 0.0
    difference = mean - cell.paper
    reach = band.half_width + own
    widened = f"{band.low:.2f} to {band.high:.2f} ({band.origin})" + (f", widened by our own {own:.2f}" if own else "")
    # A hundredth is what the paper rounds to.
    if abs(difference) <= reach + 0.005:
        return REPRODUCED, f"within {reach:.2f} of the paper's value; others range {widened}", band
    if band.low - own - 0.005 <= mean <= band.high + own + 0.005:
        return WITHIN, f"others range {widened}", band
    side = "above" if difference > 0 else "below"
    return OFF, f"{side} what others measured: {widened}", band


def band_of(cell: Cell) -> Band:
    """Returns the tolerance band of a cell that the paper prints.

    It is the range of all published measurements of the same model, schedule, batch, crop and protocol, the paper's own
    included. Where nobody measured again, it is as wide as the range typically is where somebody did.
    """
    assert cell.paper is not None
    measured = others(cell)
    values = [cell.paper, *(value for _, value in measured)]
    if any(entry.independent for entry, _ in measured) and max(values) > min(values):
        by = ", ".join(dict.fromkeys(entry.by for entry, _ in measured))
        half = (max(values) - min(values)) / 2
        return Band(min(values), max(values), half, f"paper, {by}")
    half = typical_half_range(cell.kind, cell.study.name)
    origin = "nobody measured this cell again; as wide as the range of other cells typically is"
    return Band(cell.paper - 2 * half, cell.paper + 2 * half, half, origin, measured=False)


def band_remark(band: Band) -> str:
    """Returns a band and its origin as a footnote; cells that nobody measured again share one."""
    if band.measured:
        return f"Band {band.low:.2f} to {band.high:.2f}: {band.origin}."
    return f"Band of {2 * band.half_width:.2f} to each side of the paper's value: {band.origin}."


def others(cell: Cell) -> list[tuple[Reproduction, float]]:
    """Returns the published measurements of the same cell, with their value."""
    recipe = cell.published_recipe()
    sizes = {str(recipe.crop_size[0] + extra) for extra in (0, 1)}  # 769 is the same crop with aligned corners
    sizes |= {"x".join(str(side) for side in recipe.crop_size), ""}
    found = []
    for entry in cell.study.reproductions:
        value = {"ss": entry.ss, "ms": entry.ms}.get(cell.kind)
        same_model = (entry.dataset, entry.variant, entry.schedule) == (cell.dataset, cell.variant, cell.schedule)
        if value is not None and same_model and entry.batch in (None, recipe.batch_size) and entry.crop in sizes:
            found.append((entry, value))
    return found


@functools.cache
def typical_half_range(protocol: str, study: str = SETR_NAME) -> float:
    """Returns the median half-range over all cells of the protocol kind (ss, ms) that somebody measured again.

    Where a study has none, it is SETR's.

    Cells where the second number equals the first are left out: that is a converted checkpoint, not a training.
    """
    ranges: dict[Training, float] = {}
    for cell in cells(study=known_study(study)):
        if cell.paper is None or cell.quoted or cell.kind != protocol:
            continue
        measured = others(cell)
        values = [cell.paper, *(value for _, value in measured)]
        if any(entry.independent for entry, _ in measured) and max(values) > min(values):
            ranges[cell.training] = (max(values) - min(values)) / 2
    if not ranges:
        return typical_half_range(protocol if protocol in KINDS else "ss")
    return statistics.median(ranges.values())
