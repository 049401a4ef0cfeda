"""Brings records that were kept without a tracking server into one: `python pipelines/track_import.py FOLDER|*.jsonl`.

Give a storage path, an experiment's folder, or records (`events.jsonl`) under any name. Run again it adds only what is
new: no second run, no second step.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this file's own project, whichever is installed

from pipelines.terminal.command import run_command
from pipelines.tracking.recording import Sender
from pipelines.tracking.tracker import OFFLINE, Tracker, tracking_uri
from setr.errors import InputError
from setr.files.hashing import file_sha256
from setr.record.checking import checked_cells, checked_experiment
from setr.record.events import Event, read_events
from setr.record.files import EVENTS, EXPERIMENT, SCORES
from setr.record.reading import as_kept
from setr.record.recorded import Recorded
from setr.settings.config import Config
from setr.settings.home import resolve
from setr.study.experiment import Experiment

RECORD_TAG = "setr.record"  # SHA-256 of what was imported


@dataclass(frozen=True)
class Spool:
    """One experiment's record, and the folder it lies in if that is the experiment's."""

    entry: Recorded
    events: list[Event]
    sha256: str


def work(config: Config, arguments: argparse.Namespace) -> int:
    """Imports what the words name; returns the exit status."""
    if not arguments.words:
        raise InputError("E_COMMAND", "nothing to import", expected="folders or records (*.jsonl)")
    if tracking_uri(config.tracking, resolve(".")) == OFFLINE:
        raise InputError(
            "E_TRACKING", "no server to import into", remedy="set MLFLOW_TRACKING_URI to the server's address"
        )
    spools = [read_spool(path) for path in find_records([Path(word).expanduser() for word in arguments.words])]
    tracker = Tracker(config.tracking, resolve("."))
    present = {run.tags.get(RECORD_TAG) for run in tracker.runs(f"tags.`{RECORD_TAG}` != ''")}
    news = [spool for spool in spools if spool.sha256 not in present]
    if news:
        import_spools(tracker, news)
    print(f"{len(news)} of {len(spools)} records imported, {len(spools) - len(news)} were there")
    return 0


def import_spools(tracker: Tracker, spools: Sequence[Spool]) -> None:
    """Sends records as children of one parent run, which every import continues."""
    parent = tracker.start_parent("imported records", {}, "Trained where no tracking server was.", key="import")
    sender = Sender(tracker, parent, {"git.commit": "unknown", "git.dirty": "unknown"})
    for spool in spools:
        done = (spool.entry.folder / SCORES).is_file()
        sender.send_record(spool.entry, spool.events, done=done)
        # Last: a record that was cut off on its way is sent again.
        tracker.set_tags(sender.runs[spool.entry.identity], {RECORD_TAG: spool.sha256})
        print(f"{spool.entry.name}: {len(spool.events)} events")
    tracker.finish(parent)


def find_records(paths: Sequence[Path]) -> Iterator[Path]:
    """Yields the records that the paths mean; raises InputError for one that means none."""
    for path in paths:
        if path.is_file():
            yield path
            continue
        found = (
            [path / EVENTS] if (path / EVENTS).is_file() else sorted([*path.glob(f"*/{EVENTS}"), *path.glob("*.jsonl")])
        )
        if not found:
            raise InputError("E_SPOOL", "no record of an experiment", where=path, expected=f"{EVENTS} or *.jsonl in it")
        yield from found


def read_spool(path: Path) -> Spool:
    """Returns the record in a file; raises InputError if it does not say which experiment it is of."""
    events = read_events(path)
    starts = [event for event in events if event["event"] == "start" and "experiment" in event]
    beside = as_kept(path.parent, EXPERIMENT) if path.name == EVENTS else {}
    try:
        described: dict[str, Any] = starts[-1] if starts else {**beside["job"], **beside} if beside else {}
        experiment = Experiment.from_dict(checked_experiment(described["experiment"]))
        cells = checked_cells(described.get("cells", ()))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "E_SPOOL",
            "not the record of an experiment",
            where=path,
            found="no start event that names it" if isinstance(error, KeyError) else error,
            expected=f"{EVENTS} as a training wrote it, in its folder if it is an old one",
        ) from None
    # A record under a name of its own was taken out of its folder: what lies beside it may be anybody's.
    folder = path.parent if path.name == EVENTS else path.with_suffix("")
    return Spool(Recorded(experiment, cells, folder), events, file_sha256(path))


if __name__ == "__main__":
    run_command(
        "Bring experiments' records into a tracking server.",
        "tracking",
        work,
        sections=("tracking",),
        words=True,
    )
