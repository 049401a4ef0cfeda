"""The settings of params.yaml as frozen dataclasses: each with its type, its unit, and what it may be and why.

Every command reads params.yaml and applies `section.key=value` overrides. A value outside what a field allows is an
InputError of one line that names the key (setr/settings/). Fields of type text take what is written, as it is written.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from setr.errors import InputError
from setr.redaction import remember
from setr.settings.overrides import apply_override
from setr.settings.recipe_rules import RECIPE_RULES
from setr.settings.rules import SEED, above, between, check_rules
from setr.settings.run import OFTEN, STEPS, RunSettings
from setr.settings.strict import build
from setr.settings.written import parse

# Upper ends are set where a larger number is a slip of the pen, with what says so.
IMAGES = between(1, 10_000_000, "more than any data set has")
BATCH = between(1, 65_536, "images of one step")
PROCESSES = between(0, 1024, "more than a machine has cores")
FACTOR = above(0.0, 1e6, "beyond what a rate can be multiplied by")
RATE = above(0.0, 100.0, "no training survives such a rate")
MINUTES = between(0.0, 10_080.0, "a week")
TFLOPS = between(1e-3, 1e6, "beyond any processor")
LAYERS = between(0, 1023, "more than any encoder has")
SOME_PATH = {"text": "some path"}
PATH = {"text": "path"}
NAME = {"text": "folder name"}


@dataclass(frozen=True)
class DataConfig:
    """Which data set is prepared or trained on, and how its shards are stored."""

    name: str = field(default="scenes", metadata=NAME)
    root: str = field(default="data/raw/scenes", metadata=SOME_PATH)  # folder of the data set as published
    # Shards go to <shards>/<name>/<split>/; they are read also from s3://, gs:// and file:// URIs.
    shards: str = field(default="data/shards", metadata=SOME_PATH)
    # Folder on each node's own disk: shards are copied there once, verified; empty: read in place.
    local_copy: str = field(default="", metadata=PATH)
    splits: tuple[str, ...] = field(default=("train", "val"), metadata=NAME)
    storage: Literal["raw", "encoded"] = "raw"  # raw pixels (windows are read without decoding) or the original bytes
    rows_per_shard: int = field(default=64, metadata=IMAGES)  # images in one Arrow file
    workers: int = field(default=0, metadata=PROCESSES)  # processes that write shards; 0: one per core
    images: str = field(default="", metadata=PATH)  # own data set: folder of images (name is then free)
    labels: str = field(default="", metadata=PATH)  # own data set: folder of label PNGs
    classes: tuple[str, ...] = ()  # own data set: class names in label order
    label_suffix: str = ".png"  # own data set: what follows the image's name in the label's, such as _mask.png
    zero_ignored: bool = False  # own data set: label 0 means unlabelled, and class names start at 1
    # Own data set: RGB of each class; labels may then be RGB pictures.
    palette: tuple[tuple[int, int, int], ...] = field(default=(), metadata=between(0, 255, "a colour's byte"))
    transform: str = (
        ""  # package.module:function of one's own on augmented samples (setr/data/loading/own_transform.py)
    )


@dataclass(frozen=True)
class ScenesConfig:
    """The built-in data set of synthetic street scenes."""

    train_images: int = field(default=480, metadata=IMAGES)
    val_images: int = field(default=120, metadata=IMAGES)
    height: int = field(default=128, metadata=between(32, 8192, "larger than street scenes are"))  # pixels
    width: int = field(default=256, metadata=between(32, 8192, "larger than street scenes are"))  # pixels
    seed: int = field(default=0, metadata=SEED)


@dataclass(frozen=True)
class WeightsConfig:
    """The miniature encoders' pre-training on a proxy task, over generated scenes of another seed."""

    folder: str = field(default="weights", metadata=SOME_PATH)
    images: int = field(default=300, metadata=between(1, 100_000, "all are in memory at once"))
    # Pixels, square; not the crop, so the table is resized.
    size: int = field(default=96, metadata=between(32, 128, "the scenes' height"))
    steps: int = field(default=800, metadata=STEPS)
    batch_size: int = field(default=4, metadata=BATCH)
    base_lr: float = field(default=2.0e-3, metadata=RATE)  # AdamW
    seed: int = field(default=1000, metadata=SEED)


@dataclass(frozen=True)
class MiniatureConfig:
    """How the paper's recipe is scaled down so that every row of the tables trains on two CPU cores."""

    iterations: dict[str, int] = field(  # optimiser steps that stand for each of the paper's schedules
        default_factory=lambda: {"40k": 60, "80k": 120, "100k": 150, "160k": 120}, metadata=STEPS
    )
    batch_size: int = field(default=4, metadata=BATCH)  # images, over all workers
    # Pixels, height x width.
    crop_size: tuple[int, int] = field(
        default=(128, 128), metadata=between(8, 4096, "a paper's crop, not a miniature's")
    )
    base_lr_multiplier: float = field(default=1.0, metadata=FACTOR)  # times the paper's base_lr
    head_lr_multiplier: float = field(default=10.0, metadata=FACTOR)
    min_lr: float = field(default=1.0e-4, metadata=between(0.0, 100.0, "no training survives such a rate"))
    evaluations: int = field(default=2, metadata=OFTEN)  # per training, the last step included
    checkpoints: int = field(default=2, metadata=OFTEN)  # per training, the last step included


@dataclass(frozen=True)
class TrainingConfig(RunSettings):
    """One training (pipelines/train.py), and what every training of a sweep shares."""

    cell: str = ""  # a cell of the paper, such as table2/setr-pup/80k; empty: the variant below, on data.name
    variant: str = "setr-pup"
    schedule: str = ""  # what an own training is called beside its variant; empty: its steps
    seed: int = field(default=0, metadata=SEED)
    # Processes (train.py: on this machine) that share the global batch.
    workers: int = field(default=1, metadata=between(1, 4096, "more than a batch has images"))
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 if this process sees a GPU for it
    # train.py alone: where to train or go on; empty: <storage.checkpoints>/<identity>.
    folder: str = field(default="", metadata=PATH)
    recipe: dict[str, Any] = field(default_factory=dict)  # own recipe: fields of setr.study.recipes.Recipe


@dataclass(frozen=True)
class EvaluationConfig:
    """One scoring of a checkpoint on the prepared data set `data.name` (pipelines/evaluate.py)."""

    # Step folder, experiment's folder, or checkpoint file (own, the authors', mmsegmentation's).
    checkpoint: str = field(default="", metadata=PATH)
    protocol: tuple[str, ...] = ()  # ss, ms, or ms by a short-side rule: authors-head; empty: as scored before, else ss
    split: str = field(default="", metadata=PATH)  # empty: val, or test for a submission
    # Of a checkpoint file; 0: as it says, else width / 64.
    num_heads: int = field(default=0, metadata=between(0, 1024, "more than any encoder has"))
    # Of a checkpoint file: layers that are read, from 0; empty: as it says, else the rule.
    taps: tuple[int, ...] = field(default=(), metadata=LAYERS)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: the recipe's, else float32
    threads: int = field(default=0, metadata=PROCESSES)  # on a CPU; 0: as it was scored, else all cores
    device: str = field(default="", metadata={"text": "device"})  # cpu, cuda:1, ...; empty: a GPU if there is one


@dataclass(frozen=True)
class SweepConfig:
    """Which cells of the paper's tables are trained, and how many experiments run side by side."""

    tables: tuple[str, ...] = ()  # by number or id; empty: as the study says (SETR: Table 2)
    cells: tuple[str, ...] = ()  # only these cells; empty: all of the tables
    variants: tuple[str, ...] = ()  # only these variants; empty: all
    datasets: tuple[str, ...] = ()  # only the tables' cells on these data sets; empty: all
    scale: Literal["miniature", "paper"] = "miniature"
    flavour: Literal["authors", "mmseg", "paper"] = "authors"  # where a study's sources differ
    # Trainings of each cell; 0: as the study says (SETR: one).
    seeds: int = field(default=0, metadata=between(0, 1000, "more than tell anything apart") | {"minimum": 0})
    two_worker_cells: tuple[str, ...] = ("table2/setr-naive-base/40k",)  # trained by two workers through Ray Train
    concurrent: int = field(
        default=0, metadata=between(0, 10_000, "more than Ray runs")
    )  # experiments side by side; 0: as many as fit
    # Restarts of one experiment before it is marked failed.
    max_failures: int = field(default=2, metadata=between(0, 1000, "it will not get better"))
    plan: bool = False  # print the plan and stop
    gpus: int = field(
        default=0, metadata=between(0, 100_000, "more than a cluster has")
    )  # that there are, or a cluster may grow to; 0: as found
    gpu_memory_gb: float = field(
        default=80.0, metadata=between(0.1, 10_000.0, "beyond any GPU")
    )  # of one GPU, 1e9 bytes
    gpu_tflops_float32: float = field(default=67.0, metadata=TFLOPS)  # data sheet, dense
    gpu_tflops_bfloat16: float = field(default=989.0, metadata=TFLOPS)
    utilisation: float = field(
        default=0.4, metadata=between(1e-4, 1.0, "a share")
    )  # share of them that a training reaches
    price_per_gpu_hour: float = field(
        default=0.0, metadata=between(0.0, 1e6, "no GPU costs so much")
    )  # in your currency; 0: no cost is printed


@dataclass(frozen=True)
class SimulateConfig:
    """The cluster that `sweep.py --simulate` replays the plan on."""

    nodes: int = field(default=1, metadata=between(1, 1024, "more than the simulator plays in seconds"))
    gpus: int = field(default=8, metadata=between(1, 1024, "more than a node has"))  # of one node
    # Mean time between failures of one node; 0: none.
    mtbf_hours: float = field(default=0.0, metadata=between(0.0, 1e6, "a century") | {"least": 0.1})
    repair_minutes: float = field(default=30.0, metadata=MINUTES)  # until a failed node is back
    restart_seconds: float = field(
        default=60.0, metadata=between(0.0, 604_800.0, "a week")
    )  # until an experiment trains again
    # Between checkpoints; 0: the recipes'.
    checkpoint_minutes: float = field(default=0.0, metadata=MINUTES | {"least": 0.01})
    repeats: int = field(
        default=20, metadata=between(1, 1000, "means do not change any more")
    )  # replays, each with failures of its own
    seed: int = field(default=0, metadata=SEED)


@dataclass(frozen=True)
class SearchConfig:
    """A search over one's own space (pipelines/search.py); what it leaves open comes from the `training` section."""

    method: Literal["grid", "random", "asha", "bayesian"] = "random"
    samples: int = field(
        default=8, metadata=between(1, 100_000, "years of trials")
    )  # trials; not for grid, which tries everything
    metric: Literal["mIoU", "pixel_accuracy", "mean_accuracy"] = "mIoU"
    iterations: int = field(default=0, metadata=STEPS | {"minimum": 0})  # steps of a trial; 0: the full schedule
    seed: int = field(default=0, metadata=SEED)  # of the sampling
    reduction: int = field(
        default=3, metadata=between(2, 1000, "asha would stop all but one")
    )  # asha goes on with one in so many
    space: dict[str, Any] = field(default_factory=dict)  # [choices] or {uniform | loguniform: [low, high]}, by name


@dataclass(frozen=True)
class StorageConfig:
    """Where results go; relative paths are below the project."""

    checkpoints: str = field(default="checkpoints", metadata=SOME_PATH)  # on a cluster: a path that every node sees
    results: str = field(default="results", metadata=SOME_PATH)
    report: str = field(default="report", metadata=SOME_PATH)
    logs: str = field(default="logs", metadata=SOME_PATH)


@dataclass(frozen=True)
class TrackingConfig:
    """Where MLflow keeps the runs; MLFLOW_TRACKING_URI has precedence over `uri`."""

    uri: str = ""  # empty: sqlite:///<project>/mlflow.db
    experiment: str = field(default="setr-tables", metadata={"text": "some text"})
    register_models: bool = True  # a version in MLflow's model registry for each finished experiment, weights included
    # For the answer of a server, before training starts.
    timeout_seconds: int = field(default=8, metadata=between(1, 3600, "an hour"))


@dataclass(frozen=True)
class Config:
    """All sections of params.yaml."""

    study: str = ""  # a file of tables, or the name of one that comes with the project; empty: SETR's
    data: DataConfig = field(default_factory=DataConfig)
    datasets: dict[str, str] = field(  # DVC's prepare@<name>
        default_factory=lambda: {"scenes": "data/raw/scenes"}, metadata=SOME_PATH | {"keys": "folder name"}
    )
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
    values = _read(path)
    for override in overrides:
        apply_override(Config, values, override, section)
    config = build(Config, values, "")
    assert isinstance(config, Config)
    check_recipe(config.training.recipe, "training.recipe")
    remember(config.tracking.uri)
    return config


def check_recipe(values: dict[str, Any], where: str) -> None:
    """Raises InputError for a number that no recipe can have; names and types are checked where a recipe is made."""
    for name, rules in RECIPE_RULES.items():
        if name in values:
            check_rules(values[name], rules, f"{where}.{name}")


def to_dict(config: Any) -> dict[str, Any]:
    """Returns a dataclass as plain lists and dictionaries, ready for JSON."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _read(path: Path) -> dict[str, Any]:
    """Returns the sections of a settings file, each value with the characters it was written with."""
    if not path.is_file():
        raise InputError("E_CONFIG", "no settings file", where=path, remedy="run in the project's folder")
    try:
        found = parse(path.read_text(encoding="utf-8-sig"), path)
    except UnicodeDecodeError as error:
        raise InputError("E_CONFIG", "not UTF-8 text", where=path, found=error) from None
    except OSError as error:
        raise InputError("E_CONFIG", "cannot read the settings", where=path, found=error.strerror or error) from None
    if found is None or (found.value is None and found.text == ""):
        return {}
    if not isinstance(found.value, dict):
        raise InputError("E_CONFIG", "not sections of settings", where=path, found=type(found.value).__name__)
    return dict(found.value)
