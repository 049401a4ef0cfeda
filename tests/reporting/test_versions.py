import dataclasses
from collections.abc import Callable

from setr.paper.cells import find_cell
from setr.reporting.results import Result
from setr.reporting.versions import choose, main_version, protocol_digest

Make = Callable[..., Result]
PUP = [find_cell("table2/setr-pup/80k")]


def test_no_results_have_no_version() -> None:
    assert main_version([]) is None


def test_most_results_decide_and_the_latest_breaks_a_tie(result_of: Make) -> None:
    one = result_of(PUP)
    two = result_of(PUP, experiment={"code": "two"}, started=5e9)
    main = main_version([one, two])
    assert main is not None
    assert main.code == {"": two.of("code")}
    main = main_version([one, result_of(PUP, seed=1), two])
    assert main is not None
    assert main.code == {"": one.of("code")}


def test_only_seeds_are_averaged(result_of: Make) -> None:
    seeds = [result_of(PUP, seed=seed) for seed in (2, 0, 10)]
    other = result_of(PUP, seed=3, experiment={"weights": "w" * 64})
    main = main_version([*seeds, other])
    assert main is not None
    chosen, remarks = choose([*seeds, other], main, "ss")
    assert [one.of("seed") for one in chosen] == [0, 2, 10]
    assert remarks == ["1 more result was made with other settings or another version, and not averaged in."]


def test_scores_of_two_protocols_are_not_averaged(result_of: Make) -> None:
    one, two = result_of(PUP), result_of(PUP, seed=1)
    two = dataclasses.replace(two, scores={"ss": {**two.scores["ss"], "digest": "d" * 64}})
    main = main_version([one, two])
    assert main is not None
    chosen, remarks = choose([one, two], main, "ss")
    assert len(chosen) == 1
    assert remarks


def test_digest_is_recomputed_where_only_the_protocol_was_kept(result_of: Make) -> None:
    made = result_of(PUP)
    kept = dataclasses.replace(made, scores={"ss": {"protocol": made.scores["ss"]["protocol"]}})
    assert protocol_digest(kept, "ss") == protocol_digest(made, "ss")
    assert protocol_digest(made, "ms") == ""
    assert protocol_digest(dataclasses.replace(made, scores={"ss": {"protocol": {"odd": 1}}}), "ss") == ""
