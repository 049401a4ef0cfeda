"""The training loop: step, log, save, evaluate, report. It knows its context and no engine."""

import threading
from collections.abc import Callable
from pathlib import Path

from torch import nn

from setr.data.shards import Shards
from setr.paper.experiment import Experiment
from setr.training.attempt import Attempt, Evaluate, Outcome
from setr.training.context import Context, Stopped
from setr.training.lease import Lease
from setr.training.settings import Settings

__all__ = ["Outcome", "Stopped", "train"]

StopSource = threading.Event | Callable[[], bool]


def train(
    experiment: Experiment,
    *,
    model: nn.Module,
    shards: Shards,
    evaluate: Evaluate,
    folder: Path,
    context: Context,
    settings: Settings | None = None,
    should_stop: StopSource | None = None,
    lease: Lease | None = None,
) -> Outcome:
    """Trains `model` in place to the recipe's last step and returns its scores, checkpoint and where the time went.

    Goes on from the newest sound checkpoint in `folder`, as if nothing had happened: on a CPU with as many ranks, to
    the bit. `model` comes as it is before the first step; `evaluate` returns the scores of a model in eval mode, on all
    ranks. `lease` is the folder's, on the first rank (None: taken here).

    Raises Stopped, after a save, when `should_stop` says so on any rank; InputError (E_DRIFT, E_NOT_FINITE, ...) for
    what a user can mend; EnvironmentFailure when the disk refuses, or another process has taken the folder (E_LEASE).
    """
    recipe = experiment.recipe
    begun = Attempt(
        experiment,
        model=model,
        shards=shards,
        folder=folder,
        context=context,
        settings=settings or Settings(),
        lease=lease,
    )
    with begun as attempt:
        step = attempt.resume()
        attempt.evaluate_if_owed(step, evaluate)
        for batch in attempt.batches():
            result = attempt.step(batch, stop=_asked(should_stop))
            step = batch.step + 1
            last = step == recipe.iterations
            evaluation_due = last or step % recipe.evaluate_every == 0
            if last or step % attempt.settings.log_every == 0:
                attempt.log(step, result)
            if evaluation_due or result.stop or attempt.is_checkpoint(step):
                attempt.save(step)
            if result.stop:
                attempt.settle()
                raise Stopped(step, getattr(should_stop, "exit_status", 143))
            if evaluation_due:
                attempt.evaluate(step, evaluate)
        return attempt.finish(step)


def _asked(should_stop: StopSource | None) -> bool:
    if should_stop is None:
        return False
    return should_stop.is_set() if isinstance(should_stop, threading.Event) else bool(should_stop())
