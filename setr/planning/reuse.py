"""What finished experiments of the same spec, trained by other code, mean for those that are planned."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from setr.planning.planned import Planned
from setr.record.earlier import Finished, difference_to_nearest, finished_experiments


def reuse(planned: Sequence[Planned], storage: Path) -> list[Planned]:
    """Returns the experiments with what finished ones of the same spec, trained by other code, mean for them.

    One that was shown to be the same takes the place of what would be trained; where that is still to be shown, the
    state is `changed`; and what is to do says what it differs in from the nearest that is finished.
    """
    open_ones = {entry.identity for entry in planned if entry.state in ("to do", "failed") and not entry.missing}
    if not open_ones:
        return list(planned)
    finished = finished_experiments(storage)
    by_spec: dict[str, list[Finished]] = {}
    for one in finished:
        by_spec.setdefault(one.spec, []).append(one)
    return [
        _reused(entry, by_spec.get(entry.experiment.spec, []), finished) if entry.identity in open_ones else entry
        for entry in planned
    ]


def _reused(entry: Planned, same: Sequence[Finished], finished: Sequence[Finished]) -> Planned:
    """Returns the entry with what finished experiments mean for it; those in `same` have its spec."""
    why = ""
    for one in (one for one in same if one.identity != entry.identity):
        there = dataclasses.replace(entry, experiment=one.experiment, folder=one.folder)
        state, step = there.state_now()
        if state not in ("done", "to score"):
            continue
        there = dataclasses.replace(there, state=state, step=step)
        if one.proof(entry.code) is not None:
            return there
        changed = f"code: {one.changed(entry.modules) or one.experiment.code[:12]}"
        found = one.difference(entry.code)
        if one.trace and not found:
            before = (
                f"; the last replay showed nothing: {hindrance}" if (hindrance := one.hindrance(entry.code)) else ""
            )
            return dataclasses.replace(
                entry, state="changed", why=f"{changed}{before}; a replay would show", earlier=there
            )
        why = why or f"{changed}; {found or 'trained without a trace'}"
    return dataclasses.replace(entry, why=entry.why or why or difference_to_nearest(entry.experiment, finished))
