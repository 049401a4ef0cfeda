"""One live display for a sweep: experiments done, running and waiting, with step, loss and the time still to go.

On a terminal it is redrawn in place; otherwise each change is one plain line.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from setr.planning.schedule import Piece, list_schedule, table_ends
from setr.record.events import Event

PLAIN_SECONDS = 15.0  # between two progress lines where there is no terminal
FORECAST_SECONDS = 600.0  # between two forecasts there


@dataclass
class BoardRow:
    """What is known of one experiment."""

    name: str
    total_steps: int
    status: str = "waiting"  # waiting | running | finished | failed | stopped
    step: int = 0
    loss: float | None = None
    miou: float | None = None
    images_per_second: float | None = None
    first_step: int | None = None  # where this session began, for the speed
    started: float = 0.0
    ended: float = 0.0
    cause: str = ""
    seconds: float = 0.0  # that the plan gives what was left when the session began; 0: no plan
    from_step: int = 0  # where it was then
    workers: int = 1
    tables: tuple[str, ...] = ()


@dataclass
class Board:
    """The rows of a sweep by identity, and the speed they go at."""

    rows: dict[str, BoardRow] = field(default_factory=dict)
    begun: float = field(default_factory=time.time)
    slots: int = 1  # workers side by side

    def apply(self, identity: str, event: Event) -> str | None:
        """Takes over one event; returns a line worth printing, if there is one."""
        row = self.rows[identity]
        kind, step = event["event"], int(event.get("step", row.step))
        if kind == "start":
            row.status, row.step, row.first_step, row.started = "running", step, step, float(event["time"])
            row.ended = 0.0
            return f"{row.name}: {'resumes at' if step else 'starts at'} step {step} of {row.total_steps}"
        if kind == "metrics":
            row.step, row.loss = max(row.step, step), event.get("loss")
            row.images_per_second = event.get("images_per_second", row.images_per_second)
        elif kind == "evaluation":
            row.step, row.miou = max(row.step, step), event.get("mIoU")
            return f"{row.name}: step {step}, mIoU {_number(row.miou)} %"
        elif kind == "finished":
            row.status, row.step, row.ended = "finished", row.total_steps, float(event.get("time", time.time()))
            return f"{row.name}: finished, mIoU {_number(row.miou)} %"
        elif kind == "failed":
            row.status, row.cause = "failed", str(event.get("cause", ""))
            return f"{row.name}: failed: {row.cause}"
        elif kind == "stopped":
            row.status = "stopped"
            return f"{row.name}: stopped at step {step}, goes on from there next time"
        return None

    def count(self, status: str) -> int:
        """Returns how many experiments have the status."""
        return sum(row.status == status for row in self.rows.values())

    def seconds_left(self) -> float | None:
        """Returns the time the remaining steps take at the speed so far, or None before there is one."""
        done = sum(row.step - row.first_step for row in self.rows.values() if row.first_step is not None)
        left = sum(row.total_steps - row.step for row in self.rows.values() if row.status in ("waiting", "running"))
        elapsed = time.time() - self.begun
        return left * elapsed / done if done else None

    def table_ends(self, now: float | None = None) -> dict[str, float]:
        """Returns {table: seconds from now until its last experiment ends}, 0 for one that is complete.

        Experiments that wait take what the plan says, times what the ones so far took against it; those that run go on
        at their own speed. A table of which one failed or
        stopped will not be complete.
        """
        now = time.time() if now is None else now
        factor = self._pace(now)
        if factor is None:
            return {}
        pieces, over = [], []
        for identity, row in self.rows.items():
            left = row.seconds * factor * self._share_left(row)
            if row.status == "waiting":
                pieces.append(Piece(identity, left, row.workers, row.tables))
            elif row.status == "running":
                over.append(Piece(identity, left, row.workers, row.tables, ends_at=self._own_end(row, now, left)))
            elif row.status == "finished":
                over.append(Piece(identity, 0.0, 0, row.tables, ends_at=0.0))
        pieces = over + pieces
        given_up = {table for row in self.rows.values() if row.status in ("failed", "stopped") for table in row.tables}
        ends = table_ends(pieces, list_schedule(pieces, self.slots))
        return {table: left for table, left in ends.items() if table not in given_up}

    def _pace(self, now: float) -> float | None:
        """Returns seconds taken over seconds planned of what is done, None before there is enough to tell."""
        taken = planned = 0.0
        for row in self.rows.values():
            if row.first_step is None or not row.seconds or row.step <= row.first_step:
                continue
            taken += (row.ended or now) - row.started
            planned += row.seconds * (row.step - row.first_step) / max(1, row.total_steps - row.from_step)
        return taken / planned if planned else None

    @staticmethod
    def _share_left(row: BoardRow) -> float:
        return (row.total_steps - row.step) / max(1, row.total_steps - row.from_step)

    @staticmethod
    def _own_end(row: BoardRow, now: float, planned: float) -> float:
        done = row.step - (row.first_step or 0)
        return (now - row.started) * (row.total_steps - row.step) / done if done > 0 else planned

    def forecast(self) -> str:
        """Returns when each table is complete, "" before that can be told or without a plan."""
        now = time.time()
        ends = self.table_ends(now)
        return ", ".join(
            f"Table {table} complete" + (f": {weekday(now + left)}" if left > 0 else "") for table, left in ends.items()
        )

    def speed(self) -> float:
        """Returns the images per second of all that run."""
        return sum(row.images_per_second or 0.0 for row in self.rows.values() if row.status == "running")

    def summary(self) -> str:
        """Returns one line: how many are done, running, waiting and failed, and the time left."""
        parts = [f"{self.count('finished')} of {len(self.rows)} done"]
        parts += [f"{self.count(word)} {word}" for word in ("running", "waiting", "failed") if self.count(word)]
        left = self.seconds_left()
        if left is not None and (self.count("running") or self.count("waiting")):
            parts.append(f"about {clock(left)} left")
        if self.speed():
            parts.append(f"{_number(self.speed(), 0)} images/s")
        return ", ".join(parts)


class SweepProgress:
    """Shows a Board on a stream; a context manager."""

    def __init__(self, board: Board, stream: IO[str]) -> None:
        """Draw live if `stream` is a terminal, print lines otherwise."""
        self.board = board
        self.console = Console(file=stream, highlight=False)
        terminal = self.console.is_terminal
        self.live = Live(console=self.console, refresh_per_second=4, transient=True) if terminal else None
        self.last_line = 0.0
        self.last_forecast = time.monotonic()
        self.complete: set[str] = set()  # tables that were said to be

    def __enter__(self) -> "SweepProgress":
        """Starts drawing."""
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops drawing."""
        if self.live:
            self.live.update(self._table())
            self.live.stop()

    def update(self, events: Iterable[tuple[str, Event]]) -> None:
        """Takes over new events of (identity, event) and shows them."""
        for identity, event in events:
            line = self.board.apply(identity, event)
            if line and (self.live is None or event["event"] in ("finished", "failed", "stopped")):
                self.console.print(line, markup=False, soft_wrap=True)
        if self.live:
            self.live.update(self._table())
        elif time.monotonic() - self.last_line > PLAIN_SECONDS:
            self.last_line = time.monotonic()
            self.console.print(self.board.summary(), markup=False, soft_wrap=True)
            self._print_forecast()

    def _print_forecast(self) -> None:
        """Prints when the tables are complete: rarely, and when one is."""
        now = time.monotonic()
        complete = {table for table, left in self.board.table_ends().items() if left == 0}
        if complete == self.complete and now - self.last_forecast < FORECAST_SECONDS:
            return
        self.last_forecast, self.complete = now, complete
        if forecast := self.board.forecast():
            self.console.print(forecast, markup=False, soft_wrap=True)

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False, show_edge=False)
        for title, side in (("experiment", "left"), ("", "left"), ("step", "right"), ("loss", "right")):
            table.add_column(title, justify="left" if side == "left" else "right", no_wrap=True)
        table.add_column("mIoU %", justify="right")
        table.add_column("images/s", justify="right")
        for row in self.board.rows.values():
            if row.status == "running":
                bar = ProgressBar(total=row.total_steps, completed=row.step, width=24)
                table.add_row(
                    row.name,
                    bar,
                    f"{row.step}/{row.total_steps}",
                    _number(row.loss, 3),
                    _number(row.miou),
                    _number(row.images_per_second, 0),
                )
        return Group(table, Text(self.board.summary(), style="bold"), Text(self.board.forecast()))


def clock(seconds: float) -> str:
    """Returns a duration as 45 s, 3 min 05 s or 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def weekday(seconds: float) -> str:
    """Returns a time, in seconds since 1970, as Tuesday 14:10, with the date from six days ahead on."""
    when = datetime.fromtimestamp(seconds)
    far = seconds - time.time() > 6 * 86_400
    return f"{when:%A %d %B %Y %H:%M}" if far else f"{when:%A %H:%M}"


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
