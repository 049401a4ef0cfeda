"""A job is the same after its way to a worker; what is no job is refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from setr.errors import InputError
from setr.experiments.job import Job, run_settings
from setr.planning.planned import Planned
from setr.settings.run import EXECUTION, Limits, RunSettings
from tests.helpers.tiny import settings

WORDS = ("threads=3", "micro_batch=1", "optimizer_kernel=plain", "watchdog.step=7.5", "max_quarantined=0.25")


def record(trained: Planned, tmp_path: Path) -> dict[str, Any]:
    config = settings(*(f"training.{word}" for word in WORDS))
    return json.loads(json.dumps(trained.job(config, tmp_path / "stop", allow_drift=True)))


def test_a_job_is_the_same_after_its_way_to_a_worker(trained: Planned, tmp_path: Path) -> None:
    found = record(trained, tmp_path)
    job = Job.from_dict(found)
    assert json.loads(json.dumps(job.as_dict())) == found
    assert job.settings == RunSettings(
        threads=3, micro_batch=1, log_every=1, optimizer_kernel="plain", watchdog=Limits(step=7.5), max_quarantined=0.25
    )
    assert (job.experiment, job.identity, job.allow_drift) == (trained.experiment, trained.identity, True)


def test_settings_stand_beside_the_rest_and_others_than_a_jobs_are_left_alone(trained: Planned, tmp_path: Path) -> None:
    found = record(trained, tmp_path)
    assert found["watchdog"]["step"] == 7.5
    assert {*EXECUTION, "threads", "loader_threads", "log_every"} <= found.keys()
    assert run_settings({"threads": 3, "execution": {}, "another": 1}) == RunSettings(threads=3)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"protocols": None}, "E_JOB"),
        ({"protocols": [{"nonsense": 1}]}, "E_JOB"),
        ({"folder": 7}, "E_JOB"),
        ({"own": ["mine.py:Head"]}, "E_JOB"),
        ({"driver": {"number": 1}}, "E_JOB"),
        ({"threads": "many"}, "E_CONFIG"),
        ({"watchdog": {"steps": 1}}, "E_CONFIG"),
        ({"experiment": {}}, "E_EXPERIMENT"),
    ],
)
def test_what_is_no_job_is_one_line(trained: Planned, tmp_path: Path, change: dict[str, Any], code: str) -> None:
    with pytest.raises(InputError, match=code) as refused:
        Job.from_dict({**record(trained, tmp_path), **change})
    assert "\n" not in str(refused.value)
