"""The folder of results: a record for each finished experiment, and the scores that `dvc metrics show` prints.

<storage.results>/runs/<identity>.json    what a report needs of the experiment
<storage.results>/scores.json             table -> row -> column -> mean score over the seeds, other studies' in theirs
<storage.results>/studies/<name>.yaml     the file of each other study than SETR's, as it was swept last
<storage.results>/parameters.json         parameters of the models, counted the paper's way
"""

import dataclasses
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from setr.errors import InputError
from setr.files.atomic import make_folder, write_json, write_text
from setr.models.variants import VARIANTS
from setr.planning.experiments import plan_earlier
from setr.planning.planned import Planned
from setr.record.ledger import state_of
from setr.redaction import first_line
from setr.reporting.numbers.results import Note, Result, load_results, save_results
from setr.reporting.site.places import relative
from setr.settings.config import Config
from setr.settings.home import home
from setr.study.cells import find_cell, study_of
from setr.study.records import SETR_NAME, Study
from setr.study.shelf import known_study, open_study, setr_study

STUDIES = "studies"


def write_results(config: Config, planned: Sequence[Planned], folder: Path, *, keep_all: bool = False) -> int:
    """Writes results/runs/<identity>.json and results/scores.json; returns how many of `planned` have one.

    What earlier sweeps left there stays as long as the present settings give it the same identity: a narrowed sweep
    takes nothing from the report. What is no sweep's record stays whatever it is. An experiment whose own record is
    damaged is named and left out. `keep_all` leaves earlier records of others as they are: nothing was trained in
    their place.
    """
    from pipelines.tracking.recording import finished_result

    done = {entry.identity: entry for entry in planned if state_of(entry.folder)[0] == "done"}
    runs = folder / "runs"
    make_folder(runs)
    written = earlier_results(runs)
    asked_before = {identity: result.cells for identity, result in written.items()}
    studies, unknown = studies_asked(config, asked_before.values())
    if not keep_all and asked_before.keys() - {entry.identity for entry in planned}:
        earlier = plan_earlier(config, planned, studies)
        done |= {entry.identity: entry for entry in earlier if entry.identity in asked_before}
    results: dict[str, Result] = {}
    for identity, entry in done.items():
        names = dict.fromkeys((*entry.cells, *asked_before.get(identity, ())))
        try:
            result = finished_result(dataclasses.replace(entry, cells=tuple(names)))
        except InputError as error:
            kept = identity in written
            print(f"note: {entry.name}: {'an earlier record counts' if kept else 'left out'}: {error}")
            results |= {identity: written[identity]} if kept else {}
            continue
        save_results(runs / f"{identity}.json", [relative(result, home())])
        results[identity] = result
    for identity in written.keys() - done.keys():
        if keep_all or unknown.intersection(map(study_of, asked_before[identity])):
            results[identity] = written[identity]  # whether it still counts, only its study could say
        else:
            (runs / f"{identity}.json").unlink()
    keep_study(open_study(config.study), folder)
    write_json(folder / "scores.json", scores_by_cell(results.values()))
    write_json(folder / "parameters.json", parameter_counts())
    return sum(entry.identity in results for entry in planned)


def studies_asked(config: Config, asked: Iterable[Sequence[str]]) -> tuple[list[Study], set[str]]:
    """Returns the studies that records name cells of, with the one that is swept, and the names of those not found."""
    found, unknown = {SETR_NAME: setr_study()}, set()
    own = open_study(config.study)
    found[own.name] = own
    for name in {study_of(key) for keys in asked for key in keys} - found.keys():
        try:
            found[name] = known_study(name)
        except InputError:
            unknown.add(name)
    return list(found.values()), unknown


def keep_study(study: Study, folder: Path) -> None:
    """Keeps the file of a study beside the results, so that a report needs no other place."""
    if study.prefix and study.file is not None:
        make_folder(folder / STUDIES)
        write_text(folder / STUDIES / study.file.name, study.file.read_text(encoding="utf-8"))


def kept_studies(folder: Path) -> tuple[list[Study], list[Note]]:
    """Returns the other studies whose files lie beside the results, and what is wrong with those not readable."""
    found, notes = [], []
    for path in sorted((folder / STUDIES).glob("*.yaml")):
        try:
            found.append(known_study(path.stem, path))
        except InputError as error:
            notes.append(Note(f"study {path.stem}", f"is not shown: {first_line(error)}"))
    return found, notes


def earlier_results(runs: Path) -> dict[str, Result]:
    """Returns {identity: result} of the records that sweeps have written: named by the identity of what is in them."""
    found: dict[str, Result] = {}
    for path in sorted(runs.glob("*.json")):
        try:
            results = load_results(path)
        except InputError:
            continue  # not known to be a sweep's; the report names it
        if [result.identity for result in results] == [path.stem]:
            found[path.stem] = results[0]
    return found


def parameter_counts() -> dict[str, float]:
    """Returns {variant/parameters: millions} of the ADE20K models at paper scale, counted the paper's way."""
    import torch

    from setr.models.counting import paper_parameter_count
    from setr.models.segmenter import build_model

    counts = {}
    with torch.device("meta"):
        for name in VARIANTS:
            model = build_model(name, num_classes=150, crop_size=(512, 512))
            counts[f"{name}/parameters"] = paper_parameter_count(model) / 1e6
    return counts


def scores_by_cell(results: Iterable[Result]) -> dict[str, Any]:
    """Returns {table: {row: {column: mean score over the seeds}}}, what `dvc metrics show` prints.

    The tables of other studies than SETR's stand below their study's name.
    """
    values: dict[str, list[float]] = {}
    for result in results:
        for key in result.cells:
            try:
                cell = find_cell(key)
            except InputError:
                continue  # of a study that is not here
            if cell.split != "val":
                continue  # a test server's score, which nobody here can compute
            score = result.score(cell.protocol, cell.metric)
            if score is not None:
                values.setdefault(key, []).append(score)
    found: dict[str, Any] = {}
    for key, scores in sorted(values.items()):
        *places, column = key.split("/")
        inner = found
        for place in places:
            inner = inner.setdefault(place, {})
        inner[column] = round(statistics.fmean(scores), 2)
    return found
