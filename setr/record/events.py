"""The record of an experiment: one append-only file of JSON lines, written by the training and read by everybody else.

It is the ledger (what was done, by which attempt) and the spool (metrics that still have to reach the tracking server)
at once, so there is no second copy that could disagree.
"""

import json
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from setr.files.atomic import Owner, append

Event = dict[str, Any]

POINTS = ("metrics", "evaluation")  # events that hold points of curves
WHOLE_BYTES = 4_000_000  # records longer than this are not looked through for what their last attempt took
NO_METRIC = ("event", "step", "time")


def append_event(path: Path, event: Event, *, owner: Owner | None = None) -> None:
    """Appends one event as one line; a line that a killed process left unfinished is closed first.

    Raises EnvironmentFailure: E_STORAGE, or E_LEASE if `owner` does not own the folder any more.
    """
    line = json.dumps({"time": round(time.time(), 3), **_finite(event)}, sort_keys=True) + "\n"
    append(path, line.encode(), owner=owner)


def read_events(path: Path) -> list[Event]:
    """Returns all whole events of the file, in order; an unfinished or damaged line is passed over."""
    return list(EventReader(path))


class EventReader:
    """Iterates over the events that came since the last call, so that a file can be followed while it grows."""

    def __init__(self, path: Path) -> None:
        """Start at the beginning of `path`, which need not exist yet."""
        self.path = path
        self.offset = 0
        self.damaged = 0  # whole lines that are no event

    def __iter__(self) -> Iterator[Event]:
        """Yields each new whole event."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return
        end = data.rfind(b"\n") + 1
        self.offset += end
        for line in filter(None, data[:end].split(b"\n")):
            event = parse_event(line)
            if event is None:
                self.damaged += 1
            else:
                yield event


def last_attempt(path: Path) -> tuple[Event | None, Event | None]:
    """Returns the `finished` event of a record and the `start` event of its attempt, None where there is none.

    Other lines are not parsed: a plan asks this of hundreds of records. Raises OSError for a file that cannot be read.
    """
    started: Event | None = None
    found: tuple[Event | None, Event | None] = (None, None)
    if path.stat().st_size > WHOLE_BYTES:
        return found
    for line in path.read_bytes().splitlines():
        if b'"event": "start"' in line:
            started = parse_event(line)
        elif b'"event": "finished"' in line:
            found = parse_event(line), started
    return found


def parse_event(line: bytes) -> Event | None:
    """Returns the event in a line, None for what is none: every value has the type and range that readers rely on."""
    try:
        event = json.loads(line, parse_constant=lambda _: None)
        return event if _is_event(event) else None
    except (ValueError, RecursionError):
        return None


def training_start(events: Iterable[Event], iterations: int) -> Event:
    """Returns the `start` event of the last attempt that had steps to make, {} where there is none.

    An attempt that begins behind the last step only scores: the numbers of the training are none of its code's.
    """
    starts = [event for event in events if event["event"] == "start"]
    return next((event for event in reversed(starts) if event.get("step", 0) < iterations), {})


class Unrepeated:
    """Lets each point of a record's curves pass once: steps that were repeated after a kill have been recorded before.

    Follows one experiment's events in order, in as many portions as they come.
    """

    def __init__(self) -> None:
        """Nothing has passed yet."""
        self._seen: dict[str, set[int]] = {}  # metric -> steps

    def __call__(self, event: Event) -> Event:
        """Returns the event without the values that its metrics had at this step already."""
        if event["event"] not in POINTS:
            return event
        step, kept = int(event["step"]), {}
        for name, value in event.items():
            if name in NO_METRIC:
                kept[name] = value
                continue
            seen = self._seen.setdefault(f"{event['event']}/{name}", set())
            if step not in seen:
                seen.add(step)
                kept[name] = value
        return kept


def curves(events: list[Event]) -> dict[str, list[tuple[int, float, float]]]:
    """Returns {metric: [(step, value, time)]}; a step that was repeated after a kill counts once, as first recorded."""
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for event in events:
        if event["event"] not in POINTS:
            continue
        prefix = "val/" if event["event"] == "evaluation" else ""
        for name, value in event.items():
            if name in NO_METRIC or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            found.setdefault(prefix + name, {}).setdefault(int(event["step"]), (float(value), float(event["time"])))
    return {
        name: [(step, value, seconds) for step, (value, seconds) in sorted(points.items())]
        for name, points in sorted(found.items())
    }


def is_evaluation(step: Any, scores: Any) -> bool:
    """Returns whether scores, as they are kept by step, are those of an evaluation: {"120": {"mIoU": 31.5, ...}}."""
    if not isinstance(scores, dict) or not isinstance(step, str) or not re.fullmatch(r"[0-9]{1,15}", step):
        return False
    measured = scores.get("mIoU")
    return (measured is None or _is_number(measured)) and _is_event(
        {**scores, "event": "evaluation", "step": int(step), "time": 0.0}
    )


def _is_event(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("event"), str):
        return False
    needed = ("step", "time") if value["event"] in POINTS else ()
    return (
        all(name in value for name in needed)
        and all(check(value[name]) for name, check in _CHECKS.items() if name in value)
        and all(map(_is_sane, value.values()))
    )


def _is_text(value: Any) -> bool:
    """Returns whether a value is a text that can be printed and stored: half of a character pair cannot."""
    return isinstance(value, str) and all(map(str.isprintable, re.split(r"[\n\r\t]", value)))


def _is_number(value: Any, low: float = -1e300, high: float = 1e300) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and low <= value <= high


def _is_sane(value: Any) -> bool:
    """Returns whether numbers are finite, in lists and by name too."""
    if isinstance(value, dict):
        return all(map(_is_text, value)) and all(map(_is_sane, value.values()))
    if isinstance(value, list):
        return all(map(_is_sane, value))
    return not isinstance(value, int | float) or isinstance(value, bool) or _is_number(value)


def _named(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(_is_text, value)) and all(map(check, value.values()))


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "event": _is_text,
    "time": lambda value: _is_number(value, 0.0, 1e11),
    "step": lambda value: isinstance(value, int) and _is_number(value, 0, 2**53),
    "cause": lambda value: isinstance(value, str),
    "tags": _named(_is_text),
    "seconds": _named(_is_number),
    "experiment": lambda value: isinstance(value, dict),
    "cells": lambda value: isinstance(value, list) and all(map(_is_text, value)),
}


def _finite(value: Any) -> Any:
    """Returns `value` with NaN and infinities as None: JSON has neither."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value
