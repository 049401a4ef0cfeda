"""The page of one image's figures: index.html beside the PNGs, with nothing loaded from elsewhere."""

from collections.abc import Sequence
from pathlib import Path

import jinja2

from setr.reporting.figures.image_grid import Mosaic

_TEMPLATES = Path(__file__).with_name("templates")


def page(title: str, source: str, figures: Sequence[Mosaic]) -> str:
    """Returns the HTML text with what the figures are of as `source`.

    Each figure's picture is `<name>.png` beside the page; all text is escaped.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("image.html").render(title=title, source=source, figures=figures)
