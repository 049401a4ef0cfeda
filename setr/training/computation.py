"""What decides a training's numbers, and nothing else: model, batches, loss, update, averages; no folder and no event.

A training and a replay of it run this very class, so a replay compares like with like.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from setr.data.loading.loader import Batch, Loader
from setr.data.loading.transforms import Augmentation
from setr.data.shards import Shards
from setr.settings.run import RunSettings
from setr.study.experiment import Experiment
from setr.training.batch_norm import share_statistics, slow_momentum
from setr.training.distributed import Context
from setr.training.ema import MovingAverage
from setr.training.gradients import GradientSum
from setr.training.loss import class_weights
from setr.training.model_setup import prepare_model, release_model
from setr.training.optim import (
    build_optimizer,
    group_learning_rates,
    load_optimizer_tensors,
    optimizer_tensors,
    set_learning_rate,
)
from setr.training.step import StepResult, TrainingModule, seed_step, train_step

State = dict[str, dict[str, Tensor]]  # model, optimizer and, where there is one, ema: tensors by name


class Computation:
    """A model on its way through the steps of an experiment; every method is called on all ranks alike."""

    def __init__(
        self, experiment: Experiment, *, model: nn.Module, shards: Shards, context: Context, settings: RunSettings
    ) -> None:
        """Build everything around `model`, which is trained in place."""
        recipe, manifest, device = experiment.recipe, shards.manifest, context.device
        self.experiment, self.recipe, self.context = experiment, recipe, context
        self.settings = settings.on_device(device, steps=recipe.iterations)
        self.model = share_statistics(model.to(device), world_size=context.world_size, device=device)
        prepare_model(self.model, self.settings)
        self.model.train()
        weights = class_weights(recipe.class_weights, manifest.class_histogram)
        self.optimizer = build_optimizer(self.model, recipe, kernel=self.settings.optimizer_kernel)
        self.average = MovingAverage(self.model, recipe.ema_decay) if recipe.ema_decay else None
        self.training = TrainingModule(
            self.model,
            recipe,
            ignore_index=manifest.ignore_index,
            class_weights=None if weights is None else weights.to(device),
        )
        self.gradients = GradientSum(self.model.parameters()) if context.world_size > 1 else None
        share = recipe.batch_size // context.world_size
        self.forward_images = min(settings.micro_batch or share, share)  # that go through at once, on each rank
        slow_momentum(self.model, passes=-(-share // self.forward_images))
        self.loader = self.load_from(shards, 0, recipe.iterations)

    def load_from(self, shards: Shards, first_step: int, stop_step: int) -> Loader:
        """Returns the loader of the batches of steps `first_step` to `stop_step` - 1."""
        recipe, settings, device = self.recipe, self.settings, self.context.device
        augmentation = Augmentation(
            crop_size=recipe.crop_size,
            base_size=recipe.base_size,
            ratio_range=recipe.ratio_range,
            cat_max_ratio=recipe.cat_max_ratio,
            flip_probability=recipe.flip_probability,
            photometric=recipe.photometric,
            ignore_index=shards.manifest.ignore_index,
        )
        where = settings.photometric_on
        return Loader(
            shards,
            augmentation,
            batch_size=recipe.batch_size,
            seed=self.experiment.seed,
            rank=self.context.rank,
            world_size=self.context.world_size,
            threads=settings.loader_threads,
            start_step=first_step,
            stop_step=stop_step,
            replace_damaged=settings.max_quarantined > 0,
            transform=self.experiment.transform,
            distort_later=where == "device" or (where == "auto" and torch.device(device).type != "cpu"),
        )

    def batches(self, first_step: int, stop_step: int | None = None) -> Iterator[Batch]:
        """Returns the batches of steps `first_step` to `stop_step` - 1 (None: all that are left)."""
        stop = self.recipe.iterations if stop_step is None else stop_step
        return iter(self.load_from(self.loader.shards, first_step, stop))

    def step(self, batch: Batch, *, stop: bool = False) -> StepResult:
        """Returns what one step found, after the update."""
        seed_step(self.experiment.seed, batch.step, self.context.rank)
        self.set_rates(batch.step)
        result = train_step(
            self.training,
            self.optimizer,
            batch,
            context=self.context,
            gradients=self.gradients,
            micro_batch=self.settings.micro_batch or None,
            stop=stop,
        )
        if self.average is not None:
            self.average.update(batch.step)
        return result

    def set_rates(self, step: int) -> list[float]:
        """Sets the learning rates of a step and returns them: the encoder's, then each parameter group's."""
        base = set_learning_rate(self.optimizer, self.recipe, step)
        self.rates = [base, *group_learning_rates(self.optimizer)]
        return self.rates

    def share_start(self) -> None:
        """Gives every rank the weights of rank 0, whatever each of them was given, as they are before step 1."""
        own = self.model.state_dict() if self.context.is_main else None
        self.model.load_state_dict(self.context.broadcast_tensors(own))
        if self.average is not None:
            self.average.load(self.average.parameters)

    def state(self) -> State:
        """Returns what a step goes on from: the training's own tensors, not copies."""
        tensors = {"model": self.model.state_dict(), "optimizer": optimizer_tensors(self.optimizer)}
        if self.average is not None:
            tensors["ema"] = self.average.averages
        return tensors

    def load(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Goes on from what `state` returned; with rank 0's tensors on every rank."""
        self.model.load_state_dict(dict(tensors["model"]))
        load_optimizer_tensors(self.optimizer, tensors["optimizer"])
        if self.average is not None:
            self.average.load(tensors["ema"])

    def averaged(self) -> AbstractContextManager[None]:
        """Returns a block in which the model holds what is scored: its moving average, if there is one."""
        return self.average.applied() if self.average is not None else nullcontext()

    def finish(self) -> nn.Module:
        """Returns the model as it is to be scored, in eval mode; the computation is over."""
        if self.average is not None:
            self.average.copy_to_model()
        self.model.eval()
        release_model(self.model)
        return self.model
