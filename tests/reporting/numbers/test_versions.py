import dataclasses
from collections.abc import Callable

from setr.reporting.numbers.results import EXACT, Result
from setr.reporting.numbers.versions import choose, main_version, protocol_digest
from setr.study.cells import find_cell

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


def test_a_result_that_was_replayed_within_a_tolerance_says_so(result_of: Make) -> None:
    exact, within = ({"code": "n" * 64, "how": how} for how in (EXACT, "replayed within a relative 0.0001: threads"))
    one = result_of(PUP)
    for proof, said in (
        (exact, []),
        (within, ["Trained by earlier code and replayed within a relative 0.0001: threads."]),
    ):
        proved = dataclasses.replace(one, proof=proof)
        main = main_version([proved])
        assert main is not None
        assert choose([proved], main, "ss")[1] == said


def test_seeds_are_averaged_where_a_replay_has_shown_their_codes_to_be_one(result_of: Make) -> None:
    old, new = result_of(PUP), result_of(PUP, seed=1, experiment={"code": "two"})
    apart = main_version([old, new])
    assert apart is not None
    assert len(choose([old, new], apart, "ss")[0]) == 1
    old = dataclasses.replace(old, proof={"code": new.of("code"), "how": EXACT})
    main = main_version([old, new])
    assert main is not None
    assert len(choose([old, new], main, "ss")[0]) == 2


def test_what_the_last_sweep_calls_done_is_printed_whatever_was_trained_later(result_of: Make) -> None:
    """An edit that trained every cell anew was undone: the newest of each cell is no longer the plan's."""
    rows = [find_cell(f"table2/{name}/80k") for name in ("setr-pup", "setr-mla", "setr-naive")]
    kept = [dataclasses.replace(result_of([cell]), done=True) for cell in rows]
    undone = [result_of([cell], seed=seed, experiment={"code": "two"}, started=5e9) for cell in rows for seed in (0, 1)]
    main = main_version([*kept, *undone])
    assert main is not None
    for one in kept:
        same = [other for other in undone if other.cells == one.cells]
        chosen, remarks = choose([*same, one], main, "ss")
        assert chosen == [one]
        assert remarks == ["2 more results were made with other settings or another version, and not averaged in."]


def test_each_seed_counts_once_by_what_is_done_and_else_by_the_newest(result_of: Make) -> None:
    first = result_of(PUP, started=1e9)
    proof = {"code": first.of("code"), "how": EXACT}
    later = dataclasses.replace(result_of(PUP, experiment={"code": "two"}, started=2e9), proof=proof)
    other = result_of(PUP, seed=1, started=1e9)
    for candidates, counts, named in (
        ([first, later, other], later, first),
        ([dataclasses.replace(first, done=True), later, other], first, later),
    ):
        main = main_version(candidates)
        assert main is not None
        chosen, remarks = choose(candidates, main, "ss")
        assert [one.identity for one in chosen] == [counts.identity, other.identity]
        assert remarks == [
            f"A seed that was trained more than once counts once, by its newest result: not {named.short} (seed 0)."
        ]


def test_scores_of_two_scoring_codes_do_not_mix_without_a_mark(result_of: Make) -> None:
    def scored_by(result: Result, code: str) -> Result:
        return dataclasses.replace(result, scores={"ss": {**result.scores["ss"], "scoring": code * 64}})

    mla = [find_cell("table2/setr-mla/80k")]
    usual = [scored_by(result_of(PUP, seed=seed), "a") for seed in (0, 1)]
    odd, alone = scored_by(result_of(PUP, seed=2), "b"), scored_by(result_of(mla), "b")
    main = main_version([*usual, odd, alone, scored_by(result_of(mla, seed=1), "a")])
    assert main is not None
    chosen, remarks = choose([odd, *usual], main, "ss")
    assert chosen == usual
    assert remarks == ["1 more result was made with other settings or another version, and not averaged in."]
    [remark] = choose([alone], main, "ss")[1]
    assert remark.startswith(f"Scored by other code than the rest of the column: {'b' * 12} instead of {'a' * 12}")
