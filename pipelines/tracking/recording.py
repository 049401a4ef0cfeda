"""Follows the experiments' records while they grow: feeds the display, and the tracking server in batches.

The record on disk is the spool: while the server is away nothing is lost and no training waits, and what was not
accepted is sent again.
"""

import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.tracking.serving import LOADER, example, own_sources_of, write_published
from pipelines.tracking.tracker import IDENTITY_TAG, NOTE_TAG, PARENT_TAG, RECORD_ARTIFACT, TrackedRun, Tracker
from setr.errors import InputError
from setr.files.atomic import write_json
from setr.record.equivalences import is_equivalent
from setr.record.events import Event, EventReader, Unrepeated, read_events, training_start
from setr.record.files import EVENTS, EXPERIMENT, PICTURE, RUN, SCORES
from setr.record.lineage import DIFFS
from setr.record.reading import read_experiment_file, read_run_file, read_scores_file
from setr.record.recorded import Recorded
from setr.redaction import first_line
from setr.reporting.numbers.results import CHECKPOINT_TAG, EXACT, Result, read_experiment, save_results
from setr.reporting.site.places import relative
from setr.settings.home import home
from setr.study.cells import find_cell
from setr.study.code import scoring_code

_SERVE = "Answers uint8 RGB images (B,H,W,3) with class numbers (B,H,W)."
PROOF_TAG = "setr.same_under"
FLUSH_SECONDS = 3.0  # between two batches to the tracking server
PATIENCE_SECONDS = 30.0  # between two tries, at most, while the server is away
POLL_SECONDS = 0.3
TOGETHER = 100  # events in one request, of several values each
LIFE = ("start", "finished", "failed", "stopped")  # events that say how an experiment is


class Sender:
    """Writes records to the tracking server; what is sent twice is there once."""

    def __init__(
        self,
        tracker: Tracker,
        parent: str,
        tags: Mapping[str, str],
        *,
        register: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Send to `tracker`, as children of `parent`; `tags` say what records themselves do not.

        `register` puts finished experiments into the model registry. `check` is asked before anything is sent or
        written: it raises where another process has taken the work over meanwhile.
        """
        self.tracker, self.parent, self.tags, self.register = tracker, parent, dict(tags), register
        self.check = check
        self.runs: dict[str, str] = {}
        self.taken: dict[str, int] = {}  # of the events that a call could not send to their end

    def send(self, entry: Recorded, events: Sequence[Event], *, done: bool = False) -> None:
        """Sends the next events of an experiment's record; `done`: it is scored, though the last event may be lost.

        The events have each point once (Unrepeated), so that it does not matter in which portions they go. After a
        failure the next call has the same events, and maybe more: it goes on behind those that were taken, so a server
        that is too slow for all of them gets there in the end.
        """
        self.check()
        identity = entry.identity
        if identity not in self.runs:
            tags = self._tags(entry, events)
            run = self.tracker.start_child(self.parent, identity, entry.name, tags)
            self.tracker.set_parameters(run, parameters(entry))
            diff = entry.folder.parent / DIFFS / f"{tags.get('git.diff_sha256')}.diff"
            if diff.is_file():
                self.tracker.artifacts(run, [diff])
            self.runs[identity] = run
            if (entry.folder / EXPERIMENT).is_file():
                self.check()
                # The report names the run also while the tracking server is away.
                write_json(entry.folder / RUN, {"id": run, "url": self.tracker.url(run), "parent": self.parent})
        run = self.runs[identity]
        for start in range(self.taken.get(identity, 0), len(events), TOGETHER):
            self.tracker.replay(run, events[start : start + TOGETHER])
            self.taken[identity] = min(start + TOGETHER, len(events))
        last: Event = next((event for event in reversed(events) if event["event"] in LIFE), {"event": ""})
        if done or last["event"] == "finished":
            self.finish(entry, run)
        elif last["event"] == "failed":
            self.tracker.set_tags(run, {"setr.cause": str(last.get("cause", ""))})
            self.tracker.finish(run, failed=True)
        elif last["event"] == "stopped":
            self.tracker.finish(run, stopped=True)
        self.taken.pop(identity, None)

    def send_record(self, entry: Recorded, events: Iterable[Event], *, done: bool) -> None:
        """Sends a whole record, as it is on disk: steps that a later attempt repeated are in it twice."""
        once = Unrepeated()
        self.send(entry, [once(event) for event in events], done=done)

    def _tags(self, entry: Recorded, events: Sequence[Event]) -> dict[str, str]:
        """Returns the run's tags; whoever trained knows more of the code than whoever sends the record later."""
        experiment = entry.experiment
        begun = training_start(events, experiment.recipe.iterations)
        return {
            **self.tags,
            **(begun.get("tags") or _kept_tags(entry)),
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

    def finish(self, entry: Recorded, run: str) -> None:
        """Completes a finished experiment's run: final scores, checkpoint hash, record, picture."""
        if (entry.folder / SCORES).is_file():
            self._send_results(entry, run)
        else:
            # A record that was taken out of its folder: the curves are all there is.
            self.tracker.set_tags(run, {"setr.gap": "imported without scores and pictures"})
        self.tracker.finish(run)

    def _send_results(self, entry: Recorded, run: str) -> None:
        result = finished_result(entry)
        scores = {
            f"final/{name}/{metric}": value
            for name, score in result.scores.items()
            for metric, value in score.items()
            if metric in ("mIoU", "pixel_accuracy", "mean_accuracy") and isinstance(value, int | float)
        }
        present = self.tracker.metrics(run)
        news = {name: value for name, value in scores.items() if present.get(name) != value}
        event = {"event": "metrics", "step": entry.experiment.recipe.iterations, "time": result.started, **news}
        self.tracker.replay(run, [event])
        protocols = {f"setr.protocol.{name}": str(score.get("digest", "")) for name, score in result.scores.items()}
        self.tracker.set_tags(run, {**result.tags, **protocols, **(proof_tag(result.proof) if result.proof else {})})
        files = [entry.folder / PICTURE, entry.folder / SCORES, *result.per_image.values()]
        with tempfile.TemporaryDirectory() as folder:
            save_results(Path(folder) / RECORD_ARTIFACT, [relative(result, home())])
            self.tracker.artifacts(run, [Path(folder) / RECORD_ARTIFACT, *(path for path in files if path.is_file())])
        if self.register and (sources := own_sources_of(entry.experiment.as_dict())):
            self.tracker.set_tags(run, {"setr.not_registered": f"runs code of its own: {', '.join(sources)}"})
        elif self.register:
            self._register(entry, run, result)

    def _register(self, entry: Recorded, run: str, result: Result) -> None:
        experiment = entry.experiment
        name = "-".join((experiment.variant, experiment.dataset, experiment.scale))
        scores = ", ".join(
            f"{one} {result.score(one, 'mIoU') or 0.0:.2f}" for one in sorted(result.scores, reverse=True)
        )
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


class Recorder:
    """Watches the records of experiments from a thread of the driver."""

    def __init__(
        self,
        entries: Sequence[Recorded],
        tracker: Tracker | None,
        parent: str,
        tags: Mapping[str, str],
        show: Callable[[list[tuple[str, Event]]], None],
        *,
        register: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Follow from what is on disk now: earlier attempts' events are not shown again, but sent with the next.

        Without a `tracker` nothing is sent.
        """
        self.sender = None if tracker is None else Sender(tracker, parent, tags, register=register, check=check)
        self.show = show
        self.entries: dict[str, Recorded] = {}
        self.readers: dict[str, EventReader] = {}
        self.unrepeated: dict[str, Unrepeated] = {}
        self.earlier: dict[str, list[Event]] = {}  # a session before may have been cut off before it sent them
        for entry in entries:
            self.add(entry)
        self.waiting: dict[str, list[Event]] = {}
        self.problem = ""  # why the tracking server did not take the last batch
        self._pause = FLUSH_SECONDS
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="recorder", daemon=True)

    def add(self, entry: Recorded) -> None:
        """Follows one more experiment from now on; one that is followed already is not added again."""
        if entry.identity in self.entries:
            return
        reader = EventReader(entry.folder / EVENTS)
        self.unrepeated[entry.identity] = Unrepeated()
        self.earlier[entry.identity] = self._first(entry.identity, reader)
        self.entries[entry.identity] = entry
        self.readers = {**self.readers, entry.identity: reader}  # the thread iterates over the one it has

    def __enter__(self) -> "Recorder":
        """Starts following."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Takes what is left and stops."""
        self._stop.set()
        self._thread.join()

    def _first(self, identity: str, events: Iterable[Event]) -> list[Event]:
        return [self.unrepeated[identity](event) for event in events]

    def _follow(self) -> None:
        flushed = time.monotonic()
        while True:
            last = self._stop.is_set()
            news = {identity: events for identity, reader in self.readers.items() if (events := list(reader))}
            self.show([(identity, event) for identity, events in news.items() for event in events])
            if self.sender is not None:
                for identity, events in news.items():
                    waiting = self.waiting.setdefault(identity, self.earlier.pop(identity, []))
                    waiting += self._first(identity, events)
                if last or time.monotonic() - flushed > self._pause:
                    self._flush(self.sender, tries=5 if last else 1)
                    flushed = time.monotonic()
            if last:
                return
            self._stop.wait(POLL_SECONDS)

    def _flush(self, sender: Sender, *, tries: int = 1) -> None:
        """Sends the waiting events, until as many tries in a row got nowhere; what the server did not take is kept."""
        failures = 0
        left = list(self.waiting)
        while left and failures < tries:
            identity = left.pop(0)
            events, taken = self.waiting.pop(identity), sender.taken.get(identity, 0)
            try:
                sender.send(self.entries[identity], events)
            except Exception as error:  # the server's answer must never end a training
                self.problem = first_line(error)
                self.waiting[identity] = events  # at the end: one that is refused must not keep the others waiting
                left.append(identity)
                failures = failures + 1 if sender.taken.get(identity, 0) == taken else 1
                if failures < tries:
                    time.sleep(2.0)
        if not self.waiting:
            self.problem = ""
        # A server that is away is asked less and less often: each question takes seconds that the display waits.
        self._pause = min(2 * self._pause, PATIENCE_SECONDS) if failures else FLUSH_SECONDS


def finish_parent(tracker: Tracker | None, parent: str, *, failed: bool, stopped: bool) -> str:
    """Marks the parent run, if there is one, as ended; returns what the tracking server had against it."""
    try:
        if tracker is not None:
            tracker.finish(parent, failed=failed, stopped=stopped)
    except Exception as error:  # the server's answer must neither end a training nor hide how a sweep went
        return first_line(error)
    return ""


def send_records(tracker: Tracker, parent: str, entries: Sequence[Recorded], *, register: bool = False) -> None:
    """Sends whole records of finished experiments that nobody trains now."""
    sender = Sender(tracker, parent, {}, register=register)
    for entry in entries:
        try:
            sender.send_record(entry, read_events(entry.folder / EVENTS), done=True)
        except InputError as error:  # a damaged record costs itself
            print(f"note: {entry.name} is not sent: {error}")


def send_proofs(tracker: Tracker, entries: Sequence[Recorded], runs: Mapping[str, TrackedRun]) -> int:
    """Sends the records of finished experiments whose run, by identity, has another proof; returns how many."""
    sent = 0
    for entry in entries:
        run = runs.get(entry.identity)
        if run is None or (entry.code in ("", entry.experiment.code) and not run.tags.get(PROOF_TAG)):
            continue
        try:
            result = finished_result(entry)
        except InputError as error:
            print(f"note: {entry.name} is not sent: {error}")
            continue
        tag = proof_tag(result.proof)
        if run.tags.get(PROOF_TAG, "") == tag[PROOF_TAG]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            save_results(Path(folder) / RECORD_ARTIFACT, [relative(result, home())])
            tracker.artifacts(run.run_id, [Path(folder) / RECORD_ARTIFACT])
        tracker.set_tags(run.run_id, tag)
        sent += 1
    return sent


def proof_tag(proof: Mapping[str, Any]) -> dict[str, str]:
    """Returns the tag that says under which other code a replay has found a result the same, and how."""
    return {PROOF_TAG: f"{proof['code']} {proof['when']}: {proof['how']}" if proof else ""}


def description(entry: Recorded) -> str:
    """Returns what the MLflow UI shows above a run, in Markdown."""
    experiment = entry.experiment
    about = f"**{experiment.variant}**, {experiment.schedule} on {experiment.dataset}, {experiment.scale} scale"
    lines = [f"{about}, seed {experiment.seed}. Identity `{entry.identity}`."]
    for key in entry.cells:
        cell = find_cell(key)
        printed = f": the paper prints {'no value' if cell.paper is None else cell.paper}" if cell.study.prints else ""
        lines.append(f"- `{key}`{printed}")
    if entry.cells:
        lines.append(
            f"\n`python pipelines/report.py trace {entry.cells[0]} --verify` shows where the number comes from."
        )
    return "\n".join(lines)


def _kept_tags(entry: Recorded) -> dict[str, str]:
    """Returns what the training was told of the code and environment it began with."""
    try:
        tags: dict[str, str] = read_experiment_file(entry.folder)["job"].get("tags", {})
    except InputError:
        return {}
    return tags


def finished_result(entry: Recorded) -> Result:
    """Returns everything a report needs of a finished experiment, read from its folder.

    Raises InputError where scores or experiment are damaged. The experiment itself is also known from the plan, where
    the folder is the one that the plan named by the experiment's identity.
    """
    scored = read_scores_file(entry.folder)
    attempt = training_start(read_events(entry.folder / EVENTS), entry.experiment.recipe.iterations)
    run = read_run_file(entry.folder)
    tags = {
        **(attempt.get("tags") or _kept_tags(entry)),
        **({PARENT_TAG: run["parent"]} if run["parent"] else {}),
        **{f"setr.{name}": str(attempt[name]) for name in ("device", "world_size", "execution") if name in attempt},
        CHECKPOINT_TAG: scored["checkpoint"],
        "setr.parameters": str(scored["parameters"]),
        **{f"setr.seconds.{name}": f"{value:.2f}" for name, value in scored["seconds"].items()},
    }
    return read_experiment(
        entry.folder,
        planned=entry.experiment.as_dict() if entry.folder.name == entry.identity else None,
        cells=entry.cells,
        tags=tags,
        class_names=tuple(scored["classes"]),
        run_id=run["id"],
        run_url=run["url"],
        proof=_proof(entry, str(scored.get("trace", ""))),
    )


def _proof(entry: Recorded, trace: str) -> dict[str, Any]:
    """Returns what shows that a result that other code has trained is one of the code here; {} where it trained it."""
    trained = entry.experiment.code
    if not entry.code or entry.code == trained:
        return {}
    found = is_equivalent(entry.folder, trained=trained, code=entry.code, trace_sha256=trace, scoring=scoring_code())
    if found is None:
        return {}
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(found.time))
    how = found.verdict.footnote or EXACT
    return {"code": found.code, "modules": entry.modules, "when": when, "host": found.host, "how": how}


def parameters(entry: Recorded) -> dict[str, Any]:
    """Returns what MLflow shows as the run's parameters: the experiment and its recipe, flat."""
    record = entry.experiment.as_dict()
    recipe = record.pop("recipe")
    return {**{key: record[key] for key in ("dataset", "variant", "schedule", "scale", "seed")}, **recipe}
