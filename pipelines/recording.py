"""Follows the experiments' records while they grow: feeds the display, and the tracking server in batches.

The record on disk is the spool: while the server is away nothing is lost and no training waits, and what was not
accepted is sent again.
"""

import json
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.experiment import EVENTS, PICTURE, SCORES
from pipelines.jobs import Planned
from pipelines.tracking import RECORD_ARTIFACT, Tracker
from setr.reporting.results import Result, read_experiment, save_results
from setr.training.events import Event, EventReader, read_events

FLUSH_SECONDS = 3.0  # between two batches to the tracking server
POLL_SECONDS = 0.3


class Recorder:
    """Watches the records of planned experiments from a thread of the driver."""

    def __init__(
        self,
        planned: Sequence[Planned],
        tracker: Tracker,
        parent: str,
        tags: Mapping[str, str],
        show: Callable[[list[tuple[str, Event]]], None],
    ) -> None:
        """Follow from what is on disk now: earlier attempts' events are not shown again."""
        self.planned = {entry.identity: entry for entry in planned}
        self.tracker, self.parent, self.tags, self.show = tracker, parent, dict(tags), show
        self.readers = {entry.identity: EventReader(entry.folder / EVENTS) for entry in planned}
        self.earlier = {identity: list(reader) for identity, reader in self.readers.items()}
        self.waiting: dict[str, list[Event]] = {}
        self.runs: dict[str, str] = {}
        self.problem = ""  # why the tracking server did not take the last batch
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="recorder", daemon=True)

    def add(self, entry: Planned) -> None:
        """Follows one more experiment from now on; one that is followed already is not added again."""
        if entry.identity in self.planned:
            return
        reader = EventReader(entry.folder / EVENTS)
        self.earlier[entry.identity] = list(reader)
        self.planned[entry.identity] = entry
        self.readers = {**self.readers, entry.identity: reader}  # the thread iterates over the one it has

    def __enter__(self) -> "Recorder":
        """Starts following."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Takes what is left and stops."""
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        flushed = time.monotonic()
        while True:
            last = self._stop.is_set()
            news = [(identity, event) for identity, reader in self.readers.items() for event in reader]
            for identity, event in news:
                self.waiting.setdefault(identity, []).append(event)
            self.show(news)
            if last or time.monotonic() - flushed > FLUSH_SECONDS:
                self.flush(tries=5 if last else 1)
                flushed = time.monotonic()
            if last:
                return
            self._stop.wait(POLL_SECONDS)

    def flush(self, *, tries: int = 1) -> None:
        """Sends the waiting events; what the server does not take is kept for the next time."""
        for identity in list(self.waiting):
            for attempt in range(tries):
                try:
                    self._send(identity, self.waiting[identity])
                except Exception as error:  # the server's answer must never end a training
                    self.problem = str(error).splitlines()[0] if str(error) else type(error).__name__
                    if attempt + 1 < tries:
                        time.sleep(2.0)
                else:
                    self.problem = ""
                    del self.waiting[identity]
                    break

    def send_all(self) -> None:
        """Sends every record as it is on disk, once; for experiments that nobody trains now."""
        for identity in self.planned:
            self._send(identity, [])

    def _send(self, identity: str, events: list[Event]) -> None:
        entry = self.planned[identity]
        if identity not in self.runs:
            self.runs[identity] = self.tracker.start_child(self.parent, identity, entry.name, self._tags(entry))
            self.tracker.set_parameters(self.runs[identity], parameters(entry))
            events = self.earlier[identity] + events  # an earlier session may have been cut off before it sent them
        run = self.runs[identity]
        self.tracker.replay(run, events)
        kinds = {event["event"] for event in events[-3:]}
        if "finished" in kinds:
            self.finish(entry, run)
        elif "failed" in kinds:
            self.tracker.set_tags(run, {"setr.cause": str(events[-1].get("cause", ""))})
            self.tracker.finish(run, failed=True)
        elif "stopped" in kinds:
            self.tracker.finish(run, stopped=True)

    def _tags(self, entry: Planned) -> dict[str, str]:
        experiment = entry.experiment
        return {
            **self.tags,
            "setr.cells": " ".join(entry.cells),
            "setr.dataset": experiment.dataset,
            "setr.variant": experiment.variant,
            "setr.schedule": experiment.schedule,
            "setr.scale": experiment.scale,
            "setr.flavour": experiment.recipe.flavour,
            "setr.seed": str(experiment.seed),
            "setr.data_manifest": experiment.manifest,
            "setr.weights": experiment.weights or "random",
            "setr.code": experiment.code,
        }

    def finish(self, entry: Planned, run: str) -> None:
        """Completes a finished experiment's run: final scores, checkpoint hash, record, picture."""
        result = finished_result(entry)
        scores = {
            f"final/{name}/{metric}": value
            for name, score in result.scores.items()
            for metric, value in score.items()
            if metric in ("mIoU", "pixel_accuracy", "mean_accuracy") and isinstance(value, int | float)
        }
        event = {"event": "metrics", "step": entry.experiment.recipe.iterations, "time": result.started, **scores}
        self.tracker.replay(run, [event])
        protocols = {f"setr.protocol.{name}": score["digest"] for name, score in result.scores.items()}
        self.tracker.set_tags(run, {**result.tags, **protocols})
        files = [entry.folder / PICTURE, entry.folder / SCORES, *result.per_image.values()]
        with tempfile.TemporaryDirectory() as folder:
            save_results(Path(folder) / RECORD_ARTIFACT, [result])
            self.tracker.artifacts(run, [Path(folder) / RECORD_ARTIFACT, *(path for path in files if path.is_file())])
        self.tracker.finish(run)


def finished_result(entry: Planned) -> Result:
    """Returns everything a report needs of a finished experiment, read from its folder."""
    scored = json.loads((entry.folder / SCORES).read_text(encoding="utf-8"))
    attempt = next((event for event in reversed(read_events(entry.folder / EVENTS)) if event["event"] == "start"), {})
    tags = {
        **{f"setr.{name}": str(attempt[name]) for name in ("device", "world_size", "execution") if name in attempt},
        "setr.checkpoint": scored["checkpoint"],
        "setr.parameters": str(scored["parameters"]),
        **{f"setr.seconds.{name}": f"{value:.2f}" for name, value in scored["seconds"].items()},
    }
    areas = {path.stem.removeprefix("areas-"): path for path in sorted(entry.folder.glob("areas-*.npz"))}
    return read_experiment(
        entry.folder,
        cells=entry.cells,
        tags=tags,
        checkpoint=str(entry.folder / scored["checkpoint_folder"]),
        class_names=tuple(scored["classes"]),
        per_image=areas,
    )


def parameters(entry: Planned) -> dict[str, Any]:
    """Returns what MLflow shows as the run's parameters: the experiment and its recipe, flat."""
    record = entry.experiment.as_dict()
    recipe = record.pop("recipe")
    return {**{key: record[key] for key in ("dataset", "variant", "schedule", "scale", "seed")}, **recipe}
