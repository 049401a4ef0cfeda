import pytest

from setr.reporting.numbers import verdicts
from setr.reporting.numbers.verdicts import band_of, others, typical_half_range, verdict_of
from setr.study.cells import cells, find_cell

PUP = find_cell("table2/setr-pup/80k")  # paper 79.34; others 78.81 to 79.34


def test_band_is_the_range_of_what_others_measured() -> None:
    band = band_of(PUP)
    assert (band.low, band.high) == (78.81, 79.34)
    assert band.half_width == pytest.approx(0.265)
    assert "mmsegmentation" in band.origin
    assert "PaddleViT" in band.origin


def test_other_batch_crop_or_schedule_is_another_cell() -> None:
    values = {value for _, value in others(find_cell("table4/setr-mla/160k-ss"))}
    assert values == {48.64, 47.54, 48.16}  # batch 16 only, and not the one without a schedule
    fcn = others(find_cell("table2/fcn/40k"))
    assert [(entry.crop, value) for entry, value in fcn] == [("769x769", 73.93)]


def test_band_of_a_cell_that_nobody_measured_again_is_the_typical_one() -> None:
    band = band_of(find_cell("table2/setr-pup-random/40k"))
    half = typical_half_range("ss")
    assert 0.1 < half < 1.0
    assert (band.low, band.high) == pytest.approx((42.27 - 2 * half, 42.27 + 2 * half))
    assert "nobody measured" in band.origin


@pytest.mark.parametrize(
    ("mean", "spread", "verdict"),
    [
        (79.34, None, verdicts.REPRODUCED),
        (79.08, None, verdicts.REPRODUCED),
        (79.00, None, verdicts.WITHIN),
        (78.81, None, verdicts.WITHIN),
        (78.70, None, verdicts.OFF),
        (79.70, None, verdicts.OFF),
        (78.70, 0.2, verdicts.WITHIN),
        (79.00, 0.2, verdicts.REPRODUCED),
    ],
)
def test_verdict_by_distance_and_own_spread(mean: float, spread: float | None, verdict: str) -> None:
    found, detail, band = verdict_of(PUP, mean, spread)
    assert found == verdict
    assert band is not None
    assert "78.81 to 79.34" in detail


def test_side_of_what_is_off_is_said() -> None:
    assert verdict_of(PUP, 70.0, None)[1].startswith("below")
    assert verdict_of(PUP, 90.0, None)[1].startswith("above")


def test_cell_without_a_printed_value_has_no_verdict() -> None:
    assert verdict_of(find_cell("table2/semantic-fpn/40k"), 70.0, None)[0] == verdicts.UNPRINTED


def test_every_printed_runnable_cell_has_a_band_around_the_papers_value() -> None:
    for cell in cells():
        if cell.runnable and cell.paper is not None:
            band = band_of(cell)
            assert band.low <= cell.paper <= band.high
            assert band.half_width > 0
