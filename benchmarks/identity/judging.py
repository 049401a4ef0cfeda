"""What becomes of finished results when the code is edited: by edit, by experiment."""

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from benchmarks.identity.base import Base
from benchmarks.identity.children import ChildError

KEPT = ("kept", "kept by replay")


@dataclass(frozen=True)
class Outcome:
    """One edit and what was made of it."""

    edit: Any
    verdicts: dict[str, list[str]] = field(default_factory=dict)  # by experiment: verdict and why
    moved: dict[str, list[str]] = field(default_factory=dict)  # by experiment: which of its numbers truly change
    failure: str = ""  # why it says nothing
    subject: str = ""

    @property
    def kept(self) -> bool:
        """Returns whether every result stands."""
        return bool(self.verdicts) and all(verdict in KEPT for verdict, _ in self.verdicts.values())

    @property
    def replayed(self) -> bool:
        """Returns whether it took a replay."""
        return any(verdict != "kept" for verdict, _ in self.verdicts.values())

    @property
    def taken_for_equal(self) -> list[str]:
        """Returns the experiments whose old numbers would stand although the new ones differ."""
        wrong = []
        for name, moved in self.moved.items():
            verdict = self.verdicts[name][0]
            if (moved and verdict in KEPT) or ("training" in moved and verdict == "to be scored"):
                wrong.append(name)
        return wrong

    @property
    def counts(self) -> bool:
        """Returns whether it changes a number at all."""
        return not self.failure and any(self.moved.values())

    def line(self) -> str:
        """Returns the outcome in a line."""
        by_verdict: dict[str, list[str]] = {}
        for name, (verdict, why) in self.verdicts.items():
            by_verdict.setdefault(verdict + (f" ({why})" if why else ""), []).append(name)
        said = "; ".join(f"{', '.join(names)}: {verdict}" for verdict, names in by_verdict.items())
        return f"{self.edit.name}\n      {said or self.failure}"


def judge_rewording(base: Base, edit: Any) -> Outcome:
    """Returns what is made of an edit that changes nothing."""
    with base.edited(edit.files) as folder:
        try:
            verdicts = base.judge(folder)
        except ChildError as error:
            return Outcome(edit, failure=str(error))
    verdicts.pop("cpu")
    return Outcome(edit, verdicts)


def judge_change(base: Base, edit: Any, subject: str = "") -> Outcome:
    """Returns what is made of an edit, beside what it truly changes: everything is trained with it."""
    with base.edited(edit.files) as folder:
        try:
            numbers = base.train(folder)
            verdicts = base.judge(folder)
        except ChildError as error:
            return Outcome(edit, failure=str(error))
    verdicts.pop("cpu")
    moved = {
        name: [kind for kind in before if before[kind] != numbers[name][kind]] for name, before in base.numbers.items()
    }
    return Outcome(edit, verdicts, moved, subject=subject)


def first_that_counts(base: Base, subject: str, edits: Sequence[Any]) -> list[Outcome]:
    """Returns the outcomes of edits up to the first that changes a number, or that is taken for equal wrongly."""
    outcomes: list[Outcome] = []
    for edit in edits:
        outcomes.append(judge_change(base, edit, subject))
        if outcomes[-1].counts:
            break
    return outcomes


def run_rewordings(base: Base, edits: Sequence[Any], jobs: int) -> bool:
    """Judges the rewordings, prints the table, and returns whether the aims are reached."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(jobs) as pool:
        outcomes = list(_told(pool.map(lambda edit: judge_rewording(base, edit), edits)))
    kept = sum(outcome.kept for outcome in outcomes)
    at_once = sum(outcome.kept and not outcome.replayed for outcome in outcomes)
    print(f"\n{'kind':24}{'edits':>7}{'kept':>7}{'without a replay':>19}")
    for kind in dict.fromkeys(outcome.edit.kind for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.edit.kind == kind]
        unreplayed = sum(outcome.kept and not outcome.replayed for outcome in own)
        print(f"{kind:24}{len(own):7}{sum(outcome.kept for outcome in own):7}{unreplayed:19}")
    aim = -(-len(edits) // 2)
    print(
        f"rewordings: {kept} of {len(edits)} keep every finished result (aim: all), {at_once} of them without a replay "
        f"(aim: {aim}); {time.perf_counter() - begun:.0f} s"
    )
    return kept == len(edits) and at_once >= aim


def run_changes(base: Base, places: Sequence[tuple[str, Sequence[Any]]], jobs: int) -> bool:
    """Judges the changes, prints the table, and returns whether the aims are reached."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(jobs) as pool:
        tried = list(pool.map(lambda place: first_that_counts(base, *place), places))
    outcomes = [outcome for place in tried for outcome in place]
    counted = [outcome for outcome in outcomes if outcome.counts]
    wrong = [outcome for outcome in outcomes if outcome.taken_for_equal]
    for outcome in counted:
        mark = "TAKEN FOR EQUAL: " if outcome.taken_for_equal else ""
        print(f"  {outcome.edit.kind:8} {mark}{outcome.subject + ': ' if outcome.subject else ''}{outcome.line()}")
    failures = Counter(outcome.failure.partition(":")[0] for outcome in outcomes if outcome.failure)
    same = [outcome for outcome in outcomes if not outcome.failure and not outcome.counts]
    print(f"\n{len(outcomes) - len(counted)} candidates passed over: {len(same)} change no number", end="")
    print(f", {failures.total()} do not run ({', '.join(f'{count} {name}' for name, count in failures.items())})")
    print(f"  of those that change nothing, {sum(outcome.kept for outcome in same)} keep every result")
    late = sum(outcome.edit.kind == "late" for outcome in counted)
    missing = [subject for subject, _ in places if subject and subject not in {one.subject for one in counted}]
    how = Counter(verdict for outcome in counted for verdict in _noticed(outcome))
    print("noticed by: " + ", ".join(f"{count} x {name}" for name, count in how.most_common()))
    if missing:
        print(f"no change of: {', '.join(missing)}")
    print(
        f"changes: {len(counted) - len(wrong)} of {len(places)} noticed, {len(wrong)} taken for equal (aim: all, none); "
        f"{late} act after step 100 (aim: half); {time.perf_counter() - begun:.0f} s"
    )
    return not wrong and not missing and len(counted) == len(places)


def _told(outcomes: Any) -> Any:
    for outcome in outcomes:
        mark = "" if outcome.kept else "LOST: "
        print(f"  {outcome.edit.kind}: {mark}{outcome.line()}", flush=True)
        yield outcome


def _noticed(outcome: Outcome) -> list[str]:
    """Returns what noticed a change, by experiment that it changes, in a word."""
    names = []
    for name, moved in outcome.moved.items():
        verdict, why = outcome.verdicts[name]
        if not moved:
            continue
        reason = why.partition("; ")[2] or why
        kind = "spec" if verdict == "to do" and not why.startswith("code:") else "replay: " + _head(reason)
        names.append(verdict if verdict != "to do" else kind)
    return names[:1]


def _head(text: str) -> str:
    words = text.partition(" at step")[0].partition(" after step")[0].partition(":")[0]
    return "areas" if words.startswith("areas") else words
