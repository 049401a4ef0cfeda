"""Results: what is known about one experiment, as plain records that need no tracking server to be read."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from setr.errors import InputError
from setr.files.atomic import write_text
from setr.record.checking import checked_result
from setr.record.events import EventReader
from setr.record.events import curves as curves_of
from setr.record.files import EVENTS, EXPERIMENT, PICTURE, SCORES, areas_name
from setr.record.reading import read_experiment_file, read_record, read_scores_file
from setr.record.values import sequence
from setr.study.experiment import Experiment, identity_of, sha256_of

CHECKPOINT_TAG = "setr.checkpoint"  # the SHA-256 of what was scored
# Tags of a run that the trace and the experiment pages read. Each has the name that we write, then what others write.
TAGS: Mapping[str, tuple[str, ...]] = {
    "commit": ("git.commit", "mlflow.source.git.commit"),
    "dirty": ("git.dirty",),  # true | false | unknown
    "diff": ("git.diff_sha256",),
    "snapshot": ("setr.snapshot",),
    "checkpoint": (CHECKPOINT_TAG,),
    "train": ("setr.train_command",),
    "score": ("setr.score_command",),
}
ELSEWHERE_TAG = "setr.checkpoint_elsewhere"  # a place outside this project that a record names for its checkpoint
EXACT = "equal to the bit"  # how a replay under other code has found a result; else a footnote says how
DAMAGED_TAG = "setr.damaged"  # what of an experiment's folder could not be read
_POINTS = 400  # of one curve, kept: more cannot be seen


@dataclass(frozen=True)
class Result:
    """One experiment with everything that was recorded about it."""

    identity: str
    cells: tuple[str, ...]  # table2/setr-pup/80k
    experiment: Mapping[str, Any]  # Experiment.as_dict()
    scores: Mapping[str, Mapping[str, Any]]  # protocol name -> mIoU, pixel_accuracy, per_class_iou, protocol ...
    curves: Mapping[str, Sequence[tuple[int, float]]]  # metric -> (step, value)
    run_id: str = ""
    run_url: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    checkpoint: str | None = None  # folder of the checkpoint that was scored
    checkpoint_sha256: str = ""  # of its manifest, which holds the hashes of everything in it
    parameters: int | None = None  # of the whole model
    gflops: float | None = None  # 1e9 floating point operations of one crop; None: not recorded
    weights: tuple[Mapping[str, Any], ...] = ()  # receipts of what the encoder started from
    seconds: Mapping[str, float] = field(default_factory=dict)  # where the time went
    pictures: tuple[Path, ...] = ()
    finished: bool = False
    attempts: int = 1
    started: float = 0.0  # seconds since 1970; decides between versions only
    failure: str = ""  # the cause, if the training was given up
    class_names: tuple[str, ...] = ()
    per_image: Mapping[str, Path] = field(default_factory=dict)  # protocol -> .npz: keys (N,), areas (N,3,K), matrix
    proof: Mapping[str, Any] = field(default_factory=dict)  # the newest code under which a replay found it the same
    done: bool = False  # the last sweep's plan counts it: its record is in results/runs; no record says this of itself

    @property
    def short(self) -> str:
        """Returns the first twelve digits of the identity: the name of the experiment's page."""
        return self.identity[:12]

    def of(self, name: str, default: Any = "") -> Any:
        """Returns a field of the experiment's record (dataset, variant, schedule, scale, seed, recipe, ...)."""
        return self.experiment.get(name, default)

    def tag(self, meaning: str) -> str:
        """Returns the tag of a meaning listed in TAGS, "" if the run has none."""
        return next((str(self.tags[name]) for name in TAGS[meaning] if self.tags.get(name)), "")

    def score(self, protocol: str, metric: str) -> float | None:
        """Returns one score in percent, None if it is missing or not a finite number."""
        value = self.scores.get(protocol, {}).get(metric)
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    @property
    def code(self) -> str:
        """Returns the hash of the newest code that this is known to be a result of: it trained it, or was replayed."""
        return str(self.proof.get("code") or self.of("code"))

    @property
    def last_step(self) -> int:
        """Returns the last step that any curve has, 0 before the first."""
        return max((int(points[-1][0]) for points in self.curves.values() if points), default=0)


@dataclass(frozen=True)
class Note:
    """Something a reader has to know about the results: what was left out, merged or not found."""

    subject: str
    text: str


def from_record(record: Mapping[str, Any], **known: Any) -> Result:
    """Returns the result of what an experiment's folder says, put into one record.

    `known` gives what the record does not hold: run_id, run_url, tags, pictures, per_image, class_names, checkpoint.
    Raises InputError if something that has to be there is missing, or is not what it should be.
    """
    try:
        values = {
            "identity": record["identity"],
            "cells": record["cells"],
            "experiment": record["experiment"],
            "scores": record["scores"],
            "curves": record["curves"],
            "checkpoint_sha256": record.get("checkpoint") or "",
            "parameters": record.get("parameters"),
            "gflops": record.get("gflops"),
            "weights": record.get("weights") or (),
            "seconds": record.get("seconds") or {},
            "attempts": record.get("attempts") or 1,
            "started": record.get("finished_at") or 0.0,
            "finished": bool(record["scores"]),
            "failure": record.get("cause") or "",
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError("E_RESULTS", "not the record of an experiment", found=repr(error)) from error
    return _result({**values, **known})


def read_experiment(folder: Path, *, planned: Mapping[str, Any] | None = None, **known: Any) -> Result:
    """Returns the result in an experiment's folder, finished or not.

    Reads experiment.json, events.jsonl, scores.json, qualitative.png and areas-<protocol>.npz; `known` gives what the
    folder cannot know: cells, run_id, run_url, tags, class_names. `planned` is the experiment that the folder is known
    to be of: it stands in for an experiment.json that a power cut left empty. What was damaged is named by the tag
    DAMAGED_TAG. Raises InputError where experiment or scores cannot be read.
    """
    stored = read_scores_file(folder) if (folder / SCORES).exists() else {}
    experiment, damaged = _experiment_of(folder, stored.get("identity", ""), planned)
    reader = EventReader(folder / EVENTS)
    events = list(reader)
    if reader.damaged:
        damaged.append(f"{reader.damaged} lines of {EVENTS}")
    failed = [event for event in events if event["event"] == "failed"]
    picture = folder / PICTURE
    areas = {file.stem.removeprefix("areas-"): file for file in sorted(folder.glob(areas_name("*")))}
    record = {
        **stored,
        "identity": Experiment.from_dict(experiment).identity,
        "cells": (),
        "experiment": experiment,
        "scores": stored.get("scores", {}),
        "curves": {name: [(step, value) for step, value, _ in points] for name, points in curves_of(events).items()},
        "attempts": max(1, sum(event["event"] == "start" for event in events)),
        "finished_at": events[-1].get("time", 0.0) if events else 0.0,
        "cause": _printable(failed[-1].get("cause", "failed")) if failed and not stored.get("scores") else "",
    }
    places = {
        "checkpoint": str(folder / stored["checkpoint_folder"]) if stored.get("checkpoint_folder") else None,
        "pictures": (picture,) if picture.exists() else (),
        "per_image": areas,
    }
    if damaged:
        known["tags"] = {**known.get("tags", {}), DAMAGED_TAG: ", ".join(damaged)}
    return from_record(record, **{**places, **known})


def _experiment_of(folder: Path, scored: str, planned: Mapping[str, Any] | None) -> tuple[dict[str, Any], list[str]]:
    """Returns the experiment that a folder is of, and what was damaged; `scored`: the identity that its scores name.

    Raises InputError where neither experiment.json nor `planned` is an experiment with that identity ("": any).
    """
    try:
        found = read_experiment_file(folder)["experiment"]
        identity = Experiment.from_dict(found).identity
        if scored not in ("", identity):
            where = folder / EXPERIMENT
            raise InputError("E_RESULTS", "scores and experiment differ", where=where, found=identity, expected=scored)
        return found, []
    except InputError:
        if planned is None or scored not in ("", Experiment.from_dict(planned).identity):
            raise
    return dict(planned), [EXPERIMENT]


def _printable(text: str) -> str:
    """Returns the beginning of an error's text in one line, without what would reach a terminal as a command."""
    return "".join(one if one.isprintable() else "?" for one in " ".join(text.split())[:4000])


def _result(values: Mapping[str, Any]) -> Result:
    """Returns the result with these values, every one of them checked; raises InputError for one that is wrong."""
    checked = checked_result(values)
    try:
        return Result(
            **{
                **checked,
                "done": False,
                "curves": {name: thin(points) for name, points in checked["curves"].items()},
                "pictures": tuple(Path(name) for name in checked.get("pictures", ())),
                "per_image": {name: Path(file) for name, file in checked.get("per_image", {}).items()},
            }
        )
    except TypeError as error:
        raise InputError("E_RESULTS", "not the record of an experiment", found=error) from None


def thin(points: Sequence[tuple[int, float]], limit: int = _POINTS) -> list[tuple[int, float]]:
    """Returns at most `limit` points of a curve, evenly spaced, the last one among them."""
    if len(points) <= limit:
        return list(points)
    return [points[round(index * (len(points) - 1) / (limit - 1))] for index in range(limit)]


def usable(results: Iterable[Result]) -> tuple[list[Result], list[Note]]:
    """Returns the results that can stand in a report, one for each identity, and notes about all others.

    Left out: records that are no experiment (another project's run in the same store) and records whose identity is
    not the hash of their configuration. Of several runs of one identity the most complete counts.
    """
    notes: list[Note] = []
    groups: dict[str, list[Result]] = {}
    for result in results:
        subject = result.run_id or result.short or "a run"
        words = [result.of(name, None) for name in ("dataset", "variant", "schedule", "scale")]
        if not all(isinstance(word, str) for word in words) or not isinstance(result.of("recipe"), Mapping):
            notes.append(Note(subject, "left out: no experiment of this project"))
        elif identity_of(result.experiment) != result.identity:
            notes.append(Note(subject, f"left out: identity {result.short} is not the hash of its configuration"))
        else:
            groups.setdefault(result.identity, []).append(result)
    chosen = []
    for group in groups.values():
        best = max(group, key=lambda one: (bool(one.scores), one.finished, one.last_step, one.started, one.run_id))
        chosen.append(replace(best, cells=tuple(dict.fromkeys(key for one in group for key in one.cells))))
        others = [one.run_id or "a run without id" for one in group if one is not best]
        if others:
            used = best.run_id or "the one with the most recorded"
            notes.append(Note(best.short, f"{len(group)} runs of one identity: {used} counts, not {', '.join(others)}"))
    return sorted(chosen, key=_order), notes


def hash_of(record: Mapping[str, Any]) -> str:
    """Returns the SHA-256, in hex, of a record's canonical JSON; "" if it is no JSON."""
    try:
        return sha256_of(record)
    except (TypeError, ValueError):
        return ""


def save_results(path: Path, results: Iterable[Result]) -> None:
    """Writes results as one JSON file, so that a report can be made without the tracking server.

    Raises EnvironmentFailure (E_STORAGE), and leaves what was there, where the disk refuses.
    """
    records = [asdict(result) for result in results]
    text = json.dumps(records, sort_keys=True, indent=1, default=str)
    write_text(path, text + "\n")


def load_results(path: Path) -> list[Result]:
    """Returns the results of a file written by save_results; raises InputError if it is none."""
    return read_record(path, lambda records: [_result(record) for record in sequence(records, "the file")])


def read_results(folder: Path) -> tuple[list[Result], list[Note]]:
    """Returns the results of all files in a folder (results/runs), and a note for each file that was set aside."""
    results: list[Result] = []
    notes = []
    for path in sorted(folder.glob("*.json")):
        try:
            results += load_results(path)
        except InputError as error:
            notes.append(Note(path.name, f"left out: {error}"))
    return results, notes


def _order(result: Result) -> tuple[str, ...]:
    names = ("scale", "dataset", "variant", "schedule", "seed")
    return (*(str(result.of(name)) for name in names), result.identity)
