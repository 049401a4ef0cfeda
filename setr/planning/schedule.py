"""When experiments end that share a number of slots: each starts as soon as its slots are free, in the order given."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """Work of one experiment."""

    name: str
    seconds: float  # on `width` slots
    width: int = 1
    tables: tuple[str, ...] = ()
    ends_at: float | None = None  # it runs already: seconds from now until it ends


def list_schedule(pieces: Sequence[Piece], slots: int) -> dict[str, float]:
    """Returns {name: seconds from now until it ends}; a piece wider than the slots takes all of them.

    A piece that does not fit lets later ones go first that do.
    """
    ends: dict[str, float] = {}
    running: list[tuple[float, int, str]] = []
    free = slots
    waiting: list[Piece] = []
    for piece in pieces:
        if piece.ends_at is None:
            waiting.append(piece)
        else:
            ends[piece.name] = piece.ends_at
            heapq.heappush(running, (piece.ends_at, min(piece.width, slots), piece.name))
            free -= min(piece.width, slots)
    now = 0.0
    while waiting:
        left = []
        for piece in waiting:
            width = min(piece.width, slots)
            if width > free:
                left.append(piece)
                continue
            free -= width
            ends[piece.name] = now + piece.seconds
            heapq.heappush(running, (ends[piece.name], width, piece.name))
        waiting = left
        if waiting:
            now, width, _ = heapq.heappop(running)
            free += width
    return ends


def longest_first(pieces: Iterable[Piece]) -> list[Piece]:
    """Returns the pieces in the order that sweeps start them: wide ones, then long ones, which end last otherwise."""
    return sorted(pieces, key=lambda piece: (-piece.width, -piece.seconds, piece.name))


def table_ends(pieces: Iterable[Piece], ends: Mapping[str, float]) -> dict[str, float]:
    """Returns {table: seconds from now until its last piece ends}."""
    found: dict[str, float] = {}
    for piece in pieces:
        for table in piece.tables:
            found[table] = max(found.get(table, 0.0), ends[piece.name])
    return dict(sorted(found.items()))
