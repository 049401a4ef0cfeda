"""The page beside the PNGs of one image: every figure, its numbers, and no markup of anybody else's."""

import numpy as np

from setr.reporting.figures.image_grid import Mosaic
from setr.reporting.site.figure_page import page

EVIL = "<script>alert(1)</script>\"'"


def test_page_shows_each_figure_and_escapes_all_text() -> None:
    tiles = [[np.zeros((2, 2, 3), np.uint8)]]
    first = Mosaic("first", EVIL, EVIL, tiles, [], [], (2, 2), answers="Figure 7", header=(EVIL,), numbers=((EVIL,),))
    second = Mosaic("second", "Title", "Caption", tiles, [], [], (2, 2))
    text = page(EVIL, EVIL, [first, second])
    assert "<script" not in text
    assert text.count("&lt;script&gt;") == 9
    assert 'src="first.png"' in text
    assert 'src="second.png"' in text
    assert "the paper&#39;s Figure 7" in text or "the paper's Figure 7" in text
    assert text.count("<table>") == 1
    assert "http" not in text.replace("http-equiv", "")
