"""Lays out the paper's tables with every number linked to its run: `python pipelines/report.py`.

`python pipelines/report.py trace table2/setr-pup/80k` prints the chain from one number to the bytes it came from;
`--verify` hashes everything again.
"""

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path

from pipelines.command import PROJECT, resolve, resolve_location, run_command
from pipelines.tracking import RECORD_ARTIFACT, Tracker, open_tracker, redact, tracking_uri
from setr.config import Config
from setr.errors import EnvironmentFailure, InputError
from setr.reporting.figure_store import kept_figures
from setr.reporting.results import Note, Result, load_results
from setr.reporting.site import build_site
from setr.reporting.trace import as_text, trace, verify

PICTURE = "qualitative.png"
FIGURES = "figures"  # below storage.results: what pipelines/figures.py --report drew


def work(config: Config, arguments: argparse.Namespace) -> int:
    """Writes the site, or prints one chain; returns the exit status."""
    if arguments.where:
        return print_places(config)
    words = arguments.words
    if words and words[0] != "trace":
        raise InputError("E_COMMAND", "unknown word", found=words[0], expected="trace <cell>, or section.key=value")
    with tempfile.TemporaryDirectory() as folder:
        results, notes, source = collect(config, Path(folder))
        if words:
            return print_chain(config, words[1:], results, arguments.verify)
        counted = resolve(config.storage.results) / "parameters.json"
        facts = json.loads(counted.read_text(encoding="utf-8")) if counted.is_file() else {}
        drawn, missing = kept_figures(resolve(config.storage.results) / FIGURES, results)
        site = build_site(
            results,
            resolve(config.storage.report),
            notes=[*notes, *missing],
            facts=facts,
            source=source,
            drawn=drawn,
        )
    for note in site.notes:
        print(f"note: {note.subject}: {note.text}")
    print(f"{len(results)} experiments, {site.files} files{'' if site.rebuilt else ', nothing changed'}: {site.index}")
    return 0


def collect(config: Config, folder: Path) -> tuple[list[Result], list[Note], str]:
    """Returns the results that the tracking server has, else those of the last sweep's local copy, and says which."""
    local = local_results(resolve(config.storage.results) / "runs")
    try:
        tracker = open_tracker(config.tracking, resolve("."))
        tracked, notes = tracked_results(tracker, folder)
    except EnvironmentFailure as error:
        if not local:
            raise
        source = "The tracking server could not be reached: these are the last sweep's local copies."
        return local, [Note("tracking", str(error))], source
    known = {result.identity for result in tracked}
    untracked = [result for result in local if result.identity not in known]
    notes += [Note(result.short, "has no run in the tracking server: a local copy counts") for result in untracked]
    return [*tracked, *untracked], notes, ""


def tracked_results(tracker: Tracker, folder: Path) -> tuple[list[Result], list[Note]]:
    """Returns one Result for each experiment's run, with the pictures and counts it keeps fetched into `folder`."""
    results, notes = [], []
    for run in tracker.runs("tags.`setr.identity` != ''"):
        record = tracker.fetch_artifact(run.run_id, RECORD_ARTIFACT)
        if record is None:
            notes.append(Note(run.name or run.run_id, f"no result yet ({run.status.lower()})"))
            continue
        place = folder / run.run_id
        place.mkdir()
        (place / RECORD_ARTIFACT).write_bytes(record)
        try:
            result = load_results(place / RECORD_ARTIFACT)[0]
        except (InputError, IndexError) as error:
            notes.append(Note(run.name or run.run_id, f"left out: {error}"))
            continue
        pictures, areas = [], {}
        for name in [PICTURE, *(path.name for path in result.per_image.values())]:
            data = tracker.fetch_artifact(run.run_id, name)
            if data is None:
                notes.append(Note(result.short, f"artifact {name} is missing"))
                continue
            (place / name).write_bytes(data)
            if name == PICTURE:
                pictures.append(place / name)
            else:
                areas[name.removeprefix("areas-").removesuffix(".npz")] = place / name
        results.append(
            dataclasses.replace(
                result,
                run_id=run.run_id,
                run_url=run.url,
                tags={**run.tags, **result.tags},
                pictures=tuple(pictures),
                per_image=areas,
            )
        )
    return results, notes


def local_results(folder: Path) -> list[Result]:
    """Returns the results that the last sweep wrote into results/runs."""
    return [load_results(path)[0] for path in sorted(folder.glob("*.json"))] if folder.is_dir() else []


def print_chain(config: Config, words: list[str], results: list[Result], again: bool) -> int:
    """Prints the chain of one cell; returns 1 if a link is broken."""
    if len(words) != 1:
        raise InputError("E_COMMAND", "trace takes one cell", expected="trace table2/setr-pup/80k")
    chains = trace(words[0], results)
    print(as_text(chains))
    whole = all(chain.whole for chain in chains)
    if again:
        # Imported here: the report itself needs no torch.
        from pipelines.jobs import weight_files
        from setr.data.locations import below, local_folder

        for chain in chains:
            if chain.result is None:
                continue
            location = below(resolve_location(config.data.shards), str(chain.result.of("dataset")), "train")
            shards = local_folder(location, config.data.local_copy)
            weights = weight_files(chain.result.of("variant"), chain.result.of("scale"), resolve(config.weights.folder))
            for link in verify(chain.result, shards=shards, weights=weights):
                print(f"verify {link.name}: {link.broken or 'ok'}")
                whole = whole and not link.broken
    return 0 if whole else 1


def print_places(config: Config) -> int:
    """Prints where the report and the MLflow UI are, relative to the project where that is shorter."""
    index = resolve(config.storage.report) / "index.html"
    shown = index.relative_to(PROJECT) if index.is_relative_to(PROJECT) else index
    uri = tracking_uri(config.tracking, resolve("."))
    runs = "`make ui`, then http://127.0.0.1:5000" if uri.startswith("sqlite:") else redact(uri)
    print(f"report: {shown}\nruns:   {runs}")
    return 0


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--verify", action="store_true", help="with trace: hash data, weights and checkpoint again")
    parser.add_argument("--where", action="store_true", help="print where the report and the MLflow UI are, and stop")


if __name__ == "__main__":
    run_command(
        "Lay out the paper's tables; `trace <cell>` prints where one number comes from.",
        "storage",
        work,
        add_arguments=_arguments,
        words=True,
    )
