"""What an import writes down so that it can be checked later: every tensor of file and model accounted for, once."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

STATUSES = ("mapped", "converted", "permuted", "resized", "unused", "missing")


@dataclass(frozen=True)
class TensorEntry:
    """One tensor: where it stood in the file, where it stands in the model, and what happened between."""

    status: str  # one of STATUSES; where several apply the last of mapped < converted < permuted < resized
    parameter: str = ""  # name in the model; empty: unused
    key: str = ""  # name in the file; empty: missing
    shape: tuple[int, ...] = ()  # in the model; of an unused tensor, in the file
    detail: str = ""  # the reason, or what was done


@dataclass(frozen=True)
class Receipt:
    """An import's record: the file and its hash, how it was understood, and one entry for each tensor."""

    source: str  # path or timm name, as given
    path: str  # the file that was read
    sha256: str
    size_bytes: int
    opened_with: str  # safetensors | weights_only | restricted
    format: str  # whose key names the file has
    settings: dict[str, Any]  # what was decided, and where each value came from
    tensors: tuple[TensorEntry, ...]
    spec: dict[str, Any] = field(default_factory=dict)  # the model's structure
    placeholders: tuple[str, ...] = ()  # classes that the file names and that were not constructed

    def counts(self) -> dict[str, int]:
        """Returns the number of tensors by status, every status named."""
        found = Counter(entry.status for entry in self.tensors)
        return {status: found[status] for status in STATUSES}

    def with_status(self, status: str) -> list[TensorEntry]:
        """Returns the entries of one status, in the file's order."""
        assert status in STATUSES
        return [entry for entry in self.tensors if entry.status == status]

    def as_dict(self) -> dict[str, Any]:
        """Returns the receipt as plain values that json.dumps takes."""
        values = asdict(self)
        values["tensors"] = [{**asdict(entry), "shape": list(entry.shape)} for entry in self.tensors]
        values["placeholders"] = list(self.placeholders)
        return {**values, "counts": self.counts()}

    def rows(self) -> list[tuple[str, int, str]]:
        """Returns the short table (status, tensors, what they are): one row for each status and reason."""
        groups: dict[tuple[str, str], list[TensorEntry]] = {}
        for entry in self.tensors:
            groups.setdefault((entry.status, entry.detail), []).append(entry)
        ordered = sorted(groups.items(), key=lambda group: (STATUSES.index(group[0][0]), -len(group[1])))
        return [(status, len(entries), detail or _some(entries)) for (status, detail), entries in ordered]


def joined(receipts: Sequence[Receipt]) -> Receipt:
    """Returns one receipt for several files that filled one model, their names and hashes joined by `+`.

    A parameter that one file filled is not missing because another file has it not.
    """
    if len(receipts) == 1:
        return receipts[0]
    filled = {entry.parameter for receipt in receipts for entry in receipt.tensors if entry.parameter and entry.key}
    entries = [entry for receipt in receipts for entry in receipt.tensors]
    return Receipt(
        source="+".join(receipt.source for receipt in receipts),
        path="+".join(receipt.path for receipt in receipts),
        sha256="+".join(receipt.sha256 for receipt in receipts),
        size_bytes=sum(receipt.size_bytes for receipt in receipts),
        opened_with="+".join(receipt.opened_with for receipt in receipts),
        format="+".join(receipt.format for receipt in receipts),
        settings={receipt.path: receipt.settings for receipt in receipts},
        tensors=tuple(entry for entry in entries if entry.status != "missing" or entry.parameter not in filled),
        spec=receipts[0].spec,
        placeholders=tuple(sorted({name for receipt in receipts for name in receipt.placeholders})),
    )


def _some(entries: list[TensorEntry]) -> str:
    names = [entry.parameter or entry.key for entry in entries]
    return names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]}"
