"""How a training runs here, as the `training` section says it; none of it belongs to the experiment.

Each knob is declared once, in RunSettings, and travels under its name: from params.yaml through a job to where it acts.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from setr.settings.rules import above, between

STEPS = between(1, 10_000_000, "years of training")
OFTEN = between(1, 10_000, "more often than anybody reads")
SECONDS = above(0.0, 604_800.0, "a week")
COMPILE_FROM = 2000  # steps: a shorter training is over before compilation, a minute or more, has paid for itself
EXECUTION = ("compile", "channels_last", "activation_checkpointing", "optimizer_kernel")  # written down with a training


@dataclass(frozen=True)
class Limits:
    """How long, in seconds, a section of a training may go on without progress before its process is ended."""

    step: float = field(default=30.0, metadata=SECONDS)  # at least, waiting for data included
    # Times the 99th percentile of the steps so far.
    step_factor: float = field(default=10.0, metadata=between(1.0, 1e6, "a week for steps of a second"))
    setup: float = field(default=900.0, metadata=SECONDS)  # and the first three steps, which may compile
    checkpoint: float = field(default=900.0, metadata=SECONDS)
    evaluation: float = field(default=3600.0, metadata=SECONDS)


@dataclass(frozen=True)
class RunSettings:
    """How a training runs here. Null and `auto` follow the device."""

    threads: int = field(default=1, metadata=between(1, 1024, "more than a machine has cores"))  # torch's, on a CPU
    loader_threads: int = field(default=1, metadata=between(0, 1024, "more than a machine has cores"))
    # Images per forward on one worker; 0: the whole share.
    micro_batch: int = field(default=0, metadata=between(0, 65_536, "images of one step"))
    photometric_on: Literal["auto", "cpu", "device"] = "auto"  # where colours are distorted; auto: the device if no CPU
    # Share of damaged records; 0: stop at one.
    max_quarantined: float = field(default=0.0, metadata=between(0.0, 1.0, "a share"))
    log_every: int = field(default=10, metadata=STEPS)  # steps
    keep_checkpoints: int = field(default=2, metadata=OFTEN)  # the newest, and the best beside them
    compile: bool | None = None  # torch.compile of the transformer's layers; null: on a GPU, from 2000 steps on
    channels_last: bool | None = None  # memory order of the decoders' convolutions; null: on a GPU
    activation_checkpointing: bool = False  # of the transformer's layers: a third more work, a sixth of the memory
    # One pass over all parameters, one per operation, a loop; auto: fused on CPU and GPU.
    optimizer_kernel: Literal["auto", "fused", "foreach", "plain"] = "auto"
    watchdog: Limits = field(default_factory=Limits)

    def on_device(self, device: str, *, steps: int) -> "RunSettings":
        """Returns the settings with every choice made for a training of `steps` on a device, cpu or cuda:<n>.

        A GPU gets channels_last, which its convolutions want, and compiled layers from COMPILE_FROM steps on. Fused
        optimisers exist on both; elsewhere it is foreach.
        """
        kind = device.partition(":")[0]
        kernel: Any = self.optimizer_kernel
        if kernel == "auto":
            kernel = "fused" if kind in ("cpu", "cuda") else "foreach"
        return dataclasses.replace(
            self,
            compile=kind == "cuda" and steps >= COMPILE_FROM if self.compile is None else self.compile,
            channels_last=kind == "cuda" if self.channels_last is None else self.channels_last,
            optimizer_kernel=kernel,
        )

    def execution(self) -> dict[str, Any]:
        """Returns what decides speed and memory, and results by their rounding at most."""
        return {name: getattr(self, name) for name in EXECUTION}
