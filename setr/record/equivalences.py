"""Which codes were shown to compute what a finished training's own code computed: one line for each comparison made.

    <folder>/equivalences.jsonl   from, to, modules, verdict, time, host, and the SHA-256 of the line without it

A result may be used under another code only while a whole, unedited line here says that a replay found them equal.
"""

import hashlib
import json
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from setr.files.atomic import append
from setr.record.files import EQUIVALENCES
from setr.study.experiment import canonical_json

SCHEMA = 1
FIRST_STEPS = 4  # that a replay trains again from the start


@dataclass(frozen=True)
class Verdict:
    """What a replay found."""

    equal: bool
    exact: bool  # to the bit; else within `tolerance`
    tolerance: float  # relative, of losses and gradient norms; 0 where it is exact
    first_difference: str  # one line: what differed first, or what is missing for a proof; "" where equal
    evidence: dict[str, Any]  # JSON-able: what was compared, and where
    provable: bool = True  # False: what a replay needs is not there, nothing was shown

    @property
    def footnote(self) -> str:
        """Returns what a reader of the number has to know; "" where it is equal to the bit."""
        if not self.equal or self.exact:
            return ""
        apart = ", ".join(self.evidence.get("differences", ())) or "a device whose sums have no fixed order"
        return f"replayed within a relative {self.tolerance:g}, not to the bit: {apart}"

    @property
    def norms_apart(self) -> str:
        """Returns how far the replayed steps' gradient norms fall short of the training's; "" where they do not."""
        norms: Any = self.evidence.get("gradient_norms")
        try:
            (low, high), (lowest, highest) = norms["replayed"], norms["training"]
            short = low > lowest or high < highest
            ranges = (f"{low:.3g} to {high:.3g}", f"{lowest:.3g} to {highest:.3g}")
        except (TypeError, KeyError, ValueError):
            return ""
        return f"replayed steps had gradient norms {ranges[0]}, the training's were {ranges[1]}" if short else ""


@dataclass(frozen=True)
class Proof:
    """A line that shows that a result's own code and another compute the same."""

    trained: str  # hash of the code that trained
    code: str  # hash of the code that was compared with it
    verdict: Verdict
    time: float  # seconds since 1970
    host: str
    modules: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # of `code`; {} where none were kept


def record(
    folder: Path, *, trained: str, code: str, verdict: Verdict, modules: Mapping[str, Mapping[str, str]] | None = None
) -> None:
    """Appends a comparison of `code` with the code that trained; a line that a power cut takes is made anew.

    `modules` of `code` are kept with it, so that a later edit can be told from the one that was compared.
    Raises EnvironmentFailure (E_STORAGE) if the disk refuses.
    """
    entry = {
        "schema": SCHEMA,
        "from": trained,
        "to": code,
        "modules": modules or {},
        "verdict": asdict(verdict),
        "time": round(time.time(), 3),
        "host": socket.gethostname(),
    }
    line = canonical_json({**entry, "sha256": _digest(entry)}) + "\n"
    append(folder / EQUIVALENCES, line.encode())


def is_equivalent(folder: Path, *, trained: str, code: str, trace_sha256: str, scoring: str = "") -> Proof | None:
    """Returns the newest proof that `code` computes what `trained` did in this folder, None if there is none.

    `trace_sha256` is that of the result's own trace: a comparison with another one shows nothing. One without images,
    made because the result had to be scored anew anyway, holds while `scoring` (what scores it) is what it was then.
    """
    found = [
        proof
        for proof in comparisons(folder)
        if (proof.trained, proof.code) == (trained, code) and _shows(proof.verdict, trace_sha256, scoring)
    ]
    return found[-1] if found else None


def comparisons(folder: Path) -> list[Proof]:
    """Returns all whole and unedited lines in order, equal or not; others are passed over."""
    try:
        lines = (folder / EQUIVALENCES).read_bytes().splitlines(keepends=True)
    except OSError:
        return []
    return [proof for line in lines if line.endswith(b"\n") and (proof := _parse(line)) is not None]


def damaged_lines(folder: Path) -> list[int]:
    """Returns the numbers, from 1, of the lines that were cut or edited: they count for nothing."""
    try:
        lines = (folder / EQUIVALENCES).read_bytes().splitlines(keepends=True)
    except OSError:
        return []
    return [number for number, line in enumerate(lines, 1) if not line.endswith(b"\n") or _parse(line) is None]


def told_damage(folder: Path) -> str:
    """Returns in words which lines of a folder's comparisons are damaged, "" if none is."""
    numbers = damaged_lines(folder)
    if not numbers:
        return ""
    which = f"{'line' if len(numbers) == 1 else 'lines'} {', '.join(map(str, numbers))} of {EQUIVALENCES}"
    return f"{which}, cut or edited, {'counts' if len(numbers) == 1 else 'count'} for nothing"


def _shows(verdict: Verdict, trace_sha256: str, scoring: str) -> bool:
    """Returns whether enough was compared, and all of it found equal."""
    evidence = verdict.evidence
    iterations, checkpoints = _count(evidence, "iterations"), evidence.get("checkpoints")
    continued = isinstance(checkpoints, dict) and all(isinstance(n, int) and n > 0 for n in checkpoints.values())
    return (
        verdict.equal
        and verdict.provable
        and not verdict.first_difference
        and bool(trace_sha256)
        and evidence.get("trace") == trace_sha256
        and iterations > 0
        and _count(evidence, "orders") == _count(evidence, "rates") == iterations
        and _count(evidence, "draws") > 0
        and _count(evidence, "first_steps") == min(FIRST_STEPS, iterations)
        and continued
        and (bool(checkpoints) or iterations <= FIRST_STEPS)
        and (_count(evidence, "images") > 0 or (bool(scoring) and evidence.get("to_be_scored") == scoring))
    )


def _count(evidence: Mapping[str, Any], name: str) -> int:
    value = evidence.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def _parse(line: bytes) -> Proof | None:
    try:
        entry = json.loads(line)
        digest = entry.pop("sha256")
        if digest != _digest(entry) or entry["schema"] != SCHEMA:
            return None
        verdict = Verdict(**entry["verdict"])
        modules = entry.get("modules") or {}
        if not all(isinstance(part, dict) for part in modules.values()):
            return None
        return Proof(entry["from"], entry["to"], verdict, entry["time"], entry["host"], modules)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _digest(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(entry).encode()).hexdigest()
