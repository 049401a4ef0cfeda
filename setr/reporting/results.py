"""Results: what is known about one experiment, as plain records that need no tracking server to be read."""

import contextlib
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from setr.data.atomic import make_folder, storage_failure
from setr.errors import InputError
from setr.paper.experiment import Experiment, canonical_json
from setr.training.events import curves as curves_of
from setr.training.events import read_events

# Tags of a run that the trace and the experiment pages read. Each has the name that we write, then what others write.
TAGS: Mapping[str, tuple[str, ...]] = {
    "commit": ("git.commit", "mlflow.source.git.commit"),
    "dirty": ("git.dirty",),  # true | false | unknown
    "diff": ("git.diff_sha256",),
    "checkpoint": ("setr.checkpoint",),
    "train": ("setr.train_command",),
    "score": ("setr.score_command",),
}
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
    def last_step(self) -> int:
        """Returns the last step that any curve has, 0 before the first."""
        return max((int(points[-1][0]) for points in self.curves.values() if points), default=0)


@dataclass(frozen=True)
class Note:
    """Something a reader has to know about the results: what was left out, merged or not found."""

    subject: str
    text: str


def from_record(record: Mapping[str, Any], **known: Any) -> Result:
    """Returns the result of one results/runs/<identity>.json.

    `known` gives what the record does not hold: run_id, run_url, tags, pictures, per_image, class_names, checkpoint.
    Raises InputError if something that has to be there is missing.
    """
    try:
        values: dict[str, Any] = {
            "identity": str(record["identity"]),
            "cells": tuple(record["cells"]),
            "experiment": record["experiment"],
            "scores": record["scores"],
            "curves": {
                name: thin([(int(point[0]), float(point[1])) for point in points])
                for name, points in record["curves"].items()
            },
            "checkpoint_sha256": str(record.get("checkpoint") or ""),
            "parameters": record.get("parameters"),
            "gflops": record.get("gflops"),
            "weights": tuple(record.get("weights") or ()),
            "seconds": record.get("seconds") or {},
            "attempts": int(record.get("attempts") or 1),
            "started": float(record.get("finished_at") or 0.0),
            "finished": bool(record["scores"]),
            "failure": str(record.get("cause") or ""),
        }
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError("E_RESULTS", "not the record of an experiment", found=repr(error)) from error
    return Result(**{**values, **known})


def read_experiment(folder: Path, **known: Any) -> Result:
    """Returns the result in an experiment's folder, finished or not.

    Reads experiment.json, events.jsonl, scores.json, qualitative.png and areas-<protocol>.npz; `known` gives what the
    folder cannot know: cells, run_id, run_url, tags, class_names. Raises InputError without a readable experiment.json.
    """
    experiment = _read_json(folder / "experiment.json")
    experiment = experiment.get("experiment", experiment)
    events = read_events(folder / "events.jsonl")
    stored = _read_json(folder / "scores.json") if (folder / "scores.json").exists() else {}
    failed = [event for event in events if event["event"] == "failed"]
    picture = folder / "qualitative.png"
    areas = {file.stem.removeprefix("areas-"): file for file in sorted(folder.glob("areas-*.npz"))}
    record = {
        **stored,
        "identity": Experiment.from_dict(experiment).identity,
        "cells": (),
        "experiment": experiment,
        "scores": stored.get("scores", {}),
        "curves": {name: [(step, value) for step, value, _ in points] for name, points in curves_of(events).items()},
        "attempts": max(1, sum(event["event"] == "start" for event in events)),
        "finished_at": events[-1].get("time", 0.0) if events else 0.0,
        "cause": failed[-1].get("cause", "failed") if failed and not stored.get("scores") else "",
    }
    places = {
        "checkpoint": str(folder / stored["checkpoint_folder"]) if stored.get("checkpoint_folder") else None,
        "pictures": (picture,) if picture.exists() else (),
        "per_image": areas,
    }
    return from_record(record, **{**places, **known})


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
        elif hash_of(result.experiment) != result.identity:
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


def hash_of(experiment: Mapping[str, Any]) -> str:
    """Returns the SHA-256, in hex, of an experiment's record: what its identity has to be; "" if it is no JSON."""
    try:
        return hashlib.sha256(canonical_json(experiment).encode()).hexdigest()
    except (TypeError, ValueError):
        return ""


def save_results(path: Path, results: Iterable[Result]) -> None:
    """Writes results as one JSON file, so that a report can be made without the tracking server.

    Raises EnvironmentFailure (E_STORAGE), and leaves what was there, where the disk refuses.
    """
    records = [asdict(result) for result in results]
    text = json.dumps(records, sort_keys=True, indent=1, default=str)
    temporary = path.with_name(path.name + ".tmp")
    make_folder(path.parent)
    try:
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise storage_failure(path, error) from None


def load_results(path: Path) -> list[Result]:
    """Returns the results of a file written by save_results; raises InputError if it is none."""
    records = _read_json(path, kind=list)
    try:
        return [
            Result(
                **{
                    **record,
                    "cells": tuple(record["cells"]),
                    "weights": tuple(record.get("weights", ())),
                    "pictures": tuple(Path(name) for name in record["pictures"]),
                    "curves": {
                        name: [(int(step), float(value)) for step, value in points]
                        for name, points in record["curves"].items()
                    },
                    "class_names": tuple(record.get("class_names", ())),
                    "per_image": {name: Path(file) for name, file in record.get("per_image", {}).items()},
                }
            )
            for record in records
        ]
    except (TypeError, KeyError, ValueError) as error:
        raise InputError("E_RESULTS", "not a file of results", where=path, found=error) from error


def _order(result: Result) -> tuple[str, ...]:
    names = ("scale", "dataset", "variant", "schedule", "seed")
    return (*(str(result.of(name)) for name in names), result.identity)


def _read_json(path: Path, kind: type = dict) -> Any:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("E_RESULTS", "cannot read a record", where=path, found=error) from error
    if not isinstance(value, kind):
        raise InputError("E_RESULTS", "not a record", where=path, found=type(value).__name__, expected=kind.__name__)
    return value
