"""Peak memory of a training process, from the model's footprint and the recipe.

The parts are counted (setr.planning.footprint); what a GPU adds to them is assumed, in the constants here: no such
number follows from the shapes.
"""

from dataclasses import dataclass

from setr.models.counter import FLOAT32
from setr.planning.footprint import Footprint
from setr.study.recipes import Recipe

# Of the context and the libraries' kernels and workspaces, in bytes.
CONTEXT = {"cuda": 1_200_000_000, "cpu": 600_000_000}
# Blocks that the allocator holds beyond what is asked for.
SLACK = 1.06
# Gradient in, gradient out and a workspace of the largest tensor.
WORKING_TENSORS = 3
# Pixels that evaluation sends through the model at once (setr.evaluation.inference.PIXELS_PER_PASS).
EVALUATION_PIXELS = {"cuda": 1 << 22, "cpu": 1 << 18}
EVALUATION_BYTES = 1 << 29  # logits while they are resized and counted


@dataclass(frozen=True)
class Memory:
    """Bytes of one process at its peak, by what they are for."""

    state: int  # weights, gradients, optimiser, moving average, weights cast by autocast
    activations: int
    working: int
    context: int

    @property
    def peak(self) -> int:
        """Returns the sum with the allocator's slack."""
        return self.context + round(SLACK * (self.state + self.activations + self.working))


def state_bytes(footprint: Footprint, recipe: Recipe) -> int:
    """Returns what a checkpoint holds: weights, optimiser and moving average."""
    moments = 2 if recipe.optimizer == "adamw" else 1 if recipe.momentum else 0
    averages = footprint.parameters if recipe.ema_decay else 0
    return FLOAT32 * (footprint.parameters + averages + moments * footprint.trainable)


def training_memory(
    footprint: Footprint, recipe: Recipe, images: int, *, checkpointing: bool = False, device: str = "cuda"
) -> Memory:
    """Returns the memory of a process that takes `images` through the model at a time.

    The peak is that of training or, with few images, of an evaluation between two steps.
    """
    saved = footprint.saved_checkpointed if checkpointing else footprint.saved
    state = state_bytes(footprint, recipe) + FLOAT32 * footprint.trainable + footprint.fixed
    training = images * (saved + WORKING_TENSORS * footprint.largest)
    height, width = recipe.crop_size
    windows = max(1, EVALUATION_PIXELS[device] // (height * width))
    evaluation = windows * WORKING_TENSORS * footprint.largest + EVALUATION_BYTES
    activations = images * saved if training >= evaluation else 0
    return Memory(state, activations, max(training, evaluation) - activations, CONTEXT[device])
