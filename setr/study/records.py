"""What a study is, as records: tables of cells, and what others measured for the same cells."""

import difflib
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from setr.errors import InputError
from setr.models.variants import Variant, composed
from setr.study.rules import Rules


@dataclass(frozen=True)
class Column:
    """One column of scores; without a protocol it holds competitors' numbers as the paper quotes them."""

    id: str
    title: str
    dataset: str = ""
    schedule: str = ""  # as the tables write it; "": as many steps as the recipe has
    protocol: str = ""  # what its scores are called: ss | ms, another of the study's protocols, or one of its own
    kind: str = ""  # of the study's protocols, the one that its scores are made by, before `scoring`
    train: str = "train"  # the split, or two joined (train+val), that it trains on
    split: str = "val"
    metric: str = "mIoU"  # mIoU | pixel_accuracy
    recipe: str = ""  # of the study's recipes, by name; "": the one that is the study's
    changes: Mapping[str, Any] = field(default_factory=dict)  # fields of the recipe that are this column's own
    scoring: Mapping[str, Any] = field(default_factory=dict)  # fields of the protocol that are this column's own


@dataclass(frozen=True)
class Row:
    """One row: its printed texts and values by column; without a variant it is quoted, not trained."""

    id: str
    texts: tuple[str, ...]
    variant: str = ""
    values: Mapping[str, float | None] = field(default_factory=dict)  # column id -> percent; None: not printed
    facts: Mapping[str, float | None] = field(default_factory=dict)  # fact id -> printed number
    schedules: Mapping[str, str] = field(default_factory=dict)  # column id -> schedule, where not the column's
    unconfirmed: tuple[str, ...] = ()  # columns and facts that rest on one text conversion of the paper
    inferred: tuple[str, ...] = ()  # columns whose schedule or protocol the paper does not state
    not_found: tuple[str, ...] = ()  # columns that the paper prints and nobody here has read
    changes: Mapping[str, Any] = field(default_factory=dict)  # fields of the recipe that are this row's own

    @property
    def is_printed(self) -> bool:
        """Returns whether a paper prints it: then what it leaves out is not asked for."""
        return bool(self.values or self.not_found)


@dataclass(frozen=True)
class Table:
    """One table."""

    id: str  # table2, decoders
    title: str
    texts: tuple[str, ...]  # titles of the text columns
    facts: Mapping[str, str]  # id -> title of columns that hold facts of the model, not scores
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    seeds: int = 0  # trainings of each cell; 0: as the study says

    @property
    def number(self) -> int | str:
        """Returns what the table is called by: 2 for table2, else its id."""
        match = re.fullmatch(r"table(\d+)", self.id)
        return int(match[1]) if match else self.id


@dataclass(frozen=True)
class Reproduction:
    """What somebody measured for one model: percent mIoU, single scale and multi-scale."""

    by: str
    source: str
    independent: bool  # False: the authors' own number, or the one that the paper copied
    dataset: str
    variant: str
    crop: str  # pixels: "768" or "512x1024"; "": not stated
    batch: int | None
    schedule: str  # "": not stated
    ss: float | None
    ms: float | None


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of whole models: 150 classes, crop 512, auxiliary heads included."""

    variants: tuple[str, ...]
    count: int | None  # re-derived from the layer shapes; None: not reproduced
    paper: float  # millions, as printed


@dataclass(frozen=True)
class Miniature:
    """What a study's miniature stands for and takes."""

    data: Mapping[str, str] = field(default_factory=dict)  # data set -> the one that stands for it; "": every other
    recipe: Mapping[str, Any] = field(default_factory=dict)  # fields that are this study's own at that scale

    def stands_for(self, dataset: str) -> str:
        """Returns the data set that a miniature trains on in the place of one."""
        return self.data.get(dataset) or self.data.get("") or dataset


@dataclass(frozen=True)
class Study:
    """A file of tables: what is asked for, and everything that decides it."""

    name: str  # its file's, without .yaml
    title: str
    tables: tuple[Table, ...]
    models: Mapping[str, Variant]
    recipes: Mapping[str, Rules] = field(default_factory=dict)
    protocols: Mapping[str, Rules] = field(default_factory=dict)
    flavours: tuple[str, ...] = ()  # where sources differ, the default first; (): no difference is known
    miniature: Miniature = field(default_factory=Miniature)
    begin_with: tuple[str, ...] = ()  # tables that are trained where none are named; (): all
    seeds: int = 1
    reproductions: tuple[Reproduction, ...] = ()
    parameter_counts: tuple[ParameterCount, ...] = ()
    short: str = ""  # what it is called in a sentence
    notes: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    file: Path | None = None

    @property
    def prefix(self) -> str:
        """Returns what the keys of its cells begin with: nothing for SETR's."""
        return "" if self.name == SETR_NAME else f"{self.name}/"

    @functools.cached_property
    def prints(self) -> bool:
        """Returns whether a paper's values stand in its tables."""
        return any(row.is_printed for table in self.tables for row in table.rows)

    def table(self, number: int | str) -> Table:
        """Returns one table by number or id; raises InputError for one that the study has not."""
        for table in self.tables:
            if str(number) in (table.id, str(table.number)):
                return table
        known = ", ".join(str(table.number) for table in self.tables)
        paper = "the paper" if self.name == SETR_NAME else f"study {self.name}"
        raise InputError("E_TABLE", f"{paper} has no such table", found=number, expected=f"one of {known}")

    def model(self, name: str) -> Variant:
        """Returns a model by name, or by its parts (mla-t-large-1K); raises InputError with the nearest name."""
        found = self.models.get(name) or composed(name)
        if found is None:
            near = difflib.get_close_matches(name, self.models, n=1)
            raise InputError(
                "E_CONFIG",
                "unknown variant",
                found=name,
                expected=", ".join(self.models),
                remedy=f"did you mean {near[0]}?" if near else "",
            )
        return found


SETR_NAME = "setr"
