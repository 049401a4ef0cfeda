"""Mistakes in a data set, gathered by kind: how often each was met, and where first."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from setr.errors import SetrError

EXAMPLES = 5  # places kept of each kind of finding


@dataclass(frozen=True)
class Finding:
    """One kind of mistake, how often it was met, and the first few places."""

    code: str
    severity: str  # error | warning
    what: str
    count: int = 1
    examples: tuple[str, ...] = ()

    def line(self) -> str:
        """Returns the finding as one line of text."""
        places = f" | {'; '.join(self.examples)}" if self.examples else ""
        return f"{self.severity.upper()} {self.code} ({self.count}x) {self.what}{places}"


class Findings:
    """Collects findings by code and wording, keeping a few examples of each."""

    def __init__(self) -> None:
        self._examples: dict[tuple[str, str, str], list[str]] = {}
        self._counts: Counter[tuple[str, str, str]] = Counter()

    def add(self, code: str, severity: str, what: str, examples: Sequence[str] = (), *, count: int = 1) -> None:
        """Add `count` findings of one kind; severity is error or warning."""
        key = (code, severity, what)
        kept = self._examples.setdefault(key, [])
        kept.extend(examples[: EXAMPLES - len(kept)])
        self._counts[key] += count

    def add_error(self, error: SetrError) -> None:
        """Add an error that was raised; its text after the wording is the example."""
        _, what, *rest = str(error).split(" | ")
        self.add(error.code, "error", what, [" | ".join(rest)] if rest else [])

    def ordered(self) -> tuple[Finding, ...]:
        """Returns the findings, errors first, the wrong family before the values it explains, else as they were met."""
        findings = [Finding(*key, self._counts[key], tuple(examples)) for key, examples in self._examples.items()]
        return tuple(
            sorted(findings, key=lambda finding: (finding.severity != "error", finding.code != "E_LABEL_FAMILY"))
        )
