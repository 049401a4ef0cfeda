from xml.etree import ElementTree

import pytest

from setr.reporting.figures.charts import Series, line_chart, ticks


def test_chart_is_well_formed_and_says_what_it_shows() -> None:
    chart = line_chart([Series("loss", [(1, 3.0), (10, 1.0)]), Series("main", [(1, 2.0), (10, 0.5)])], title="Loss")
    root = ElementTree.fromstring(str(chart))
    assert "Loss from step 1 to 10. loss: 3 to 1; main: 2 to 0.5" in root.attrib["aria-label"]
    assert len([one for one in root.iter() if one.tag.endswith("polyline")]) == 2


def test_long_curves_are_drawn_as_mean_and_range() -> None:
    chart = str(line_chart([Series("a", [(step, step % 7) for step in range(5000)])], title="a"))
    assert len(chart) < 8000
    assert "<polygon" in chart


def test_names_cannot_bring_markup_in() -> None:
    chart = str(line_chart([Series('"><script>', [(1, 1.0), (2, 2.0)])], title="<b>"))
    assert "<script>" not in chart
    ElementTree.fromstring(chart)


@pytest.mark.parametrize("points", [[], [(1, float("nan"))]])
def test_nothing_to_draw_draws_nothing(points: list[tuple[int, float]]) -> None:
    assert line_chart([Series("a", points)], title="a") == ""


@pytest.mark.parametrize("points", [[(0, 1.0)], [(5, 0.0)], [(3, 2.0), (3, 2.0)], [(1, -1e-9), (2, 1e9)]])
def test_degenerate_curves_can_be_drawn(points: list[tuple[int, float]]) -> None:
    ElementTree.fromstring(str(line_chart([Series("a", points)], title="a")))


def test_ticks_are_round_and_cover_the_range() -> None:
    assert ticks(0, 80_000, 6) == [0, 20_000, 40_000, 60_000, 80_000]
    found = ticks(0.13, 0.87, 5)
    assert found[0] <= 0.13
    assert found[-1] >= 0.87
