"""One finished experiment replayed under the present code, from its job to a line in its equivalences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from setr.data.shards import Shards
from setr.errors import SetrError
from setr.evaluation.recount import recount
from setr.experiments.agreement import require_own_code, require_same_data
from setr.experiments.job import Job
from setr.experiments.worker import new_model, prepare_process
from setr.models.own_code import allowed, own_codes
from setr.record.equivalences import Verdict, record
from setr.record.files import SCORES, areas_name
from setr.record.lineage import SNAPSHOT_TAG
from setr.record.reading import as_kept
from setr.record.snapshot import require_code
from setr.redaction import first_line
from setr.study.code import scoring_code
from setr.study.experiment import Experiment
from setr.study.protocols import Protocol
from setr.training.comparison import ImageCounts
from setr.training.distributed import Context
from setr.training.replay import Trained, replay


def prove_experiment(planned: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Returns {"status": ...} after a replay whose verdict stands in the folder; nothing else is written there.

    `planned` is a job's record. What hinders a replay for the moment (data away, weights changed, a disk) is told and
    written nowhere.
    """
    try:
        job = Job.from_dict(planned)
        if context.world_size == 1 and job.stop_file.exists():
            return {"status": "stopped", "exit_status": 143}
        with allowed(own_codes(job.own)):
            verdict = _replayed(job, context)
        if context.is_main:
            record(job.folder, trained=job.experiment.code, code=job.code, verdict=verdict, modules=job.modules)
    except SetrError as error:
        return {"status": "failed", "cause": str(error), "exit_status": error.exit_status}
    except Exception as error:  # of code that no longer fits what was trained; a replay is no place to end a sweep
        cause = f"the code cannot compute what was trained: {type(error).__name__}: {first_line(error)}"
        if context.is_main:
            verdict = Verdict(False, False, 0.0, cause, {}, provable=False)
            record(job.folder, trained=job.experiment.code, code=job.code, verdict=verdict)
        return {"status": "failed", "cause": cause, "exit_status": 1}
    return {"status": "finished", "equal": verdict.equal, "difference": verdict.first_difference}


def _replayed(job: Job, context: Context) -> Verdict:
    require_code(job.tags.get(SNAPSHOT_TAG, ""))
    require_own_code(job, replay=True)
    shards = prepare_process(job, context)
    require_same_data(job, shards)
    stored = as_kept(job.folder, SCORES)
    trained = Trained(
        job.folder,
        job.experiment.identity,
        str(stored.get("trace", "")),
        str(stored.get("checkpoint", "")),
        "" if _comparable(stored, shards["val"]) else scoring_code(),
    )
    return replay(
        job.experiment,
        trained=trained,
        new_model=lambda: new_model(job.experiment, job.weights)[0],
        shards=shards["train"],
        context=context,
        settings=job.settings,
        count_images=lambda model: _counted(model, job.experiment, stored, job.folder, shards["val"], context),
    )


def _counted(
    model: nn.Module, experiment: Experiment, stored: dict[str, Any], folder: Path, shards: Shards, context: Context
) -> Sequence[ImageCounts]:
    """Returns the counts of a sample of images beside those that are stored, under the protocols it was scored by."""
    return [
        image
        for name, score in sorted(_comparable(stored, shards).items())
        for image in recount(
            model,
            shards,
            Protocol(**score["protocol"]),
            folder / areas_name(name),
            device=context.device,
            rank=context.rank,
            world_size=context.world_size,
            precision=experiment.recipe.precision,
        )
    ]


def _comparable(stored: dict[str, Any], shards: Shards) -> dict[str, Any]:
    """Returns the scores that were made by the code that scores here, on these images; others are made again anyway."""
    scores = stored.get("scores")
    return {
        name: score
        for name, score in (scores.items() if isinstance(scores, dict) else ())
        if isinstance(score, dict)
        and score.get("scoring") == scoring_code()
        and score.get("manifest") == shards.manifest_hash
    }
