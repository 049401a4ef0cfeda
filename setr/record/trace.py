"""The trace of a training: what each step found, exact, and hashes of what it was computed from and with.

    <folder>/trace.bin   a line of JSON | steps | pixels | parameters | SHA-256 of all before

All numbers are little-endian and of fixed size, so a file's length follows from its first line. Hashes are the first 64
bits of a SHA-256. A step is named by how many are finished after it: the first one is step 1.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from setr.data.loading.loader import Batch, Choice
from setr.errors import IntegrityError
from setr.files.atomic import Owner, write_file
from setr.record.equivalences import FIRST_STEPS
from setr.study.experiment import canonical_json

VERSION = 1

PARAMETERS_AFTER = (0, 1, 2, FIRST_STEPS)  # steps whose parameters are kept as hashes, 0: before the first
STEPS_BEYOND = (1, 2)  # a checkpoint: likewise
STEPS_FROM_CHECKPOINT = 3  # that a replay trains again behind a kept checkpoint

STEP = np.dtype(
    [
        ("step", "<u4"),
        ("replaced", "<u4"),  # damaged records of the global batch for which others stood in
        ("loss", "<f8"),
        ("gradient_norm", "<f8"),
        ("learning_rate", "<f8"),  # the encoder's
        ("rates", "<u8"),  # hash of every parameter group's
        ("order", "<u8"),  # hash of the global batch's samples
        ("draws", "<u8"),  # hash of rank 0's samples with their ratios, windows, flips and colours
    ]
)
PIXELS = np.dtype([("step", "<u8"), ("hash", "<u8")])  # hash of rank 0's images and labels
_DIGEST_BYTES = 32
_HEADER = {
    "format": str, "version": int, "identity": str, "seed": int, "batch_size": int, "iterations": int,
    "machines": list, "tensors": list, "saves": list, "kept": dict, "steps": int, "pixels": int, "parameters": int,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Trace:
    """What a training wrote down about itself; `kept` is empty until it has finished."""

    identity: str
    seed: int
    batch_size: int
    iterations: int
    machines: tuple[tuple[int, dict[str, Any]], ...]  # after so many steps, the training went on on this machine
    tensors: tuple[str, ...]  # names, in the order of the hashes in `parameters`
    saves: tuple[int, ...]  # steps whose checkpoints were written and not removed
    kept: dict[int, str]  # of the finished training: step -> SHA-256 of the checkpoint's manifest
    steps: np.ndarray  # STEP (n,)
    pixels: np.ndarray  # PIXELS (m,)
    parameters: dict[int, np.ndarray]  # uint64 (tensors,) after a step

    def machine_at(self, step: int) -> dict[str, Any]:
        """Returns the machine that trained the step after `step` finished ones."""
        return [machine for begun, machine in self.machines if begun <= step][-1]

    def until(self, path: Path, step: int) -> "Trace":
        """Returns the trace of the first `step` steps; raises IntegrityError (E_TRACE) if it, in `path`, is shorter."""
        if len(self.steps) < step:
            raise _unusable(path, "the trace ends before the checkpoint", found=len(self.steps), expected=step)
        return replace(
            self,
            machines=tuple(entry for entry in self.machines if entry[0] < step),
            saves=tuple(saved for saved in self.saves if saved <= step),
            kept=self.kept if step == self.iterations else {},
            steps=self.steps[:step],
            pixels=self.pixels[self.pixels["step"] <= step],
            parameters={after: hashes for after, hashes in self.parameters.items() if after <= step},
        )

    def as_bytes(self) -> bytes:
        """Returns the file's contents."""
        header = {
            "format": "setr-trace",
            "version": VERSION,
            "identity": self.identity,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "iterations": self.iterations,
            "machines": self.machines,
            "tensors": self.tensors,
            "saves": self.saves,
            "kept": {str(step): digest for step, digest in self.kept.items()},
            "steps": len(self.steps),
            "pixels": len(self.pixels),
            "parameters": len(self.parameters),
        }
        parts = [canonical_json(header).encode(), b"\n", self.steps.tobytes(), self.pixels.tobytes()]
        for step, hashes in sorted(self.parameters.items()):
            parts += [np.uint64(step).astype("<u8").tobytes(), hashes.astype("<u8").tobytes()]
        body = b"".join(parts)
        return body + hashlib.sha256(body).digest()


def write_trace(path: Path, trace: Trace, *, owner: Owner | None = None) -> str:
    """Writes the file as a whole, on disk when this returns, and returns its SHA-256; one that is equal stays."""
    data = trace.as_bytes()
    if not path.is_file() or path.read_bytes() != data:
        write_file(path, data, owner=owner)
    return hashlib.sha256(data).hexdigest()


def read_trace(path: Path, *, identity: str | None = None, sha256: str | None = None) -> Trace:
    """Returns the trace in a file after all of it was checked.

    Raises IntegrityError (E_TRACE) for one that is missing, cut, edited, of another experiment than `identity`, or not
    the file with the hash `sha256` (None: any).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unusable(path, "there is no trace", found=error.strerror) from None
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        found = hashlib.sha256(data).hexdigest()
        raise _unusable(path, "the trace is not the one that was finished", found=found, expected=sha256)
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise _unusable(path, "the trace was cut or edited", found=f"{len(data)} bytes with another SHA-256")
    header = _read_header(path, body.partition(b"\n")[0])
    if identity is not None and header["identity"] != identity:
        raise _unusable(path, "the trace is of another experiment", found=header["identity"], expected=identity)
    trace = _read_numbers(path, header, body[body.index(b"\n") + 1 :])
    numbers = np.arange(1, len(trace.steps) + 1)
    if not np.array_equal(trace.steps["step"], numbers) or len(numbers) > trace.iterations:
        raise _unusable(path, "the trace's steps do not follow one another")
    if not trace.machines or trace.machines[0][0] != 0:
        raise _unusable(path, "the trace does not say where its training began")
    return trace


def step_row(
    step: int, batch: Batch, *, loss: float, gradient_norm: float, replaced: int, rates: list[float]
) -> tuple[Any, ...]:
    """Returns one STEP record; `rates` holds the encoder's learning rate, then each group's."""
    assert batch.choice is not None
    order, draws = hash_choice(batch.choice)
    return step, replaced, loss, gradient_norm, rates[0], hash_rates(rates), order, draws


def hash_choice(choice: Choice) -> tuple[int, int]:
    """Returns the hash of the global batch's samples, and that of one rank's with what was drawn for them."""
    own = [choice.samples.astype("<i8").tobytes()]
    for drawn in choice.draws:
        colours = drawn.distortion
        steps = (colours.brightness, colours.contrast, colours.contrast_first, colours.saturation, colours.hue)
        own += [drawn.offsets.astype("<f8").tobytes(), repr((drawn.ratio, drawn.flip, steps)).encode()]
    return hash_order(choice.order), _hash(b"".join(own))


def hash_order(order: np.ndarray) -> int:
    """Returns the hash of the samples of a global batch."""
    return _hash(order.astype("<i8").tobytes())


def hash_rates(rates: list[float]) -> int:
    """Returns the hash of learning rates."""
    return _hash(np.array(rates, "<f8").tobytes())


def hash_pixels(batch: Batch) -> int:
    """Returns the hash of a batch's images and labels."""
    digest = hashlib.sha256(batch.images.numpy().data)
    digest.update(batch.labels.numpy().data)
    return int.from_bytes(digest.digest()[:8], "little")


def hash_parameters(tensors: Mapping[str, Tensor], names: Iterable[str]) -> np.ndarray:
    """Returns uint64 (names,), each tensor's hash, whatever its order in memory and its device."""
    return np.array([_hash_tensor(tensors[name]) for name in names], np.uint64)


def pixel_steps(iterations: int) -> list[int]:
    """Returns the steps, spread over the training, whose images and labels are hashed: 64, fewer in short ones."""
    count = min(64, max(2, iterations // 8), iterations)
    return sorted({1 + round(position) for position in np.linspace(0, iterations - 1, count).tolist()})


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "little")


def _hash_tensor(tensor: Tensor) -> int:
    values = tensor.detach().contiguous().cpu().reshape(-1)
    if values.dtype.is_floating_point and values.dtype.itemsize == 2:  # bfloat16 is none of numpy's types
        values = values.view(torch.int16)
    return int.from_bytes(hashlib.sha256(values.numpy().data).digest()[:8], "little")


def _read_header(path: Path, line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or header.get("format") != "setr-trace":
        raise _unusable(path, "this is no trace")
    if header.get("version") != VERSION:
        raise _unusable(path, "the trace is of another format", found=header.get("version"), expected=VERSION)
    wrong = [name for name, kind in _HEADER.items() if type(header.get(name)) is not kind]
    if wrong:
        raise _unusable(path, "the trace's first line is not as it should be", found=", ".join(wrong))
    return header


def _read_numbers(path: Path, header: dict[str, Any], data: bytes) -> Trace:
    width = 8 * (1 + len(header["tensors"]))
    ends = np.cumsum(
        [header["steps"] * STEP.itemsize, header["pixels"] * PIXELS.itemsize, header["parameters"] * width]
    )
    if min(header["steps"], header["pixels"], header["parameters"]) < 0 or len(data) != ends[2]:
        raise _unusable(path, "the trace has another length", found=len(data), expected=int(ends[2]))
    table = np.frombuffer(data[ends[1] :], "<u8").reshape(header["parameters"], -1)
    try:
        return Trace(
            identity=header["identity"],
            seed=header["seed"],
            batch_size=header["batch_size"],
            iterations=header["iterations"],
            machines=tuple((int(step), dict(machine)) for step, machine in header["machines"]),
            tensors=tuple(map(str, header["tensors"])),
            saves=tuple(map(int, header["saves"])),
            kept={int(step): str(digest) for step, digest in header["kept"].items()},
            steps=np.frombuffer(data[: ends[0]], STEP),
            pixels=np.frombuffer(data[ends[0] : ends[1]], PIXELS),
            parameters={int(row[0]): row[1:] for row in table},
        )
    except (TypeError, ValueError) as error:
        raise _unusable(path, "the trace's first line is not as it should be", found=error) from None


def _unusable(path: Path, what: str, *, found: object = "", expected: object = "") -> IntegrityError:
    return IntegrityError(
        "E_TRACE",
        what,
        where=path,
        found=found,
        expected=expected,
        remedy="train again: nothing else can show that other code computes the same",
    )
