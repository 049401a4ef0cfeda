"""Studies: `python pipelines/study.py check | show | new | schema <file>`.

check    reads the file whole and tells every mistake, each with its line; status 2 if there is one
show     prints its tables: what each cell trains, on what, how often
new      writes a commented file to begin with: --title, --data, --models naive pup mine=mine.py:Head
schema   prints the JSON schema that editors check such files by
"""

import argparse
import json
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this file's own project, whichever is installed

from rich.console import Console
from rich.table import Table as Grid

from pipelines.terminal.command import run_command
from setr.errors import InputError, InputErrors
from setr.files.atomic import write_text
from setr.planning.checks import check_own_models, licences_of
from setr.planning.experiments import plan_models, seeds_of
from setr.settings.config import Config
from setr.settings.home import STUDIES
from setr.study.cells import by_training, cells
from setr.study.records import SETR_NAME, Study, Table
from setr.study.schema import schema
from setr.study.shelf import open_study, shipped
from setr.study.starting import Answers, new_study

WORDS = ("check", "show", "new", "schema")
SCHEMA = STUDIES / "study.schema.json"


def work(config: Config, arguments: argparse.Namespace) -> None:
    """Does what the first word asks for."""
    word, *files = arguments.words or [""]
    if word not in WORDS or len(files) > 1:
        found = " ".join(arguments.words) or "nothing"
        raise InputError(
            "E_COMMAND", "not something to do with a study", found=found, expected="|".join(WORDS) + " <file>"
        )
    name = files[0] if files else config.study
    if word == "schema":
        print(json.dumps(schema(), indent=1))
    elif word == "new":
        new(Path(name), arguments)
    elif word == "check":
        check(config, open_study(name))
    else:
        show(config, open_study(name))


def check(config: Config, study: Study) -> None:
    """Prints what the study comes to; raises InputErrors for models that cannot be, reading it has for the rest."""
    runnable = [cell for cell in cells(study=study) if cell.runnable]
    groups = by_training(runnable)
    trainings = sum(seeds_of(config, group) for group in groups.values())
    planned, mistakes = plan_models(config, study)
    if mistakes:
        raise InputErrors(mistakes)
    print(f"{study.file}: {study.title}")
    print(
        f"{len(study.tables)} tables, {len(study.models)} models, {len(runnable)} numbers to measure "
        f"in {trainings} trainings on {', '.join(sorted({cell.dataset for cell in runnable})) or 'nothing'}"
    )
    absent = {missing for entry in planned for missing in entry.missing if missing.startswith("data set ")}
    notes = [f"{missing} is not prepared here (prepare.py)" for missing in sorted(absent)]
    for note in (*notes, *check_own_models(planned), *(f"licence {line}" for line in licences_of(planned))):
        print(f"note: {note}")


def show(config: Config, study: Study) -> None:
    """Prints the study's tables."""
    check(config, study)
    console = Console()
    console = console if console.is_terminal else Console(width=100)
    for table in study.tables:
        console.print(_layout(study, table))


def _layout(study: Study, table: Table) -> Grid:
    known = {(cell.row, cell.column): cell for cell in cells([table.id], study)}
    grid = Grid(title=f"{table.id}: {table.title}", title_justify="left")
    grid.add_column("row", overflow="fold")
    grid.add_column("model", overflow="fold")
    for column in table.columns:
        grid.add_column(f"{column.title}\n{column.dataset}", overflow="fold")
    for row in table.rows:
        model = study.models.get(row.variant)
        parts = f"{model.decoder} on {model.encoder}, {model.pre}" if model else "quoted"
        texts = []
        for column in table.columns:
            cell = known.get((row.id, column.id))
            printed = "" if cell is None or cell.paper is None else f"{cell.paper:g} "
            texts.append(printed + (f"{cell.schedule} {cell.protocol}" if cell is not None and cell.runnable else ""))
        grid.add_row(row.id, parts, *texts)
    return grid


def new(path: Path, arguments: argparse.Namespace) -> None:
    """Writes a study to begin with; raises InputError for a file that is there already."""
    if path.suffix != ".yaml":
        raise InputError("E_STUDY", "a study is a .yaml file", found=path, expected="studies/mine.yaml")
    if path.exists():
        raise InputError("E_STUDY", "there is such a file already", where=path, remedy="name another, or edit it")
    if path.stem in shipped() or path.stem == SETR_NAME:
        raise InputError("E_STUDY", "a study of that name comes with the project", found=path.stem)
    answers = Answers(
        title=arguments.title or _asked("What is the study called?", path.stem.replace("-", " ").capitalize()),
        data=arguments.data or _asked("Which prepared data set?", "scenes"),
        models=arguments.models or _asked("Which decoders, or name=file.py:Class?", "naive pup").split(),
        encoder=arguments.encoder,
        seeds=arguments.seeds,
        schema=os.path.relpath(SCHEMA, path.resolve().parent),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, new_study(answers))
    print(f"{path}: edit it, then `python pipelines/study.py check {path}`")


def _asked(question: str, usual: str) -> str:
    """Returns the answer of whoever sits at the terminal; the usual one where nobody does."""
    if not sys.stdin.isatty():
        return usual
    return input(f"{question} [{usual}] ").strip() or usual


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--title", default="", help="new: what the study is called")
    parser.add_argument("--data", default="", help="new: the name of a prepared data set")
    parser.add_argument("--models", nargs="+", default=[], help="new: decoders, or <name>=<file.py:Class>")
    parser.add_argument("--encoder", default="t-base", help="new: t-base, t-large, or timm:<name>")
    parser.add_argument("--seeds", type=int, default=3, help="new: trainings of each cell")


if __name__ == "__main__":
    run_command("Check, show or begin a study.", "sweep", work, sections=(), add_arguments=_arguments, words=True)
