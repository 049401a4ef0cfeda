"""From the tables asked for to jobs: cells -> experiments -> identities, and what is already there for each."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from setr.data.locations import below, manifest_at
from setr.data.reading.datasets import DATASETS as READERS
from setr.errors import InputError, SetrError
from setr.models.encoder_facts import encoder_facts
from setr.models.variants import encoder_of
from setr.planning.checks import check_own_models
from setr.planning.describe import describe
from setr.planning.hardware import has_bfloat16
from setr.planning.planned import Planned, merge
from setr.planning.reuse import reuse
from setr.record.ledger import state_of
from setr.settings.choices import require_choice
from setr.settings.config import Config, build, to_dict
from setr.settings.home import resolve, resolve_location
from setr.study.cells import Cell, Training, by_training, cells, select_cells
from setr.study.miniature import miniature_protocol, miniature_recipe, stand_in, unpublished_recipe
from setr.study.protocols import Protocol, overlapping
from setr.study.published import DATASETS
from setr.study.recipes import Recipe
from setr.study.records import Study
from setr.study.shelf import open_study


def plan_sweep(config: Config, *, lenient: bool = False) -> list[Planned]:
    """Returns the experiments of the cells that the `sweep` section asks for, in the order of the study's tables.

    A `lenient` plan does without data and weights that are not there yet, and takes a checkpoint for sound whose files
    have their recorded sizes, instead of reading them. Raises InputError for an unknown study, table, cell, variant or
    data set, IntegrityError for damaged shards.
    """
    study = open_study(config.study)
    for name in config.sweep.variants:
        if name not in study.models:
            raise InputError(
                "E_CONFIG", "unknown variant", where="sweep.variants", found=name, expected=", ".join(study.models)
            )
    chosen = _chosen(config, study)
    known = dict.fromkeys((*DATASETS, *(cell.dataset for cell in cells(study=study) if cell.dataset)))
    for name in config.sweep.datasets:
        require_choice("data set", name, known)
    groups: dict[Training, list[Cell]] = by_training(chosen)
    if config.sweep.variants:
        groups = {key: group for key, group in groups.items() if key.variant in config.sweep.variants}
    if config.sweep.datasets:
        groups = {key: group for key, group in groups.items() if key.dataset in config.sweep.datasets}
    planned = [
        _planned(config, group, seed, lenient=lenient)
        for group in groups.values()
        for seed in range(seeds_of(config, group))
    ]
    if not planned:
        raise InputError(
            "E_CONFIG", "no cell is left to train", remedy="widen sweep.tables, cells, variants or datasets"
        )
    return reuse(merge(planned), resolve(config.storage.checkpoints))


def plan_models(config: Config, study: Study) -> tuple[list[Planned], list[SetrError]]:
    """Returns one experiment for each training of a study, and why others cannot be, each with its model's line."""
    found: list[Planned] = []
    mistakes: list[SetrError] = []
    for group in by_training(cells(study=study)).values():
        model = group[0].model
        try:
            entry = _planned(config, group, 0, lenient=True)
            check_own_models([entry])
            if model.timm and config.sweep.scale == "miniature" and model.encoder_options:
                encoder_facts(encoder_of(model, miniature=False))  # its options at paper scale
        except SetrError as error:
            where = f"{study.file}:{model.line} models.{model.name}"
            mistakes.append(InputError("E_STUDY", "a model that cannot be trained", where=where, found=str(error)))
        else:
            found.append(entry)
    return found, list({str(error): error for error in mistakes}.values())


def seeds_of(config: Config, group: Sequence[Cell]) -> int:
    """Returns how often the training of some cells is made: as sweep.seeds says, else as their tables or study do."""
    return config.sweep.seeds or max(cell.study.table(cell.table).seeds or cell.study.seeds for cell in group)


def _chosen(config: Config, study: Study) -> list[Cell]:
    if not config.sweep.cells:
        return cells(config.sweep.tables or study.begin_with, study)
    own = {cell.key for cell in cells(study=study)}
    return select_cells(study.prefix + key if study.prefix + key in own else key for key in config.sweep.cells)


def plan_earlier(config: Config, planned: Sequence[Planned], studies: Sequence[Study]) -> list[Planned]:
    """Returns the scored experiments that are not in `planned`, of all tables of `studies` under the present settings.

    They come without cells: which they were asked for, their records say.
    Seeds are looked for from 0 on, as far as `planned` goes and then until one has nothing in the storage path.
    """
    # Study by study: two may call different models by one name.
    groups = [group for study in studies for group in by_training(cells(study=study)).values()]
    last = max((entry.experiment.seed for entry in planned), default=0)
    known = {entry.identity for entry in planned}
    found: dict[str, Planned] = {}
    for seed in itertools.count():
        entries = [_planned(config, group, seed, lenient=True) for group in groups]
        entries = reuse(entries, resolve(config.storage.checkpoints))
        if seed > last and not any(entry.folder.is_dir() for entry in entries):
            break
        found |= {entry.identity: dataclasses.replace(entry, cells=()) for entry in entries}
    return [
        entry
        for identity, entry in found.items()
        if identity not in known and not entry.missing and state_of(entry.folder)[0] == "done"
    ]


def plan_training(config: Config) -> Planned:
    """Returns the one experiment that the `training` section asks for: a cell, or a variant on `data.name`.

    Raises InputError for a cell whose number is a competitor's, quoted by the paper.
    """
    if config.training.cell:
        groups = by_training(select_cells([config.training.cell]))
        if not groups:
            raise InputError("E_CELL", "nothing is trained for this cell", found=config.training.cell)
        planned = _with_siblings(config, _planned(config, next(iter(groups.values())), config.training.seed))
    else:
        planned = _own_experiment(config)
    if not config.training.folder:
        return reuse([planned], resolve(config.storage.checkpoints))[0]
    moved = dataclasses.replace(planned, folder=resolve(config.training.folder))
    state, step = moved.state_now()
    return dataclasses.replace(moved, state=state, step=step)


def _planned(config: Config, group: list[Cell], seed: int, *, lenient: bool = False) -> Planned:
    cell = group[0]
    dataset, recipe, _ = _terms(config, cell)
    protocols = {entry.protocol: _terms(config, entry)[2] for entry in group}
    return describe(
        config,
        dataset=dataset,
        variant=cell.model,
        schedule=cell.schedule,
        seed=seed,
        recipe=recipe,
        cell_keys=tuple(entry.key for entry in group),
        protocols=tuple(protocols[kind] for kind in sorted(protocols, reverse=True)),  # single scale first
        train=cell.train if dataset == cell.dataset else "train",
        lenient=lenient,
    )


def _terms(config: Config, cell: Cell) -> tuple[str, Recipe, Protocol]:
    """Returns data set, recipe and protocol of a cell at the scale that the settings ask for."""
    study, flavour = cell.study, config.sweep.flavour
    recipe = cell.published_recipe(flavour if not study.flavours or flavour in study.flavours else study.flavours[0])
    if config.sweep.scale != "miniature":
        return (
            cell.dataset,
            own_recipe(recipe, config),
            cell.published_protocol(classes_of(config, cell.dataset, cell.train)),
        )
    dataset = stand_in(study, cell.dataset)
    recipe = own_recipe(miniature_recipe(recipe, cell.schedule, config.miniature, study), config)
    crop = recipe.crop_size if "crop_size" in study.miniature.recipe else None
    classes = classes_of(config, dataset, cell.train if dataset == cell.dataset else "train")
    protocol = miniature_protocol(cell.published_protocol(classes), config.miniature, crop_size=crop, classes=classes)
    return dataset, recipe, protocol


def classes_of(config: Config, dataset: str, split: str) -> int:
    """Returns how many classes a data set has: a published one's, else those of its shards; 2 where there are none."""
    if dataset in READERS:
        return READERS[dataset].num_classes
    try:
        manifest, _ = manifest_at(below(resolve_location(config.data.shards), dataset, split))
    except InputError:  # the plan says that the data set is missing
        return 2
    return len(manifest.classes)


def _with_siblings(config: Config, planned: Planned) -> Planned:
    """Returns the experiment with all cells of the paper that it fills: same training, and a protocol it is scored by.

    The model may stand in several tables, and in miniature the same scenes stand for every data set.
    """
    experiment, keys = planned.experiment, list(planned.cells)
    for cell in cells(study=open_study(config.study)):
        if cell.variant != experiment.variant or not cell.runnable or cell.key in keys:
            continue
        try:
            dataset, recipe, protocol = _terms(config, cell)
        except InputError:  # the flavour has no recipe for that data set
            continue
        if (dataset, recipe) == (experiment.dataset, experiment.recipe) and protocol in planned.protocols:
            keys.append(cell.key)
    return dataclasses.replace(planned, cells=tuple(keys))


def _own_experiment(config: Config) -> Planned:
    training, data = config.training, config.data
    model = open_study(config.study).model(training.variant)
    miniature = config.miniature if config.sweep.scale == "miniature" else None
    recipe = own_recipe(unpublished_recipe(miniature), config)
    quarter = max(1, recipe.iterations // 4)
    unset: dict[str, Any] = {
        name: quarter for name in ("evaluate_every", "checkpoint_every") if name not in training.recipe
    }
    recipe = dataclasses.replace(recipe, **unset)
    train = next((split for split in data.splits if split.startswith("train")), "train")
    manifest, _ = manifest_at(below(resolve_location(data.shards), data.name, train))
    protocol = Protocol(
        name="ss",
        resize=recipe.base_size,
        mode="slide",
        window=recipe.crop_size,
        stride=overlapping(recipe.crop_size),
        num_classes=len(manifest.classes),
    )
    return describe(
        config,
        dataset=data.name,
        variant=model,
        schedule=training.schedule or f"{recipe.iterations} steps",
        seed=training.seed,
        recipe=recipe,
        cell_keys=(),
        protocols=(protocol,),
        train=train,
    )


def own_recipe(recipe: Recipe, config: Config) -> Recipe:
    """Returns the recipe with `training.precision` and the user's `training.recipe` fields, checked as settings are.

    The precision enters the identity as what it is: `auto` is decided here, by what this process sees.
    """
    precision: str = config.training.precision
    if precision == "auto":
        precision = "bfloat16" if has_bfloat16() else "float32"
    values = {
        **to_dict(recipe),
        "precision": precision,
        **config.training.recipe,
    }
    checked = build(Recipe, values, "training.recipe")
    assert isinstance(checked, Recipe)
    return checked
