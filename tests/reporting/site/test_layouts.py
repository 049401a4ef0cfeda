import csv
import io
import json
from collections.abc import Callable

from setr.reporting.numbers.results import Result
from setr.reporting.numbers.tables import build_table
from setr.reporting.site.layouts import csv_text, json_text, markdown, number, ours, records, signed, sub_columns
from setr.study.cells import find_cell

Make = Callable[..., Result]
MakeAll = Callable[..., list[Result]]
PUP = [find_cell("table2/setr-pup/80k")]


def test_numbers_and_differences() -> None:
    assert (number(77.9), number(None), signed(-0.5), signed(0.25), signed(None)) == (
        "77.90",
        "–",
        "−0.50",
        "+0.25",
        "",
    )


def test_markdown_has_a_line_for_each_row_and_the_same_number_of_fields(results_of: MakeAll) -> None:
    text = markdown([build_table(2, results_of((2,), seeds=2), scale="miniature")])
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 15
    assert {line.replace("\\|", "").count("|") for line in lines} == {lines[0].count("|")}
    assert "± " in text
    assert "Miniature scale" in text
    assert "28 of 28 numbers measured" in text


def test_markdown_of_nothing_lists_what_is_missing() -> None:
    text = markdown([build_table(2, [], scale="paper")])
    assert "`table2/setr-pup/80k` (not run)" in text
    assert "0 of 28 numbers measured" in text


def test_markdown_cannot_be_broken_by_a_name(result_of: Make) -> None:
    # The only free text that reaches a table is the cause of a failure, and it stands outside of the cells.
    text = markdown([build_table(2, [result_of(PUP, finished=False, failure="a | b\n<script>")], scale="miniature")])
    assert "<script>" not in text


def test_csv_reads_back_with_one_line_for_each_cell(result_of: Make) -> None:
    made = result_of(PUP, scale="paper", offset=-3.0, run_id="=HYPERLINK(1)")
    rows = list(csv.DictReader(io.StringIO(csv_text([build_table(2, [made], scale="paper")]))))
    assert len(rows) == 30
    row = next(row for row in rows if row["cell"] == "table2/setr-pup/80k")
    assert (row["ours"], row["difference"], row["verdict"], row["seeds"]) == ("76.34", "-3.0", "off", "1")
    assert row["runs"] == "'=HYPERLINK(1)"
    assert row["identities"] == made.identity
    assert row["band_low"] == "78.81"


def test_json_has_the_same_cells(results_of: MakeAll) -> None:
    reports = [build_table(6, results_of((6,), scale="paper"), scale="paper")]
    value = json.loads(json_text(reports))
    assert value["table"] == 6
    assert value["scales"][0]["cells"] == json.loads(json.dumps(records(reports)))
    competitor = next(cell for cell in value["scales"][0]["cells"] if cell["cell"] == "table6/ccnet/quoted")
    assert (competitor["paper"], competitor["quoted"], competitor["ours"]) == (80.2, True, None)


def test_ours_says_why_there_is_no_number() -> None:
    report = build_table(2, [], scale="miniature")
    texts = {one.cell.key: ours(one) for one in report.cells}
    assert (texts["table2/fcn/40k"], texts["table2/semantic-fpn/40k"]) == ("not run", "")


def test_columns_have_the_parts_that_make_sense() -> None:
    report = build_table(4, [], scale="paper")
    assert [sub_columns(report, column) for column in report.table.columns] == [
        (),
        ("paper", "ours", "Δ", "verdict"),
        ("paper", "ours", "Δ", "verdict"),
        ("ours",),
    ]
