"""From the tables asked for to jobs: cells -> experiments -> identities, and what is already there for each."""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.command import resolve, resolve_location
from pipelines.experiment import EVENTS, SCORES
from setr.config import Config, build
from setr.data.locations import below, manifest_at
from setr.data.own_transform import transform_with_hash
from setr.errors import InputError, SetrError
from setr.models.segmenter import VARIANTS
from setr.models.weights import file_sha256
from setr.paper.cells import Cell, Training, by_training, cells, select_cells
from setr.paper.experiment import Experiment, code_hash
from setr.paper.miniature import DATASET, miniature_protocol, miniature_recipe
from setr.paper.protocols import Protocol
from setr.paper.recipes import Recipe
from setr.training.checkpoint import latest_step, verify_checkpoint
from setr.training.events import read_events
from setr.training.pretraining import PROXIES

# What these modules and their imports compute decides a result; their hash is part of every identity.
DECIDING_MODULES = (
    "setr.data.loader",
    "setr.evaluation.evaluate",
    "setr.models.segmenter",
    "setr.models.weights",
    "setr.training.loop",
)


@dataclass(frozen=True)
class Planned:
    """One experiment of a sweep with the cells it fills and what is there already."""

    experiment: Experiment
    cells: tuple[str, ...]
    protocols: tuple[Protocol, ...]
    folder: Path
    weights: tuple[Path, ...]  # files: transformer first, then the CNN
    state: str  # done | resumable | to do | failed
    step: int  # of the newest checkpoint

    @property
    def identity(self) -> str:
        """Returns the experiment's identity."""
        return self.experiment.identity

    @property
    def name(self) -> str:
        """Returns what people read: variant, schedule and seed."""
        experiment = self.experiment
        seed = f" seed {experiment.seed}" if experiment.seed else ""
        return f"{experiment.variant} {experiment.schedule}{seed}"

    def job(self, config: Config, stop_file: Path, *, allow_drift: bool = False) -> dict[str, Any]:
        """Returns the plain dictionary that pipelines.experiment.run_experiment takes."""
        training = config.training
        shards = resolve_location(config.data.shards)
        return {
            "experiment": self.experiment.as_dict(),
            "folder": str(self.folder),
            "shards": {split: below(shards, self.experiment.dataset, split) for split in ("train", "val")},
            "local_copy": config.data.local_copy,
            "weights": [str(path) for path in self.weights],
            "protocols": [json.loads(json.dumps(dataclasses.asdict(protocol))) for protocol in self.protocols],
            "threads": training.threads,
            "loader_threads": training.loader_threads,
            "micro_batch": training.micro_batch,
            "log_every": training.log_every,
            "keep_checkpoints": training.keep_checkpoints,
            "max_quarantined": training.max_quarantined,
            "photometric_on": training.photometric_on,
            "stop_file": str(stop_file),
            "allow_drift": allow_drift,
        }


def plan_sweep(config: Config) -> list[Planned]:
    """Returns the experiments of the cells that the `sweep` section asks for, in the order of the tables.

    Raises InputError for an unknown table, cell or variant, IntegrityError for damaged shards.
    """
    chosen = select_cells(config.sweep.cells) if config.sweep.cells else cells(config.sweep.tables)
    unknown = [name for name in config.sweep.variants if name not in VARIANTS]
    if unknown:
        raise InputError(
            "E_CONFIG", "unknown variant", where="sweep.variants", found=unknown[0], expected=", ".join(VARIANTS)
        )
    groups: dict[Training, list[Cell]] = by_training(chosen)
    if config.sweep.variants:
        groups = {key: group for key, group in groups.items() if key.variant in config.sweep.variants}
    planned = [_planned(config, group, seed) for group in groups.values() for seed in range(config.sweep.seeds)]
    if not planned:
        raise InputError("E_CONFIG", "no cell is left to train", remedy="widen sweep.tables, cells or variants")
    return merge(planned)


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
        planned = _planned(config, next(iter(groups.values())), config.training.seed)
    else:
        planned = _own_experiment(config)
    if not config.training.folder:
        return planned
    folder = resolve(config.training.folder)
    state, step = state_of(folder, planned.protocols, identity=planned.identity)
    return dataclasses.replace(planned, folder=folder, state=state, step=step)


def _planned(config: Config, group: list[Cell], seed: int) -> Planned:
    cell = group[0]
    recipe = cell.published_recipe(config.sweep.flavour)
    protocols = {entry.protocol: entry.published_protocol() for entry in group}
    dataset = cell.dataset
    if config.sweep.scale == "miniature":
        dataset = DATASET
        recipe = miniature_recipe(recipe, cell.schedule, config.miniature)
        protocols = {kind: miniature_protocol(entry, config.miniature) for kind, entry in protocols.items()}
    return describe(
        config,
        dataset=dataset,
        variant=cell.variant,
        schedule=cell.schedule,
        seed=seed,
        recipe=own_recipe(recipe, config.training.recipe),
        cell_keys=tuple(entry.key for entry in group),
        protocols=tuple(protocols[kind] for kind in sorted(protocols, reverse=True)),  # single scale first
    )


def _own_experiment(config: Config) -> Planned:
    training, data = config.training, config.data
    if training.variant not in VARIANTS:
        raise InputError("E_CONFIG", "unknown variant", found=training.variant, expected=", ".join(VARIANTS))
    if config.sweep.scale == "miniature":
        recipe = Recipe(iterations=1000, crop_size=config.miniature.crop_size, base_size=None)
    else:
        recipe = Recipe()
    recipe = own_recipe(recipe, training.recipe)
    quarter = max(1, recipe.iterations // 4)
    unset: dict[str, Any] = {
        name: quarter for name in ("evaluate_every", "checkpoint_every") if name not in training.recipe
    }
    recipe = dataclasses.replace(recipe, **unset)
    manifest, _ = manifest_at(below(resolve_location(data.shards), data.name, "train"))
    height, width = recipe.crop_size
    protocol = Protocol(
        name="ss",
        resize=recipe.base_size,
        mode="slide",
        window=recipe.crop_size,
        stride=(max(1, height * 2 // 3), max(1, width * 2 // 3)),
        num_classes=len(manifest.classes),
    )
    return describe(
        config,
        dataset=data.name,
        variant=training.variant,
        schedule=training.schedule if training.schedule != "80k" else f"{recipe.iterations} steps",
        seed=training.seed,
        recipe=recipe,
        cell_keys=(),
        protocols=(protocol,),
    )


def own_recipe(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """Returns the recipe with the user's `training.recipe` fields in place, checked as every setting is."""
    values = {**json.loads(json.dumps(dataclasses.asdict(recipe))), **changes}
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
) -> Planned:
    """Returns the planned experiment with its identity, and how far it is in the storage path."""
    _, manifest = manifest_at(below(resolve_location(config.data.shards), dataset, "train"))
    weights = weight_files(variant, config.sweep.scale, resolve(config.weights.folder))
    experiment = Experiment(
        dataset=dataset,
        variant=variant,
        schedule=schedule,
        scale=config.sweep.scale,
        seed=seed,
        recipe=recipe,
        manifest=manifest,
        weights="+".join(file_sha256(path) for path in weights),
        code=code_hash(DECIDING_MODULES),
        transform=transform_with_hash(config.data.transform),
    )
    folder = resolve(config.storage.checkpoints) / experiment.identity
    state, step = state_of(folder, protocols)
    return Planned(experiment, cell_keys, protocols, folder, weights, state, step)


def weight_files(variant: str, scale: str, folder: Path) -> tuple[Path, ...]:
    """Returns the files a variant's encoder starts from: transformer first, then the CNN; none for random weights."""
    row = VARIANTS[variant]
    names = [entry.timm_name for entry in (row.pretrained, row.cnn_pretrained) if entry is not None]
    if scale == "miniature":
        stand_ins = {proxy.stands_for: proxy.name for proxy in PROXIES}
        names = [stand_ins[name] for name in names]
    files = tuple(folder / f"{name}.safetensors" for name in names)
    for path in files:
        if not path.is_file():
            raise InputError(
                "E_WEIGHTS",
                f"the pre-trained weights of {variant} are missing",
                where=path,
                remedy="run `python pipelines/weights.py`" + ("" if scale == "miniature" else " sweep.scale=paper"),
            )
    return files


def state_of(folder: Path, protocols: Iterable[Protocol] = (), *, identity: str = "") -> tuple[str, int]:
    """Returns (done | resumable | to do | failed, step) of an experiment's folder.

    Done means a proven checkpoint that was scored under all of `protocols`. `identity` is asked for where the folder is
    not named by it: what was scored may then be another experiment.
    """
    step = latest_step(folder)
    if (folder / SCORES).is_file():
        try:
            scores = json.loads((folder / SCORES).read_text(encoding="utf-8"))
            digests = {score["digest"] for score in scores["scores"].values()}
            asked = all(protocol.digest() in digests for protocol in protocols)
            same = not identity or scores.get("identity", folder.name) == identity
            if asked and same and verify_checkpoint(folder, int(scores["step"])).sha256 == scores["checkpoint"]:
                return "done", int(scores["step"])
        except (SetrError, ValueError, KeyError):
            pass  # damaged: trained on from the newest checkpoint that holds
    if step > 0:
        return "resumable", step
    events = read_events(folder / EVENTS)
    return ("failed" if events and events[-1]["event"] == "failed" else "to do"), 0
