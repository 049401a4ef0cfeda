"""From the tables asked for to jobs: cells -> experiments -> identities, and what is already there for each."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from setr.data.locations import below, manifest_at
from setr.errors import InputError
from setr.models.variants import VARIANTS
from setr.planning.describe import describe
from setr.planning.hardware import has_bfloat16
from setr.planning.planned import Planned, merge
from setr.planning.reuse import reuse
from setr.record.ledger import state_of
from setr.settings.choices import require_choice
from setr.settings.config import Config, build, to_dict
from setr.settings.home import resolve, resolve_location
from setr.study.cells import Cell, Training, by_training, cells, select_cells
from setr.study.choices import DATASETS
from setr.study.miniature import DATASET, miniature_protocol, miniature_recipe, unpublished_recipe
from setr.study.protocols import Protocol, overlapping
from setr.study.recipes import Recipe


def plan_sweep(config: Config, *, lenient: bool = False) -> list[Planned]:
    """Returns the experiments of the cells that the `sweep` section asks for, in the order of the tables.

    A `lenient` plan does without data and weights that are not there yet, and takes a checkpoint for sound whose files
    have their recorded sizes, instead of reading them. Raises InputError for an unknown table, cell, variant or data
    set, IntegrityError for damaged shards.
    """
    chosen = select_cells(config.sweep.cells) if config.sweep.cells else cells(config.sweep.tables)
    unknown = [name for name in config.sweep.variants if name not in VARIANTS]
    if unknown:
        raise InputError(
            "E_CONFIG", "unknown variant", where="sweep.variants", found=unknown[0], expected=", ".join(VARIANTS)
        )
    for name in config.sweep.datasets:
        require_choice("data set", name, DATASETS)
    groups: dict[Training, list[Cell]] = by_training(chosen)
    if config.sweep.variants:
        groups = {key: group for key, group in groups.items() if key.variant in config.sweep.variants}
    if config.sweep.datasets:
        groups = {key: group for key, group in groups.items() if key.dataset in config.sweep.datasets}
    seeds = range(config.sweep.seeds)
    planned = [_planned(config, group, seed, lenient=lenient) for group in groups.values() for seed in seeds]
    if not planned:
        raise InputError(
            "E_CONFIG", "no cell is left to train", remedy="widen sweep.tables, cells, variants or datasets"
        )
    return reuse(merge(planned), resolve(config.storage.checkpoints))


def plan_earlier(config: Config, planned: Sequence[Planned]) -> list[Planned]:
    """Returns the scored experiments that are not in `planned`, of all tables under the present settings.

    They come without cells: which they were asked for, their records say.
    Seeds are looked for from 0 on, as far as `planned` goes and then until one has nothing in the storage path.
    """
    groups = list(by_training(cells()).values())
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
        variant=cell.variant,
        schedule=cell.schedule,
        seed=seed,
        recipe=recipe,
        cell_keys=tuple(entry.key for entry in group),
        protocols=tuple(protocols[kind] for kind in sorted(protocols, reverse=True)),  # single scale first
        lenient=lenient,
    )


def _terms(config: Config, cell: Cell) -> tuple[str, Recipe, Protocol]:
    """Returns data set, recipe and protocol of a cell at the scale that the settings ask for."""
    recipe, protocol = cell.published_recipe(config.sweep.flavour), cell.published_protocol()
    if config.sweep.scale != "miniature":
        return cell.dataset, own_recipe(recipe, config), protocol
    recipe = miniature_recipe(recipe, cell.schedule, config.miniature)
    return DATASET, own_recipe(recipe, config), miniature_protocol(protocol, config.miniature)


def _with_siblings(config: Config, planned: Planned) -> Planned:
    """Returns the experiment with all cells of the paper that it fills: same training, and a protocol it is scored by.

    The model may stand in several tables, and in miniature the same scenes stand for every data set.
    """
    experiment, keys = planned.experiment, list(planned.cells)
    for cell in cells():
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
    if training.variant not in VARIANTS:
        raise InputError("E_CONFIG", "unknown variant", found=training.variant, expected=", ".join(VARIANTS))
    miniature = config.miniature if config.sweep.scale == "miniature" else None
    recipe = own_recipe(unpublished_recipe(miniature), config)
    quarter = max(1, recipe.iterations // 4)
    unset: dict[str, Any] = {
        name: quarter for name in ("evaluate_every", "checkpoint_every") if name not in training.recipe
    }
    recipe = dataclasses.replace(recipe, **unset)
    manifest, _ = manifest_at(below(resolve_location(data.shards), data.name, "train"))
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
        variant=training.variant,
        schedule=training.schedule or f"{recipe.iterations} steps",
        seed=training.seed,
        recipe=recipe,
        cell_keys=(),
        protocols=(protocol,),
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
