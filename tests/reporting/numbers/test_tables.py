import dataclasses
from collections.abc import Callable

from setr.reporting.numbers import verdicts
from setr.reporting.numbers.results import Result
from setr.reporting.numbers.tables import CellReport, TableReport, build_table, recipe_differences, scales_of
from setr.study.cells import by_training, cells, find_cell

Make = Callable[..., Result]
MakeAll = Callable[..., list[Result]]
PUP = [find_cell("table2/setr-pup/80k")]


def cell_of(report: TableReport, key: str) -> CellReport:
    return next(one for one in report.cells if one.cell.key == key)


def test_nothing_measured_says_what_is_missing() -> None:
    report = build_table(2, [], scale="miniature")
    assert len(report.wanted) == 28
    assert len(report.missing) == 28
    assert {one.verdict for one in report.missing} == {verdicts.NOT_RUN}
    assert cell_of(report, "table2/semantic-fpn/40k").verdict == verdicts.UNPRINTED


def test_all_of_table_2_in_miniature(results_of: MakeAll) -> None:
    report = build_table(2, results_of((2,)), scale="miniature")
    assert len(report.present) == 28
    assert report.tally == {verdicts.MINIATURE: 28}
    one = cell_of(report, "table2/setr-pup/80k")
    assert one.measured is not None
    assert one.difference == one.measured.mean - 79.34
    assert one.band is None


def test_mean_and_spread_over_seeds(result_of: Make) -> None:
    results = [result_of(PUP, scale="paper", seed=seed, offset=offset) for seed, offset in enumerate((0.0, -0.2, 0.2))]
    one = cell_of(build_table(2, results, scale="paper"), "table2/setr-pup/80k")
    assert one.measured is not None
    assert round(one.measured.mean, 4) == 79.34
    assert (one.measured.count, round(one.measured.spread or 0, 4)) == (3, 0.2)
    assert one.verdict == verdicts.REPRODUCED
    assert one.band is not None


def test_scales_never_mix(result_of: Make) -> None:
    results = [result_of(PUP), result_of(PUP, scale="paper")]
    assert scales_of(results) == ["paper", "miniature"]
    for scale in ("paper", "miniature"):
        one = cell_of(build_table(2, results, scale=scale), "table2/setr-pup/80k")
        assert one.measured is not None
        assert {result.of("scale") for result in one.measured.results} == {scale}


def test_two_code_versions_are_not_averaged_and_the_odd_one_is_marked(results_of: MakeAll, result_of: Make) -> None:
    old = result_of(PUP, experiment={"code": "two"}, started=9e9)
    rest = [one for one in results_of((2,)) if one.cells != ("table2/setr-pup/80k",)]
    report = build_table(2, [*rest, old], scale="miniature")
    one = cell_of(report, "table2/setr-pup/80k")
    assert one.measured is not None
    assert one.marks
    assert "code version" in dict(report.footnotes)[one.marks[0]]
    assert not cell_of(report, "table2/setr-naive/80k").marks


def test_the_columns_version_wins_over_a_newer_one(results_of: MakeAll, result_of: Make) -> None:
    newer = result_of(PUP, offset=9.0, experiment={"code": "two"}, started=9e9)
    report = build_table(2, [*results_of((2,)), newer], scale="miniature")
    one = cell_of(report, "table2/setr-pup/80k")
    assert one.measured is not None
    assert newer not in one.measured.results
    assert "not averaged in" in dict(report.footnotes)[one.marks[0]]


def test_other_miniature_settings_are_marked(results_of: MakeAll) -> None:
    results = results_of((2,))
    record = {**results[5].experiment, "recipe": {**results[5].experiment["recipe"], "iterations": 999}}
    report = build_table(
        2, [*results[:5], dataclasses.replace(results[5], experiment=record), *results[6:]], scale="miniature"
    )
    one = cell_of(report, results[5].cells[0])
    assert "iterations 999 instead of" in dict(report.footnotes)[one.marks[0]]


def test_changed_recipe_is_not_comparable_and_says_why(result_of: Make) -> None:
    made = result_of(PUP, scale="paper")
    record = {**made.experiment, "recipe": {**made.experiment["recipe"], "base_lr": 0.02}}
    one = cell_of(build_table(2, [dataclasses.replace(made, experiment=record)], scale="paper"), PUP[0].key)
    assert one.verdict == verdicts.NOT_COMPARABLE
    assert "base_lr 0.02 (paper 0.01)" in one.detail


def test_how_often_is_saved_and_the_precision_are_no_other_recipe(result_of: Make) -> None:
    made = result_of(PUP, scale="paper")
    record = {
        **made.experiment,
        "recipe": {**made.experiment["recipe"], "checkpoint_every": 5, "precision": "bfloat16"},
    }
    assert recipe_differences(PUP[0], dataclasses.replace(made, experiment=record)) == []


def test_other_or_unknown_protocol_is_not_comparable(result_of: Make) -> None:
    made = result_of(PUP, scale="paper")
    for record, words in (
        ({"digest": "0" * 64}, "under protocol 000000000000; the column's is"),
        ({"digest": "", "protocol": None}, "no protocol"),
    ):
        changed = dataclasses.replace(made, scores={"ss": {**made.scores["ss"], **record}})
        one = cell_of(build_table(2, [changed], scale="paper"), PUP[0].key)
        assert (one.verdict, words in one.detail) == (verdicts.NOT_COMPARABLE, True)
        assert one.measured is None


def test_two_protocols_never_share_a_column(results_of: MakeAll) -> None:
    made = results_of((2,))
    odd = next(index for index, one in enumerate(made) if PUP[0].key in one.cells)
    other = {**made[odd].scores["ss"], "digest": "0" * 64}
    report = build_table(
        2,
        [*made[:odd], dataclasses.replace(made[odd], scores={"ss": other}), *made[odd + 1 :]],
        scale="miniature",
    )
    one = cell_of(report, PUP[0].key)
    assert (one.verdict, one.measured) == (verdicts.NOT_COMPARABLE, None)
    assert "under protocol 000000000000" in one.detail
    assert len(report.present) == 27


def test_rows_that_the_paper_scores_in_their_own_way_say_so(results_of: MakeAll) -> None:
    report = build_table(2, results_of((2,), scale="paper"), scale="paper")
    notes = dict(report.footnotes)
    own = [one.cell.row for one in report.present if any("row's own protocol" in notes[mark] for mark in one.marks)]
    assert set(own) == {"fcn", "semantic-fpn"}


def test_band_and_origin_stand_in_a_footnote(result_of: Make) -> None:
    report = build_table(2, [result_of(PUP, scale="paper", offset=0.0)], scale="paper")
    one = cell_of(report, PUP[0].key)
    assert any(
        "78.81 to 79.34" in text and "mmsegmentation" in text for mark, text in report.footnotes if mark in one.marks
    )


def test_single_and_multi_scale_come_from_one_experiment(result_of: Make) -> None:
    members = next(
        group for group in by_training(cells((6,))).values() if group[0].schedule == "80k" and len(group) == 2
    )
    report = build_table(6, [result_of(members, scale="paper", offset=0.0)], scale="paper")
    single, multi = (cell_of(report, one.key) for one in members)
    assert single.measured is not None
    assert multi.measured is not None
    assert single.measured.results == multi.measured.results
    assert single.measured.mean != multi.measured.mean


def test_pixel_accuracy_stands_beside_the_miou_of_the_same_score(result_of: Make) -> None:
    made = result_of([find_cell("table4/setr-pup/160k-ss")], scale="paper")
    one = cell_of(build_table(4, [made], scale="paper"), "table4/setr-pup/160k-ss-pixel-accuracy")
    assert one.measured is not None
    assert one.measured.mean == made.score("ss", "pixel_accuracy")
    assert one.verdict == verdicts.UNPRINTED


def test_unfinished_failed_and_scoreless_are_told_apart(result_of: Make) -> None:
    for made, verdict, words in (
        (result_of(PUP, finished=False), verdicts.UNFINISHED, "at step 80 of 240"),
        (result_of(PUP, finished=False, failure="E_DATA | x", attempts=3), verdicts.NOT_RUN, "attempt 3: E_DATA | x"),
        (result_of(PUP, scores={}), verdicts.NOT_RUN, "without a finite mIoU"),
        (result_of(PUP, scores={"ss": {"mIoU": float("nan")}}), verdicts.NOT_RUN, "without a finite mIoU"),
    ):
        one = cell_of(build_table(2, [made], scale="miniature"), PUP[0].key)
        assert (one.verdict, words in one.detail) == (verdict, True)


def test_test_split_waits_for_the_server(result_of: Make) -> None:
    test = find_cell("table7/setr-pup/test")
    one = cell_of(build_table(7, [result_of([test], scale="paper")], scale="paper"), test.key)
    assert "test server" in one.detail
    told = result_of([test], scale="paper", scores={"ms-test": {"mIoU": 81.0, "protocol": {}}})
    one = cell_of(build_table(7, [told], scale="paper"), test.key)
    assert one.measured is not None
    assert one.verdict in (verdicts.REPRODUCED, verdicts.WITHIN)


def test_facts_stand_beside_the_printed_ones() -> None:
    report = build_table(2, [], scale="paper", facts={"setr-pup/parameters": 318.307})
    row = next(row for row in report.rows if row.row.id == "setr-pup")
    assert row.facts == {"parameters": 318.307}
    assert build_table(1, [], scale="paper").wanted == ()


def test_competitors_are_quoted() -> None:
    assert cell_of(build_table(6, [], scale="paper"), "table6/ccnet/quoted").verdict == verdicts.QUOTED
