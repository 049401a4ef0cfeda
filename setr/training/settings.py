"""Settings of how a training runs here, none of which belongs to the experiment."""

from dataclasses import dataclass, field, replace

from setr.paper.choices import require_choice
from setr.training.watchdog import Limits

COMPILE_FROM = 2000  # steps: a shorter training is over before compilation, a minute or more, has paid for itself
OPTIMIZER_KERNELS = ("auto", "fused", "foreach", "plain")


@dataclass(frozen=True)
class Execution:
    """Settings of speed and memory; None and `auto` follow the device (`on_device`)."""

    compile: bool | None = None  # torch.compile of the transformer's layers
    channels_last: bool | None = None  # memory order of the convolutions outside the transformer
    activation_checkpointing: bool = False  # of the transformer's layers: a third more work, a sixth of the memory
    optimizer_kernel: str = "auto"  # fused: one pass over all parameters | foreach: one per operation | plain: a loop

    def __post_init__(self) -> None:
        """Checks the word."""
        require_choice("optimizer_kernel", self.optimizer_kernel, OPTIMIZER_KERNELS)

    def on_device(self, device: str, *, steps: int) -> "Execution":
        """Returns the settings with every choice made for a training of `steps` on a device, cpu or cuda:<n>.

        A GPU gets channels_last, which its convolutions want, and compiled layers from COMPILE_FROM steps on. Fused
        optimisers exist on both; elsewhere it is foreach.
        """
        kind = device.partition(":")[0]
        kernel = self.optimizer_kernel
        if kernel == "auto":
            kernel = "fused" if kind in ("cpu", "cuda") else "foreach"
        return replace(
            self,
            compile=kind == "cuda" and steps >= COMPILE_FROM if self.compile is None else self.compile,
            channels_last=kind == "cuda" if self.channels_last is None else self.channels_last,
            optimizer_kernel=kernel,
        )


@dataclass(frozen=True)
class Settings:
    """How a training runs here: none of it belongs to the experiment."""

    threads: int = 2  # of the loader
    micro_batch: int | None = None  # images per forward on one rank; None: all
    log_every: int = 10  # steps
    keep_last: int = 2  # checkpoints, and the best
    background_save: bool = True
    allow_drift: bool = False
    photometric_on: str = "auto"  # cpu: the loader's threads | device: the whole batch | auto: the device, unless a CPU
    max_quarantined: float = 0.0  # share of the records that may turn out damaged; 0: the first one ends the training
    limits: Limits = field(default_factory=Limits)
    execution: Execution = field(default_factory=Execution)
