"""One experiment from its job to its scores: what a Ray worker, torchrun and a plain process all call.

A job is a plain dictionary (it travels to workers); the experiment's folder holds everything needed to go on.
"""

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from pipelines.command import write_json
from pipelines.ledger import EVENTS, EXPERIMENT, SCORES, is_scored, remember, state_of
from setr.data.atomic import read_json
from setr.data.locations import open_location
from setr.data.shards import Shards
from setr.errors import SetrError
from setr.evaluation.calibration import expected_calibration_error
from setr.evaluation.evaluate import Evaluation, evaluate
from setr.evaluation.inference import predict
from setr.evaluation.qualitative import panel, sheet
from setr.models.counting import gflops
from setr.models.segmenter import Segmenter, build_model
from setr.models.weights import load_pretrained
from setr.paper.experiment import Experiment
from setr.paper.protocols import Protocol
from setr.training.context import Context, StopRequest
from setr.training.events import append_event
from setr.training.loop import Outcome, Stopped, train
from setr.training.resume import IDENTITY
from setr.training.settings import Execution
from setr.training.watchdog import Limits

PICTURE = "qualitative.png"
PICTURE_ROWS = 4  # validation images in the picture
WORST_IMAGES = 10  # named beside the scores


def let_first_rank_speak() -> None:
    """Sends what this process prints nowhere if torchrun has started it as another than the first; errors stay."""
    if os.environ.get("RANK", "0") != "0":
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run_experiment(job: dict[str, Any], context: Context, stop: StopRequest | None = None) -> dict[str, Any]:
    """Trains and scores one experiment, returns {"status": ...}; a mistake of the user's is recorded, not retried.

    It saves and leaves when `stop` (None: the job's stop file) asks for it. With another status than finished there is
    an `exit_status` for the process, and with failed the `cause`.
    """
    folder, tell = Path(job["folder"]), context.report
    if stop is None and context.world_size == 1 and Path(job["stop_file"]).exists():
        return {"status": "stopped", "exit_status": 143}  # it waited for its turn while the sweep was stopped

    def report(event: dict[str, Any]) -> None:
        if event["event"] == "hang":
            event |= {"rank": context.rank}  # whichever notices: the first may be the one that hangs
        elif context.rank:
            return
        if event["event"] == "start":
            # Not before the folder has taken this experiment: one that refuses it keeps its own record.
            write_json(folder / EXPERIMENT, {"experiment": job["experiment"], "job": job})
            # A record says whose it is: it may be taken to another machine, without its folder.
            event |= {"experiment": job["experiment"], "cells": job["cells"], "tags": job["tags"]}
        append_event(folder / EVENTS, event)
        tell(event)

    try:
        return _run(job, dataclasses.replace(context, report=report), stop)
    except Stopped as stopped:
        report({"event": "stopped", "step": stopped.step})
        return {"status": "stopped", "exit_status": stopped.exit_status}
    except SetrError as error:
        # Trying again would end the same way. What another process or experiment does there is not for us to end.
        if error.code != "E_LEASE" and _is_ours(folder, job):
            report({"event": "failed", "step": 0, "cause": str(error)})
        return {"status": "failed", "cause": str(error), "exit_status": error.exit_status}


def _is_ours(folder: Path, job: dict[str, Any]) -> bool:
    """Returns whether the folder trains the job's experiment, or nothing yet."""
    identity = Experiment.from_dict(job["experiment"]).identity
    return (read_json(folder / IDENTITY) or {}).get("identity", identity) == identity


def _run(job: dict[str, Any], context: Context, stop: StopRequest | None) -> dict[str, Any]:
    folder = Path(job["folder"])
    experiment = Experiment.from_dict(job["experiment"])
    if str(context.device) == "cpu":
        torch.set_num_threads(job["threads"])
    cv2.setNumThreads(1)
    shards = {split: open_location(place, local_copy=job["local_copy"]) for split, place in job["shards"].items()}
    protocols = [Protocol(**record) for record in job["protocols"]]
    if context.broadcast_json(_is_done(folder, experiment, protocols, shards["val"]) if context.rank == 0 else None):
        return {"status": "finished"}
    model, receipts = new_model(experiment, shards["train"].manifest.num_classes, job["weights"])

    newest: dict[str, Evaluation] = {}  # by protocol: the last evaluation of the loop is not done again

    def score(candidate: torch.nn.Module, protocol: Protocol = protocols[0]) -> Evaluation:
        newest[protocol.name] = evaluate(
            candidate,
            shards["val"],
            protocol,
            device=context.device,
            rank=context.rank,
            world_size=context.world_size,
            precision=experiment.recipe.precision,
        )
        return newest[protocol.name]

    outcome = train(
        experiment,
        model=model,
        shards=shards["train"],
        evaluate=lambda candidate: score(candidate).scores.as_dict(),
        folder=folder,
        context=context,
        threads=job["loader_threads"],
        micro_batch=job["micro_batch"] or None,
        log_every=job["log_every"],
        keep_last=job["keep_checkpoints"],
        should_stop=stop or Path(job["stop_file"]).exists,
        allow_drift=job.get("allow_drift", False),
        execution=Execution(**job["execution"]),
        limits=Limits(**job["watchdog"]),
        max_quarantined=job["max_quarantined"],
        photometric_on=job["photometric_on"],
    )
    kept = context.broadcast_json(_kept_scores(folder, outcome) if context.rank == 0 else None)
    scored_on = shards["val"].manifest_hash
    missing = [protocol for protocol in protocols if not is_scored(kept.get(protocol.name, {}), protocol, scored_on)]
    evaluations = [newest.get(protocol.name) or score(model, protocol) for protocol in missing]
    if context.rank == 0:
        for evaluation in evaluations:
            save_areas(evaluation, folder / f"areas-{evaluation.protocol.name}.npz")
        save_picture(model, shards["val"], protocols[0], folder / PICTURE)
        # The scores come last: with them the experiment counts as done.
        write_json(
            folder / SCORES,
            {
                "identity": experiment.identity,
                "step": outcome.step,
                "checkpoint": outcome.checkpoint.sha256,
                "checkpoint_folder": outcome.checkpoint.path.name,
                "scores": kept | {found.protocol.name: score_record(found, scored_on) for found in evaluations},
                "weights": receipts,
                "classes": list(shards["val"].manifest.classes),
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "gflops": gflops_of(experiment, model.num_classes),
                "seconds": outcome.seconds,
                "quarantined": list(outcome.quarantined),
            },
        )
        remember(folder, outcome.checkpoint.path.name, outcome.checkpoint.sha256)  # hashed while it was written
        peak = {"peak_memory_bytes": torch.cuda.max_memory_reserved()} if "cuda" in str(context.device) else {}
        context.report({"event": "finished", "step": outcome.step, "seconds": outcome.seconds, **peak})
    return {"status": "finished"}


def _is_done(folder: Path, experiment: Experiment, protocols: list[Protocol], shards: Shards) -> bool:
    """Returns whether nothing is left to do: a worker of a killed driver may have finished since this was planned."""
    state, _ = state_of(folder, protocols, identity=experiment.identity, validation=shards.manifest_hash)
    return state == "done"


def _kept_scores(folder: Path, outcome: Outcome) -> dict[str, Any]:
    """Returns the scores by protocol that the very same checkpoint was given before."""
    stored = read_json(folder / SCORES) or {}
    return stored.get("scores", {}) if stored.get("checkpoint") == outcome.checkpoint.sha256 else {}


def new_model(experiment: Experiment, num_classes: int, weights: list[str]) -> tuple[Segmenter, list[dict[str, Any]]]:
    """Returns the experiment's model as it is before the first step, and the receipts of the weights it starts from."""
    recipe = experiment.recipe
    torch.manual_seed(experiment.seed)
    model = build_model(
        experiment.variant,
        num_classes=num_classes,
        crop_size=recipe.crop_size,
        scale=experiment.scale,
        flavour=recipe.flavour,
        drop_path=recipe.drop_path,
    )
    return model, [load_pretrained(model, *weights).as_dict()] if weights else []


def gflops_of(experiment: Experiment, num_classes: int) -> float:
    """Returns 1e9 floating point operations of one crop's logits (setr.models.counting); nothing is computed."""
    recipe = experiment.recipe
    with torch.device("meta"):
        model = build_model(
            experiment.variant,
            num_classes=num_classes,
            crop_size=recipe.crop_size,
            scale=experiment.scale,
            flavour=recipe.flavour,
        )
    return gflops(model, recipe.crop_size)


def score_record(evaluation: Evaluation, manifest: str) -> dict[str, Any]:
    """Returns one protocol's scores as they are stored: in percent, with what they are scores of.

    Protocol, its digest, and the hash of the manifest of the images belong to a score as the identity to a training.
    """
    return {
        **evaluation.scores.as_dict(),
        "images": evaluation.images,
        "manifest": manifest,
        "worst_images": [dataclasses.asdict(row) for row in evaluation.worst(WORST_IMAGES)],
        "calibration_error": expected_calibration_error(evaluation.calibration),
        "calibration": evaluation.calibration.tolist(),
        "protocol": json.loads(json.dumps(dataclasses.asdict(evaluation.protocol))),
        "digest": evaluation.protocol.digest(),
    }


def save_areas(evaluation: Evaluation, path: Path) -> None:
    """Writes each image's intersections and areas by class, and the confusion matrix of all (rows: label).

    From the areas differences between variants are tested. Neither is small enough to be text: 150 classes make 22,500
    counts, and every image 450.
    """
    temporary = path.with_suffix(".tmp.npz")
    keys = np.array([row.key for row in evaluation.rows])
    np.savez_compressed(temporary, keys=keys, areas=evaluation.areas, matrix=evaluation.matrix)
    temporary.replace(path)


def save_picture(model: Segmenter, shards: Shards, protocol: Protocol, path: Path) -> None:
    """Writes a PNG of evenly spread images with ground truth, prediction and errors beside them."""
    rows = []
    for index in np.linspace(0, len(shards) - 1, min(PICTURE_ROWS, len(shards))).astype(int):
        record = shards[int(index)]
        prediction = predict(model, record.image, protocol)
        rows.append(panel(record.image, prediction, record.label, shards.manifest.palette))
    cv2.imwrite(str(path), cv2.cvtColor(sheet(rows), cv2.COLOR_RGB2BGR))
