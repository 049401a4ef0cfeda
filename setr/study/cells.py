"""Cells: the numbers of the paper's tables, each with the training and the protocol that it stands for."""

import difflib
import functools
from collections.abc import Iterable
from dataclasses import dataclass

from setr.errors import InputError
from setr.models.variants import decoder_of_variant
from setr.study.protocols import Protocol, protocol
from setr.study.recipes import Recipe, recipe
from setr.study.tables import Column, Row, Table, load_tables

TABLES = (1, 2, 3, 4, 5, 6, 7)


@dataclass(frozen=True)
class Training:
    """What cells with one checkpoint share: the single- and the multi-scale score, and the same model in two tables."""

    dataset: str
    variant: str
    schedule: str


@dataclass(frozen=True)
class Cell:
    """One number of a paper table: an experiment and a protocol, or a competitor's number (`quoted`)."""

    table: int
    row: str
    column: str
    paper: float | None  # percent, as printed; None: the paper prints no value
    label: str  # the method, as printed
    variant: str = ""
    dataset: str = ""
    schedule: str = ""
    protocol: str = ""  # ss | ms
    split: str = "val"  # val | test (scored by a server)
    metric: str = "mIoU"  # mIoU | pixel_accuracy
    quoted: bool = False
    unconfirmed: bool = False  # the printed value rests on one text conversion of the paper
    inferred: bool = False  # the paper does not state the schedule or the protocol

    @property
    def key(self) -> str:
        """Returns the cell's name: table2/setr-pup/80k."""
        return f"table{self.table}/{self.row}/{self.column}"

    @property
    def runnable(self) -> bool:
        """Returns whether the tables ask for it: the paper prints it, or promises it, and it can be trained."""
        return not self.quoted and (self.paper is not None or self.metric != "mIoU")

    @property
    def training(self) -> Training:
        """Returns what has to be trained for the cell."""
        return Training(self.dataset, self.variant, self.schedule)

    def published_recipe(self, flavour: str = "authors") -> Recipe:
        """Returns the recipe that the paper's number was trained with, as the flavour states it."""
        return recipe(self.dataset, decoder_of_variant(self.variant), self.schedule, flavour=flavour)

    def published_protocol(self) -> Protocol:
        """Returns the protocol that the paper's number was scored with, as far as is known."""
        return protocol(self.dataset, decoder_of_variant(self.variant), self.protocol)


def cells(tables: Iterable[int] = TABLES) -> list[Cell]:
    """Returns the cells of the tables asked for, in the order of the paper; Table 1 holds no scores and has none.

    Raises InputError for a table that the paper has not.
    """
    paper = load_tables()
    return [cell for number in dict.fromkeys(tables) for cell in _cells_of(paper.table(number))]


def find_cell(key: str) -> Cell:
    """Returns the cell of a name such as table2/setr-pup/80k; raises InputError that names the nearest ones."""
    known = _by_key()
    if key not in known:
        near = difflib.get_close_matches(key, known, n=3)
        raise InputError(
            "E_CELL",
            "no such cell",
            found=key,
            expected="table<n>/<row>/<column>",
            remedy=f"did you mean {' or '.join(near)}?" if near else "table2/setr-pup/80k is one",
        )
    return known[key]


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


@functools.cache
def _by_key() -> dict[str, Cell]:
    return {cell.key: cell for cell in cells()}


def _cells_of(table: Table) -> list[Cell]:
    return [cell for row in table.rows for column in table.columns if (cell := _cell(table, row, column))]


def _cell(table: Table, row: Row, column: Column) -> Cell | None:
    """Returns the cell of a row and a column, None where the paper's layout has none."""
    promised = bool(row.variant) and column.metric == "pixel_accuracy"
    if column.id not in row.values and not promised:
        return None
    common = {
        "table": table.number,
        "row": row.id,
        "column": column.id,
        "paper": row.values.get(column.id),
        "label": row.texts[0],
        "unconfirmed": column.id in row.unconfirmed,
    }
    if not row.variant or not column.protocol:
        return Cell(**common, quoted=True)  # type: ignore[arg-type]
    return Cell(
        **common,  # type: ignore[arg-type]
        variant=row.variant,
        dataset=column.dataset,
        schedule=row.schedules.get(column.id, column.schedule),
        protocol=column.protocol,
        split=column.split,
        metric=column.metric,
        inferred=column.id in row.inferred,
    )
