"""One finished experiment replayed under the present code, from its job to a line in its equivalences."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from pipelines.agreement import require_own_code, require_same_data
from pipelines.experiment import new_model, prepare_process, settings_of
from pipelines.ledger import SCORES
from pipelines.lineage import SNAPSHOT_TAG
from pipelines.snapshot import require_code
from setr.data.atomic import read_json
from setr.data.shards import Shards
from setr.errors import SetrError
from setr.evaluation.recount import recount
from setr.paper.code import scoring_code
from setr.paper.experiment import Experiment
from setr.paper.protocols import Protocol
from setr.training.comparison import ImageCounts
from setr.training.context import Context
from setr.training.equivalences import Verdict, record
from setr.training.replay import Trained, replay


def prove_experiment(job: dict[str, Any], context: Context) -> dict[str, Any]:
    """Returns {"status": ...} after a replay whose verdict stands in the folder; nothing else is written there.

    What hinders a replay for the moment (data away, weights changed, a disk) is told and written nowhere.
    """
    if context.world_size == 1 and Path(job["stop_file"]).exists():
        return {"status": "stopped", "exit_status": 143}
    try:
        verdict, trained = _replayed(job, context)
        if context.is_main:
            record(Path(job["folder"]), trained=trained, code=job["code"], verdict=verdict)
    except SetrError as error:
        return {"status": "failed", "cause": str(error), "exit_status": error.exit_status}
    except Exception as error:  # of code that no longer fits what was trained; a replay is no place to end a sweep
        cause = f"the code cannot compute what was trained: {type(error).__name__}: {error}".splitlines()[0]
        if context.is_main:
            verdict = Verdict(False, False, 0.0, cause, {}, provable=False)
            trained = str(job["experiment"]["code"])
            record(Path(job["folder"]), trained=trained, code=job["code"], verdict=verdict)
        return {"status": "failed", "cause": cause, "exit_status": 1}
    return {"status": "finished", "equal": verdict.equal, "difference": verdict.first_difference}


def _replayed(job: dict[str, Any], context: Context) -> tuple[Verdict, str]:
    """Returns the verdict, and the hash of the code that trained."""
    require_code(job["tags"].get(SNAPSHOT_TAG, ""))
    experiment, folder = require_own_code(job, replay=True), Path(job["folder"])
    shards = prepare_process(job, context)
    require_same_data(job, experiment, shards)
    stored = read_json(folder / SCORES) or {}
    trained = Trained(
        folder,
        experiment.identity,
        str(stored.get("trace", "")),
        str(stored.get("checkpoint", "")),
        "" if _comparable(stored, shards["val"]) else scoring_code(),
    )
    verdict = replay(
        experiment,
        trained=trained,
        new_model=lambda: new_model(experiment, job["weights"])[0],
        shards=shards["train"],
        context=context,
        settings=settings_of(job),
        count_images=lambda model: _counted(model, experiment, stored, folder, shards["val"], context),
    )
    return verdict, experiment.code


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
            folder / f"areas-{name}.npz",
            device=context.device,
            rank=context.rank,
            world_size=context.world_size,
            precision=experiment.recipe.precision,
        )
    ]


def _comparable(stored: dict[str, Any], shards: Shards) -> dict[str, Any]:
    """Returns the scores that were made by the code that scores here, on these images; others are made again anyway."""
    return {
        name: score
        for name, score in stored.get("scores", {}).items()
        if score.get("scoring") == scoring_code() and score.get("manifest") == shards.manifest_hash
    }
