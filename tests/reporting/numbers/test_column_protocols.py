"""The numbers of one column are scored alike: at paper scale as the paper does, elsewhere as most of ours are."""

import dataclasses
from collections.abc import Callable

from setr.reporting.numbers.column_protocols import expected_protocols, most_frequent, score_name, scored_digest
from setr.reporting.numbers.results import Result
from setr.study.cells import Cell, cells, find_cell

Make = Callable[..., Result]
PUP, MLA = find_cell("table2/setr-pup/80k"), find_cell("table2/setr-mla/80k")


def scored_with(result: Result, digest: str) -> Result:
    return dataclasses.replace(result, scores={"ss": {**result.scores["ss"], "digest": digest}})


def test_at_paper_scale_it_is_the_papers() -> None:
    found = expected_protocols([PUP, MLA], {}, "paper")
    assert found == {cell.key: cell.published_protocol().digest() for cell in (PUP, MLA)}
    assert all(len(digest) == 64 for digest in found.values())


def test_elsewhere_it_is_the_one_that_most_results_have(result_of: Make) -> None:
    one, two, three = (result_of([PUP], seed=seed) for seed in range(3))
    scored = {
        PUP.key: [scored_with(one, "a" * 64), scored_with(two, "b" * 64)],
        MLA.key: [scored_with(three, "a" * 64)],
    }
    assert expected_protocols([PUP, MLA], scored, "miniature") == {PUP.key: "a" * 64, MLA.key: "a" * 64}
    assert expected_protocols([PUP, MLA], {PUP.key: [], MLA.key: []}, "miniature") == {PUP.key: "", MLA.key: ""}


def test_rows_that_the_paper_scores_otherwise_are_no_measure_for_one_another(result_of: Make) -> None:
    other = next(
        cell
        for cell in cells()
        if cell.runnable and cell.published_protocol().digest() != PUP.published_protocol().digest()
    )
    scored = {PUP.key: [scored_with(result_of([PUP]), "a" * 64)], other.key: []}
    assert expected_protocols([PUP, other], scored, "miniature") == {PUP.key: "a" * 64, other.key: ""}


def test_what_nobody_trains_is_left_out() -> None:
    quoted = next(cell for cell in cells() if not cell.runnable)
    assert expected_protocols([quoted], {quoted.key: []}, "miniature") == {}
    assert expected_protocols([quoted], {}, "paper") == {}


def test_a_test_servers_number_has_another_name_and_no_protocol(result_of: Make) -> None:
    there: Cell = dataclasses.replace(PUP, split="test")
    assert (score_name(PUP), score_name(there)) == ("ss", "ss-test")
    result = scored_with(result_of([PUP]), "a" * 64)
    assert scored_digest(PUP, result) == "a" * 64
    assert scored_digest(there, result) == ""
    assert expected_protocols([there], {}, "paper") == {there.key: ""}


def test_the_most_frequent_is_never_the_empty_one() -> None:
    assert most_frequent(["", "", "", "a", "b", "b"]) == "b"
    assert most_frequent(["b", "a"]) == most_frequent(["a", "b"]) == "b"
    assert most_frequent(["", ""]) == ""
