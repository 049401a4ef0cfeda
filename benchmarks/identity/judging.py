"""What becomes of finished results when the code is edited: by edit, by experiment."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from benchmarks.identity.base import Base
from benchmarks.identity.children import ChildError


@dataclass(frozen=True)
class Outcome:
    """One edit and what was made of it, by experiment."""

    edit: Any
    before: Mapping[str, Mapping[str, str]]  # numbers of the finished results
    judged: Mapping[str, Any] = field(default_factory=dict)  # verdict, why, and the numbers that stand
    trained: Mapping[str, Any] = field(default_factory=dict)  # numbers that the edited project comes to, where asked
    failure: str = ""  # why it says nothing
    subject: str = ""

    @property
    def kept(self) -> bool:
        """Returns whether every result stands, with the same numbers."""
        return bool(self.judged) and all(self.judged[name]["numbers"] == self.before[name] for name in self.judged)

    @property
    def how(self) -> str:
        """Returns what it took at most to keep the results: kept, kept by replay, scored again."""
        words = [verdict["verdict"] for verdict in self.judged.values()]
        return next((word for word in ("scored again", "kept by replay") if word in words), "kept")

    @property
    def counts(self) -> bool:
        """Returns whether it changes a number at all."""
        return any(numbers != self.before[name] for name, numbers in self.trained.items())

    @property
    def taken_for_equal(self) -> list[str]:
        """Returns the experiments whose standing numbers are not those that the edited project comes to.

        Scores that are neither the old nor the new ones were made by the edited code, which gives others each time: it
        may leave pixels out, and score what lay in memory.
        """
        return [name for name, verdict in self.judged.items() if verdict["numbers"] and self._is_stale(name)]

    def _is_stale(self, name: str) -> bool:
        stand, before, now = self.judged[name]["numbers"], self.before[name], self.trained.get(name)
        if now is None:
            return False
        return any(stand[part] != now[part] and (part == "training" or stand[part] == before[part]) for part in now)

    @property
    def noticed_by(self) -> str:
        """Returns what noticed a change first, in a word."""
        for name, numbers in self.trained.items():
            verdict = self.judged[name]
            if numbers != self.before[name] and verdict["verdict"] != "to do":
                return str(verdict["verdict"])
            if numbers != self.before[name]:
                reason = verdict["why"].partition("; ")[2]
                return f"replay: {_head(reason)}" if reason else "spec"
        return "nothing"

    @property
    def mark(self) -> str:
        """Returns what a change was found to be, with its subject."""
        found = "TAKEN FOR EQUAL: " if self.taken_for_equal else "" if self.counts else "passed over: "
        return found + (f"{self.subject}: " if self.subject else "")

    def line(self) -> str:
        """Returns the outcome in two lines."""
        groups: dict[str, list[str]] = {}
        for name, verdict in self.judged.items():
            why = f" ({verdict['why']})" if verdict["why"] else ""
            groups.setdefault(verdict["verdict"] + why, []).append(name)
        said = "; ".join(f"{', '.join(names)}: {verdict}" for verdict, names in groups.items())
        return f"{self.edit.name}\n      {said or self.failure}"


def judge_rewording(base: Base, edit: Any) -> Outcome:
    """Returns what is made of an edit that changes nothing."""
    with base.edited(edit.files) as folder:
        try:
            return Outcome(edit, base.numbers, base.judge(folder))
        except ChildError as error:
            return Outcome(edit, base.numbers, failure=str(error))


def judge_change(base: Base, edit: Any, subject: str = "") -> Outcome:
    """Returns what is made of an edit, beside what it truly changes.

    What stands is trained with it, unless no code that it runs through has changed; and one that does not stand, to see
    whether the edit changes anything.
    """
    with base.edited(edit.files) as folder:
        try:
            judged = base.judge(folder)
            groups: dict[str, list[str]] = {}
            for name, verdict in judged.items():
                groups.setdefault(verdict["verdict"], []).append(name)
            untouched = groups.pop("kept", [])
            lost = [name for verdict in ("to do", "changed") for name in groups.pop(verdict, [])]
            names = [*lost[:1], *(name for standing in groups.values() for name in standing)] or untouched
            return Outcome(edit, base.numbers, judged, base.train(folder, names), subject=subject)
        except ChildError as error:
            return Outcome(edit, base.numbers, failure=str(error), subject=subject)


def first_that_counts(base: Base, subject: str, edits: Sequence[Any]) -> list[Outcome]:
    """Returns the outcomes of edits up to the first that changes a number, or that is taken for equal wrongly."""
    outcomes: list[Outcome] = []
    for edit in edits:
        outcomes.append(judge_change(base, edit, subject))
        print(f"  {edit.kind}: {outcomes[-1].mark}{outcomes[-1].line()}", flush=True)
        if outcomes[-1].counts:
            break
    return outcomes


def run_rewordings(base: Base, edits: Sequence[Any], jobs: int) -> bool:
    """Judges the rewordings, prints the table, and returns whether the aims are reached."""
    begun, outcomes = time.perf_counter(), []
    with ThreadPoolExecutor(jobs) as pool:
        for outcome in pool.map(lambda edit: judge_rewording(base, edit), edits):
            outcomes.append(outcome)
            print(f"  {outcome.edit.kind}: {'' if outcome.kept else 'LOST: '}{outcome.line()}", flush=True)
    columns = ("kept", "kept by replay", "scored again")
    print(f"\n{'kind':24}{'edits':>8}{'kept':>8}{'at once':>10}{'by replay':>12}{'scored again':>15}")
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.edit.kind, []).append(outcome)
    for kind, own in {**groups, "all": outcomes}.items():
        stand = [outcome for outcome in own if outcome.kept]
        at_once, replayed, scored = (sum(outcome.how == word for outcome in stand) for word in columns)
        print(f"{kind:24}{len(own):8}{len(stand):8}{at_once:10}{replayed:12}{scored:15}")
    aim = -(-len(edits) // 2)
    print(
        f"rewordings: {len(stand)} of {len(edits)} keep every finished result (aim: all), {at_once} of them without a "
        f"replay (aim: {aim}); {time.perf_counter() - begun:.0f} s"
    )
    return len(stand) == len(edits) and at_once >= aim


def run_changes(base: Base, places: Sequence[tuple[str, Sequence[Any]]], jobs: int) -> bool:
    """Judges the changes, prints the table, and returns whether the aims are reached."""
    begun, outcomes = time.perf_counter(), []
    with ThreadPoolExecutor(jobs) as pool:
        for tried in pool.map(lambda place: first_that_counts(base, *place), places):
            outcomes += tried
    counted = [outcome for outcome in outcomes if outcome.counts]
    wrong = [outcome for outcome in outcomes if outcome.taken_for_equal]
    broken = [outcome for outcome in outcomes if outcome.failure]
    same = len(outcomes) - len(counted) - len(broken)
    print(f"\n{same + len(broken)} candidates passed over: {same} change no number, {len(broken)} do not run")
    how = Counter(outcome.noticed_by for outcome in counted)
    print("noticed by: " + ", ".join(f"{name} {count}" for name, count in how.most_common()))
    wanted = {subject for subject, _ in places if subject}
    missing = wanted - {outcome.subject for outcome in counted}
    if missing:
        print(f"no change of: {', '.join(sorted(missing))}")
    late = sum(outcome.edit.kind == "late" for outcome in counted)
    noticed = len(counted) - len(wrong)
    print(
        f"changes: {noticed} of {len(places)} noticed, {len(wrong)} taken for equal (aim: all, none); "
        f"{late} of them act after step 100 (aim: half); {time.perf_counter() - begun:.0f} s"
    )
    return not wrong and not missing and len(counted) == len(places)


def _head(text: str) -> str:
    words = text.partition(" at step")[0].partition(" after step")[0].partition(":")[0]
    return "areas" if words.startswith("areas") else words
