"""Follows the experiments' records while they grow: feeds the display, and the tracking server in batches.

The record on disk is the spool: while the server is away nothing is lost and no training waits, and what was not
accepted is sent again.
"""

import json
import re
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.command import write_json
from pipelines.experiment import EVENTS, PICTURE, SCORES
from pipelines.jobs import Planned
from pipelines.serving import LOADER, example, write_published
from pipelines.tracking import CHECKPOINT_TAG, IDENTITY_TAG, NOTE_TAG, PARENT_TAG, RECORD_ARTIFACT, Tracker
from setr.paper.cells import find_cell
from setr.reporting.results import Result, read_experiment, save_results
from setr.training.events import Event, EventReader
from setr.training.resume import read_json

RUN = "run.json"  # beside the record: code, environment, command, and the tracked run once there is one
LINEAGE = ("git.", "setr.environment", "setr.train_command")  # tags that say how a training came to be
_SERVE = "Answers uint8 RGB images (B,H,W,3) with class numbers (B,H,W)."
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
        *,
        commands: Mapping[str, str] | None = None,
        register: bool = False,
    ) -> None:
        """Follow from what is on disk now: earlier attempts' events are not shown again.

        `commands` gives by identity the command that trains the experiment again; `register` puts finished
        experiments into the model registry.
        """
        self.commands, self.register = commands or {}, register
        self.planned = {entry.identity: entry for entry in planned}
        self.tracker, self.parent, self.tags, self.show = tracker, parent, dict(tags), show
        self.readers = {entry.identity: EventReader(entry.folder / EVENTS) for entry in planned}
        self.earlier = {identity: list(reader) for identity, reader in self.readers.items()}
        self.waiting: dict[str, list[Event]] = {}
        self.runs: dict[str, str] = {}
        self.trained_here: set[str] = set()  # identities whose records grew in this session
        self.problem = ""  # why the tracking server did not take the last batch
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="recorder", daemon=True)

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
                self.trained_here.add(identity)
                if event["event"] == "start":
                    self._remember(identity)
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
            self._remember(identity)
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

    def _remember(self, identity: str) -> None:
        """Keeps with the record what the tracking server is told: it may be away, or another one later."""
        entry, run = self.planned[identity], self.runs.get(identity, "")
        tags = self._lineage(entry) | ({PARENT_TAG: self.parent} if run else {})
        known = {"run_id": run, "run_url": self.tracker.url(run)} if run else {}
        write_json(entry.folder / RUN, {"tags": tags, **known})

    def _lineage(self, entry: Planned) -> dict[str, str]:
        """Returns the tags that say how the training came to be: this session's, or those it was given before."""
        if entry.identity in self.trained_here:
            command = self.commands.get(entry.identity, "")
            return self.tags | ({"setr.train_command": command} if command else {})
        kept = (read_json(entry.folder / RUN) or {}).get("tags", {})
        kept = {name: value for name, value in kept.items() if name.startswith(LINEAGE)}
        return kept or {"git.commit": "unknown", "git.dirty": "unknown"}

    def _tags(self, entry: Planned) -> dict[str, str]:
        experiment = entry.experiment
        return {
            **self._lineage(entry),
            NOTE_TAG: description(entry),
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
        if self.register:
            self._register(entry, run, result)
        self.tracker.finish(run)

    def _register(self, entry: Planned, run: str, result: Result) -> None:
        experiment = entry.experiment
        name = "-".join((experiment.variant, experiment.dataset, experiment.scale))
        scores = ", ".join(f"{one} {score['mIoU']:.2f}" for one, score in sorted(result.scores.items(), reverse=True))
        tags = {
            IDENTITY_TAG: entry.identity,
            CHECKPOINT_TAG: result.checkpoint_sha256,
            "setr.schedule": experiment.schedule,
            "setr.seed": str(experiment.seed),
            "setr.scores": scores,
        }
        with tempfile.TemporaryDirectory() as folder:
            write_published(entry.folder, Path(folder) / "segmenter")
            self.tracker.register(
                run,
                re.sub(r"[^\w.-]", "-", name),
                Path(folder) / "segmenter",
                loader=LOADER,
                example=example(),
                tags=tags,
                text=f"{entry.name} on {experiment.dataset}; mIoU %: {scores}. {_SERVE}",
            )


def description(entry: Planned) -> str:
    """Returns what the MLflow UI shows above a run, in Markdown."""
    experiment = entry.experiment
    about = f"**{experiment.variant}**, {experiment.schedule} on {experiment.dataset}, {experiment.scale} scale"
    lines = [f"{about}, seed {experiment.seed}. Identity `{entry.identity}`."]
    for key in entry.cells:
        paper = find_cell(key).paper
        lines.append(f"- `{key}`: the paper prints {'no value' if paper is None else paper}")
    if entry.cells:
        lines.append(
            f"\n`python pipelines/report.py trace {entry.cells[0]} --verify` shows where the number comes from."
        )
    return "\n".join(lines)


def finished_result(entry: Planned) -> Result:
    """Returns everything a report needs of a finished experiment, read from its folder."""
    scored = json.loads((entry.folder / SCORES).read_text(encoding="utf-8"))
    run = read_json(entry.folder / RUN) or {}
    tags = {
        **run.get("tags", {}),
        "setr.checkpoint": scored["checkpoint"],
        "setr.parameters": str(scored["parameters"]),
        "setr.validation_manifest": scored.get("validation_manifest", ""),
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
        run_id=run.get("run_id", ""),
        run_url=run.get("run_url", ""),
    )


def parameters(entry: Planned) -> dict[str, Any]:
    """Returns what MLflow shows as the run's parameters: the experiment and its recipe, flat."""
    record = entry.experiment.as_dict()
    recipe = record.pop("recipe")
    return {**{key: record[key] for key in ("dataset", "variant", "schedule", "scale", "seed")}, **recipe}
