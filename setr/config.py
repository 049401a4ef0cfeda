"""The settings of params.yaml as frozen dataclasses, with a loader that stops at the first mistake and names the key.

Every command reads params.yaml, applies `section.key=value` overrides, checks types, choices and bounds, and prints
what it resolved. A value outside what a field allows is an InputError of one line.
"""

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from setr.errors import InputError
from setr.redaction import remember

Positive = {"minimum": 1}
NotNegative = {"minimum": 0}
MAX_PARAMS_BYTES = 1_000_000


@dataclass(frozen=True)
class DataConfig:
    """Which data set is prepared or trained on, and how its shards are stored."""

    name: str = "scenes"
    root: str = "data/raw/scenes"  # folder of the data set as published
    shards: str = "data/shards"  # shards go to <shards>/<name>/<split>/; read also from s3://, gs:// and file:// URIs
    local_copy: str = ""  # folder on each node's own disk: shards are copied there once, verified; empty: read in place
    splits: tuple[str, ...] = ("train", "val")
    storage: Literal["raw", "encoded"] = "raw"  # raw pixels (windows are read without decoding) or the original bytes
    rows_per_shard: int = field(default=64, metadata=Positive)  # images in one Arrow file
    workers: int = field(default=0, metadata=NotNegative)  # processes that write shards; 0: one per core
    images: str = ""  # own data set: folder of images (name is then free)
    labels: str = ""  # own data set: folder of label PNGs
    classes: tuple[str, ...] = ()  # own data set: class names in label order
    label_suffix: str = ".png"  # own data set: what follows the image's name in the label's, such as _mask.png
    zero_ignored: bool = False  # own data set: label 0 means unlabelled, and class names start at 1
    palette: tuple[tuple[int, int, int], ...] = ()  # own data set: RGB of each class; labels may then be RGB pictures
    transform: str = ""  # package.module:function of one's own on augmented samples (setr/data/own_transform.py)


@dataclass(frozen=True)
class ScenesConfig:
    """The built-in data set of synthetic street scenes."""

    train_images: int = field(default=480, metadata=Positive)
    val_images: int = field(default=120, metadata=Positive)
    height: int = field(default=128, metadata={"minimum": 32})  # pixels
    width: int = field(default=256, metadata={"minimum": 32})  # pixels
    seed: int = field(default=0, metadata=NotNegative)


@dataclass(frozen=True)
class WeightsConfig:
    """The miniature encoders' pre-training on a proxy task, over generated scenes of another seed."""

    folder: str = "weights"
    images: int = field(default=300, metadata=Positive)
    size: int = field(default=96, metadata={"minimum": 32})  # pixels, square; not the crop, so the table is resized
    steps: int = field(default=800, metadata=Positive)
    batch_size: int = field(default=4, metadata=Positive)
    base_lr: float = field(default=2.0e-3, metadata={"above": 0.0})  # AdamW
    seed: int = field(default=1000, metadata=NotNegative)


@dataclass(frozen=True)
class MiniatureConfig:
    """How the paper's recipe is scaled down so that every row of the tables trains on two CPU cores."""

    iterations: dict[str, int] = field(  # optimiser steps that stand for each of the paper's schedules
        default_factory=lambda: {"40k": 60, "80k": 120, "100k": 150, "160k": 120}
    )
    batch_size: int = field(default=4, metadata=Positive)  # images, over all workers
    crop_size: tuple[int, int] = (128, 128)  # pixels, height x width
    base_lr_multiplier: float = field(default=1.0, metadata={"above": 0.0})  # times the paper's base_lr
    head_lr_multiplier: float = field(default=10.0, metadata={"above": 0.0})
    min_lr: float = field(default=1.0e-4, metadata={"minimum": 0.0})
    evaluations: int = field(default=2, metadata=Positive)  # per training, the last step included
    checkpoints: int = field(default=2, metadata=Positive)  # per training, the last step included


@dataclass(frozen=True)
class WatchdogConfig:
    """How long, in seconds, a section of a training may go on without progress before its process is ended."""

    step: float = field(default=30.0, metadata={"above": 0.0})  # at least, waiting for data included
    step_factor: float = field(default=10.0, metadata={"minimum": 1.0})  # times the 99th percentile of the steps so far
    setup: float = field(default=900.0, metadata={"above": 0.0})  # and the first three steps, which may compile
    checkpoint: float = field(default=900.0, metadata={"above": 0.0})
    evaluation: float = field(default=3600.0, metadata={"above": 0.0})


@dataclass(frozen=True)
class TrainingConfig:
    """One training (pipelines/train.py), and what every training of a sweep shares."""

    cell: str = ""  # a cell of the paper, such as table2/setr-pup/80k; empty: variant and schedule below
    variant: str = "setr-pup"
    schedule: str = "80k"
    seed: int = field(default=0, metadata=NotNegative)
    workers: int = field(
        default=1, metadata=Positive
    )  # processes (train.py: on this machine) that share the global batch
    threads: int = field(default=1, metadata=Positive)  # torch threads per worker on a CPU
    loader_threads: int = field(default=1, metadata=NotNegative)
    micro_batch: int = field(default=0, metadata=NotNegative)  # images per forward on one worker; 0: the whole share
    photometric_on: Literal["auto", "cpu", "device"] = "auto"  # where colours are distorted; auto: the device if no CPU
    max_quarantined: float = field(default=0.0, metadata={"minimum": 0.0})  # share of damaged records; 0: stop at one
    log_every: int = field(default=10, metadata=Positive)  # steps
    keep_checkpoints: int = field(default=2, metadata=Positive)
    # Speed and memory; null and auto follow the device (setr/training/settings.py). Only `precision` decides results.
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 if this process sees a GPU for it
    compile: bool | None = None  # torch.compile of the transformer's layers; null: on a GPU, from 2000 steps on
    channels_last: bool | None = None  # memory order of the decoders' convolutions; null: on a GPU
    activation_checkpointing: bool = False  # of the transformer's layers: a third more work, a sixth of the memory
    optimizer_kernel: Literal["auto", "fused", "foreach", "plain"] = "auto"  # auto: fused on CPU and GPU
    watchdog: WatchdogConfig = field(default_factory=WatchdogConfig)
    folder: str = ""  # train.py alone: where to train or go on; empty: <storage.checkpoints>/<identity>
    recipe: dict[str, Any] = field(default_factory=dict)  # own recipe: fields of setr.paper.recipes.Recipe


@dataclass(frozen=True)
class EvaluationConfig:
    """One scoring of a checkpoint on the prepared data set `data.name` (pipelines/evaluate.py)."""

    checkpoint: str = ""  # step folder, experiment's folder, or checkpoint file (own, the authors', mmsegmentation's)
    protocol: tuple[str, ...] = ()  # ss, ms, or ms by a short-side rule: authors-head; empty: as scored before, else ss
    split: str = ""  # empty: val, or test for a submission
    num_heads: int = field(default=0, metadata=NotNegative)  # of a checkpoint file; 0: as it says, else width / 64
    taps: tuple[int, ...] = ()  # of a checkpoint file: layers that are read, from 0; empty: as it says, else the rule
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: the recipe's, else float32
    threads: int = field(default=0, metadata=NotNegative)  # on a CPU; 0: as it was scored, else all cores
    device: str = ""  # cpu, cuda:1, ...; empty: a GPU if there is one


@dataclass(frozen=True)
class SweepConfig:
    """Which cells of the paper's tables are trained, and how many experiments run side by side."""

    tables: tuple[int, ...] = (2,)
    cells: tuple[str, ...] = ()  # only these cells; empty: all of the tables
    variants: tuple[str, ...] = ()  # only these variants; empty: all
    datasets: tuple[str, ...] = ()  # only the tables' cells on these data sets; empty: all
    scale: Literal["miniature", "paper"] = "miniature"
    flavour: Literal["authors", "mmseg", "paper"] = "authors"  # where the sources differ
    seeds: int = field(default=1, metadata=Positive)
    two_worker_cells: tuple[str, ...] = ("table2/setr-naive-base/40k",)  # trained by two workers through Ray Train
    concurrent: int = field(default=0, metadata=NotNegative)  # experiments side by side; 0: as many as fit
    max_failures: int = field(default=2, metadata=NotNegative)  # restarts of one experiment before it is marked failed
    plan: bool = False  # print the plan and stop
    gpus: int = field(default=0, metadata=NotNegative)  # that there are, or a cluster may grow to; 0: as found
    gpu_memory_gb: float = field(default=80.0, metadata={"above": 0.0})  # of one GPU, 1e9 bytes
    gpu_tflops_float32: float = field(default=67.0, metadata={"above": 0.0})  # data sheet, dense
    gpu_tflops_bfloat16: float = field(default=989.0, metadata={"above": 0.0})
    utilisation: float = field(default=0.4, metadata={"above": 0.0})  # share of them that a training reaches
    price_per_gpu_hour: float = field(default=0.0, metadata=NotNegative)  # in your currency; 0: no cost is printed


@dataclass(frozen=True)
class SimulateConfig:
    """The cluster that `sweep.py --simulate` replays the plan on."""

    nodes: int = field(default=1, metadata=Positive)
    gpus: int = field(default=8, metadata=Positive)  # of one node
    mtbf_hours: float = field(default=0.0, metadata=NotNegative)  # mean time between failures of one node; 0: none
    repair_minutes: float = field(default=30.0, metadata=NotNegative)  # until a failed node is back
    restart_seconds: float = field(default=60.0, metadata=NotNegative)  # until an experiment trains again
    checkpoint_minutes: float = field(default=0.0, metadata=NotNegative)  # between checkpoints; 0: the recipes'
    repeats: int = field(default=20, metadata=Positive)  # replays, each with failures of its own
    seed: int = field(default=0, metadata=NotNegative)


@dataclass(frozen=True)
class SearchConfig:
    """A search over one's own space (pipelines/search.py); what it leaves open comes from the `training` section."""

    method: Literal["grid", "random", "asha", "bayesian"] = "random"
    samples: int = field(default=8, metadata=Positive)  # trials; not for grid, which tries everything
    metric: Literal["mIoU", "pixel_accuracy", "mean_accuracy"] = "mIoU"
    iterations: int = field(default=0, metadata=NotNegative)  # steps of a trial; 0: the full schedule
    seed: int = field(default=0, metadata=NotNegative)  # of the sampling
    reduction: int = field(default=3, metadata={"minimum": 2})  # asha goes on with one in so many
    space: dict[str, Any] = field(default_factory=dict)  # [choices] or {uniform | loguniform: [low, high]}, by name


@dataclass(frozen=True)
class StorageConfig:
    """Where results go; relative paths are below the project."""

    checkpoints: str = "checkpoints"  # on a cluster: a path that every node sees
    results: str = "results"
    report: str = "report"
    logs: str = "logs"


@dataclass(frozen=True)
class TrackingConfig:
    """Where MLflow keeps the runs; MLFLOW_TRACKING_URI has precedence over `uri`."""

    uri: str = ""  # empty: sqlite:///<project>/mlflow.db
    experiment: str = "setr-tables"
    register_models: bool = True  # a version in MLflow's model registry for each finished experiment, weights included
    timeout_seconds: int = field(default=8, metadata=Positive)  # for the answer of a server, before training starts


@dataclass(frozen=True)
class Config:
    """All sections of params.yaml."""

    data: DataConfig = field(default_factory=DataConfig)
    datasets: dict[str, str] = field(default_factory=lambda: {"scenes": "data/raw/scenes"})  # DVC's prepare@<name>
    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    miniature: MiniatureConfig = field(default_factory=MiniatureConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    simulate: SimulateConfig = field(default_factory=SimulateConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


def load_config(path: Path, overrides: Sequence[str] = (), *, section: str = "") -> Config:
    """Returns params.yaml with `section.key=value` overrides applied; an override without a dot belongs to `section`.

    Raises InputError for a missing or unreadable file, an unknown key, a wrong type, a wrong choice or a bound.
    """
    values = _read_yaml(path)
    for override in overrides:
        _apply_override(values, override, section)
    config = _build(Config, values, "")
    assert isinstance(config, Config)
    remember(config.tracking.uri)
    return config


def to_dict(config: Any) -> dict[str, Any]:
    """Returns a dataclass as plain lists and dictionaries, ready for JSON."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def build(record: type, values: dict[str, Any], where: str) -> Any:
    """Returns `record(**values)`, checked for names, types, choices and bounds; `where` prefixes the key in errors."""
    return _build(record, values, where)


class _StrictLoader(yaml.SafeLoader):
    """YAML without duplicate keys and without aliases (which can expand without bound)."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            event = self.get_event()
            raise InputError(
                "E_CONFIG",
                "an alias in YAML",
                where=f"line {event.start_mark.line + 1}",
                found=f"*{event.anchor}",
                remedy="write the value out",
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                line = node.value[position][0].start_mark.line + 1
                raise InputError("E_CONFIG", f"key {key} stands twice", where=f"line {line}", remedy="keep one of them")
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError("E_CONFIG", "no settings file", where=path, remedy="run in the project's folder")
    if path.stat().st_size > MAX_PARAMS_BYTES:
        raise InputError(
            "E_CONFIG", "settings file too large", where=path, found=path.stat().st_size, expected="< 1 MB"
        )
    try:
        # A SafeLoader: it builds plain values only.
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise InputError("E_CONFIG", "not YAML", where=path, found=error, remedy="mend the line") from None
    except UnicodeDecodeError as error:
        raise InputError("E_CONFIG", "not UTF-8 text", where=path, found=error) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError("E_CONFIG", "not sections of settings", where=path, found=type(values).__name__)
    return values


def _apply_override(values: dict[str, Any], override: str, section: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise InputError("E_CONFIG", f"cannot read {override!r}", expected="section.key=value")
    if "." not in key and section:
        sections = typing.get_type_hints(Config)
        own = dataclasses.is_dataclass(sections[section]) and key in {
            entry.name for entry in dataclasses.fields(sections[section])
        }
        if own or key not in sections:
            key = f"{section}.{key}"
    try:
        value = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError:
        value = text
    *folders, last = key.split(".")
    target: Any = values
    for name in folders:
        target = target.setdefault(name, {})
        if not isinstance(target, dict):
            raise InputError("E_CONFIG", f"{key} is no setting", found=f"a value at {name}", expected="a section")
    target[last] = value


def _build(record: type, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise InputError("E_CONFIG", f"{where or 'settings'} is no section", found=values, expected="keys and values")
    fields = {entry.name: entry for entry in dataclasses.fields(record)}
    hints = typing.get_type_hints(record)
    arguments = {}
    for name, value in values.items():
        key = f"{where}.{name}" if where else str(name)
        if name not in fields:
            near = difflib.get_close_matches(str(name), fields, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"known: {', '.join(fields)}"
            raise InputError("E_CONFIG", f"unknown key {key}", remedy=remedy)
        arguments[name] = _convert(value, hints[name], key)
        _check_bounds(arguments[name], fields[name].metadata, key)
    return record(**arguments)


def _convert(value: Any, hint: Any, key: str) -> Any:
    origin, parameters = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, key)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in parameters:
            return None
        return _convert(value, next(entry for entry in parameters if entry is not type(None)), key)
    if origin is Literal:
        if value not in parameters:
            near = difflib.get_close_matches(str(value), [str(entry) for entry in parameters], n=1)
            raise InputError(
                "E_CONFIG",
                f"key {key}",
                found=repr(value),
                expected=" or ".join(map(str, parameters)),
                remedy=f"did you mean {near[0]}?" if near else "",
            )
        return value
    if origin is tuple:
        return _convert_tuple(value, parameters, key)
    if origin is dict:
        if not isinstance(value, dict):
            raise _wrong_type(key, value, "keys and values")
        return {str(name): _convert(entry, parameters[1], f"{key}.{name}") for name, entry in value.items()}
    return _convert_scalar(value, hint, key)


def _convert_tuple(value: Any, parameters: tuple[Any, ...], key: str) -> tuple[Any, ...]:
    any_length = len(parameters) == 2 and parameters[1] is Ellipsis
    if any_length and not isinstance(value, list | tuple):
        value = [value]  # tables=2 means tables=[2]
    if not isinstance(value, list | tuple):
        raise _wrong_type(key, value, f"a list of {len(parameters)} values")
    if not any_length and len(value) != len(parameters):
        raise InputError("E_CONFIG", f"key {key}", found=f"{len(value)} values", expected=f"{len(parameters)} values")
    hints = [parameters[0]] * len(value) if any_length else list(parameters)
    return tuple(_convert(entry, hint, f"{key}[{i}]") for i, (entry, hint) in enumerate(zip(value, hints, strict=True)))


def _convert_scalar(value: Any, hint: Any, key: str) -> Any:
    if hint is Any:
        return value
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong_type(key, value, "a number")
        if not math.isfinite(value):
            raise InputError("E_CONFIG", f"key {key}", found=value, expected="a finite number")
        return float(value)
    if hint is int and (isinstance(value, bool) or not isinstance(value, int)):
        raise _wrong_type(key, value, "a whole number")
    if hint is bool and not isinstance(value, bool):
        raise _wrong_type(key, value, "true or false")
    if hint is str and not isinstance(value, str):
        # `schedule: no` is False in YAML and `name: 12` a number: both were meant as text.
        raise _wrong_type(key, value, "text (put it in quotes)")
    return value


def _wrong_type(key: str, value: Any, expected: str) -> InputError:
    remedy = ""
    if isinstance(value, str) and expected.endswith("number"):
        try:
            number = float(value)
        except ValueError:
            pass
        else:
            # YAML 1.1 reads 1e-3 as text: a number needs a dot and a signed exponent.
            remedy = f"write {number:.6e}" if "e" in value.lower() else f"write {value} without quotes"
    return InputError(
        "E_CONFIG", f"key {key}", found=f"{value!r} ({type(value).__name__})", expected=expected, remedy=remedy
    )


def _check_bounds(value: Any, bounds: typing.Mapping[str, Any], key: str) -> None:
    if "minimum" in bounds and value < bounds["minimum"]:
        raise InputError("E_CONFIG", f"key {key}", found=value, expected=f"at least {bounds['minimum']}")
    if "above" in bounds and value <= bounds["above"]:
        raise InputError("E_CONFIG", f"key {key}", found=value, expected=f"above {bounds['above']}")
