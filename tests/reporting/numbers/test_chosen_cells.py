"""Which cells a figure shows: those with a number of ours, each training once, with names fit for a figure."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from setr.reporting.numbers.chosen_cells import (
    both,
    class_name,
    fullest,
    mean_of,
    nan_mean,
    results_of,
    row_name,
    two_digits,
    unique_cells,
)
from setr.reporting.numbers.results import Result
from setr.reporting.numbers.tables import CellReport, TableReport, build_table
from setr.study.cells import find_cell

Make = Callable[..., Result]
PUP = find_cell("table2/setr-pup/80k")


def report_of(results: list[Result], table: int = 2) -> TableReport:
    return build_table(table, results, scale="miniature")


def test_the_fullest_table_is_the_one_with_most_numbers_and_the_first_of_two(result_of: Make) -> None:
    none, one = report_of([]), report_of([result_of([PUP])])
    two = report_of([result_of([PUP]), result_of([find_cell("table2/setr-mla/80k")])])
    assert fullest([none]) is None
    assert fullest([]) is None
    assert fullest([none, one, two]) is two
    later = dataclasses.replace(two, table=dataclasses.replace(two.table, id="table5"))
    assert fullest([two, later]) is two


def test_a_training_is_shown_once_and_only_where_it_has_a_number(result_of: Make) -> None:
    found = unique_cells(report_of([result_of([PUP])]))
    assert [one.cell.key for one in found] == [PUP.key]
    assert [one.cell.key for one in both(report_of([result_of([PUP])]), "80k")] == [PUP.key]
    assert both(report_of([result_of([PUP])]), "40k") == []
    twice = report_of([result_of([PUP])])
    again = dataclasses.replace(found[0].cell, row="another row of the same training")
    row = dataclasses.replace(twice.rows[0], cells={"80k": dataclasses.replace(found[0], cell=again)})
    assert len(unique_cells(dataclasses.replace(twice, rows=(*twice.rows, row)))) == 1


def test_a_cells_number_comes_with_its_results(result_of: Make) -> None:
    results = [result_of([PUP], seed=seed, offset=offset) for seed, offset in ((1, 1.0), (0, 0.0))]
    [one] = unique_cells(report_of(results))
    assert [result.of("seed") for result in results_of(one)] == [0, 1]
    assert mean_of(one) == np.mean([result.scores["ss"]["mIoU"] for result in results])


def test_a_rows_name_has_no_reference_numbers_and_says_what_is_random() -> None:
    def named(label: str, variant: str = "fcn") -> str:
        return row_name(CellReport(dataclasses.replace(PUP, label=label, variant=variant), "", ""))

    assert named("FCN [39]") == "FCN"
    assert named("A [1] and B [22]") == "A and B"
    assert named("SETR-PUP", "setr-pup-random") == "SETR-PUP (random)"


def test_a_class_without_a_name_has_its_number(result_of: Make) -> None:
    result = dataclasses.replace(result_of([PUP]), class_names=("road", "car"))
    assert [class_name(result, index) for index in range(3)] == ["road", "car", "class 2"]


def test_means_pass_over_what_is_no_number() -> None:
    found = nan_mean(np.array([[1.0, math.nan, math.nan], [3.0, 5.0, math.nan]]))
    assert found[:2] == [2.0, 5.0]
    assert math.isnan(found[2])
    assert [two_digits(value) for value in (None, math.nan, 0.0, 79.345001)] == ["", "", "0.00", "79.35"]
