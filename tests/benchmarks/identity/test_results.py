"""Finished results under edits of the real modules: kept where nothing changes, never where something does."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.identity.base import Base, prepare
from benchmarks.identity.edits.changes import LATE, candidates, changed, points
from benchmarks.identity.edits.editing import Sources
from benchmarks.identity.edits.rewordings import KINDS, rewordings
from benchmarks.identity.judging import Outcome, first_that_counts, judge_rewording

pytestmark = pytest.mark.slow
NAMES = ("fcn", "mla")
SAMPLE = ("local names", "function split", "function moved", "new decoder", "new recipe field", "format and comments")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return prepare(tmp_path_factory.mktemp("identity"), clock=True, names=NAMES)


def test_rewordings_keep_the_results(base: Base) -> None:
    edits = rewordings(Sources(base.project), base.computing["definitions"], seed=3, count=len(KINDS))
    edits = [edit for edit in edits if edit.kind in SAMPLE]
    assert len(edits) == len(SAMPLE)
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda edit: judge_rewording(base, edit), edits))
    for outcome in outcomes:
        assert outcome.kept, outcome.line()
    assert sum(outcome.how == "kept" for outcome in outcomes) >= len(SAMPLE) // 2


def test_changes_are_noticed(base: Base) -> None:
    sources, computing = Sources(base.project), base.computing
    found = points(sources, computing["definitions"], computing["run"], computing["repeated"])
    places = candidates(found, seed=4)
    late = [place for place in places if place[1][0][0] == LATE]
    tried = [*[place for place in places if place[0]][:3], *late[:3]]
    edits = [(subject, [changed(sources, *entry) for entry in entries]) for subject, entries in tried]

    def outcomes_of(place: tuple[str, list]) -> list[Outcome]:
        return first_that_counts(base, *place)

    with ThreadPoolExecutor(2) as pool:
        outcomes = [outcome for place in pool.map(outcomes_of, edits) for outcome in place]
    assert sum(outcome.counts for outcome in outcomes) == len(edits), [outcome.line() for outcome in outcomes]
    for outcome in outcomes:
        assert not outcome.taken_for_equal, outcome.line()


def test_an_outcome_says_what_is_taken_for_equal() -> None:
    old, new = {"training": "a", "scores": "b"}, {"training": "c", "scores": "b"}
    judged = {"x": {"verdict": "kept by replay", "why": "", "numbers": old}}
    assert Outcome(None, {"x": old}, judged, {"x": new}).taken_for_equal == ["x"]
    assert Outcome(None, {"x": old}, judged, {"x": old}).taken_for_equal == []
    lost = {"x": {"verdict": "to do", "why": "code: a.py; loss at step 1: 1.0 -> 2.0", "numbers": {}}}
    outcome = Outcome(None, {"x": old}, lost, {"x": new})
    assert (outcome.taken_for_equal, outcome.counts, outcome.noticed_by) == ([], True, "replay: loss")
    scored = {"x": {"verdict": "scored again", "why": "", "numbers": {"training": "a", "scores": "d"}}}
    for now, stale in (("d", []), ("e", []), ("b", [])):  # as it stands; another each time; the old ones by chance
        assert Outcome(None, {"x": old}, scored, {"x": {"training": "a", "scores": now}}).taken_for_equal == stale
    kept = {"x": {"verdict": "scored again", "why": "", "numbers": old}}
    assert Outcome(None, {"x": old}, kept, {"x": {"training": "a", "scores": "d"}}).taken_for_equal == ["x"]
