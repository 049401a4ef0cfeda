"""The one place where a record of an experiment is checked, wherever it comes from: a folder, results/runs, MLflow.

None of them is trusted (SECURITY.md). A function here returns its record with every value of the type, range and length
that the rest may rely on, or raises InputError with the name of the first one that is not: whoever reads many records
sets that one aside and goes on. Fields that are not known here are kept if they are plain values.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any

from setr.errors import InputError
from setr.record.files import RUN, SCORES
from setr.record.values import BINS, HASH, NAME, mapping, number, optional, place, plain, sequence, text, whole, wrong
from setr.redaction import redact, without_secrets
from setr.study.cells import find_cell
from setr.study.protocols import Protocol
from setr.study.recipes import Recipe

_WORDS = ("dataset", "variant", "schedule", "scale")
_HASHES = re.compile(r"[\w+:.-]*")  # manifest, weights ("a+b"), code; empty for none
_SCORE = re.compile(r"[\w.-]{1,80}")  # ss, ms, ms-paper, ss-test
_STEP = re.compile(r"step-\d{8,}")
_PERCENT = ("mIoU", "pixel_accuracy", "mean_accuracy", "boundary_iou", "calibration_error")
_OF_ANY_STUDY = re.compile(r"(?!table\d)\w[\w.+-]*(/\w[\w.+-]*){3}")  # study/table/row/column
_RUN = re.compile(r"[\w-]*")


def checked_result(record: Any) -> dict[str, Any]:
    """Returns the values of a result (setr.reporting.numbers.results.Result) by field."""
    values = dict(mapping(record, "the record"))
    missing = [name for name in ("identity", "cells", "experiment", "scores", "curves") if name not in values]
    if missing:
        raise InputError("E_RESULTS", "not the record of an experiment", found=f"no {missing[0]}")
    names = tuple(
        text(name, "class_names", most=200) for name in sequence(values.get("class_names", ()), "class_names")
    )
    checked = {
        "identity": text(values["identity"], "identity", pattern=HASH),
        "cells": checked_cells(values["cells"]),
        "experiment": checked_experiment(values["experiment"]),
        "scores": checked_scores(values["scores"], classes=len(names)),
        "curves": _curves(values["curves"]),
        "class_names": names,
    }
    for name, value in values.items():
        if name in _FIELDS:
            checked[name] = _FIELDS[name](value, name)
        elif name not in checked:
            checked[name] = plain(value, name)
    return checked


def checked_cells(value: Any, where: str = "cells") -> tuple[str, ...]:
    """Returns the cells that a record says it fills: cells of the tables that can be trained."""
    keys = [text(key, where, most=300) for key in sequence(value, where, most=10_000)]
    for key in keys:
        if _OF_ANY_STUDY.fullmatch(key):
            continue  # its file may be elsewhere: what is no cell of it is shown nowhere
        if find_cell(key).quoted:
            raise wrong(where, key, "a cell that the project can train")
    return tuple(keys)


def checked_experiment(value: Any, where: str = "experiment") -> dict[str, Any]:
    """Returns an experiment's record (setr.study.experiment.Experiment.as_dict)."""
    record = mapping(value, where)
    missing = [name for name in (*_WORDS, "seed", "recipe") if name not in record]
    if missing:
        raise wrong(f"{where}.{missing[0]}", None, "no experiment of this project without it")
    for name in _WORDS:
        text(record[name], f"{where}.{name}", most=200, pattern=NAME)
    whole(record["seed"], f"{where}.seed", 0, 2**63 - 1)
    for name in ("manifest", "weights", "tensors", "code"):
        text(record.get(name, ""), f"{where}.{name}", most=1000, pattern=_HASHES)
    for name in ("spec", "model"):
        mapping(record.get(name, {}), f"{where}.{name}")
    _modules(record.get("modules", {}), f"{where}.modules")
    _recipe(record["recipe"], f"{where}.recipe")
    return {name: plain(entry, f"{where}.{name}") for name, entry in record.items()}


def _modules(value: Any, where: str) -> dict[str, dict[str, str]]:
    """Returns {file: {definition: hash}} of a record's code."""
    return {
        text(file, where, most=300): {
            text(name, where, most=200): text(entry, f"{where}.{file}", pattern=_HASHES)
            for name, entry in mapping(part, f"{where}.{file}").items()
        }
        for file, part in mapping(value, where).items()
    }


def _proof(value: Any, where: str) -> dict[str, Any]:
    """Returns what shows that a result that other code has trained is one of newer code."""
    record = mapping(value, where)
    words = {name: text(record.get(name, ""), f"{where}.{name}", most=4000) for name in ("when", "host", "how")}
    code = text(record.get("code", ""), f"{where}.code", most=100, pattern=_HASHES)
    return {**words, "code": code, "modules": _modules(record.get("modules", {}), where)} if record else {}


def checked_scores(value: Any, where: str = "scores", *, classes: int = 0) -> dict[str, dict[str, Any]]:
    """Returns the scores by protocol; lists by class have `classes` entries (0: any number, but one)."""
    return {
        text(name, where, pattern=_SCORE): _score(score, f"{where}.{name}", classes)
        for name, score in mapping(value, where).items()
    }


def checked_scored(value: Any) -> dict[str, Any]:
    """Returns the contents of a folder's scores.json: scores, and what they are scores of."""
    record, where = mapping(value, SCORES), SCORES
    classes = [text(name, f"{where} classes", most=200) for name in sequence(record.get("classes", ()), "classes")]
    checked = {
        **{name: plain(entry, f"{where} {name}") for name, entry in record.items()},
        "scores": checked_scores(record.get("scores"), f"{where} scores", classes=len(classes)),
        "classes": classes,
        "weights": list(_weights(record.get("weights", ()), f"{where} weights")),
        "seconds": _seconds(record.get("seconds", {}), f"{where} seconds"),
        "parameters": optional(whole, record.get("parameters"), f"{where} parameters"),
        "gflops": optional(number, record.get("gflops"), f"{where} gflops", 0.0, 1e12),
        "step": whole(record.get("step", 0), f"{where} step"),
    }
    for name, pattern in (("identity", HASH), ("checkpoint", HASH), ("checkpoint_folder", _STEP)):
        if name in record or name == "checkpoint":
            text(record.get(name), f"{where} {name}", pattern=pattern)
    return checked


def checked_job(value: Any) -> dict[str, Any]:
    """Returns what others read of the job in experiment.json: tags, cells, protocols, threads."""
    record, where = mapping(value, "experiment.json job"), "experiment.json job"
    protocols = sequence(record.get("protocols", ()), f"{where}.protocols", most=1000)
    return {
        **{name: plain(entry, f"{where}.{name}") for name, entry in record.items()},
        "tags": checked_tags(record.get("tags", {}), f"{where}.tags"),
        "cells": list(checked_cells(record.get("cells", ()), f"{where}.cells")),
        "protocols": [_protocol(entry, f"{where}.protocols") for entry in protocols],
        "shards": {
            split: text(at, f"{where}.shards") for split, at in mapping(record.get("shards", {}), "shards").items()
        },
        "threads": whole(record.get("threads", 0), f"{where}.threads", 0, 100_000),
    }


def checked_run(value: Any) -> dict[str, str]:
    """Returns the contents of a folder's run.json: the tracked run's id, address and parent."""
    record = mapping(value, RUN)
    return {
        "id": text(record.get("id", ""), "run.json id", most=100, pattern=_RUN),
        "url": _url(record.get("url", ""), "run.json url"),
        "parent": text(record.get("parent", ""), "run.json parent", most=100, pattern=_RUN),
    }


def checked_tags(value: Any, where: str = "tags") -> dict[str, str]:
    """Returns a run's tags, redacted: whoever wrote them may have put an address into one."""
    tags = mapping(value, where).items()
    return {name: redact(text(entry, f"{where}.{name}", most=10_000, lines=True)) for name, entry in tags}


def checked_counts(value: Any) -> dict[str, float]:
    """Returns the contents of results/parameters.json: {variant/parameters: millions}."""
    return {name: number(count, name, 0.0, 1e9) for name, count in mapping(value, "parameters.json").items()}


def _recipe(value: Any, where: str) -> None:
    record = mapping(value, where)
    known = {}
    for field in fields(Recipe):
        if field.name in record:
            at = f"{where}.{field.name}"
            assert field.default is not MISSING
            known[field.name] = _setting(record[field.name], field.default, at)
    try:
        Recipe(**known)  # the words
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError("E_RESULTS", "not a recipe", where=where, found=error) from None


def _setting(value: Any, default: Any, where: str) -> Any:
    """Returns a value of the kind that a setting's default has."""
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise wrong(where, value, "true or false")
        return value
    if isinstance(default, int):
        return whole(value, where, 0, 10**12)
    if isinstance(default, float):
        return number(value, where, 0.0, 1e12)
    if isinstance(default, str):
        return text(value, where, most=100)
    if value is None and where.endswith("base_size"):
        return None
    return tuple(number(entry, where, 0.0, 1e9) for entry in sequence(value, where, length=len(default)))


def _score(value: Any, where: str, classes: int) -> dict[str, Any]:
    record = mapping(value, where)
    for name, entry in record.items():
        at = f"{where}.{name}"
        if name in _PERCENT:
            optional(number, entry, at, 0.0, 100.0 + 1e-6)
        elif name.startswith("per_class_") and entry is not None:
            listed = sequence(entry, at, most=100_000)
            if len(listed) != (classes or len(listed)):
                raise wrong(at, len(listed), f"one value for each of {classes} classes")
            classes = classes or len(listed)
            for one in listed:
                optional(number, one, at, 0.0, 100.0 + 1e-6)
        else:
            plain(entry, at)
    for name in ("digest", "manifest", "scoring"):
        text(record.get(name, ""), f"{where}.{name}", most=200, pattern=_HASHES)
    tags = {"tags": checked_tags(record["tags"], f"{where}.tags")} if "tags" in record else {}
    if record.get("protocol") is not None:
        _protocol(record["protocol"], f"{where}.protocol")
    whole(record.get("images", 0), f"{where}.images")
    for row in sequence(record.get("worst_images") or (), f"{where}.worst_images", most=10_000):
        for name in ("mIoU", "pixel_accuracy"):
            optional(
                number, mapping(row, f"{where}.worst_images").get(name), f"{where}.worst_images", 0.0, 100.0 + 1e-6
            )
        text(row.get("key", ""), f"{where}.worst_images", most=1000)
    if counts := record.get("calibration"):
        for line in sequence(counts, f"{where}.calibration", length=3):
            for count in sequence(line, f"{where}.calibration", length=BINS):
                whole(count, f"{where}.calibration", 0, 2**62)
    return {**record, **tags}


def _protocol(value: Any, where: str) -> dict[str, Any]:
    record = dict(mapping(value, where))
    for name in ("resize", "window", "stride"):
        if record.get(name) is not None:
            for side in sequence(record[name], f"{where}.{name}", length=2):
                whole(side, f"{where}.{name}", 1, 2**31)
    for ratio in sequence(record.get("ratios", ()), f"{where}.ratios", most=100):
        number(ratio, f"{where}.ratios", 1e-6, 1e6)
    for name in ("name", "mode", "short_side"):
        text(record.get(name, ""), f"{where}.{name}", most=100)
    for name in ("num_classes", "ignore_index"):
        whole(record.get(name, 0), f"{where}.{name}", 0, 2**31)
    if not isinstance(record.get("flip", False), bool):
        raise wrong(f"{where}.flip", record["flip"], "true or false")
    if None in (record.get("window", 0), record.get("stride", 0)):
        raise wrong(where, None, "a window and a stride")
    try:
        Protocol(**record)
    except (TypeError, ValueError) as error:
        raise InputError("E_RESULTS", "not a protocol", where=where, found=error) from None
    return record


def _curves(value: Any) -> dict[str, list[tuple[int, float]]]:
    found = {}
    for name, points in mapping(value, "curves").items():
        at = f"curves.{name}"
        pairs = [sequence(point, at, length=2) for point in sequence(points, at)]
        found[name] = [(whole(step, at), float(number(measured, at))) for step, measured in pairs]
    return found


def _url(value: Any, where: str) -> str:
    """Returns an address without secrets; one that is neither http nor https is not followed by anybody: refused."""
    found = text(value, where, most=4000)
    if found and not found.startswith(("http://", "https://")):
        raise wrong(where, found, "an http address")
    return redact(without_secrets(found, mark=""))


def _weights(value: Any, where: str) -> tuple[Mapping[str, Any], ...]:
    return tuple(plain(mapping(entry, where), where) for entry in sequence(value, where, most=1000))


def _seconds(value: Any, where: str) -> dict[str, float]:
    return {name: number(entry, f"{where}.{name}", 0.0, 1e10) for name, entry in mapping(value, where).items()}


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise wrong(where, value, "true or false")
    return value


def _areas(value: Any, where: str) -> dict[str, str]:
    """Returns the files of single images' scores by protocol."""
    return {text(name, where, pattern=_SCORE): place(file, where) for name, file in mapping(value, where).items()}


_FIELDS: dict[str, Callable[[Any, str], Any]] = {
    "run_id": lambda value, at: text(value, at, most=100, pattern=_RUN),
    "run_url": _url,
    "tags": checked_tags,
    "checkpoint": lambda value, at: optional(place, value, at),
    "checkpoint_sha256": lambda value, at: value if value == "" else text(value, at, pattern=HASH),
    "parameters": lambda value, at: optional(whole, value, at, 0, 10**15),
    "gflops": lambda value, at: optional(number, value, at, 0.0, 1e12),
    "weights": _weights,
    "seconds": _seconds,
    "pictures": lambda value, at: tuple(place(entry, at) for entry in sequence(value, at, most=100)),
    "finished": _flag,
    "attempts": lambda value, at: whole(value, at, 0, 10**9),
    "started": lambda value, at: float(number(value, at, 0.0, 1e12)),
    "failure": lambda value, at: redact(text(value, at, most=10_000, lines=True)),
    "per_image": _areas,
    "proof": _proof,
}
