"""From a study's file to its records: checked whole, every mistake a line with file, line number and nearest word."""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from setr.errors import InputErrors, SetrError
from setr.models.variants import Variant
from setr.settings.written import parse_file
from setr.study.experiment import sha256_of
from setr.study.model_parts import grid_rows, model_of
from setr.study.part import StudyPart
from setr.study.records import Column, Miniature, ParameterCount, Reproduction, Row, Study, Table
from setr.study.rule_parts import Included, recipe_changes, rules_of, scoring_changes
from setr.study.rules import Rules

_TOP = (
    *("title", "short", "notes", "include", "begin_with", "flavours", "miniature", "models", "recipe", "recipes"),
    *("protocols", "tables", "seeds", "claims", "reproductions", "parameter_counts", "many"),
)
_TABLE = ("title", "texts", "facts", "notes", "columns", "rows", "grid", "seeds")
_COLUMN = ("title", "data", "train", "schedule", "protocol", "split", "metric", "recipe", "quoted")
_ROW = ("id", "model", "texts", "values", "facts", "schedules", "unconfirmed", "inferred", "not_found", "recipe")
_NAME = re.compile(r"\w[\w.+-]*")
_METRICS = ("mIoU", "pixel_accuracy")
MOST_CELLS = 5_000  # of a study that does not say `many: true`

Find = Callable[[str, Path], Study]  # another study by the word for it, and the folder that paths are relative to


def read_study(path: Path, find: Find, *, project: Path, with_code: bool = True) -> Study:
    """Returns the study in a file; places in errors are below `project`, `find` opens other studies.

    Without `with_code` the files of decoders of one's own are not looked for: enough to tell of results.

    Raises InputErrors with a line for each mistake, InputError for a file that cannot be read.
    """
    mistakes: list[SetrError] = []
    shown = path.relative_to(project) if path.is_relative_to(project) else path
    top = StudyPart(parse_file(path), "", shown, mistakes)
    study = _study(top, path, find, path.parent if with_code else None)
    if mistakes:
        raise InputErrors(mistakes)
    return study


def _study(top: StudyPart, path: Path, find: Find, folder: Path | None) -> Study:
    name = path.stem
    if not _NAME.fullmatch(name) or re.fullmatch(r"table\d+", name):
        top.mistake("a study cannot be called that", found=name, expected="letters, digits, - and _")
    parts = top.entries(_TOP)
    included = Included(name, parts.get("include"), path.parent, find)
    recipes = included.recipes | _rules_by_name(parts.get("recipes"), included, recipe_changes)
    included.recipes.update(recipes)
    protocols = included.protocols | _rules_by_name(parts.get("protocols"), included, scoring_changes)
    models = dict(included.models)
    for word, part in _entries(parts.get("models")).items():
        _check_name(part, "model", word)
        models.setdefault(word, Variant(word, "naive", "t-base", "R"))  # known, mistakes or not
        with part.telling():
            models[word] = model_of(word, part, folder)
    base: Rules = ()
    if "recipe" in parts:
        base = rules_of([parts["recipe"]], included, recipe_changes)
        recipes = {**recipes, "": base}
    own = tuple(_entries(parts.get("recipes")))
    tables = tuple(
        _with_recipes(_table(word, part, models, recipes, protocols, included, folder), included, own, base=bool(base))
        for word, part in _entries(parts.get("tables")).items()
    )
    if "tables" not in parts and not included.models:
        top.mistake("no tables", expected="tables: {<id>: {rows: ..., columns: ...}}")
    study = Study(
        name=name,
        title=_text(parts.get("title"), name),
        tables=tables,
        models=models,
        recipes=recipes,
        protocols=protocols,
        flavours=_texts(parts.get("flavours")),
        miniature=_miniature(parts.get("miniature")),
        begin_with=_texts(parts.get("begin_with")),
        seeds=parts["seeds"].whole(1, 1000) if "seeds" in parts else 1,
        reproductions=_reproductions(parts.get("reproductions"), models),
        parameter_counts=tuple(_count(part, models) for part in _each(parts.get("parameter_counts"))),
        short=_text(parts.get("short"), name),
        notes=_texts(parts.get("notes")),
        claims=_texts(parts.get("claims")),
        file=path,
    )
    for part in _each(parts.get("begin_with")):
        if part.text() not in {table.id for table in tables}:
            part.unknown("table", part.text(), [table.id for table in tables])
    _count_cells(study, top, many="many" in parts and parts["many"].flag())
    return study


def _rules_by_name(
    part: StudyPart | None, included: Included, changes: Callable[[Mapping[str, StudyPart]], dict[str, Any]]
) -> dict[str, Rules]:
    found: dict[str, Rules] = {}
    for name, rules in _entries(part).items():
        found[name] = rules_of(rules.each(), included, changes, found)
    return found


def _with_recipes(table: Table, included: Included, own: tuple[str, ...], *, base: bool) -> Table:
    """Returns the table with a recipe's name in every column that trains."""
    columns = (
        column
        if column.recipe or not column.protocol
        else dataclasses.replace(column, recipe=included.usual(column.dataset, own, base=base))
        for column in table.columns
    )
    return dataclasses.replace(table, columns=tuple(columns))


def _table(
    word: str,
    part: StudyPart,
    models: dict[str, Any],
    recipes: dict[str, Rules],
    protocols: Mapping[str, Rules],
    included: Included,
    folder: Path | None,
) -> Table:
    _check_name(part, "table", word)
    parts = part.entries(_TABLE)
    columns = tuple(
        _column(name, column, recipes, protocols, included) for name, column in _entries(parts.get("columns")).items()
    )
    if "columns" not in parts:
        part.mistake("a table without columns", expected="columns: {<id>: {data: ...}}")
    facts = parts["facts"].mapping(StudyPart.text) if "facts" in parts else {}
    texts = _texts(parts.get("texts")) or ("Model",)
    rows = [_row(entry, texts, facts, columns, models) for entry in _each(parts.get("rows"))]
    if "grid" in parts:
        for variant, changes in grid_rows(parts["grid"], folder):
            # A row of that name, in another table or among the models, may be another model.
            taken = models.get(variant.name, variant) != variant
            name = f"{word}-{variant.name}" if taken else variant.name
            models[name] = dataclasses.replace(variant, name=name)
            rows.append(Row(variant.name, (variant.name,), name, changes=changes))
    if columns and any(row.variant for row in rows) and not any(column.protocol for column in columns):
        part.mistake("rows that no column trains", expected="a column with data")
    if not rows:
        part.mistake("a table without rows", expected="rows: [<model>, ...], or grid: {decoder: [...], ...}")
    for name, count in Counter(row.id for row in rows).items():
        if count > 1:
            part.mistake("rows of one name", found=f"{count} called {name}", remedy="give each an id of its own")
    return Table(
        word,
        _text(parts.get("title"), word),
        texts,
        facts,
        columns,
        tuple(rows),
        _texts(parts.get("notes")),
        parts["seeds"].whole(1, 1000) if "seeds" in parts else 0,
    )


def _column(
    word: str, part: StudyPart, recipes: dict[str, Rules], protocols: Mapping[str, Rules], included: Included
) -> Column:
    _check_name(part, "column", word)
    parts = part.entries(_COLUMN)
    title = _text(parts.get("title"), word)
    if "quoted" in parts and parts["quoted"].flag():
        return Column(word, title)
    if "data" not in parts:
        part.mistake("a column without data", expected="data: <name of a prepared data set>, or quoted: true")
    recipe, changes = "", dict[str, Any]()
    if "recipe" in parts:
        recipe, changes = _named_recipe(parts["recipe"], recipes, included)
    protocol, scoring = "ss", dict[str, Any]()
    if "protocol" in parts and parts["protocol"].is_mapping:
        own = parts["protocol"].entries()
        scoring = scoring_changes({name: value for name, value in own.items() if name != "from"})
        protocol = own["from"].text() if "from" in own else "ss"
    elif "protocol" in parts:
        protocol = parts["protocol"].text()
    if protocol not in ("ss", "ms", *protocols):
        parts["protocol"].unknown("protocol", protocol, dict.fromkeys(("ss", "ms", *protocols)))
    metric = _text(parts.get("metric"), "mIoU")
    if metric not in _METRICS:
        parts["metric"].unknown("metric", metric, _METRICS)
    schedule = _text(parts.get("schedule"), "")
    if schedule and not re.fullmatch(r"[1-9]\d{0,9}k?", schedule):
        parts["schedule"].mistake("not a number of steps", found=schedule, expected="20k, or 20000")
    if schedule and "iterations" in changes:
        parts["recipe"].mistake("two numbers of steps", found=f"{schedule} and {changes['iterations']}")
    data, split = _text(parts.get("data"), ""), _text(parts.get("split"), "val")
    train = _text(parts.get("train"), "train")
    if not re.fullmatch(r"\w+(\+\w+)?", train):
        parts["train"].mistake("not a split", found=train, expected="train, or train+val")
    kind, protocol = protocol, _score_name(parts, protocol, scoring, protocols)
    return Column(word, title, data, schedule, protocol, kind, train, split, metric, recipe, changes, scoring)


def _score_name(
    parts: Mapping[str, StudyPart], kind: str, scoring: dict[str, Any], protocols: Mapping[str, Rules]
) -> str:
    """Returns what scores of a protocol are called: two protocols of one training must not share a name."""
    if not scoring:
        return kind
    name = str(scoring.setdefault("name", f"{kind}-{sha256_of(scoring)[:8]}"))
    if name in ("ss", "ms", *protocols) or not re.fullmatch(r"[\w.-]{1,80}", name):
        parts["protocol"].mistake("a protocol cannot be called that", found=name, expected="a name of its own")
    return name


def _named_recipe(part: StudyPart, recipes: dict[str, Rules], included: Included) -> tuple[str, dict[str, Any]]:
    """Returns the name of a recipe that a part begins from, "" for none, and the fields that it changes."""
    if not part.is_mapping:
        name = part.text()
        included.take(part, name, recipes)
        return name, {}
    parts = part.entries()
    name = parts["from"].text() if "from" in parts else ""
    if name:
        included.take(parts["from"], name, recipes)
    return name, recipe_changes({word: value for word, value in parts.items() if word != "from"})


def _row(
    part: StudyPart,
    texts: tuple[str, ...],
    facts: Mapping[str, str],
    columns: tuple[Column, ...],
    models: Mapping[str, Any],
) -> Row:
    if not part.is_mapping:
        name = part.text()
        if name not in models:
            part.unknown("model", name, models, remedy="add it to models")
        return Row(name, (name, *("",) * (len(texts) - 1)), name)
    parts = part.entries(_ROW)
    variant = _text(parts.get("model"), "")
    if variant and variant not in models:
        parts["model"].unknown("model", variant, models, remedy="add it to models")
    name = _text(parts.get("id"), variant)
    _check_name(part, "row", name)
    shown = _texts(parts.get("texts")) or (name, *("",) * (len(texts) - 1))
    if len(shown) != len(texts):
        part.mistake("another number of texts", found=len(shown), expected=f"{len(texts)}: {', '.join(texts)}")
    ids = [column.id for column in columns]
    row = Row(
        id=name,
        texts=shown,
        variant=variant,
        values=_by_id(parts.get("values"), ids, "column", StudyPart.number),
        facts=_by_id(parts.get("facts"), list(facts), "fact", StudyPart.number),
        schedules=_by_id(parts.get("schedules"), ids, "column", StudyPart.text),
        unconfirmed=_ids(parts.get("unconfirmed"), [*ids, *facts]),
        inferred=_ids(parts.get("inferred"), ids),
        not_found=_ids(parts.get("not_found"), ids),
        changes=recipe_changes(parts["recipe"].entries()) if "recipe" in parts else {},
    )
    if not (variant or row.values or row.facts or row.not_found):
        part.mistake("a row with neither a model nor values", found=name)
    return row


def _by_id(
    part: StudyPart | None, known: Iterable[str], what: str, convert: Callable[[StudyPart], Any]
) -> dict[str, Any]:
    found = {}
    for name, entry in _entries(part).items():
        if name not in known:
            entry.unknown(what, name, known)
        else:
            found[name] = convert(entry)
    return found


def _ids(part: StudyPart | None, known: list[str]) -> tuple[str, ...]:
    for entry in _each(part):
        if entry.text() not in known:
            entry.unknown("column", entry.text(), known)
    return _texts(part)


def _miniature(part: StudyPart | None) -> Miniature:
    if part is None:
        return Miniature()
    parts = part.entries(("data", "recipe"))
    data: dict[str, str] = {}
    if "data" in parts:
        data = parts["data"].mapping(StudyPart.text) if parts["data"].is_mapping else {"": parts["data"].text()}
    return Miniature(data, recipe_changes(parts["recipe"].entries()) if "recipe" in parts else {})


def _reproductions(part: StudyPart | None, models: Mapping[str, Any]) -> tuple[Reproduction, ...]:
    found = []
    for group in _each(part):
        parts = group.entries(("by", "source", "independent", "columns", "rows"))
        titles = _texts(parts.get("columns"))
        for row in _each(parts.get("rows")):
            values = row.each()
            if len(values) != len(titles):
                row.mistake("another number of values", found=len(values), expected=f"{len(titles)}")
                continue
            by = dict(zip(titles, values, strict=True))
            model = by["model"].text() if "model" in by else ""
            if model not in models:
                row.unknown("model", model, models)
            found.append(_reproduction(parts, by, model))
    return tuple(found)


def _reproduction(group: Mapping[str, StudyPart], row: Mapping[str, StudyPart], model: str) -> Reproduction:
    def word(name: str) -> str:
        return "" if name not in row or row[name].is_empty else row[name].text()

    return Reproduction(
        by=_text(group.get("by"), ""),
        source=_text(group.get("source"), ""),
        independent="independent" not in group or group["independent"].flag(),
        dataset=word("data"),
        variant=model,
        crop=word("crop"),
        batch=int(word("batch")) if word("batch").isdigit() else None,
        schedule=word("schedule"),
        ss=row["ss"].number() if "ss" in row else None,
        ms=row["ms"].number() if "ms" in row else None,
    )


def _count(part: StudyPart, models: Mapping[str, Any]) -> ParameterCount:
    parts = part.entries(("models", "count", "paper"))
    for entry in _each(parts.get("models")):
        if entry.text() not in models:
            entry.unknown("model", entry.text(), models)
    count, paper = (parts[name].number() if name in parts else None for name in ("count", "paper"))
    return ParameterCount(_texts(parts.get("models")), None if count is None else int(count), paper or 0.0)


def _count_cells(study: Study, top: StudyPart, *, many: bool) -> None:
    cells = sum(len(table.rows) * len(table.columns) * (table.seeds or study.seeds) for table in study.tables)
    if cells > MOST_CELLS and not many:
        top.mistake(
            "very many cells",
            found=f"{cells:,} trainings and scores",
            expected=f"at most {MOST_CELLS:,}",
            remedy="if that is meant, write `many: true`",
        )


def _check_name(part: StudyPart, what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        part.mistake(f"a {what} cannot be called that", found=name or "no name", expected="letters, digits, . + - _")


def _entries(part: StudyPart | None) -> dict[str, StudyPart]:
    return {} if part is None else part.entries()


def _each(part: StudyPart | None) -> list[StudyPart]:
    return [] if part is None else part.each()


def _text(part: StudyPart | None, default: str) -> str:
    return default if part is None or part.is_empty else part.text()


def _texts(part: StudyPart | None) -> tuple[str, ...]:
    return () if part is None else part.texts()
