"""A training that takes a fraction of a second: a model of a few hundred weights, eight images made in code."""

import dataclasses
import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from benchmarks.processes import PROCESSES
from setr.data.loading.transforms import normalise
from setr.errors import IntegrityError
from setr.evaluation.metrics import confusion_matrix, image_areas
from setr.record.equivalences import Verdict
from setr.record.events import append_event, read_events
from setr.settings.run import RunSettings
from setr.study.experiment import Experiment
from setr.study.recipes import Recipe
from setr.training.comparison import ImageCounts
from setr.training.distributed import Context
from setr.training.execution import Execution
from setr.training.loop import Outcome, train
from setr.training.replay import Trained, replay

CLASSES = 4
SIDE = 16


class TinyModel(nn.Module):
    """What a Segmenter is to the training: encoder, head, one auxiliary head, BatchNorm and dropout among them."""

    align_corners = False
    num_classes = CLASSES

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 6, 4, stride=4), nn.GELU(), nn.Dropout(0.2))
        self.decode_head = nn.Sequential(
            nn.Conv2d(6, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)
        )
        self.auxiliary_heads = nn.ModuleList([nn.Sequential(nn.Conv2d(6, 4, 1, bias=False), nn.BatchNorm2d(4))])

    def head_logits(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        features = self.encoder(images)
        auxiliary = [head(features) for head in self.auxiliary_heads] if self.training else []
        return self.decode_head(features), auxiliary


class TinyShards:
    """Images whose classes can be told by their colour."""

    manifest = SimpleNamespace(
        classes=("a", "b", "c", "d"), ignore_index=255, class_histogram=(400, 300, 200, 100), num_classes=CLASSES
    )

    def __init__(self, size: int = 8, unlabelled: tuple[int, ...] = (), damaged: tuple[int, ...] = ()) -> None:
        self.damaged = damaged
        rng = np.random.default_rng(0)
        self.labels = rng.integers(0, CLASSES, (size, SIDE // 4, SIDE // 4), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
        colours = np.array([[250, 20, 20], [20, 250, 20], [20, 20, 250], [240, 240, 240]], dtype=np.int64)
        noise = rng.integers(-20, 21, (size, SIDE, SIDE, 3))
        self.images = (colours[self.labels] + noise).clip(0, 255).astype(np.uint8)
        self.labels[:, :2] = 255
        self.labels[list(unlabelled)] = 255

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> SimpleNamespace:
        if index in self.damaged:
            raise IntegrityError("E_SHARD_RECORD", "bytes changed", where=self.where(index))
        return SimpleNamespace(key=f"image{index}", image=self.images[index], label=self.labels[index], source_hash="")

    def where(self, index: int) -> str:
        return f"row {index}"


RECIPE = Recipe(
    iterations=12,
    batch_size=4,
    crop_size=(SIDE, SIDE),
    base_size=None,
    ratio_range=(0.8, 1.5),
    base_lr=0.05,
    evaluate_every=6,
    checkpoint_every=3,
)


def tiny_experiment(seed: int = 0, **changes: Any) -> Experiment:
    recipe = dataclasses.replace(RECIPE, **changes)
    return Experiment("tiny", "tiny", "12", "miniature", seed, recipe, manifest="m", weights="w", code="c")


def tiny_model(seed: int = 0, dropout: float = 0.2) -> TinyModel:
    torch.manual_seed(seed)
    model = TinyModel()
    model.encoder[2].p = dropout
    return model


def fraction_of_sum(model: nn.Module) -> dict[str, Any]:
    """Stands in for an evaluation: a number that depends on every weight and buffer."""
    assert not model.training
    total = sum(float(tensor.double().abs().sum()) for tensor in model.state_dict().values())
    torch.rand(3)  # an evaluation may use random numbers: the training must not notice
    return {"mIoU": total % 100, "per_class_iou": [None, total]}


def run(folder: Path, *, context: Context | None = None, shards: Any = None, **options: Any) -> Outcome:
    """Trains in this process; `options` are changes of the recipe, settings, and arguments of train()."""
    recipe = {key: options.pop(key) for key in list(options) if key in {f.name for f in dataclasses.fields(Recipe)}}
    dropout = options.pop("dropout", 0.2)
    model = options.pop("model", None) or tiny_model(dropout=dropout)
    experiment = options.pop("experiment", None) or tiny_experiment(**recipe)
    names = {field.name for field in dataclasses.fields(RunSettings)}
    given = {key: options.pop(key) for key in names & options.keys()}
    settings = RunSettings(**{"loader_threads": 0, "log_every": 1, **given})
    context = dataclasses.replace(context or recording(folder), should_stop=options.pop("should_stop", None))
    drift = options.pop("allow_drift", False)
    execution = Execution(folder, context, settings, options.pop("lease", None), allow_drift=drift)
    arguments = {"evaluate": fraction_of_sum, **options}
    return train(experiment, model=model, shards=shards or TinyShards(), execution=execution, **arguments)


def recording(folder: Path, rank: int = 0, world_size: int = 1, at: dict[str, Any] | None = None) -> Context:
    """Returns a context whose events go to `folder`/events.jsonl and may be answered by `at`."""

    def report(event: dict[str, Any]) -> None:
        if rank == 0:
            append_event(folder / "events.jsonl", event)
        if at and event["event"] == at["event"] and event["step"] == at["step"] and rank == at.get("rank", 0):
            os.kill(os.getpid(), at.get("signal", signal.SIGKILL))

    return Context(rank=rank, world_size=world_size, report=report)


def process(rank: int, world_size: int, folder: Path, attempt: int, options: dict[str, Any]) -> None:
    """What a started process does: joins the others, trains, writes what it reached."""
    torch.set_num_threads(1)
    at, hook, replayed = (options.pop(name, None) for name in ("at", "hook", "replayed"))
    if hook:
        hook(rank)
    if world_size > 1:
        rendezvous = folder / f"rendezvous-{attempt}"
        dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size)
    context = recording(folder, rank, world_size, at)
    if replayed:
        verdict = replay_tiny(train_to_replay(folder, context=context, **options), context=context, **options)
        (folder / f"verdict-{rank}.json").write_text(json.dumps(dataclasses.asdict(verdict)))
    else:
        run(folder, context=context, **options)
    if world_size > 1:
        dist.destroy_process_group()


def start(folder: Path, *, world_size: int = 1, attempt: int = 0, seconds: float = 60, **options: Any) -> list[int]:
    """Runs the ranks as processes of their own and returns their exit codes; -9 is a SIGKILL."""
    folder.mkdir(parents=True, exist_ok=True)
    started = [
        PROCESSES.Process(target=process, args=(rank, world_size, folder, attempt, dict(options)))
        for rank in range(world_size)
    ]
    for one in started:
        one.start()
    for one in started:
        one.join(seconds)
        if one.is_alive():
            one.kill()
            one.join()
    return [one.exitcode for one in started]


def weights(folder: Path) -> dict[str, bytes]:
    """Returns the bytes of the newest checkpoint's files that hold tensors."""
    newest = max(folder.glob("step-*"))
    return {path.name: path.read_bytes() for path in newest.glob("*.safetensors")}


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(folder / "events.jsonl") if event["event"] == kind]


def losses(folder: Path) -> dict[int, list[float]]:
    """Returns the losses by step; a step that was repeated has several."""
    found: dict[int, list[float]] = {}
    for event in events(folder, "metrics"):
        found.setdefault(event["step"], []).append(event["loss"])
    return found


def counts_of(model: nn.Module, shards: Any = None) -> dict[str, np.ndarray]:
    """Stands in for a scoring: each image's (3, K) areas of the patches that the model classifies."""
    shards = shards or TinyShards()
    with torch.inference_mode():
        logits, _ = model.eval().head_logits(normalise(torch.from_numpy(shards.images)))
    found = {}
    for index, (prediction, label) in enumerate(zip(logits.argmax(1), shards.labels[:, 2::4, 2::4], strict=True)):
        matrix = confusion_matrix(prediction.numpy(), label, num_classes=CLASSES)
        found[f"image{index}"] = image_areas(matrix)
    return found


def train_to_replay(folder: Path, **options: Any) -> Trained:
    """Trains, and returns the result as its scores would name it; the counts are in areas.npz."""
    model = tiny_model(dropout=options.get("dropout", 0.2))
    outcome = run(folder, model=model, **options)
    context = options.get("context", Context())
    if context.is_main:
        as_trained(folder, outcome, model)
    context.barrier()
    return as_trained(folder, outcome)


def as_trained(folder: Path, outcome: Outcome, model: nn.Module | None = None) -> Trained:
    if model is not None:
        np.savez(folder / "areas.npz", **counts_of(model))
    identity = json.loads((folder / "identity.json").read_text())["identity"]
    return Trained(folder, identity, outcome.trace, outcome.checkpoint.sha256)


def replay_tiny(trained: Trained, *, context: Context | None = None, model: Any = None, **options: Any) -> Verdict:
    """Replays what train_to_replay trained; `options` are changes of the recipe and settings."""
    recipe = {key: options.pop(key) for key in list(options) if key in {f.name for f in dataclasses.fields(Recipe)}}
    dropout = options.pop("dropout", 0.2)
    stored = np.load(trained.folder / "areas.npz")

    def count_images(candidate: nn.Module) -> list[ImageCounts]:
        return [ImageCounts("ss", key, stored[key], found) for key, found in counts_of(candidate).items()]

    return replay(
        tiny_experiment(**recipe),
        trained=trained,
        new_model=model or (lambda: tiny_model(dropout=dropout)),
        shards=options.pop("shards", None) or TinyShards(),
        context=context or Context(),
        settings=RunSettings(loader_threads=0, **options),
        count_images=count_images,
    )
