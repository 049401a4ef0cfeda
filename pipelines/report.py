"""Lays out the paper's tables with every number linked to its run: `python pipelines/report.py`.

`python pipelines/report.py trace table2/setr-pup/80k` prints the chain from one number to the bytes it came from;
`--verify` hashes everything again and scores a sample of images.
"""

import argparse
import dataclasses
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this file's own project, whichever is installed

from pipelines.terminal.checkpoint_words import add_allow_code
from pipelines.terminal.command import run_command
from pipelines.tracking.results_folder import kept_studies
from pipelines.tracking.tracker import (
    IDENTITY_TAG,
    PARENT_TAG,
    RECORD_ARTIFACT,
    TrackedRun,
    Tracker,
    open_tracker,
    tracking_uri,
)
from setr.errors import EnvironmentFailure, InputError
from setr.record.checking import checked_counts, checked_tags
from setr.record.files import EXPERIMENT, PICTURE, areas_name
from setr.record.reading import read_record
from setr.redaction import first_line, without_secrets
from setr.reporting.figures.figure_store import kept_figures
from setr.reporting.numbers.results import Note, Result, load_results, read_experiment, read_results
from setr.reporting.site.places import located
from setr.reporting.site.site import build_site
from setr.reporting.tracing.rehash import verified_text
from setr.reporting.tracing.trace import as_text, one_line, trace
from setr.settings.config import Config
from setr.settings.home import PROJECT, home, resolve
from setr.study.records import Study
from setr.study.shelf import open_study

FIGURES = "figures"  # below storage.results: what pipelines/figures.py --report drew
ARTIFACT_SUFFIXES = (".csv", ".json", ".md", ".svg", ".tex")  # of the report, as the MLflow UI shows them


def work(config: Config, arguments: argparse.Namespace) -> int:
    """Writes the site, or prints one chain; returns the exit status."""
    if arguments.where:
        return print_places(config)
    words = arguments.words
    if words and words[0] != "trace":
        raise InputError("E_COMMAND", "unknown word", found=words[0], expected="trace <cell>, or section.key=value")
    open_study(config.study)
    others, unread = kept_studies(resolve(config.storage.results))
    with tempfile.TemporaryDirectory() as folder:
        found = collect(config, Path(folder))
        if words:
            return print_chain(config, words[1:], found, arguments)
        facts, damaged = counted_parameters(resolve(config.storage.results) / "parameters.json")
        drawn, missing = kept_figures(resolve(config.storage.results) / FIGURES, found.results)
        site = build_site(
            found.results,
            resolve(config.storage.report),
            notes=[*found.notes, *damaged, *missing, *unread],
            facts=facts,
            source=found.source,
            drawn=drawn,
            others=others_shown(config, others),
        )
        problem = store_with_sweep(found, site.index) if site.rebuilt else ""
    if problem:
        print(f"tables and figures are not in MLflow: {problem}")
    if found.source:
        print(found.source)
    for note in site.notes:
        print(one_line(f"note: {note.subject}: {note.text}"))
    count = f"{len(found.results)} experiments, {site.files} files"
    print(f"{count}{'' if site.rebuilt else ', nothing changed'}: {site.index}")
    return 0


def others_shown(config: Config, kept: list[Study]) -> list[Study]:
    """Returns the studies beside SETR's that the site has pages of: the one named, and those that were swept."""
    named = open_study(config.study)
    found = {study.name: study for study in (named, *kept) if study.prefix}
    return list(found.values())


@dataclass(frozen=True)
class Collected:
    """The results that a report is made of, and where they come from."""

    results: list[Result]
    notes: list[Note]
    source: str = ""  # a sentence for readers, where it is not the tracking server
    tracker: Tracker | None = None  # None: it could not be reached, or there is none


def collect(config: Config, folder: Path) -> Collected:
    """Returns the results that the tracking server has, else those of the last sweep's local copy, and says which.

    Those that the last sweep's plan calls done, the ones of its local copy, are marked so, and have its newest proof.
    """
    local, damaged = local_results(config)
    try:
        tracker = open_tracker(config.tracking, resolve("."))
        tracked, notes = ([], []) if tracker is None else tracked_results(config, tracker, folder)
    except EnvironmentFailure as error:
        if not local and not damaged:
            raise
        source = "The tracking server could not be reached: these are the last sweep's local copies."
        return Collected(local, [Note("tracking", str(error)), *damaged], source)
    done = {result.identity: result for result in local}
    tracked = [
        dataclasses.replace(one, done=True, proof=done[one.identity].proof) if one.identity in done else one
        for one in tracked
    ]
    known = {result.identity for result in tracked}
    untracked = [result for result in local if result.identity not in known]
    notes += [Note(result.short, "has no run in the tracking server: a local copy counts") for result in untracked]
    return Collected([*tracked, *untracked], [*notes, *damaged], tracker=tracker)


def tracked_results(config: Config, tracker: Tracker, folder: Path) -> tuple[list[Result], list[Note]]:
    """Returns one Result for each experiment's run, with the pictures and counts it keeps fetched into `folder`."""
    results, notes = [], []
    for run in tracker.runs(f"tags.`{IDENTITY_TAG}` != ''"):
        try:
            result, missing = tracked_result(config, tracker, run, folder / run.run_id)
        except InputError as error:
            notes.append(Note(run.name or run.run_id, f"left out: {error}"))
            continue
        notes += missing
        results += [result] if result else []
    return results, notes


def tracked_result(config: Config, tracker: Tracker, run: TrackedRun, place: Path) -> tuple[Result | None, list[Note]]:
    """Returns the result of a run, None if it has none yet, and notes about what is missing of it.

    What the run keeps is written into the new folder `place`. Raises InputError for a record that is damaged.
    """
    tags = checked_tags(run.tags)
    record = tracker.fetch_artifact(run.run_id, RECORD_ARTIFACT, run.artifacts)
    if record is None:
        found = unfinished(config, dataclasses.replace(run, tags=tags))
        return (found, []) if isinstance(found, Result) else (None, [found])
    place.mkdir(exist_ok=True)
    (place / RECORD_ARTIFACT).write_bytes(record)
    read = load_results(place / RECORD_ARTIFACT)
    if len(read) != 1:
        raise InputError("E_RESULTS", "not the record of one experiment", found=f"{len(read)} records")
    [result] = read
    pictures, areas, notes = [], {}, []
    for protocol, name in {"": PICTURE, **{one: areas_name(one) for one in result.per_image}}.items():
        data = tracker.fetch_artifact(run.run_id, name, run.artifacts)
        if data is None:
            notes.append(Note(result.short, f"artifact {name} is missing"))
            continue
        (place / name).write_bytes(data)
        if protocol:
            areas[protocol] = place / name
        else:
            pictures.append(place / name)
    own = located(result, home(), resolve(config.storage.checkpoints))
    complete = dataclasses.replace(
        own,
        run_id=run.run_id,
        run_url=run.url,
        tags={**tags, **own.tags},
        pictures=tuple(pictures),
        per_image=areas,
    )
    return complete, notes


def unfinished(config: Config, run: TrackedRun) -> Result | Note:
    """Returns how far a run without a record is, from the experiment's folder; a note where that cannot be read."""
    identity = run.tags[IDENTITY_TAG]
    # The tag is anybody's text: only a hash may name a folder.
    if not re.fullmatch("[0-9a-f]{64}", identity):
        return Note(run.name or run.run_id, "left out: no experiment of this project")
    try:
        return read_experiment(
            resolve(config.storage.checkpoints) / identity,
            cells=tuple(run.tags.get("setr.cells", "").split()),
            run_id=run.run_id,
            run_url=run.url,
            tags=run.tags,
        )
    except InputError as error:
        if (resolve(config.storage.checkpoints) / identity / EXPERIMENT).exists():
            return Note(run.name or run.run_id, f"left out: {error}")
        return Note(run.name or run.run_id, f"no result yet ({run.status.lower()})")


def store_with_sweep(found: Collected, index: Path) -> str:
    """Stores tables and figures with the newest sweep behind the results; returns why not, "" if it was done."""
    parents = {one.tags[PARENT_TAG] for one in found.results if one.tags.get(PARENT_TAG)}
    if found.tracker is None or not parents:
        return ""
    try:
        runs = [run for run in map(found.tracker.run, sorted(parents)) if run is not None]
        newest = max(runs, key=lambda run: run.start_time, default=None)
        with tempfile.TemporaryDirectory() as folder:
            for file in sorted((*index.parent.glob("table-*.*"), *index.parent.glob("figures/*.svg"))):
                if file.suffix in ARTIFACT_SUFFIXES:
                    shutil.copy(file, folder)
            if newest is not None:
                found.tracker.folder_artifact(newest.run_id, Path(folder), "report")
    except Exception as error:  # the report is written; the server's answer must not end that
        return first_line(error)
    return ""


def local_results(config: Config) -> tuple[list[Result], list[Note]]:
    """Returns the results that the last sweep wrote into results/runs, and a note for each file that is damaged."""
    storage = resolve(config.storage.checkpoints)
    found, notes = read_results(resolve(config.storage.results) / "runs")
    return [dataclasses.replace(located(result, home(), storage), done=True) for result in found], notes


def counted_parameters(file: Path) -> tuple[dict[str, float], list[Note]]:
    """Returns the models' parameters as the last sweep counted them, and a note where the file is damaged."""
    try:
        return (read_record(file, checked_counts) if file.exists() else {}), []
    except InputError as error:
        return {}, [Note(file.name, f"left out: {error}")]


def print_chain(config: Config, words: list[str], found: Collected, arguments: argparse.Namespace) -> int:
    """Prints the chain of one cell; returns 1 if a link is broken."""
    if len(words) != 1:
        raise InputError("E_COMMAND", "trace takes one cell", expected="trace table2/setr-pup/80k")
    chains = trace(words[0], found.results)
    if found.source:
        print(found.source)
    print(as_text(chains))
    whole = all(chain.whole for chain in chains)
    if arguments.verify:
        # Imported here: the report itself needs no torch.
        from pipelines.tracking.recheck import verify_chain

        for chain in chains:
            verified = verify_chain(
                config, chain, found.tracker, images=arguments.images, allow_code=arguments.allow_code
            )
            print(verified_text(verified))
            whole = whole and not any(link.broken for link in verified)
    return 0 if whole else 1


def print_places(config: Config) -> int:
    """Prints where the report and the MLflow UI are, relative to the project where that is shorter."""
    index = resolve(config.storage.report) / "index.html"
    shown = index.relative_to(PROJECT) if index.is_relative_to(PROJECT) else index
    uri = tracking_uri(config.tracking, resolve("."))
    runs = "`make ui`, then http://127.0.0.1:5000" if uri.startswith("sqlite:") else without_secrets(uri)
    print(f"report: {shown}\nruns:   {runs}")
    return 0


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--verify", action="store_true", help="with trace: hash everything again, score some images")
    parser.add_argument("--images", type=int, default=12, help="with --verify: images to score again, about; 0: all")
    add_allow_code(parser)
    parser.add_argument("--where", action="store_true", help="print where the report and the MLflow UI are, and stop")


if __name__ == "__main__":
    run_command(
        "Lay out the paper's tables; `trace <cell>` prints where one number comes from.",
        "storage",
        work,
        add_arguments=_arguments,
        words=True,
    )
