"""How figures look: colours, line styles, and drawings as SVG text that follows light and dark.

Series colours are Okabe and Ito's, which colour-blind readers can tell apart; line style and marker differ too.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np

from setr.models.variants import VARIANTS

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

DECODER_NAMES = {"naive": "Naïve", "pup": "PUP", "mla": "MLA", "fcn": "FCN", "semantic-fpn": "Semantic FPN"}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES: tuple[str | tuple[int, tuple[int, int]], ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))

# Stand-ins that no data colour has: replaced by variables after drawing.
INK, FAINT, PAPER = "#010203", "#040506", "#070809"
_STYLE = (
    "<style>:root{--ink:#24292f;--faint:#d5d9de;--paper:#8b949e}"
    "@media (prefers-color-scheme:dark){:root{--ink:#d7dde4;--faint:#39414b;--paper:#7d8792}}</style>"
)
SETTINGS = {
    "svg.hashsalt": "setr",
    "svg.fonttype": "none",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "grid.color": FAINT,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.0,
}


@dataclass(frozen=True)
class Figure:
    """One picture with what is said about it."""

    name: str  # file name without suffix
    title: str
    caption: str
    svg: str
    header: tuple[str, ...] = ()  # the numbers behind the picture, for those who cannot see it
    rows: tuple[tuple[str, ...], ...] = ()
    answers: str = ""  # the paper's figure that it stands beside, such as "Figure 5"
    experiments: tuple[str, ...] = ()  # names of the pages of those whose checkpoints were used


def decoder_shown(variant: str) -> str:
    """Returns the decoder that figures show a variant of SETR's under, "" for one of the reader's own."""
    decoder = VARIANTS[variant].decoder if variant in VARIANTS else ""
    return decoder if decoder in DECODER_NAMES else ""


def decoder_style(decoder: str) -> int:
    """Returns the place of a decoder's colour, marker and line; one of the reader's own has the last."""
    return list(DECODER_NAMES).index(decoder) if decoder in DECODER_NAMES else len(DECODER_NAMES)


def heat_map(canvas: Canvas, values: np.ndarray, names: tuple[Sequence[str], Sequence[str]], label: str) -> Axes:
    """Returns the axes of a heat map in percent with row names and column names, and its scale beside it."""
    axis: Axes = canvas.subplots()
    image = axis.imshow(values, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    axis.set_yticks(range(len(names[0])), names[0])
    axis.set_xticks(range(len(names[1])), names[1], rotation=55, ha="right", rotation_mode="anchor")
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    bar = canvas.colorbar(image, ax=axis, pad=0.01, aspect=30)
    bar.set_label(label)
    bar.outline.set_visible(False)
    return axis


def print_values(axis: Axes, values: np.ndarray) -> None:
    """Writes the values of a heat map into its fields."""
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "#ffffff" if value < 55 else "#101010"
            axis.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)


def svg(canvas: Canvas) -> str:
    """Returns the drawing as SVG text that follows light and dark."""
    file = io.StringIO()
    canvas.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    for stand_in, variable in ((INK, "ink"), (FAINT, "faint"), (PAPER, "paper")):
        text = text.replace(stand_in, f"var(--{variable})")
    text = re.sub(r"'DejaVu Sans'(, [^;\"]*)?", "system-ui, sans-serif", text)
    start = text.index(">", text.index("<svg")) + 1
    return text[:start] + _STYLE + text[start:]
