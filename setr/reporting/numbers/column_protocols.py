"""Under which protocol the numbers of one column were scored: two protocols never share it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from setr.data.reading.datasets import DATASETS
from setr.reporting.numbers.results import Result
from setr.reporting.numbers.versions import protocol_digest
from setr.study.cells import Cell


def expected_protocols(column: Sequence[Cell], scored: Mapping[str, Sequence[Result]], scale: str) -> dict[str, str]:
    """Returns by cell the digest of the protocol that a number in the column has to be scored with.

    At paper scale it is the paper's. Elsewhere, and on data of the reader's own, it is the one that most results have,
    over the rows that are scored alike; a test server's number has none, and "" stands for it.
    """
    if scale == "paper" and all(cell.dataset in DATASETS for cell in column if cell.runnable):
        return {
            cell.key: cell.published_protocol().digest() if _local(cell) else "" for cell in column if cell.runnable
        }
    groups: dict[str, list[Cell]] = {}
    for cell in column:
        if cell.runnable:
            groups.setdefault(cell.published_protocol().digest(), []).append(cell)
    expected: dict[str, str] = {}
    for group in groups.values():
        most = most_frequent(scored_digest(cell, one) for cell in group for one in scored[cell.key])
        expected |= {cell.key: most for cell in group}
    return expected


def _local(cell: Cell) -> bool:
    """Returns whether a cell's number is computed here and not by a test server."""
    return cell.split == "val"


def scored_digest(cell: Cell, result: Result) -> str:
    """Returns the digest of the protocol that a result's number for a cell was scored with; "" for a test server's."""
    return protocol_digest(result, score_name(cell)) if _local(cell) else ""


def most_frequent(texts: Iterable[str]) -> str:
    """Returns the most frequent text that is not empty, the last in order where several are; "" if there is none."""
    count = Counter(text for text in texts if text)
    return max(count, key=lambda text: (count[text], text), default="")


def score_name(cell: Cell) -> str:
    """Returns the name that a cell's score has in a result; the test split's comes from the server."""
    return cell.protocol if cell.split == "val" else f"{cell.protocol}-{cell.split}"
