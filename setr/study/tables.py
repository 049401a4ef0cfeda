"""The seven tables as the paper prints them, and what others measured for the same cells: tables.yaml as records."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from setr.errors import InputError

TABLES_FILE = Path(__file__).with_name("tables.yaml")


@dataclass(frozen=True)
class Column:
    """One column of scores; without a protocol it holds competitors' numbers as the paper quotes them."""

    id: str
    title: str
    dataset: str = ""
    schedule: str = ""
    protocol: str = ""  # ss | ms
    split: str = "val"
    metric: str = "mIoU"  # mIoU | pixel_accuracy


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


@dataclass(frozen=True)
class Table:
    """One table of the paper."""

    number: int
    title: str
    texts: tuple[str, ...]  # titles of the text columns
    facts: Mapping[str, str]  # id -> title of columns that hold facts of the model, not scores
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


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
class Paper:
    """All of tables.yaml."""

    tables: tuple[Table, ...]
    reproductions: tuple[Reproduction, ...]
    parameter_counts: tuple[ParameterCount, ...]

    def table(self, number: int) -> Table:
        """Returns one table; raises InputError for a number that the paper has not."""
        for table in self.tables:
            if table.number == number:
                return table
        known = ", ".join(str(table.number) for table in self.tables)
        raise InputError("E_TABLE", "the paper has no such table", found=number, expected=f"one of {known}")


@functools.cache
def load_tables() -> Paper:
    """Returns the paper's tables, others' measurements and the parameter counts."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    values = yaml.load(TABLES_FILE.read_text(encoding="utf-8"), Loader=loader)
    return Paper(
        tables=tuple(_table(record) for record in values["tables"]),
        reproductions=tuple(
            _reproduction(group, dict(zip(group["columns"], row, strict=True)))
            for group in values["reproductions"]
            for row in group["rows"]
        ),
        parameter_counts=tuple(
            ParameterCount(tuple(record["variants"]), record["count"], record["paper"])
            for record in values["parameter_counts"]
        ),
    )


def _table(record: dict[str, Any]) -> Table:
    return Table(
        number=record["table"],
        title=record["title"],
        texts=tuple(record["texts"]),
        facts=record.get("facts", {}),
        columns=tuple(Column(**column) for column in record["columns"]),
        rows=tuple(_row(row) for row in record["rows"]),
        notes=tuple(record["notes"]),
    )


def _row(record: dict[str, Any]) -> Row:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
    return Row(**values)


def _reproduction(group: dict[str, Any], row: dict[str, Any]) -> Reproduction:
    return Reproduction(
        by=group["by"],
        source=group["source"],
        independent=group.get("independent", True),
        dataset=row["dataset"],
        variant=row["variant"],
        crop="" if row["crop"] is None else str(row["crop"]),
        batch=row["batch"],
        schedule=row["schedule"] or "",
        ss=row["ss"],
        ms=row["ms"],
    )
