"""Cells: the numbers of a study's tables, each with the training and the protocol that it stands for."""

import difflib
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from setr.data.reading.datasets import DATASETS
from setr.errors import InputError
from setr.models.variants import Variant
from setr.study.experiment import canonical_json
from setr.study.protocols import Protocol
from setr.study.recipes import Recipe, iterations, schedule_of
from setr.study.records import SETR_NAME, Column, Row, Study, Table
from setr.study.shelf import known_study, setr_study
from setr.study.terms import protocol_of, recipe_of

TABLES = (1, 2, 3, 4, 5, 6, 7)  # of SETR


@dataclass(frozen=True)
class Training:
    """What cells with one checkpoint share: the single- and the multi-scale score, and the same model in two tables."""

    dataset: str
    variant: str
    schedule: str
    changes: str = ""  # of the recipe that the study has for the data set, as JSON
    split: str = ""  # another than train


@dataclass(frozen=True)
class Cell:
    """One number of a table: an experiment and a protocol, or a competitor's number (`quoted`)."""

    table: int | str
    row: str
    column: str
    paper: float | None  # percent, as printed; None: the paper prints no value
    label: str  # the method, as printed
    study: Study = field(repr=False, compare=False)
    variant: str = ""
    dataset: str = ""
    schedule: str = ""
    protocol: str = ""  # what its score is called: ss | ms, or another of the study's
    kind: str = ""  # of protocol: the rules that it follows
    train: str = "train"  # the split, or two joined, that it trains on
    split: str = "val"  # val | test (scored by a server)
    metric: str = "mIoU"  # mIoU | pixel_accuracy
    quoted: bool = False
    unconfirmed: bool = False  # the printed value rests on one text conversion of the paper
    inferred: bool = False  # the paper does not state the schedule or the protocol
    own: bool = False  # a row that no paper prints
    not_found: bool = False  # the paper prints a value that nobody here has read
    recipe: str = ""  # of the study's recipes, by name; "": the one that is the study's
    changes: Mapping[str, Any] = field(default_factory=dict, hash=False)  # of the recipe, the row's and the column's
    scoring: Mapping[str, Any] = field(default_factory=dict, hash=False)  # of the protocol
    table_id: str = ""

    @property
    def key(self) -> str:
        """Returns the cell's name: table2/setr-pup/80k, and <study>/<table>/<row>/<column> of other studies."""
        return f"{self.study.prefix}{self.table_id}/{self.row}/{self.column}"

    @property
    def runnable(self) -> bool:
        """Returns whether the tables ask for it: it can be trained, and the paper prints it or there is no paper."""
        if self.quoted:
            return False
        return self.paper is not None or self.metric != "mIoU" or self.not_found or self.own

    @property
    def model(self) -> Variant:
        """Returns the model that is trained."""
        return self.study.models[self.variant]

    @property
    def training(self) -> Training:
        """Returns what has to be trained for the cell."""
        changes = canonical_json(dict(self.changes)) if self.changes else ""
        other = "" if self.train == "train" else self.train
        return Training(self.dataset, self.variant, self.schedule, self.recipe + changes, other)

    def published_recipe(self, flavour: str = "") -> Recipe:
        """Returns the recipe that the number is trained with, as the flavour states it ("": the study's first)."""
        rules = self.study.recipes.get(self.recipe)
        return recipe_of(
            rules or (),
            data=self.dataset,
            decoder=self.model.decoder,
            schedule=self.schedule,
            flavour=flavour or next(iter(self.study.flavours), "authors"),
            own={**({} if rules else {"base_size": None}), **self.changes},
        )

    def published_protocol(self, classes: int = 0) -> Protocol:
        """Returns the protocol that the number is scored with; `classes` of a data set of one's own."""
        if self.dataset in DATASETS:
            classes = DATASETS[self.dataset].num_classes
        return protocol_of(
            self.study.protocols,
            self.kind,
            self.published_recipe(),
            data=self.dataset,
            decoder=self.model.decoder,
            classes=classes,
            own=self.scoring,
        )


def cells(tables: Iterable[int | str] = (), study: Study | None = None) -> list[Cell]:
    """Returns the cells of the tables asked for (none: of all), in the study's order; None is SETR's study.

    Its Table 1 holds no scores and has none. Raises InputError for a table that the study has not.
    """
    study = study or setr_study()
    chosen = [study.table(number) for number in dict.fromkeys(tables)] or study.tables
    return [cell for table in chosen for cell in _cells_of(study, table)]


def find_cell(key: str) -> Cell:
    """Returns the cell of a name such as table2/setr-pup/80k; raises InputError that names the nearest ones.

    Those of other studies than SETR's (<study>/<table>/<row>/<column>) are found where the study was opened in this
    process, or comes with the project.
    """
    study = known_study(study_of(key))
    known = _by_key(study)
    if key not in known:
        near = difflib.get_close_matches(key, known, n=3)
        raise InputError(
            "E_CELL",
            "no such cell",
            found=key,
            expected=f"{study.prefix}{'<table>' if study.prefix else 'table<n>'}/<row>/<column>",
            remedy=f"did you mean {' or '.join(near)}?" if near else f"{next(iter(known), 'none')} is one",
        )
    return known[key]


def study_of(key: str) -> str:
    """Returns the name of the study that a cell's key is of."""
    return key.split("/")[0] if key.count("/") == 3 else SETR_NAME


def select_cells(keys: Iterable[str]) -> list[Cell]:
    """Returns the cells of the names given; the first unknown name raises InputError."""
    return [find_cell(key) for key in keys]


def by_training(chosen: Iterable[Cell]) -> dict[Training, list[Cell]]:
    """Returns the runnable cells grouped by what has to be trained, in the order of their first appearance."""
    groups: dict[Training, list[Cell]] = {}
    for cell in chosen:
        if cell.runnable:
            groups.setdefault(cell.training, []).append(cell)
    return groups


@functools.lru_cache(maxsize=16)
def _by_key_of(name: str, file: object) -> dict[str, Cell]:
    return {cell.key: cell for cell in cells(study=known_study(name))}


def _by_key(study: Study) -> dict[str, Cell]:
    return _by_key_of(study.name, study.file)


def _cells_of(study: Study, table: Table) -> list[Cell]:
    return [
        cell for row in table.rows for column in table.columns if (cell := _cell(study, table, row, column)) is not None
    ]


def _cell(study: Study, table: Table, row: Row, column: Column) -> Cell | None:
    """Returns the cell of a row and a column, None where the table's layout has none."""
    trained = bool(row.variant and column.protocol)
    promised = trained and (column.metric == "pixel_accuracy" or not row.is_printed)
    not_found = column.id in row.not_found
    if not (promised or not_found or column.id in row.values):
        return None
    common: dict[str, Any] = {
        "table": table.number,
        "table_id": table.id,
        "row": row.id,
        "column": column.id,
        "paper": row.values.get(column.id),
        "label": row.texts[0],
        "study": study,
        "unconfirmed": column.id in row.unconfirmed,
        "not_found": not_found,
        "own": not row.is_printed,
    }
    if not trained:
        return Cell(**common, quoted=True)
    changes = {**column.changes, **row.changes}
    given = "" if "iterations" in row.changes else row.schedules.get(column.id, column.schedule)
    cell = Cell(
        **common,
        variant=row.variant,
        dataset=column.dataset,
        schedule=given,
        protocol=column.protocol,
        kind=column.kind,
        train=column.train,
        split=column.split,
        metric=column.metric,
        inferred=column.id in row.inferred,
        recipe=column.recipe,
        changes=changes,
        scoring=column.scoring,
    )
    if given:
        return cell
    # Without a schedule it is as many steps as the recipe has.
    schedule = schedule_of(cell.published_recipe().iterations)
    return replace(cell, schedule=schedule, changes={**changes, "iterations": iterations(schedule)})
