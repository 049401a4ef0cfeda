"""The folder of results: a record for each finished experiment, and the scores that `dvc metrics show` prints.

<storage.results>/runs/<identity>.json    what a report needs of the experiment
<storage.results>/scores.json             table -> row -> column -> mean score over the seeds
<storage.results>/parameters.json         parameters of the models, counted the paper's way
"""

import dataclasses
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from setr.errors import InputError
from setr.files.atomic import make_folder, write_json
from setr.models.variants import VARIANTS
from setr.planning.experiments import plan_earlier
from setr.planning.planned import Planned
from setr.record.ledger import state_of
from setr.reporting.numbers.results import Result, load_results, save_results
from setr.reporting.site.places import relative
from setr.settings.config import Config
from setr.settings.home import home
from setr.study.cells import cells


def write_results(config: Config, planned: Sequence[Planned], folder: Path) -> int:
    """Writes results/runs/<identity>.json and results/scores.json; returns how many of `planned` have one.

    What earlier sweeps left there stays as long as the present settings give it the same identity: a narrowed sweep
    takes nothing from the report. What is no sweep's record stays whatever it is. An experiment whose own record is
    damaged is named and left out.
    """
    from pipelines.tracking.recording import finished_result

    done = {entry.identity: entry for entry in planned if state_of(entry.folder)[0] == "done"}
    runs = folder / "runs"
    make_folder(runs)
    written = earlier_results(runs)
    asked_before = {identity: result.cells for identity, result in written.items()}
    if asked_before.keys() - {entry.identity for entry in planned}:
        done |= {entry.identity: entry for entry in plan_earlier(config, planned) if entry.identity in asked_before}
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
        (runs / f"{identity}.json").unlink()
    write_json(folder / "scores.json", scores_by_cell(results.values()))
    write_json(folder / "parameters.json", parameter_counts())
    return sum(entry.identity in results for entry in planned)


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


def scores_by_cell(results: Iterable[Result]) -> dict[str, dict[str, dict[str, float]]]:
    """Returns {table: {row: {column: mean score over the seeds}}}, what `dvc metrics show` prints."""
    known = {cell.key: cell for cell in cells()}
    values: dict[str, list[float]] = {}
    for result in results:
        for key in result.cells:
            if known[key].split != "val":
                continue  # a test server's score, which nobody here can compute
            score = result.score(known[key].protocol, known[key].metric)
            if score is not None:
                values.setdefault(key, []).append(score)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for key, scores in sorted(values.items()):
        table, row, column = key.split("/")
        found.setdefault(table, {}).setdefault(row, {})[column] = round(statistics.fmean(scores), 2)
    return found
