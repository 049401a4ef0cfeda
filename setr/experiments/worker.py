"""One experiment from its job to its scores: what a Ray worker, torchrun and a plain process all call.

The experiment's folder holds everything needed to go on.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import torch

from setr.data.locations import open_location
from setr.data.shards import Shards
from setr.errors import InputError, SetrError
from setr.evaluation.evaluate import Evaluation, evaluate
from setr.experiments.agreement import require_own_code, require_same_data
from setr.experiments.job import Job
from setr.experiments.scores import save_areas, save_picture, score_record, size_of
from setr.files.atomic import write_json, write_text
from setr.models.own_check import needs_values
from setr.models.own_code import allowed, own_codes
from setr.models.own_head import own_heads
from setr.models.segmenter import Segmenter, seeded_own_segmenter, seeded_segmenter
from setr.models.tensor_hash import tensors_sha256
from setr.models.variants import structure_of
from setr.models.weights import published_values
from setr.record.events import append_event, read_events, training_start
from setr.record.files import EVENTS, EXPERIMENT, PICTURE, SCORES, areas_name, own_name
from setr.record.lease import Lease, exclusive
from setr.record.ledger import is_scored, remember, state_of
from setr.record.lineage import SNAPSHOT_TAG
from setr.record.reading import as_kept, read_identity_file
from setr.record.snapshot import require_code
from setr.study.experiment import Experiment
from setr.study.protocols import Protocol
from setr.training.distributed import Context
from setr.training.execution import Execution
from setr.training.loop import Outcome, Stopped, train


def let_first_rank_speak() -> None:
    """Sends what this process prints nowhere if torchrun has started it as another than the first; errors stay."""
    if os.environ.get("RANK", "0") != "0":
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run_experiment(record: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Trains and scores one experiment, returns {"status": ...}; a mistake of the user's is recorded, not retried.

    `record` is a job's (job.py). It saves and leaves when the context, or else the job's stop file, asks for
    it. With another status than finished there is an `exit_status` for the process, and with failed the `cause`. It
    holds the folder's lease from its first write to its last, and ends where another process takes over the folder, or
    the storage path from the job's `driver`.
    """
    leases: list[Lease] = []  # the first rank's
    try:
        job = Job.from_dict(record)
        if context.should_stop is None:
            if context.world_size == 1 and job.stop_file.exists():
                return {"status": "stopped", "exit_status": 143}  # it waited for its turn while the sweep was stopped
            context = dataclasses.replace(context, should_stop=job.stop_file.exists)
        with ExitStack() as held:
            context.on_main(lambda: leases.append(held.enter_context(exclusive(job.folder, above=job.driver))))
            lease = leases[0] if leases else None
            if lease is not None and not lease.has_locks:
                print(lease.note())
            told = context.broadcast_json(lease.as_dict() if lease is not None else None)
            fence = lease or (Lease.from_dict(told) if told else None)
            with allowed(own_codes(job.own)):  # of the user's own code, what the job brings and nothing else
                return _run_and_record(job, context, lease, fence)
    except SetrError as error:  # no job, another process has the folder, or nothing can be written down there
        return {"status": "failed", "cause": str(error), "exit_status": error.exit_status}


def _run_and_record(job: Job, context: Context, lease: Lease | None, fence: Lease | None) -> dict[str, Any]:
    """Returns what run_experiment() does; everything in the folder is written under the first rank's `lease`.

    Other ranks have it as `fence`: one that notices a hang says so only as long as the folder is still its group's.
    """
    folder, tell = job.folder, context.report

    def report(event: dict[str, Any]) -> None:
        if event["event"] == "hang":
            event |= {"rank": context.rank}  # whichever notices: the first may be the one that hangs
        elif context.rank:
            return
        if event["event"] == "start":
            # Not before the folder has taken this experiment: one that refuses it keeps its own record.
            record = _write_experiment(job, lease, scores_only=event["step"] >= job.experiment.recipe.iterations)
            # A record says whose it is: it may be taken to another machine, without its folder.
            event |= {name: record[name] for name in ("experiment", "cells")} | {"tags": dict(job.tags)}
        append_event(folder / EVENTS, event, owner=fence)
        tell(event)

    try:
        return _run(job, dataclasses.replace(context, report=report), lease)
    except Stopped as stopped:
        report({"event": "stopped", "step": stopped.step})
        return {"status": "stopped", "exit_status": stopped.exit_status}
    except SetrError as error:
        # Trying again would end the same way. What another process or experiment does there is not for us to end.
        if error.code != "E_LEASE" and _is_ours(job):
            report({"event": "failed", "step": 0, "cause": str(error)})
        return {"status": "failed", "cause": str(error), "exit_status": error.exit_status}


def _write_experiment(job: Job, lease: Lease | None, *, scores_only: bool) -> dict[str, Any]:
    """Writes the experiment with its job, and the user's own code beside it; returns the job's record.

    A job that only scores leaves the training its own origin.
    """
    record = job.as_dict()
    del record["driver"], record["own"]
    if scores_only:
        record["tags"] = _tags_of_training(job)
    if job.own:  # the texts are files, which people read; the record says which they were
        record["own_sha256"] = {code.source: code.sha256 for code in own_codes(job.own)}
    for source, text in job.own.items():
        write_text(job.folder / own_name(source), text, owner=lease)
    write_json(job.folder / EXPERIMENT, {"experiment": record["experiment"], "job": record}, owner=lease)
    return record


def _tags_of_training(job: Job) -> dict[str, str]:
    """Returns the tags of the attempt that made the folder's last steps, the job's where no record has them."""
    begun = training_start(read_events(job.folder / EVENTS), job.experiment.recipe.iterations)
    return dict(begun.get("tags") or job.tags)


def _is_ours(job: Job) -> bool:
    """Returns whether the folder trains the job's experiment, or nothing yet."""
    identity = job.experiment.identity
    return (read_identity_file(job.folder) or {}).get("identity", identity) == identity


def _run(job: Job, context: Context, lease: Lease | None) -> dict[str, Any]:
    require_code(job.tags.get(SNAPSHOT_TAG, ""))  # where every worker starts, whoever has started it
    folder, experiment, protocols = job.folder, job.experiment, job.protocols
    require_own_code(job)
    shards = prepare_process(job, context)
    require_same_data(job, shards)
    if context.broadcast_json(_is_done(folder, experiment, protocols, shards["val"]) if context.rank == 0 else None):
        return {"status": "finished"}
    require_batch_statistics(experiment, job.settings.micro_batch, context.world_size)
    model, receipts = new_model(experiment, job.weights)

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
        execution=Execution(folder, context, job.settings, lease, job.allow_drift),
    )
    kept = context.broadcast_json(_kept_scores(folder, outcome) if context.rank == 0 else None)
    scored_on = shards["val"].manifest_hash
    missing = [protocol for protocol in protocols if not is_scored(kept.get(protocol.name, {}), protocol, scored_on)]
    evaluations = [newest.get(protocol.name) or score(model, protocol) for protocol in missing]
    if context.rank == 0:
        for evaluation in evaluations:
            save_areas(evaluation, folder / areas_name(evaluation.protocol.name), owner=lease)
        save_picture(model, shards["val"], protocols[0], folder / PICTURE, owner=lease)
        new = {found.protocol.name: score_record(found, scored_on, tags=job.tags) for found in evaluations}
        scores = kept | new
        # The scores come last: with them the experiment counts as done.
        _write_scores(job, outcome, scores, receipts, shards["val"], lease)
        first = scores[protocols[0].name]
        if first["mIoU"] != outcome.scores.get("mIoU"):  # scored again, by other code than at the training's end
            shown = {name: first[name] for name in ("mIoU", "pixel_accuracy", "mean_accuracy")}
            context.report({"event": "evaluation", "step": outcome.step, "time": time.time(), **shown, "final": True})
        peak = {"peak_memory_bytes": torch.cuda.max_memory_reserved()} if "cuda" in str(context.device) else {}
        context.report({"event": "finished", "step": outcome.step, "seconds": outcome.seconds, **peak})
    return {"status": "finished"}


def _write_scores(
    job: Job, outcome: Outcome, scores: Mapping[str, Any], weights: Sequence[Any], shards: Shards, lease: Lease | None
) -> None:
    """Writes scores.json: the scores by protocol, and what they are scores of."""
    parameters, flops = size_of(job.experiment)
    record = {
        "identity": job.experiment.identity,
        "step": outcome.step,
        "checkpoint": outcome.checkpoint.sha256,
        "checkpoint_folder": outcome.checkpoint.path.name,
        "scores": scores,
        "weights": list(weights),
        "classes": list(shards.manifest.classes),
        "parameters": parameters,
        "gflops": flops,
        "seconds": outcome.seconds,
        "quarantined": list(outcome.quarantined),
        "trace": outcome.trace,
    }
    write_json(job.folder / SCORES, record, owner=lease)
    remember(job.folder, outcome.checkpoint.path.name, outcome.checkpoint.sha256)  # hashed while it was written


def prepare_process(job: Job, context: Context) -> dict[str, Shards]:
    """Returns the job's data by split; the process has as many threads as the job says."""
    if str(context.device) == "cpu":
        torch.set_num_threads(job.settings.threads)
    cv2.setNumThreads(1)
    return {split: open_location(place, local_copy=job.local_copy) for split, place in job.shards.items()}


def _is_done(folder: Path, experiment: Experiment, protocols: Sequence[Protocol], shards: Shards) -> bool:
    """Returns whether nothing is left to do: a worker of a killed driver may have finished since this was planned."""
    state, _ = state_of(folder, protocols, identity=experiment.identity, validation=shards.manifest_hash)
    return state == "done"


def _kept_scores(folder: Path, outcome: Outcome) -> dict[str, Any]:
    """Returns the scores by protocol that the very same checkpoint was given before."""
    stored = as_kept(folder, SCORES)
    scores = stored.get("scores") if stored.get("checkpoint") == outcome.checkpoint.sha256 else None
    return (
        {name: score for name, score in scores.items() if isinstance(score, dict)} if isinstance(scores, dict) else {}
    )


def new_model(experiment: Experiment, weights: Sequence[str]) -> tuple[Segmenter, list[dict[str, Any]]]:
    """Returns the experiment's model as it is before the first step, and the receipts of the weights it starts from.

    Raises InputError (E_WEIGHTS_CHANGED) if the weights are not those that the experiment is planned with.
    """
    spec, initialisation = structure_of(experiment.model)
    start = seeded_own_segmenter if own_heads(spec) else seeded_segmenter
    model = start(spec, initialisation, experiment.seed)
    values, receipt = published_values(model, *weights) if weights else ({}, None)
    found = tensors_sha256(values)
    if found != experiment.tensors:
        raise InputError(
            "E_WEIGHTS_CHANGED",
            "the weights are not those that this experiment was planned with",
            where=", ".join(weights) or "random weights",
            found=found[:12] or "none",
            expected=experiment.tensors[:12] or "none",
            remedy="bring them back, or plan again with what is there",
        )
    model.load_state_dict(values, strict=False)
    return model, [receipt.as_dict()] if receipt else []


def require_batch_statistics(experiment: Experiment, micro_batch: int, workers: int) -> None:
    """Raises E_CONFIG where a pass gives a batch normalisation one value alone: one image whose map is one patch."""
    recipe = experiment.recipe
    share = recipe.batch_size // workers
    passes = min(micro_batch or share, share)
    if workers > 1 or (share % passes or passes) > 1:
        return
    spec = structure_of(experiment.model)[0]
    with torch.device("cpu" if needs_values(spec) else "meta"):  # shapes alone, nothing is computed
        model = Segmenter(spec).train()
        try:
            model(torch.empty(1, 3, *recipe.crop_size))
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise InputError(
                "E_CONFIG",
                "batch normalisation needs more than one value: a pass is one image, and its map one patch",
                where="training.recipe.batch_size, training.recipe.crop_size, training.micro_batch",
                found=f"{share} images on a worker, {micro_batch or 'all'} at a time, crop {list(recipe.crop_size)}",
                remedy="take a larger crop, or passes of two images or more",
            ) from error
