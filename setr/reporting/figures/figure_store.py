"""Figures that need a model, kept between reports: which experiments they are made of, and where they lie.

    <folder>/<kind>-<data set>-<scale>.json    what it was made from, and the figures with their SVG text

A file whose `key` is still the hash of its inputs is not made again.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from setr.files.atomic import write_json
from setr.reporting.figures.drawing import Figure, decoder_shown
from setr.reporting.numbers.results import Note, Result, usable
from setr.study.experiment import canonical_json

PAIRS, INSIDE, WORST = "pairs", "inside", "worst"
_BASELINES = ("fcn", "semantic-fpn")
_INSIDE_VARIANT = "setr-pup"  # that the paper's figures look into


@dataclass(frozen=True)
class Wanted:
    """Figures of one kind, and the experiments that they are made of."""

    kind: str  # pairs | inside | worst
    results: tuple[Result, ...]  # of pairs: the baseline first

    @property
    def group(self) -> tuple[str, str]:
        """Returns data set and scale."""
        return (str(self.results[0].of("dataset")), str(self.results[0].of("scale")))

    @property
    def name(self) -> str:
        """Returns the name of the file, without its suffix."""
        return re.sub(r"[^a-z0-9]+", "-", "-".join((self.kind, *self.group)).lower()).strip("-")

    def key(self, **inputs: object) -> str:
        """Returns the SHA-256 of what the figures depend on: the checkpoints and `inputs` (data, protocol, code)."""
        made = {"kind": self.kind, "checkpoints": [one.checkpoint_sha256 for one in self.results], **inputs}
        return hashlib.sha256(canonical_json(made).encode()).hexdigest()


def wanted_figures(results: Iterable[Result]) -> list[Wanted]:
    """Returns what the report shows of each data set and scale, the group with the most results first.

    Pairs are of the best FCN (else Semantic FPN) and the best SETR model, worst images of the latter; the inside, as in
    the paper, of SETR-PUP, else the best PUP, else the best SETR. Best is by mIoU, single scale.
    """
    groups: dict[tuple[str, str], list[Result]] = {}
    for one in results:
        if _score(one) is not None and one.checkpoint:
            groups.setdefault((str(one.of("dataset")), str(one.of("scale"))), []).append(one)
    found = []
    for _, members in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        setr = _best([one for one in members if str(one.of("variant")).startswith("setr-")])
        pups = [one for one in members if decoder_shown(str(one.of("variant"))) == "pup"]
        pup = _best([one for one in pups if one.of("variant") == _INSIDE_VARIANT] or pups)
        baselines = [
            _best([one for one in members if decoder_shown(str(one.of("variant"))) == name]) for name in _BASELINES
        ]
        baseline = next((one for one in baselines if one), None)
        if setr and baseline:
            found.append(Wanted(PAIRS, (baseline, setr)))
        if setr:
            found.append(Wanted(INSIDE, (pup or setr,)))
        if worst := setr or baseline:
            found.append(Wanted(WORST, (worst,)))
    return found


def is_made(folder: Path, wanted: Wanted, key: str) -> bool:
    """Returns whether the figures are there, whole, and made from the same inputs."""
    record = _read(folder / f"{wanted.name}.json")
    return record is not None and record["key"] == key


def keep(folder: Path, wanted: Wanted, key: str, figures: Sequence[Figure]) -> None:
    """Writes figures in one step; their names become those of the site's files."""
    record: dict[str, Any] = {
        "key": key,
        "made_from": {one.identity: one.checkpoint_sha256 for one in wanted.results},
        "figures": [{**asdict(figure), "name": f"{wanted.name}-{figure.name}"} for figure in figures],
    }
    record["sha256"] = _digest(record)
    write_json(folder / f"{wanted.name}.json", record)


def forget_others(folder: Path, wanted: Sequence[Wanted]) -> None:
    """Removes the files of figures that are not wanted any more; what `keep` did not write is somebody else's."""
    names = {f"{one.name}.json" for one in wanted}
    for path in kept_files(folder):
        if path.name not in names:
            path.unlink()


def kept_files(folder: Path) -> list[Path]:
    """Returns the files of a folder that `keep` wrote and nobody changed since."""
    return [path for path in sorted(folder.glob("*.json")) if _read(path) is not None]


def kept_figures(folder: Path, results: Sequence[Result]) -> tuple[list[Figure], list[Note]]:
    """Returns the figures of the results, in the order of wanted_figures, and notes about those that do not fit."""
    results, _ = usable(results)
    known: Mapping[str, str] = {one.identity: one.checkpoint_sha256 for one in results}
    figures: list[Figure] = []
    notes = []
    for wanted in wanted_figures(results):
        path = folder / f"{wanted.name}.json"
        record = _read(path)
        if record is None:
            if path.exists():
                notes.append(Note("figures", f"{path.name} is damaged: run python pipelines/figures.py --report"))
            continue
        if any(known.get(identity) != sha256 for identity, sha256 in record["made_from"].items()):
            text = f"{path.name} is of another checkpoint: run python pipelines/figures.py --report"
            notes.append(Note("figures", text))
            continue
        experiments = tuple(identity[:12] for identity in record["made_from"])
        figures += [replace(_figure(one), experiments=experiments) for one in record["figures"]]
    return figures, notes


def _figure(record: Mapping[str, Any]) -> Figure:
    rows = {"header": tuple(record["header"]), "rows": tuple(map(tuple, record["rows"]))}
    return Figure(**{**record, **rows, "experiments": tuple(record["experiments"])})


def _read(path: Path) -> dict[str, Any] | None:
    """Returns a whole record, None for one that is missing or damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        whole = record.pop("sha256") == _digest(record)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
    return record if whole else None


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(record).encode()).hexdigest()


def _score(result: Result) -> float | None:
    return result.score("ss", "mIoU")


def _best(results: Sequence[Result]) -> Result | None:
    return max(results, key=lambda one: (_score(one) or 0.0, one.identity), default=None)
