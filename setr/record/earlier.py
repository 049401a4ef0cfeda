"""What lies finished in the storage path: the experiments of a spec, and what a planned one differs in from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setr.errors import InputError
from setr.record.equivalences import Proof, Verdict, comparisons, is_equivalent
from setr.record.files import SCORES
from setr.record.reading import as_kept, read_identity_file
from setr.study.code import Modules, differing_modules, scoring_code
from setr.study.experiment import Experiment
from setr.study.spec import differences

SHOWN = 3  # differences that are named; more say that it is another experiment
SHOWN_MODULES = 2  # that are named of those that differ


@dataclass(frozen=True)
class Finished:
    """An experiment that was trained and scored, as its folder tells."""

    folder: Path
    experiment: Experiment
    trace: str  # SHA-256 of its trace; "": it has none

    @property
    def spec(self) -> str:
        """Returns the hash of what it is."""
        return self.experiment.spec

    @property
    def identity(self) -> str:
        """Returns its identity."""
        return self.experiment.identity

    def proof(self, code: str) -> Proof | None:
        """Returns what shows that another code computes this result, None if nothing does."""
        return is_equivalent(
            self.folder,
            trained=self.experiment.code,
            code=code,
            trace_sha256=self.trace,
            scoring=scoring_code(),
        )

    def changed(self, modules: Modules) -> str:
        """Returns in words which modules differ from the nearest code that computes this result: its own, or a proven.

        So what was edited last is named, not all that was ever reworded.
        """
        proven = [
            one.modules
            for one in comparisons(self.folder)
            if one.modules and one.trained == self.experiment.code and self.proof(one.code) is not None
        ]
        found = (differing_modules(before, modules) for before in (self.experiment.modules, *reversed(proven)))
        return words(min(found, key=len), shown=SHOWN_MODULES)

    def difference(self, code: str) -> str:
        """Returns what the newest replay under another code found different, "" if there was none or it found nothing.

        Only this is final: what merely hindered a replay (see hindrance) may be over, and it is tried again.
        """
        found = self._newest(code)
        return found.first_difference if found is not None and found.provable else ""

    def hindrance(self, code: str) -> str:
        """Returns why the newest replay under another code showed nothing, "" if it did or there was none."""
        found = self._newest(code)
        return found.first_difference if found is not None and not found.provable else ""

    def _newest(self, code: str) -> Verdict | None:
        found = [one for one in comparisons(self.folder) if (one.trained, one.code) == (self.experiment.code, code)]
        return found[-1].verdict if found else None


@dataclass(frozen=True)
class Shelf:
    """What lies in a storage path."""

    finished: tuple[Finished, ...]
    first_version: int  # finished experiments whose records have no spec and no trace


def shelf(storage: Path) -> Shelf:
    """Returns the finished experiments of a storage path; folders that cannot be read are passed over."""
    finished, old = [], 0
    for folder in sorted(storage.glob("*/")):
        record = (read_identity_file(folder) or {}).get("experiment")
        scores = as_kept(folder, SCORES) if record else None
        if not record or not scores:
            continue
        if "spec" not in record:
            old += 1
            continue
        try:
            finished.append(Finished(folder, Experiment.from_dict(record), str(scores.get("trace", ""))))
        except InputError:
            continue
    return Shelf(tuple(finished), old)


def finished_experiments(storage: Path) -> tuple[Finished, ...]:
    """Returns the finished experiments of a storage path."""
    return shelf(storage).finished


def difference_to_nearest(experiment: Experiment, finished: Sequence[Finished]) -> str:
    """Returns in what a planned experiment differs from the nearest finished one; "" if none is near.

    Near is one of the same names (data set, variant, schedule, scale, seed), else one that differs in a value or two.
    """
    ranked = sorted(
        (found for one in finished if (found := _compared(experiment, one.experiment)) is not None),
        key=lambda found: (not found[0], len(found[1])),
    )
    if not ranked or (not ranked[0][0] and len(ranked[0][1]) > SHOWN - 1):
        return ""
    return words(ranked[0][1])


def _compared(planned: Experiment, other: Experiment) -> tuple[bool, list[str]] | None:
    """Returns whether two experiments have the same names, and their differences in words."""
    names = ("dataset", "variant", "schedule", "scale", "seed")
    same = all(getattr(planned, name) == getattr(other, name) for name in names)
    if not same and len({place for place, _ in planned.spec_places ^ other.spec_places}) > SHOWN - 1:
        return None
    found = [_said(place, before, after, planned) for place, before, after in _differences(planned, other)]
    if not found:
        changed = differing_modules(other.modules, planned.modules)
        found = [f"code: {words(changed, shown=SHOWN_MODULES)}"] if changed else []
    return (same, found) if found else None


def _differences(planned: Experiment, other: Experiment) -> list[tuple[str, Any, Any]]:
    return differences(other.spec_values, planned.spec_values)


def _said(place: str, before: Any, after: Any, planned: Experiment) -> str:
    if place == "data":
        return f"manifest of {planned.dataset} {_short(before)} -> {_short(after)}"
    if place == "weights":
        return f"weights {_short(before)} -> {_short(after)}"
    return f"{place} {before} -> {after}"


def _short(value: Any) -> str:
    return str(value)[:12] or "none"


def words(entries: Sequence[str], *, shown: int = SHOWN) -> str:
    """Returns entries in a line, the first few of many."""
    more = f" and {len(entries) - shown} more" if len(entries) > shown else ""
    return ", ".join(entries[:shown]) + more
