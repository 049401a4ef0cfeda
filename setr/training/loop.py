"""The training loop: step, log, save, evaluate, report. It knows its context and no engine."""

from torch import nn

from setr.data.shards import Shards
from setr.study.experiment import Experiment
from setr.training.distributed import Stopped
from setr.training.execution import Execution
from setr.training.training_run import Evaluate, Outcome, TrainingRun

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
    with TrainingRun(experiment, model=model, shards=shards, execution=execution) as run:
        step = run.resume()
        run.evaluate_if_owed(step, evaluate)
        for batch in run.batches():
            result = run.step(batch, stop=should_stop is not None and should_stop())
            step = batch.step + 1
            last = step == recipe.iterations
            evaluation_due = last or step % recipe.evaluate_every == 0
            if last or step % run.settings.log_every == 0:
                run.log(step, result)
            if evaluation_due or result.stop or run.is_checkpoint(step):
                run.save(step)
            if result.stop:
                run.settle()
                raise Stopped(step, getattr(should_stop, "exit_status", 143))
            if evaluation_due:
                run.evaluate(step, evaluate)
        return run.finish(step)
