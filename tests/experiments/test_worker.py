"""What stands in the way of a training before its first step."""

from pathlib import Path
from typing import Any

import pytest

from setr.errors import InputError
from setr.experiments import worker as module
from setr.experiments.job import Job
from setr.experiments.worker import require_batch_statistics
from setr.models.variants import structure_record, variant_spec
from setr.planning.planned import Planned
from setr.record.events import read_events
from setr.study.experiment import Experiment
from setr.study.recipes import Recipe
from setr.training.distributed import Context
from tests.helpers.tiny import settings

ONE_PATCH, TWO_PATCHES = (8, 8), (8, 16)


def experiment(variant: str, batch_size: int, crop_size: tuple[int, int]) -> Experiment:
    recipe = Recipe(batch_size=batch_size, crop_size=crop_size)
    spec = variant_spec(variant, num_classes=3, crop_size=crop_size, scale="miniature")
    return Experiment("scenes", variant, "80k", "miniature", 0, recipe, "", "", "", model=structure_record(spec))


@pytest.mark.parametrize("variant", ["setr-naive-base", "setr-pup-random", "setr-mla-base"])
@pytest.mark.parametrize(("batch_size", "micro_batch"), [(1, 0), (1, 4), (2, 1), (3, 2)])
def test_one_image_of_one_patch_has_no_statistics(variant: str, batch_size: int, micro_batch: int) -> None:
    with pytest.raises(InputError, match=r"^E_CONFIG.*batch normalisation.*crop \[8, 8\].*larger crop"):
        require_batch_statistics(experiment(variant, batch_size, ONE_PATCH), micro_batch, 1)


@pytest.mark.parametrize(
    ("batch_size", "micro_batch", "workers", "crop_size"),
    [(1, 0, 1, TWO_PATCHES), (2, 0, 1, ONE_PATCH), (4, 2, 1, ONE_PATCH), (2, 0, 2, ONE_PATCH)],
)
def test_two_values_are_enough(batch_size: int, micro_batch: int, workers: int, crop_size: tuple[int, int]) -> None:
    require_batch_statistics(experiment("setr-naive-base", batch_size, crop_size), micro_batch, workers)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_hang_is_in_the_record_whichever_rank_notices(
    rank: int, home: Path, trained: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(job: Job, context: Context, lease: Any) -> dict[str, Any]:
        context.report({"event": "metrics", "step": 3, "loss": 1.0})
        context.report({"event": "hang", "step": 2, "cause": "no progress"})
        return {}

    monkeypatch.setattr(module, "_run", hang)
    job = Job.from_dict({**trained.job(settings(), tmp_path / "stop"), "folder": str(tmp_path)})
    told: list[dict[str, Any]] = []
    module._run_and_record(job, Context(rank=rank, world_size=2, report=told.append), None, None)
    found = [(event["event"], event.get("rank")) for event in read_events(tmp_path / "events.jsonl")]
    assert found == ([("metrics", None)] if rank == 0 else []) + [("hang", rank)]
    assert [event["event"] for event in told] == [kind for kind, _ in found]
