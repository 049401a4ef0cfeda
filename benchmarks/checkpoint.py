"""How long training stands still for a checkpoint of SETR-Naive on T-Base, beside the seconds its write takes.

    python -m benchmarks.checkpoint [--rounds 5] [--folder DIR]

Weights and momentum of a step of SGD at paper scale, 0.7 GB, written as the training loop writes them: copied while
training waits, then put on disk by a thread while the next steps run (here: matrix products). The first save also makes
room for the copies. Status 1 if a wait is above half its write.
"""

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch

from setr.models.segmenter import build_model
from setr.record.checkpoint import Writer, prune
from setr.study.published import recipe
from setr.training.optim import build_optimizer, optimizer_tensors

AIM = 0.5  # of the seconds of the write


def main() -> None:
    """Print a row for each save; exit status 1 if the aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    arguments = parser.parse_args()
    model = build_model("setr-naive-base", num_classes=19, crop_size=(768, 768))
    optimizer = build_optimizer(model, recipe("cityscapes", "naive", "80k"))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    tensors = {"model": model.state_dict(), "optimizer": optimizer_tensors(optimizer)}
    size = sum(tensor.nbytes for part in tensors.values() for tensor in part.values())
    print(f"{size / 1e9:.2f} GB\n\n| save | training waits, s | write, s | share |\n|---|---|---|---|")
    shares = []
    with tempfile.TemporaryDirectory(prefix="setr-checkpoint-", dir=arguments.folder) as folder:
        writer = Writer(Path(folder))
        for step in range(1, arguments.rounds + 1):
            begun = time.perf_counter()
            writer.save(step, tensors, {"identity": "benchmark"})
            copied = time.perf_counter() - begun
            steps_until_written()
            begun = time.perf_counter()
            writer.join()
            waited = copied + time.perf_counter() - begun
            prune(Path(folder), keep_last=1)
            shares.append(waited / writer.seconds)
            print(f"| {step} | {waited:.2f} | {writer.seconds:.2f} | {shares[-1]:.2f} |", flush=True)
    print(f"\nlargest share {max(shares):.2f} (aim {AIM})")
    sys.exit(max(shares) > AIM)


def steps_until_written() -> None:
    """Computes, as training does, until the writer's thread has ended."""
    square = torch.ones(512, 512)
    while any(thread.name == "checkpoint" for thread in threading.enumerate()):
        square @ square


if __name__ == "__main__":
    main()
