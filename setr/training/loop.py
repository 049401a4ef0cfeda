"""The training loop: step, log, save, evaluate, report. It knows its context and no engine."""

from torch import nn

from setr.data.shards import Shards
from setr.study.experiment import Experiment
from setr.training.attempt import Attempt, Evaluate, Outcome
from setr.training.distributed import Stopped
from setr.training.execution import Execution

__all__ = ["Outcome", "Stopped", "train"]


def train(
    experiment: Experiment, *, model: nn.Module, shards: Shards, evaluate: Evaluate, execution: Execution
) -> Outcome:
    """Trains `model` in place to the recipe's last step and returns its scores, checkpoint and where the time went.

    Goes on from the newest sound checkpoint in the folder, as if nothing had happened: on a CPU with as many ranks, to
    the bit. `model` comes as it is before the first step; `evaluate` returns the scores of a model in eval mode, on all
    ranks.

    Raises Stopped, after a save, when the context says so on any rank; InputError (E_DRIFT, E_NOT_FINITE, ...) for
    what a user can mend; EnvironmentFailure when the disk refuses, or another process has taken the folder (E_LEASE).
    """
    recipe, should_stop = experiment.recipe, execution.context.should_stop
    with Attempt(experiment, model=model, shards=shards, execution=execution) as attempt:
        step = attempt.resume()
        attempt.evaluate_if_owed(step, evaluate)
        for batch in attempt.batches():
            result = attempt.step(batch, stop=should_stop is not None and should_stop())
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
