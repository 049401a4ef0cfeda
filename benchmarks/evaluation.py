"""Evaluation against mmsegmentation 1.2.2's way of doing it, restated here with the same weights, side by side.

    python -m benchmarks.evaluation [--rounds 5] [--threads 1]

confusion     predictions and labels of 1024x2048 to counts, against three histograms of masked values
windows       eight windows of 768 over 1024x2048, 19 classes, logits given: from windows to a label map
whole         SETR-Naive-S, 150 classes, an image of 512x683 from uint8 to counts, float32 and bfloat16

One round runs both once, in turns; times are medians of CPU time and the ratio is the median of the rounds' ratios.
Peak memory is what a fresh process grew by beyond model and image.
"""

import argparse
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from setr.data.loading.transforms import normalise
from setr.evaluation.inference import autocast, predict
from setr.evaluation.metrics import confusion_matrix
from setr.evaluation.windows import windows
from setr.models.segmenter import Segmenter, build_model
from setr.models.specification import EncoderSize
from setr.study.protocols import Protocol

SETR_S = EncoderSize("t-small", embed_dim=384, depth=12, num_heads=6)
CITYSCAPES = Protocol("windows", None, "slide", (768, 768), (512, 512), num_classes=19)
ADE20K = Protocol("whole", None, "slide", (512, 512), (341, 341), num_classes=150)
# What is aimed at: times faster, and share of the peak memory.
AIMS = {"confusion": 15.0, "windows": 1.8, "float32": 1.3, "bfloat16": 1.6}
MEMORY_AIM = 0.5

Work = Callable[[], np.ndarray]


def main() -> None:
    """Print one line per case; exit status 1 if an aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak", nargs=2, metavar=("PRECISION", "OURS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    if arguments.peak:
        print(grown_bytes(arguments.peak[0], arguments.peak[1] == "True"))
        return
    print(f"torch {torch.__version__}, {arguments.threads} thread(s), {arguments.rounds} rounds")
    print("case                      mmsegmentation ms   here ms   faster  agreement | aim")
    missed = 0
    for classes in (19, 150):
        missed += report(f"confusion, {classes} classes", *confusion(classes), AIMS["confusion"], arguments.rounds)
    missed += report("windows, 19 classes", *bookkeeping(), AIMS["windows"], arguments.rounds)
    for precision in ("float32", "bfloat16"):
        missed += report(f"whole, {precision}", *whole(precision), AIMS[precision], arguments.rounds)
        peaks = [measured_peak(precision, ours) for ours in (False, True)]
        reached = peaks[1] <= MEMORY_AIM * peaks[0]
        missed += not reached
        print(
            f"  peak memory {peaks[0] / 1e6:.0f} MB, here {peaks[1] / 1e6:.0f} MB: {peaks[1] / peaks[0]:.2f} x"
            f" | {MEMORY_AIM} x: {'reached' if reached else 'MISSED'}",
            flush=True,
        )
    sys.exit(1 if missed else 0)


def report(name: str, theirs: Work, ours: Work, aim: float, rounds: int) -> bool:
    """Prints one case; returns whether its aim was missed."""
    agreement = float((theirs() == ours()).mean())
    seconds: dict[Work, list[float]] = {theirs: [], ours: []}
    for turn in range(rounds):
        for work in (theirs, ours) if turn % 2 else (ours, theirs):
            start = time.process_time()
            work()
            seconds[work].append(time.process_time() - start)
    ratio = statistics.median(plain / fast for plain, fast in zip(seconds[theirs], seconds[ours], strict=True))
    medians = [1e3 * statistics.median(seconds[work]) for work in (theirs, ours)]
    print(
        f"{name:26s} {medians[0]:15.1f} {medians[1]:10.1f} {ratio:7.2f}x {100 * agreement:8.3f} %"
        f" | {aim} x: {'reached' if ratio >= aim else 'MISSED'}",
        flush=True,
    )
    return ratio < aim


def confusion(classes: int) -> tuple[Work, Work]:
    """Returns both ways from maps to the areas of intersection, prediction and label."""
    generator = np.random.default_rng(0)
    label = generator.integers(0, classes, (1024, 2048), dtype=np.uint8)
    prediction = np.where(generator.random(label.shape) < 0.2, 0, label).astype(np.uint8)
    label[generator.random(label.shape) < 0.1] = 255

    def ours() -> np.ndarray:
        matrix = confusion_matrix(prediction, label, num_classes=classes)
        return np.stack([matrix.diagonal(), matrix.sum(0), matrix.sum(1)])

    return lambda: three_histograms(prediction, label, classes), ours


def bookkeeping() -> tuple[Work, Work]:
    """Returns both ways from given logits of the windows to a label map."""
    generator = torch.Generator().manual_seed(0)
    boxes = windows(1024, 2048, CITYSCAPES.window, CITYSCAPES.stride)
    logits = [torch.randn(1, 19, 768, 768, generator=generator) for _ in boxes]
    image = np.zeros((1024, 2048, 3), np.uint8)
    turn = 0

    def given(images: Tensor) -> Tensor:
        nonlocal turn
        turn += 1
        return logits[(turn - 1) % len(logits)]

    return lambda: pad_and_add(given, image, CITYSCAPES), lambda: predict(given, image, CITYSCAPES)


def whole(precision: str) -> tuple[Work, Work]:
    """Returns both ways from an image to the prediction, with the counting done on the way."""
    model, image, label = problem()

    def theirs() -> np.ndarray:
        with torch.inference_mode(), autocast("cpu", precision):
            prediction = pad_and_add(lambda images: published_logits(model, images), image, ADE20K)
        three_histograms(prediction, label, 150)
        return prediction

    def ours() -> np.ndarray:
        with torch.inference_mode(), autocast("cpu", precision):
            prediction = predict(model, image, ADE20K)
        confusion_matrix(prediction, label, num_classes=150)
        return prediction

    return theirs, ours


def problem() -> tuple[Segmenter, np.ndarray, np.ndarray]:
    """Returns an untrained SETR-Naive-S, a random image (512,683,3) and labels (512,683)."""
    torch.manual_seed(0)
    model = build_model("setr-naive-base", num_classes=150, crop_size=(512, 512), flavour="mmseg", sizes=SETR_S)
    generator = np.random.default_rng(0)
    image = cv2.resize(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8), (683, 512))
    return model.eval(), image, generator.integers(0, 150, (512, 683), dtype=np.uint8)


def pad_and_add(encode_decode: Callable[[Tensor], Tensor], image: np.ndarray, protocol: Protocol) -> np.ndarray:
    """Returns the label map as mmsegmentation's slide_inference and postprocess_result make it."""
    images = normalise(torch.from_numpy(image)[None])
    height, width = images.shape[-2:]
    total = images.new_zeros(1, protocol.num_classes, height, width)
    count = images.new_zeros(1, 1, height, width)
    for y1, x1, y2, x2 in windows(height, width, protocol.window, protocol.stride):
        crop = encode_decode(images[:, :, y1:y2, x1:x2])
        total += F.pad(crop, (x1, width - x2, y1, height - y2))
        count[:, :, y1:y2, x1:x2] += 1
    logits = F.interpolate(total / count, size=(height, width), mode="bilinear", align_corners=False)
    return logits[0].argmax(0).numpy()


def published_logits(model: Segmenter, images: Tensor) -> Tensor:
    """Returns logits at the images' size by the published operations: attention whose weights are returned, the
    classifier after the first resize."""
    encoder, head = model.encoder, model.decode_head
    x, grid = encoder.embed(images)  # type: ignore[operator]
    for block in encoder.blocks:  # type: ignore[union-attr]
        tokens, attention = block.norm1(x).transpose(0, 1), block.attn
        attended, _ = F.multi_head_attention_forward(
            tokens,
            tokens,
            tokens,
            tokens.shape[-1],
            attention.num_heads,
            attention.qkv.weight,
            attention.qkv.bias,
            None,
            None,
            False,
            0.0,
            attention.proj.weight,
            attention.proj.bias,
            training=False,
            need_weights=True,
        )
        x = x + attended.transpose(0, 1)
        x = x + block.mlp(block.norm2(x))
    feature = x[:, 1:].transpose(1, 2).unflatten(2, grid).contiguous()
    stage = head.convs[0](head.norm(feature))  # type: ignore[operator, index]
    logits = head.classifier(F.interpolate(stage, size=(grid[0] * 4, grid[1] * 4), mode="bilinear"))  # type: ignore[operator]
    return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)


def three_histograms(prediction: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    """Returns areas (3,K) of intersection, prediction and label as mmsegmentation's IoUMetric counts them."""
    guess, truth = torch.from_numpy(prediction), torch.from_numpy(label)
    counted = truth != 255
    guess, truth = guess[counted], truth[counted]
    return np.stack(
        [
            torch.histc(values.float(), bins=classes, min=0, max=classes - 1).numpy()
            for values in (guess[guess == truth], guess, truth)
        ]
    )


def measured_peak(precision: str, ours: bool) -> int:
    """Returns grown_bytes(), measured in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.evaluation", "--peak", precision, str(ours)]
    found = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    return int(found.stdout)


def grown_bytes(precision: str, ours: bool) -> int:
    """Returns by how much the resident memory of this process peaked over what it holds before (Linux)."""
    model, _, _ = problem()
    with torch.inference_mode(), autocast("cpu", precision):
        model(torch.zeros(1, 3, 32, 32))  # loads the libraries
    work = whole(precision)[int(ours)]
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    match = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024


if __name__ == "__main__":
    main()
