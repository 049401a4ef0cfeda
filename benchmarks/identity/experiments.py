"""Three small experiments, planned, trained and read; all of it in a process that has a project of its own.

Nothing of the project is imported before a function is called (benchmarks.identity.children).
"""

import contextlib
import hashlib
import json
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS, KEPT_AFTER = 108, 104  # a checkpoint is kept before the last, so that what acts late is seen
_KEPT = f"evaluate_every: {STEPS}, checkpoint_every: {KEPT_AFTER}"
SEED = 0
COMMON = (
    "sweep.scale=miniature",
    f"miniature.iterations={{40k: {STEPS}, 80k: {STEPS}}}",
    "miniature.crop_size=[32,32]",
    "miniature.batch_size=2",
    "training.precision=float32",
    "training.log_every=1",
)
EXPERIMENTS = {
    "fcn": ("sweep.cells=[table2/fcn/80k]", f"training.recipe={{{_KEPT}}}"),
    "mla": (
        "sweep.cells=[table5/setr-mla-deit/80k-ss, table5/setr-mla-deit/80k-ms]",
        f"training.recipe={{{_KEPT}}}",
    ),
    "own": (
        "sweep.cells=[table2/setr-pup-random/40k]",
        f"training.recipe={{{_KEPT}, optimizer: adamw, base_lr: 0.001, weight_decay: 0.01, warmup_steps: 10, "
        "layer_decay: 0.9, ema_decay: 0.9, drop_path: 0.2, class_weights: median_frequency, loss_denominator: valid}",
    ),
}
PROXIES = ("deit-base-miniature-1k", "resnet101-miniature-1k")
SIZE = {"height": 48, "width": 96}  # pixels of a scene
IMAGES = {"train_images": 10, "val_images": 3}


def make_inputs(home: str) -> dict[str, Any]:
    """Draws the scenes, writes their shards, and makes weights for the encoders of the experiments."""
    import numpy as np
    from safetensors.torch import save_file

    from setr.data.reading.datasets import DATASETS
    from setr.data.shards import write_shards
    from setr.scenes.scenes import write_scenes
    from setr.training.pretraining import pretrain
    from setr.training.proxies import PROXIES as ALL

    root, scenes = Path(home, "raw"), DATASETS["scenes"]
    write_scenes(root, seed=SEED, workers=0, **SIZE, **IMAGES)
    for split in ("train", "val"):
        folder = Path(home, "data", "shards", "scenes", split)
        write_shards(scenes.list_samples(root, split), scenes, folder, split=split, workers=1)
    Path(home, "weights").mkdir()
    generator = np.random.default_rng(SEED)
    images = generator.integers(0, 256, (4, 64, 64, 3), np.uint8)
    labels = generator.integers(0, 19, (4, 64, 64), np.uint8)
    for proxy in (entry for entry in ALL if entry.name in PROXIES):
        tensors, _ = pretrain(proxy, images, labels, size=32, steps=2, batch_size=2, base_lr=1e-3, seed=SEED)
        save_file(tensors, Path(home, "weights", f"{proxy.name}.safetensors"))
    return {}


def plan(name: str, *more: str) -> tuple[Any, Any]:
    """Returns the settings of an experiment, and what is planned for it."""
    from setr.planning.experiments import plan_sweep
    from setr.settings.config import load_config
    from setr.settings.home import PROJECT

    config = load_config(PROJECT / "params.yaml", [*COMMON, *EXPERIMENTS[name], *more], section="sweep")
    [entry] = plan_sweep(config)
    return config, entry


def describe(home: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Returns what decides whether a result may be used, by experiment: spec, code, and how it is scored."""
    os.environ["SETR_HOME"] = home
    from setr.study.code import scoring_code

    found: dict[str, Any] = {}
    for name in names:
        _, entry = plan(name)
        scored = [scoring_code(), *(protocol.digest() for protocol in entry.protocols)]
        found[name] = {"spec": entry.experiment.spec, "code": entry.code, "scoring": scored}
    return found


def train(home: str, names: tuple[str, ...], words: tuple[str, ...] = (), like: str = "") -> dict[str, Any]:
    """Trains and scores experiments in a home; returns their `numbers`, and CPU `seconds`, by experiment.

    With `like`, a home with results of the same names, a training ends at the first step that finds another number
    than theirs: its `training` is then that step, and it has no scores.
    """
    os.environ["SETR_HOME"] = home
    from setr.experiments.worker import run_experiment
    from setr.training.distributed import Context

    found: dict[str, Any] = {}
    seconds = {}
    for name in names:
        config, entry = plan(name, *words)
        report = _compared_with(like, name) if like else lambda event: None
        begun = time.process_time()
        _set_clock(0)
        try:
            outcome = run_experiment(
                json.loads(json.dumps(entry.job(config, Path(home, "stop")))), Context(report=report)
            )
        except _Differs as at:
            found[name] = {"training": str(at), "scores": ""}
            continue
        if outcome["status"] != "finished":
            raise RuntimeError(str(outcome.get("cause", outcome)))
        found[name] = numbers(entry.folder)
        Path(home, f"{name}.txt").write_text(entry.identity)
        seconds[name] = time.process_time() - begun
    return {"numbers": found, "seconds": seconds}


class _Differs(Exception):
    """A step found another number than before."""


def _compared_with(home: str, name: str) -> Callable[[dict[str, Any]], None]:
    """Returns what is told of the steps of a training and raises at the first that differs from a finished one's."""
    from setr.record.trace import read_trace

    folder = Path(home, "checkpoints", Path(home, f"{name}.txt").read_text())
    steps = read_trace(folder / "trace.bin").steps

    def report(event: dict[str, Any]) -> None:
        if event["event"] == "metrics":
            stored = steps[event["step"] - 1]
            if (event["loss"], event["gradient_norm"]) != (stored["loss"], stored["gradient_norm"]):
                raise _Differs(f"step {event['step']}")

    return report


def numbers(folder: Path) -> dict[str, str]:
    """Returns hashes of a result: its losses and parameters (`training`), its counts and scores (`scores`)."""
    import numpy as np
    from safetensors import safe_open

    from setr.record.trace import read_trace

    steps = read_trace(folder / "trace.bin").steps
    training = hashlib.sha256(steps["loss"].tobytes() + steps["gradient_norm"].tobytes())
    newest = max(folder.glob("step-*"))
    for path in sorted(newest.glob("*.safetensors")):
        if path.stem == "optimizer":
            continue
        with safe_open(path, "np") as file:
            for name in sorted(file.keys()):
                training.update(name.encode() + file.get_tensor(name).tobytes())
    scores = hashlib.sha256()
    stored = json.loads((folder / "scores.json").read_text())["scores"]
    for protocol, score in sorted(stored.items()):
        values = {key: value for key, value in score.items() if key not in ("manifest", "digest", "scoring", "tags")}
        scores.update(json.dumps([protocol, values], sort_keys=True).encode())
        with np.load(folder / f"areas-{protocol}.npz") as areas:
            scores.update(areas["areas"].tobytes())
    return {"training": training.hexdigest(), "scores": scores.hexdigest()}


def judge(home: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Returns what the project makes of finished results in a home, by experiment: verdict, why, numbers that stand.

    The verdict is `kept`, `kept by replay`, `scored again`, `changed` (nothing was shown) or `to do`.
    """
    os.environ["SETR_HOME"] = home
    from setr.experiments.proving import prove_experiment
    from setr.experiments.worker import run_experiment
    from setr.training.distributed import Context

    found: dict[str, Any] = {}
    for name in names:
        config, entry = plan(name)
        verdict = "kept"
        if entry.state == "changed":
            verdict = "kept by replay"
            _set_clock(0)
            prove_experiment(entry.earlier.job(config, Path(home, "stop")), Context())
            _, entry = plan(name)
        if entry.state == "to score":
            verdict = "scored again"
            _set_clock(STEPS - 1)
            run_experiment(json.loads(json.dumps(entry.job(config, Path(home, "stop")))), Context(report=_no_step))
            _set_clock(0)
            _, entry = plan(name)
        done = entry.state == "done"
        found[name] = {
            "verdict": verdict if done else entry.state,
            "why": entry.why,
            "numbers": numbers(entry.folder) if done else {},
        }
    return found


def replay_seconds(home: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Returns the CPU seconds of replaying each experiment, planning and loading of modules left out."""
    os.environ["SETR_HOME"] = home
    from setr.experiments.proving import prove_experiment
    from setr.training.distributed import Context

    found = {}
    for name in names:
        config, entry = plan(name)
        job = entry.earlier.job(config, Path(home, "stop"))
        begun = time.process_time()
        outcome = prove_experiment(job, Context())
        found[name] = time.process_time() - begun
        assert outcome.get("equal"), outcome
    return found


def _no_step(event: dict[str, Any]) -> None:
    assert event["event"] != "metrics", "scoring again has trained"


def _set_clock(steps: int) -> None:
    """Puts the clock, if the project has one, behind so many steps: where it stands when a training is scored."""
    with contextlib.suppress(ImportError):
        from setr.data.step_clock import begin_after

        begin_after(steps)  # not the thread's step alone: opening a finished training may count from 0


def what_computes(home: str, names: tuple[str, ...], project: str) -> dict[str, Any]:
    """Returns the definitions that the experiments run through, and the lines that were run, both by file.

    They are trained for a few steps and scored while every line is watched. `repeated` are the lines of steps.
    """
    os.environ["SETR_HOME"] = home
    run: dict[str, set[int]] = defaultdict(set)
    repeated: dict[str, set[int]] = defaultdict(set)
    clock: list[Any] = []

    def watch(frame: Any, event: str, _: Any) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith(project):
            return None
        name = file[len(project) + 1 :]
        run[name].add(frame.f_lineno)
        if clock and getattr(clock[0], "step", 0) > 0:
            repeated[name].add(frame.f_lineno)
        return watch

    threading.settrace(watch)
    sys.settrace(watch)
    try:
        import setr.data.step_clock as step_clock  # in the copy alone

        clock.append(step_clock._now)
        train(home, names, ("miniature.iterations={40k: 4, 80k: 4}",))
    finally:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
    return {"run": _sorted(run), "repeated": _sorted(repeated), "definitions": definitions(home, names)["definitions"]}


def definitions(home: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Returns the definitions that the experiments run through in training and scoring, by file."""
    os.environ["SETR_HOME"] = home
    from setr.study.code import SCORING, code_slice

    found: dict[str, set[str]] = defaultdict(set)
    slices = [plan(name)[1].modules for name in names]
    for modules in (*slices, code_slice(SCORING).modules):
        for file, entries in modules.items():
            found[file].update(entries)
    return {"definitions": _sorted(found)}


def _sorted(values: dict[str, set[Any]]) -> dict[str, list[Any]]:
    return {name: sorted(entries) for name, entries in sorted(values.items())}
