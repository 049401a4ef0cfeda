"""Checkpoints: folders that are complete or not there, and that are verified before they are used.

    <root>/step-00000400/   model.safetensors  optimizer.safetensors  [ema.safetensors]  state.json  manifest.json

A folder is written under a temporary name, every file flushed to disk, the manifest with their hashes last, and then
renamed. Nothing is ever overwritten. What is read back is hashed first, so a flipped bit, a cut file or a folder of
another experiment is found, put aside and told; nothing in here is unpickled.
"""

import hashlib
import json
import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from setr.errors import EnvironmentFailure, IntegrityError
from setr.files.atomic import (
    OWNED,
    Owner,
    give_rights,
    make_folder,
    move_aside,
    refused,
    sync_folder,
    temporary_path,
    write_file,
)
from setr.files.hashing import file_sha256
from setr.record.checkpoint_names import STEP_NAME, step_name, step_of, steps

SCHEMA = 1
_MANIFEST = "manifest.json"
STATE = "state.json"

Tensors = Mapping[str, Mapping[str, Tensor]]  # {"model": {...}, "optimizer": {...}}: one safetensors file each


@dataclass(frozen=True)
class CheckpointInfo:
    """One checkpoint on disk; `sha256` is its manifest's, which holds the hashes of everything else."""

    path: Path
    step: int  # optimiser steps finished
    sha256: str


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint's contents."""

    info: CheckpointInfo
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save(
    root: Path, step: int, tensors: Tensors, state: Mapping[str, Any], *, owner: Owner | None = None
) -> CheckpointInfo:
    """Writes a checkpoint and returns it once it would survive a power cut.

    `state` is JSON-able and names the experiment's `identity`. Raises EnvironmentFailure if the disk refuses, or if
    `owner` does not own the folder any more; then nothing is left behind.
    """
    final = root / step_name(step)
    folder = _beside(final, owner)
    try:
        if owner is not None:
            owner.check()
        assert not final.exists(), f"{final} is written once"
        _require_space(root, tensors)
        make_folder(folder)
        sha256 = _write(folder, step, tensors, state)
        if owner is not None:
            owner.check()
        folder.rename(final)
        sync_folder(root)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(error, OSError | SafetensorError):
            raise
        lost = refused(final, error, owner) if isinstance(error, OSError) else None
        if lost is not None and lost.code == "E_LEASE":
            raise lost from None
        raise EnvironmentFailure(
            "E_STORAGE", "cannot write the checkpoint", where=final, found=error, remedy="free space, or change folders"
        ) from None
    return CheckpointInfo(final, step, sha256)


def _write(folder: Path, step: int, tensors: Tensors, state: Mapping[str, Any]) -> str:
    """Writes and syncs all files, the manifest last; returns the manifest's SHA-256."""
    for name, entries in tensors.items():
        path = folder / f"{name}.safetensors"
        safetensors.torch.save_file(dict(entries), path)
        give_rights(path)
    _write_json(folder / STATE, {**state, "step": step})
    files = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        files[path.name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    manifest = {"schema": SCHEMA, "step": step, "identity": state.get("identity", ""), "files": files}
    _write_json(folder / _MANIFEST, manifest)
    sync_folder(folder)
    return file_sha256(folder / _MANIFEST)


def load(path: Path, *, identities: Collection[str] | None = None) -> Checkpoint:
    """Returns a checkpoint after every byte of it was checked; tensors are on the CPU.

    Raises IntegrityError for anything missing, added, changed, cut, not finite, or of an experiment that is none of
    `identities` (None: any).
    """
    manifest, sha256 = _read_manifest(path)
    if identities is not None and manifest["identity"] not in identities:
        _require(path, "identity", manifest["identity"], " or ".join(identities))
    found = {entry.name for entry in path.iterdir()} - {_MANIFEST}
    _require(path, "files", ", ".join(sorted(found)), ", ".join(sorted(manifest["files"])))
    contents = {name: _read_file(path / name, entry) for name, entry in manifest["files"].items()}
    try:
        state = json.loads(contents.pop(STATE))
        # Parsed from the very bytes that were hashed, not from a mapping of a file that may change.
        tensors = {name.removesuffix(".safetensors"): safetensors.torch.load(data) for name, data in contents.items()}
    except (KeyError, ValueError, RecursionError, SafetensorError) as error:
        raise IntegrityError("E_CHECKPOINT", "cannot be read", where=path, found=error) from None
    for key in ("step", "identity"):
        _require(path, f"{key} in {STATE}", state.get(key, ""), manifest[key])
    for file, entries in tensors.items():
        for name, tensor in entries.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise IntegrityError("E_CHECKPOINT", "a tensor is not finite", where=path / file, found=name)
    return Checkpoint(CheckpointInfo(path, manifest["step"], sha256), tensors, state)


def load_latest(
    root: Path,
    identities: Collection[str] | None = None,
    *,
    on_damaged: Callable[[Path, str], None] = lambda path, reason: None,
    owner: Owner | None = None,
) -> Checkpoint | None:
    """Returns the newest checkpoint that verifies, None if there is none.

    Damaged ones are renamed to quarantine-... and told to `on_damaged` (new path, reason); what an interrupted write
    left behind is removed (an `owner` has removed it when the folder became its own).
    """
    if owner is None:
        remove_leftovers(root)
    for path in reversed(steps(root)):
        try:
            return load(path, identities=identities)
        except IntegrityError as error:
            aside = root / f"quarantine-{path.name}-{time.time_ns()}"
            move_aside(path, aside, owner=owner)
            on_damaged(aside, str(error))
    return None


def weights_to_score(path: Path) -> dict[str, Tensor]:
    """Returns a verified checkpoint's model, with the moving average in place of the parameters if one was kept."""
    tensors = load(path).tensors
    return {**tensors["model"], **tensors.get("ema", {})}


def verify_checkpoint(root: Path, step: int) -> CheckpointInfo:
    """Returns the checkpoint of a step after every byte of it was checked; raises IntegrityError as load() does."""
    return load(root / step_name(step)).info


def manifest_hash(path: Path) -> str:
    """Returns a checkpoint's SHA-256: its manifest's, nothing else is read; raises IntegrityError without one."""
    return _read_manifest(path)[1]


def remove_leftovers(root: Path) -> None:
    """Removes what interrupted writes and deletions left behind; nobody else may be writing."""
    if root.is_dir():
        for path in root.glob(f"{OWNED}*"):
            shutil.rmtree(path, ignore_errors=True)


def prune(root: Path, *, keep_last: int, keep_steps: Iterable[int] = (), owner: Owner | None = None) -> list[int]:
    """Deletes all but the `keep_last` newest checkpoints and those of `keep_steps`; returns the steps deleted.

    Raises EnvironmentFailure.
    """
    kept = set(keep_steps)
    removed = []
    for path in steps(root)[: -max(1, keep_last)]:
        if step_of(path) not in kept:
            # Renamed first: a deletion that is cut off must not leave half a checkpoint under its name.
            aside = _beside(path, owner)
            move_aside(path, aside, owner=owner)
            shutil.rmtree(aside, ignore_errors=True)
            removed.append(step_of(path))
    return removed


class Writer:
    """Writes checkpoints aside while training goes on; at most one is under way, so memory and disk stay bounded."""

    def __init__(self, root: Path) -> None:
        """Write under `root`."""
        self.root = root
        self.owner: Owner | None = None  # of `root`, asked before a checkpoint gets its name
        self.seconds = 0.0  # the last write took
        self._copies: dict[str, dict[str, Tensor]] = {}
        self._thread: threading.Thread | None = None
        self._written: CheckpointInfo | None = None
        self._error: BaseException | None = None

    def save(self, step: int, tensors: Tensors, state: Mapping[str, Any]) -> None:
        """Copy the tensors and start to write them; the last write must have been waited for."""
        assert (self._thread, self._written) == (None, None), "join() comes before the next save()"
        copies = self._copy(tensors)
        self._thread = threading.Thread(target=self._write, args=(step, copies, state), name="checkpoint", daemon=True)
        self._thread.start()

    def join(self) -> CheckpointInfo | None:
        """Wait for the write under way; returns its checkpoint once, None if there was none, raises what it raised."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        written, error = self._written, self._error
        self._written = self._error = None
        if error is not None:
            raise error
        return written

    def _write(self, step: int, tensors: Tensors, state: Mapping[str, Any]) -> None:
        start = time.perf_counter()
        try:
            self._written = save(self.root, step, tensors, state, owner=self.owner)
        except BaseException as error:  # handed to join(): a thread has nobody else to tell
            self._error = error
        self.seconds = time.perf_counter() - start

    @torch.no_grad()
    def _copy(self, tensors: Tensors) -> Tensors:
        """Returns copies in memory that is reused: fresh pages cost more than the copying."""
        layout = {file: {name: (t.shape, t.dtype) for name, t in entries.items()} for file, entries in tensors.items()}
        held = {file: {n: (t.shape, t.dtype) for n, t in entries.items()} for file, entries in self._copies.items()}
        if layout != held:
            self._copies = {
                # Pinned where it comes from a GPU: training stands still for the copy.
                file: {n: torch.empty(t.shape, dtype=t.dtype, pin_memory=t.is_cuda) for n, t in entries.items()}
                for file, entries in tensors.items()
            }
        for file, entries in tensors.items():
            for name, tensor in entries.items():
                self._copies[file][name].copy_(tensor)
        return self._copies


def _write_json(path: Path, value: object) -> None:
    write_file(path, _json(value).encode())


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n"


def _beside(path: Path, owner: Owner | None) -> Path:
    """Returns a temporary name beside `path` that remove_leftovers(), or the owner's successor, clears away."""
    return temporary_path(path, owner) if owner is not None else path.with_name(f"{OWNED}{path.name}-{os.getpid()}")


def _require_space(root: Path, tensors: Tensors) -> None:
    needed = sum(tensor.nbytes for entries in tensors.values() for tensor in entries.values()) + (1 << 20)
    make_folder(root)
    free = shutil.disk_usage(root).free
    if free < needed:
        raise EnvironmentFailure(
            "E_STORAGE",
            "no space for a checkpoint",
            where=root,
            found=f"{free / 1e6:.0f} MB free",
            expected=f"{math.ceil(needed / 1e6)} MB",
            remedy="free space, or keep fewer checkpoints",
        )


def _read_manifest(path: Path) -> tuple[dict[str, Any], str]:
    data = _read_bytes(path / _MANIFEST)
    try:
        manifest = json.loads(data)
        # Written in one way only: then a flipped bit anywhere in it shows, even between two values.
        well_formed = data == _json(manifest).encode() and set(manifest) == {"schema", "step", "identity", "files"}
        well_formed = well_formed and all(set(entry) == {"bytes", "sha256"} for entry in manifest["files"].values())
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise IntegrityError("E_CHECKPOINT", "no readable manifest", where=path, found=error) from None
    if not well_formed:
        raise IntegrityError("E_CHECKPOINT", "the manifest was changed", where=path)
    _require(path, "schema", manifest["schema"], SCHEMA)
    match = STEP_NAME.search(path.name)
    _require(path, "step", manifest["step"], int(match[1]) if match else manifest["step"])
    return manifest, hashlib.sha256(data).hexdigest()


def _read_file(path: Path, entry: Mapping[str, Any]) -> bytes:
    data = _read_bytes(path)
    _require(path, "size", len(data), entry["bytes"])
    _require(path, "sha256", hashlib.sha256(data).hexdigest(), entry["sha256"])
    return data


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise IntegrityError("E_CHECKPOINT", "a file is missing", where=path) from None
    except OSError as error:
        # A storage that fails for a moment says nothing about the bytes: not damaged, not to be put aside.
        raise EnvironmentFailure(
            "E_STORAGE", "cannot read the checkpoint", where=path, found=error.strerror, remedy="mend the storage"
        ) from None


def _require(path: Path, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise IntegrityError("E_CHECKPOINT", f"{what} differs", where=path, found=found, expected=expected)
