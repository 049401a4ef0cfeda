"""An experiment with its identity, from what decides it to what is on disk."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setr.data.loading.own_transform import transform_with_hash
from setr.data.locations import below
from setr.errors import InputError
from setr.models.encoder_facts import encoder_facts
from setr.models.own_code import allow
from setr.models.specification import SegmenterSpec, TimmSpec
from setr.models.variants import Variant, structure_parts, structure_record, variant_spec
from setr.planning.inputs import loaded_hash, manifest_hash, weight_files, weights_hash
from setr.planning.planned import Planned
from setr.record.ledger import damage
from setr.settings.config import Config
from setr.settings.home import resolve, resolve_location
from setr.study.code import training_code
from setr.study.experiment import Experiment
from setr.study.protocols import Protocol
from setr.study.recipes import Recipe


def describe(
    config: Config,
    *,
    dataset: str,
    variant: Variant,
    schedule: str,
    seed: int,
    recipe: Recipe,
    cell_keys: tuple[str, ...],
    protocols: tuple[Protocol, ...],
    train: str = "train",
    lenient: bool = False,
) -> Planned:
    """Returns the planned experiment with its identity, and how far it is in the storage path.

    A `lenient` one does without data and weights that are not there yet, and names them. Raises InputError otherwise.
    """
    if variant.own is not None:
        allow(variant.own)  # whoever plans it has named the study that names it
    spec = variant_spec(
        variant,
        num_classes=protocols[0].num_classes,
        crop_size=recipe.crop_size,
        scale=config.sweep.scale,
        flavour=recipe.flavour,
        drop_path=recipe.drop_path,
    )
    _require_windows(spec, protocols)
    structure = structure_record(spec)
    own = {variant.own.source: variant.own.text} if variant.own is not None else {}
    code = training_code(structure_parts(structure), own)
    found = _find_inputs(config, (dataset, train), variant, structure, lenient=lenient)
    experiment = Experiment(
        dataset=dataset,
        variant=variant.name,
        schedule=schedule,
        scale=config.sweep.scale,
        seed=seed,
        recipe=recipe,
        manifest=found.manifest,
        weights="+".join(weights_hash(path) for path in found.weights),
        code=code.sha256,
        transform=transform_with_hash(config.data.transform),
        tensors=found.tensors,
        model=structure,
        modules=code.modules,
    )
    planned = Planned(
        experiment,
        cell_keys,
        resolve(config.storage.checkpoints) / experiment.identity,
        protocols,
        found.weights,
        "to do",
        0,
        found.validation,
        found.missing,
        code=code.sha256,
        modules=code.modules,
        train=train,
        own=own,
    )
    if found.missing:
        return planned
    state, step = planned.state_now()
    why = "" if state in ("done", "to score") else damage(planned.folder, identity=planned.identity)
    return dataclasses.replace(planned, state=state, step=step, why=why)


def _require_windows(spec: SegmenterSpec, protocols: Sequence[Protocol]) -> None:
    """Raises InputError where whole images are scored by an encoder that takes its crop's size alone."""
    if not isinstance(spec.encoder, TimmSpec) or encoder_facts(spec.encoder).any_size:
        return
    for protocol in protocols:
        if protocol.mode != "slide" or protocol.window != spec.image_size:
            window = f"{protocol.window[0]}x{protocol.window[1]}"
            raise InputError(
                "E_PROTOCOL",
                "this encoder takes images of its crop's size alone",
                where=f"{spec.encoder.name}, protocol {protocol.name}",
                found=f"mode {protocol.mode}, window {window}",
                expected=f"mode slide, window {spec.image_size[0]}x{spec.image_size[1]}",
            )


@dataclass(frozen=True)
class _Inputs:
    """Data and weights that an experiment begins with; what is missing has a name of its own in place of a hash."""

    manifest: str
    validation: str
    weights: tuple[Path, ...]
    tensors: str
    missing: tuple[str, ...]


def _find_inputs(
    config: Config, data: tuple[str, str], variant: Variant, structure: Mapping[str, Any], *, lenient: bool
) -> _Inputs:
    missing: list[str] = []
    dataset, train = data
    manifest = validation = tensors = ""
    weights: tuple[Path, ...] = ()
    shards = below(resolve_location(config.data.shards), dataset)
    try:
        manifest, validation = manifest_hash(below(shards, train)), manifest_hash(below(shards, "val"))
    except InputError:
        if not lenient:
            raise
        named = dataset if train == "train" else f"{dataset} {train}"
        manifest = f"missing {named}"  # so that trainings on two such data sets are not taken for one
        missing.append(f"data set {named}")
    try:
        weights = weight_files(variant, config.sweep.scale, resolve(config.weights.folder))
    except InputError:
        if not lenient:
            raise
        tensors = f"missing {variant.name}"
        missing.append(f"weights of {variant.name}")
    try:
        tensors = tensors or loaded_hash(weights, structure, resolve(config.storage.checkpoints))
    except InputError:
        if not lenient:
            raise
        tensors = f"damaged {variant.name}"
        missing.append(f"weights of {variant.name}, which cannot be read")
    return _Inputs(manifest, validation, weights, tensors, tuple(missing))
