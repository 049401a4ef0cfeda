"""From the tables asked for to jobs: cells -> experiments -> identities, and what is already there for each."""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setr.data.loading.own_transform import transform_with_hash
from setr.data.locations import below, manifest_at
from setr.errors import InputError
from setr.experiments.job import Job, settings_of
from setr.models.variants import VARIANTS, structure_parts, structure_record, variant_spec
from setr.planning.hardware import has_bfloat16
from setr.planning.inputs import loaded_hash, manifest_hash, weight_files, weights_hash
from setr.record.earlier import Finished, difference_to_nearest, finished_experiments, words
from setr.record.lease import Lease
from setr.record.ledger import damage, state_of
from setr.record.lineage import origin
from setr.settings.choices import require_choice
from setr.settings.config import Config, build, to_dict
from setr.settings.home import resolve, resolve_location
from setr.study.cells import Cell, Training, by_training, cells, select_cells
from setr.study.choices import DATASETS
from setr.study.code import differing_modules, training_code
from setr.study.experiment import Experiment
from setr.study.miniature import DATASET, miniature_protocol, miniature_recipe, unpublished_recipe
from setr.study.protocols import Protocol, overlapping
from setr.study.recipes import Recipe


@dataclass(frozen=True)
class Planned:
    """One experiment of a sweep with the cells it fills and what is there already."""

    experiment: Experiment
    cells: tuple[str, ...]
    protocols: tuple[Protocol, ...]
    folder: Path
    weights: tuple[Path, ...]  # files: transformer first, then the CNN
    state: str  # done | to score | changed | resumable | to do | failed (setr.record.ledger)
    step: int  # of the newest checkpoint
    validation: str = ""  # hash of the manifest of the images that it is scored on
    missing: tuple[str, ...] = ()  # data or weights that a lenient plan did without; the identity is then not final
    code: str = ""  # hash of the code here that the experiment would run through; that of its training is its own
    modules: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)  # of that code
    why: str = ""  # why it is not done, where a finished one is near or its own record is damaged
    earlier: "Planned | None" = None  # the finished one of the same spec that a replay may show to be the same

    @functools.cached_property
    def identity(self) -> str:
        """Returns the experiment's identity."""
        return self.experiment.identity

    @property
    def name(self) -> str:
        """Returns what people read: variant, schedule and seed."""
        experiment = self.experiment
        seed = f" seed {experiment.seed}" if experiment.seed else ""
        return f"{experiment.variant} {experiment.schedule}{seed}"

    def state_now(self) -> tuple[str, int]:
        """Returns state and step as they are now."""
        return state_of(self.folder, self.protocols, identity=self.identity, validation=self.validation)

    def job(
        self, config: Config, stop_file: Path, *, allow_drift: bool = False, driver: Lease | None = None
    ) -> dict[str, Any]:
        """Returns the job (setr.experiments.job.Job) as the dictionary that travels to a worker."""
        shards = resolve_location(config.data.shards)
        return Job(
            experiment=self.experiment,
            identity=self.identity,
            code=self.code,
            modules=self.modules,
            validation=self.validation,
            folder=self.folder,
            shards={split: below(shards, self.experiment.dataset, split) for split in ("train", "val")},
            local_copy=config.data.local_copy,
            weights=tuple(str(path) for path in self.weights),
            protocols=self.protocols,
            settings=settings_of(config.training),
            stop_file=stop_file,
            cells=self.cells,
            tags=origin(),
            allow_drift=allow_drift,
            driver=driver,
        ).as_dict()


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


def merge(planned: Iterable[Planned]) -> list[Planned]:
    """Returns one entry per identity with the cells and protocols of all that have it.

    Cells of two data sets share an experiment where the miniature trains both on the same scenes.
    """
    found: dict[str, Planned] = {}
    for entry in planned:
        earlier = found.setdefault(entry.identity, entry)
        if earlier is not entry:
            protocols = {protocol.name: protocol for protocol in (*entry.protocols, *earlier.protocols)}
            unfinished = next((one for one in (earlier, entry) if one.state != "done"), earlier)
            found[entry.identity] = dataclasses.replace(
                earlier,
                cells=(*earlier.cells, *entry.cells),
                protocols=tuple(protocols[name] for name in sorted(protocols, reverse=True)),
                state=unfinished.state,
            )
    return list(found.values())


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


def describe(
    config: Config,
    *,
    dataset: str,
    variant: str,
    schedule: str,
    seed: int,
    recipe: Recipe,
    cell_keys: tuple[str, ...],
    protocols: tuple[Protocol, ...],
    lenient: bool = False,
) -> Planned:
    """Returns the planned experiment with its identity, and how far it is in the storage path."""
    missing: list[str] = []
    manifest = validation = unread = ""
    weights: tuple[Path, ...] = ()
    shards = below(resolve_location(config.data.shards), dataset)
    try:
        manifest, validation = manifest_hash(below(shards, "train")), manifest_hash(below(shards, "val"))
    except InputError:
        if not lenient:
            raise
        manifest = f"missing {dataset}"  # so that trainings on two such data sets are not taken for one
        missing.append(f"data set {dataset}")
    try:
        weights = weight_files(variant, config.sweep.scale, resolve(config.weights.folder))
    except InputError:
        if not lenient:
            raise
        unread = f"missing {variant}"
        missing.append(f"weights of {variant}")
    spec = variant_spec(
        variant,
        num_classes=protocols[0].num_classes,
        crop_size=recipe.crop_size,
        scale=config.sweep.scale,
        flavour=recipe.flavour,
        drop_path=recipe.drop_path,
    )
    structure = structure_record(spec)
    code = training_code(structure_parts(structure))
    storage = resolve(config.storage.checkpoints)
    tensors = ""
    try:
        tensors = loaded_hash(weights, structure, storage)
    except InputError:
        if not lenient:
            raise
        unread = f"damaged {variant}"
        missing.append(f"weights of {variant}, which cannot be read")
    experiment = Experiment(
        dataset=dataset,
        variant=variant,
        schedule=schedule,
        scale=config.sweep.scale,
        seed=seed,
        recipe=recipe,
        manifest=manifest,
        weights="+".join(weights_hash(path) for path in weights),
        code=code.sha256,
        transform=transform_with_hash(config.data.transform),
        tensors=unread or tensors,
        model=structure,
        modules=code.modules,
    )
    planned = Planned(
        experiment,
        cell_keys,
        protocols,
        storage / experiment.identity,
        weights,
        "to do",
        0,
        validation,
        tuple(missing),
        code.sha256,
        code.modules,
    )
    if missing:
        return planned
    state, step = planned.state_now()
    why = "" if state in ("done", "to score") else damage(planned.folder, identity=planned.identity)
    return dataclasses.replace(planned, state=state, step=step, why=why)


def reuse(planned: Sequence[Planned], storage: Path) -> list[Planned]:
    """Returns the experiments with what finished ones of the same spec, trained by other code, mean for them.

    One that was shown to be the same takes the place of what would be trained; where that is still to be shown, the
    state is `changed`; and what is to do says what it differs in from the nearest that is finished.
    """
    open_ones = {entry.identity for entry in planned if entry.state in ("to do", "failed") and not entry.missing}
    if not open_ones:
        return list(planned)
    finished = finished_experiments(storage)
    by_spec: dict[str, list[Finished]] = {}
    for one in finished:
        by_spec.setdefault(one.spec, []).append(one)
    return [
        _reused(entry, by_spec.get(entry.experiment.spec, []), finished) if entry.identity in open_ones else entry
        for entry in planned
    ]


def _reused(entry: Planned, same: Sequence[Finished], finished: Sequence[Finished]) -> Planned:
    """Returns the entry with what finished experiments mean for it; those in `same` have its spec."""
    why = ""
    for one in (one for one in same if one.identity != entry.identity):
        there = dataclasses.replace(entry, experiment=one.experiment, folder=one.folder)
        state, step = there.state_now()
        if state not in ("done", "to score"):
            continue
        there = dataclasses.replace(there, state=state, step=step)
        if one.proof(entry.code) is not None:
            return there
        changed = f"code: {words(differing_modules(one.experiment.modules, entry.modules)) or one.experiment.code[:12]}"
        found = one.difference(entry.code)
        if one.trace and not found:
            return dataclasses.replace(entry, state="changed", why=f"{changed}; a replay would show", earlier=there)
        why = why or f"{changed}; {found or 'trained without a trace'}"
    return dataclasses.replace(entry, why=entry.why or why or difference_to_nearest(entry.experiment, finished))


def workers_of(config: Config, entry: Planned) -> int:
    """Returns how many processes share the experiment's global batch."""
    small = config.sweep.scale == "miniature" and config.training.workers == 1
    if small and set(entry.cells) & set(config.sweep.two_worker_cells):
        return 2
    return config.training.workers
