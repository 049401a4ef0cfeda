"""The loss with gradient in strips against upsample-then-cross-entropy: time and peak memory, side by side.

    python -m benchmarks.loss [--rounds 5] [--threads 1]

One round runs both formulations once, in turns; times are medians of CPU time and the ratio is the median of the
rounds' ratios. Peak memory is what the process grew by beyond logits and labels, measured in a process of its own.
"""

import argparse
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from setr.training.loss import segmentation_loss

# classes, labels' side in pixels, upsampling factor, and what is aimed at: times faster, share of the peak memory
CASES: tuple[tuple[int, int, int, float | None], ...] = (
    (150, 512, 16, 2.5),  # SETR-Naive and MLA's auxiliary heads on ADE20K
    (150, 512, 4, 1.5),  # SETR-MLA, SETR-PUP's auxiliary heads
    (150, 512, 2, None),  # SETR-PUP
    (19, 768, 16, None),
    (19, 768, 4, None),
    (19, 768, 2, None),
    (150, 512, 1, None),
)


def main() -> None:
    """Print one line per case; exit status 1 if an aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak", nargs=4, type=int, metavar=("K", "SIDE", "FACTOR", "STRIPS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak:
        classes, side, factor, strips = arguments.peak
        print(grown_bytes(classes, side, factor, bool(strips)))
        return
    print(f"torch {torch.__version__}, {arguments.threads} thread(s), {arguments.rounds} rounds, float32, one image")
    print("classes  pixels  factor |  plain ms  strips ms  faster |  plain MB  strips MB  memory | aim")
    missed = 0
    for classes, side, factor, aim in CASES:
        plain, strips, ratio = side_by_side(classes, side, factor, arguments.rounds)
        peaks = [measured_peak(classes, side, factor, choice) for choice in (False, True)]
        share = peaks[1] / peaks[0]
        reached = aim is None or (ratio >= aim and share <= 1 / 6)
        missed += not reached
        wanted = "" if aim is None else f"{aim} x and 1/6: {'reached' if reached else 'MISSED'}"
        print(
            f"{classes:7d} {side:7d} {'x' + str(factor):>7} | {plain * 1e3:9.0f} {strips * 1e3:10.0f} {ratio:6.2f}x |"
            f" {peaks[0] / 1e6:9.0f} {peaks[1] / 1e6:10.0f}    1/{1 / share:.1f} | {wanted}",
            flush=True,
        )
    sys.exit(1 if missed else 0)


def problem(classes: int, side: int, factor: int) -> tuple[Tensor, Tensor]:
    """Returns logits (1,K,h,w) and labels (1,H,W), a tenth of them ignored."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(1, classes, side // factor, side // factor, generator=generator)
    labels = torch.randint(0, classes, (1, side, side), generator=generator, dtype=torch.uint8)
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = 255
    return logits, labels


def loss_and_gradient(logits: Tensor, labels: Tensor, strips: bool) -> tuple[Tensor, Tensor]:
    """Returns the loss and its gradient at the logits' resolution."""
    logits = logits.detach().requires_grad_()
    loss = segmentation_loss(logits, labels, strips=strips)
    (gradient,) = torch.autograd.grad(loss, logits)
    return loss.detach(), gradient


def side_by_side(classes: int, side: int, factor: int, rounds: int) -> tuple[float, float, float]:
    """Returns the medians of the plain and the strips' CPU seconds, and of the rounds' ratios."""
    logits, labels = problem(classes, side, factor)
    wanted, found = (loss_and_gradient(logits, labels, strips) for strips in (False, True))
    assert abs(float(found[0] / wanted[0]) - 1) < 1e-5
    assert float((found[1] - wanted[1]).abs().max() / wanted[1].abs().max()) < 1e-4
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(rounds):
        for strips in (False, True) if turn % 2 else (True, False):
            start = time.process_time()
            loss_and_gradient(logits, labels, strips)
            seconds[strips].append(time.process_time() - start)
    ratios = [plain / strips for plain, strips in zip(seconds[False], seconds[True], strict=True)]
    return statistics.median(seconds[False]), statistics.median(seconds[True]), statistics.median(ratios)


def measured_peak(classes: int, side: int, factor: int, strips: bool) -> int:
    """Returns grown_bytes(), measured in a fresh process."""
    case = [str(int(value)) for value in (classes, side, factor, strips)]
    command = [sys.executable, "-m", "benchmarks.loss", "--peak", *case]
    found = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    return int(found.stdout)


def grown_bytes(classes: int, side: int, factor: int, strips: bool) -> int:
    """Returns by how much the resident memory of this process peaked over what it holds before the loss (Linux)."""
    loss_and_gradient(*problem(3, 32, 2), strips)  # loads the libraries
    logits, labels = problem(classes, side, factor)
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = _status("VmRSS")
    loss_and_gradient(logits, labels, strips)
    return _status("VmHWM") - before


def _status(name: str) -> int:
    match = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024


if __name__ == "__main__":
    main()
