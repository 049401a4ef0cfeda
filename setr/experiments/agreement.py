"""Whether a worker has what its job says: code, data, and an experiment that is what its identity stands for.

A job travels to other processes and machines, and time passes: what is opened there may no longer be what was planned.
"""

from collections.abc import Mapping

from setr.data.shards import Shards
from setr.errors import InputError
from setr.experiments.job import Job
from setr.models.variants import structure_parts
from setr.record.earlier import words
from setr.record.equivalences import is_equivalent
from setr.record.files import SCORES
from setr.record.reading import as_kept
from setr.study.code import differing_modules, scoring_code, training_code


def require_own_code(job: Job, *, replay: bool = False) -> None:
    """Checks that the experiment's identity, and the code that would run here, are those that were planned.

    A `replay` may be of a result that other code has trained; else a proof has to be there.

    Raises InputError: E_IDENTITY for a record that gives another identity, E_CODE for other code.
    """
    experiment = job.experiment
    if experiment.identity != job.identity:
        raise InputError(
            "E_IDENTITY",
            "the job's experiment is not the one that was planned",
            where=f"{experiment.variant} {experiment.schedule}",
            found=experiment.identity[:12],
            expected=job.identity[:12],
            remedy="plan again",
        )
    here = training_code(structure_parts(experiment.model), job.own)
    if here.sha256 != job.code:
        changed = differing_modules(job.modules, here.modules)
        raise InputError(
            "E_CODE",
            "this process has other code than the one that planned the job",
            where=words(changed) or "definitions",
            found=here.sha256[:12],
            expected=job.code[:12],
            remedy="run the same command again: it begins with the code as it is now",
        )
    if experiment.code != job.code and not replay and not _shown_equal(job):
        raise InputError(
            "E_CODE",
            "the result was trained by other code, and nothing shows that this code computes the same",
            where=job.folder,
            found=experiment.code[:12],
            expected=job.code[:12],
            remedy="run the same command again: it replays first",
        )


def require_same_data(job: Job, shards: Mapping[str, Shards]) -> None:
    """Raises InputError (E_DATA_CHANGED) unless the opened data are those that were planned with."""
    planned = {"train": job.experiment.manifest, "val": job.validation}
    for split, expected in planned.items():
        found = shards[split].manifest_hash
        if found != expected:
            raise InputError(
                "E_DATA_CHANGED",
                f"the {split} data are not those that this experiment was planned with",
                where=job.shards[split],
                found=f"manifest {found[:12]}",
                expected=str(expected)[:12] or "none",
                remedy="bring the data back, or plan again with what is there",
            )


def _shown_equal(job: Job) -> bool:
    folder = job.folder
    trace = str(as_kept(folder, SCORES).get("trace", ""))
    found = is_equivalent(
        folder, trained=job.experiment.code, code=job.code, trace_sha256=trace, scoring=scoring_code()
    )
    return found is not None
