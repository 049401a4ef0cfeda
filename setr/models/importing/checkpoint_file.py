"""Opens a checkpoint file of unknown origin and returns its tensors; nothing that the file names is ever executed.

Three ways in, chosen by the first bytes: safetensors; `torch.load(weights_only=True)`; and, for zip archives that carry
pickled objects beside the weights (mmengine's Runner puts a `message_hub` there), an unpickler that knows tensors and
plain containers alone and puts an inert placeholder where anything else is named. Every pickle is read by that one
first, within bounds on time and memory (setr.models.importing.pickle_limits): torch has none.
"""

import contextlib
import errno
import json
import os
import pickle
import re
import struct
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from setr.errors import EnvironmentFailure, InputError, IntegrityError, SetrError
from setr.files.hashing import file_sha256
from setr.models.importing.pickle_limits import MAX_NAME_CHARACTERS, CostlyError
from setr.models.importing.restricted_unpickler import (
    ByteOrderError,
    NamesCodeError,
    read_archive,
    read_pickle,
    read_restricted,
)

RE_SAVE = (
    "where the file is trusted, save the weights alone: "
    "torch.save({'state_dict': checkpoint['state_dict']}, new_file), or safetensors.torch.save_file"
)
DOWNLOAD_AGAIN = "download or copy it again and compare its SHA-256 with the source's"

# Where files keep their weights: mmsegmentation, timm and Lightning; PyTorch's tutorials; DeiT; DeepSpeed; others.
WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net")

_UNPICKLING_ERRORS = (
    pickle.UnpicklingError,
    EOFError,
    TypeError,
    ValueError,
    AttributeError,
    KeyError,
    IndexError,
    OverflowError,
    MemoryError,
    RecursionError,
    RuntimeError,
    AssertionError,  # torch.load asserts what a file says
    struct.error,
)


@dataclass(frozen=True)
class CheckpointFile:
    """What a checkpoint file holds: named tensors (CPU, as stored) and the plain values that stood beside them."""

    path: Path
    sha256: str
    size_bytes: int
    opened_with: str  # safetensors | weights_only | restricted
    tensors: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)
    not_tensors: dict[str, str] = field(default_factory=dict)  # key among the weights -> type of what it holds
    placeholders: tuple[str, ...] = ()  # classes named by the file and not constructed


def read_checkpoint(path: str | Path) -> CheckpointFile:
    """Returns the tensors of a `.safetensors`, `.pth`, `.pt` or `.bin` file without executing anything that it names.

    Raises InputError where the file is no checkpoint or would execute code, IntegrityError where it is cut short or
    damaged, and EnvironmentFailure where TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD asks for unsafe loading.
    """
    path = Path(path)
    refuse_unsafe_environment()
    try:
        return _read(path)
    except OSError as error:
        # A storage or permission that fails says nothing about the bytes.
        raise EnvironmentFailure(
            "E_STORAGE", "the checkpoint cannot be read", where=path, found=error.strerror or error
        ) from None


def _read(path: Path) -> CheckpointFile:
    if not path.is_file():
        what = "a folder stands where a file should be" if path.is_dir() else "there is no such checkpoint file"
        raise InputError("E_CKPT_NOT_FOUND", what, where=path, remedy="name the .pth or .safetensors file itself")
    size_bytes = path.stat().st_size
    if size_bytes == 0:
        raise IntegrityError("E_CKPT_TRUNCATED", "the checkpoint file is empty", where=path, remedy=DOWNLOAD_AGAIN)
    with path.open("rb") as file:
        start = file.read(512)
    placeholders: tuple[str, ...] = ()
    if start.startswith(b"PK\x03\x04"):
        opened_with, content, placeholders = _read_zip(path)
    elif start[8:9] == b"{":
        opened_with, content = "safetensors", _read_safetensors(path)
    elif start.startswith(b"\x80"):
        opened_with, content = "weights_only", _read_legacy(path)
    else:
        raise InputError(
            "E_CKPT_FORMAT",
            "the file is not a checkpoint",
            where=path,
            found=_kind_of_file(start),
            expected="a file of torch.save or safetensors",
            remedy=DOWNLOAD_AGAIN,
        )
    tensors, not_tensors, metadata = _split(content, path, placeholders)
    return CheckpointFile(
        path, file_sha256(path), size_bytes, opened_with, tensors, metadata, not_tensors, placeholders
    )


def refuse_unsafe_environment() -> None:
    """Raises EnvironmentFailure where the environment turns torch's safe loading off for the whole process."""
    name = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    if os.environ.get(name, "0").lower() in ("1", "y", "yes", "true"):
        raise EnvironmentFailure(
            "E_ENV_UNSAFE_LOAD",
            f"{name} is set: every torch.load of this process may execute code",
            remedy=f"unset {name}",
        )


def _damaged(path: Path, error: Exception) -> IntegrityError:
    found = str(error) or type(error).__name__
    what = "the checkpoint file is cut short or damaged"
    return IntegrityError("E_CKPT_TRUNCATED", what, where=path, found=found, remedy=DOWNLOAD_AGAIN)


def _unsafe(path: Path, name: str) -> InputError:
    return InputError(
        "E_CKPT_UNSAFE",
        "the file could execute code when loaded; nothing was executed",
        where=path,
        found=f"a pickle that names {name}",
        expected="tensors and plain containers",
        remedy=RE_SAVE,
    )


def _kind_of_file(start: bytes) -> str:
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page (the download answered with an error page)"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer (run git lfs pull)"
    if start.startswith(b"\x1f\x8b"):
        return "a gzip archive (unpack it first)"
    if start[257:262] == b"ustar":
        return "a tar archive: torch's format before 0.1.10, never read here because loading one could execute code"
    return f"bytes that start {start[:8].hex(' ')}"


def _read_safetensors(path: Path) -> dict[str, Any]:
    # Read rather than mapped: a file that shrinks under a mapping ends the process with SIGBUS.
    data = path.read_bytes()
    try:
        tensors = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise _damaged(path, error) from None
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return {"state_dict": tensors, **header.get("__metadata__", {})}


LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # torch.serialization.MAGIC_NUMBER


def _read_legacy(path: Path) -> Any:
    try:
        _inspect_legacy(path)
        # As an open file: a path that ends in .safetensors would be given to another reader.
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except NamesCodeError as error:
        raise _unsafe(path, str(error)) from None
    except CostlyError as error:
        raise _costly(path, error) from None
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL ([\w.]+)", str(error))
        if name:
            raise _unsafe(path, name.group(1)) from None
        raise InputError(
            "E_CKPT_FORMAT",
            "the file is a pickle that torch.save did not write",
            where=path,
            expected="a file of torch.save or safetensors",
            remedy=RE_SAVE,
        ) from None
    except _UNPICKLING_ERRORS as error:
        raise _damaged(path, error) from None


def _inspect_legacy(path: Path) -> None:
    """Raises where the five pickles at the start of torch's format before 1.6 ask for what weights do not need."""
    with path.open("rb") as file:
        for index in range(5):
            pickled = read_pickle(file)
            if index == 0 and pickled.content != LEGACY_MAGIC:
                raise pickle.UnpicklingError("no magic number")
            if pickled.beyond_torch:
                raise NamesCodeError(pickled.beyond_torch[0])


def _costly(path: Path, error: CostlyError) -> InputError:
    return InputError(
        "E_CKPT_COSTLY",
        "reading the file would take more time or memory than any checkpoint needs",
        where=path,
        found=error,
        expected="tensors by name and plain values beside them",
        remedy=RE_SAVE,
    )


def _read_zip(path: Path) -> tuple[str, Any, tuple[str, ...]]:
    """Returns how the archive was opened, its content, and the names of the classes that became placeholders."""
    try:
        with zipfile.ZipFile(path) as archive:
            root = _check_archive(archive, path)
            pickled = read_archive(archive, root)
            if not pickled.beyond_torch:
                with contextlib.suppress(pickle.UnpicklingError), path.open("rb") as file:
                    return "weights_only", torch.load(file, map_location="cpu", weights_only=True), ()
            return "restricted", *read_restricted(archive, root, pickled)
    except CostlyError as error:
        raise _costly(path, error) from None
    except NamesCodeError as error:
        raise _unsafe(path, str(error)) from None
    except ByteOrderError as error:
        what = "the weights have another byte order"
        raise InputError(
            "E_CKPT_FORMAT", what, where=path, found=error, expected=sys.byteorder, remedy=RE_SAVE
        ) from None
    except (zipfile.BadZipFile, OSError, *_UNPICKLING_ERRORS) as error:
        # A damaged directory makes zipfile seek to where no file has bytes (EINVAL).
        if isinstance(error, SetrError) or (isinstance(error, OSError) and error.errno != errno.EINVAL):
            raise
        raise _damaged(path, error) from None


def _check_archive(archive: zipfile.ZipFile, path: Path) -> str:
    """Returns the archive's root folder after its checksums were verified: torch.load itself skips them on purpose."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if any("/code/" in name for name in names):
        found = "a TorchScript program"
    elif len(pickles) != 1:
        found = "a zip archive without data.pkl" if not pickles else "several data.pkl"
    elif len(set(names)) < len(names):
        found = "two entries of one name"
    elif any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
        found = "compressed or encrypted entries"
    else:
        found = ""
    if found:
        raise InputError(
            "E_CKPT_FORMAT",
            "the file is not a checkpoint",
            where=path,
            found=found,
            expected="an archive as torch.save writes it",
            remedy="unpack it, or " + RE_SAVE,
        )
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        # Entries that lie over each other: a small file whose checksums take hours.
        what = "the archive's entries are longer than the file"
        raise IntegrityError("E_CKPT_DAMAGED", what, where=path, remedy=DOWNLOAD_AGAIN)
    damaged = archive.testzip()
    if damaged:
        what = "bytes of the checkpoint do not match their checksum"
        raise IntegrityError("E_CKPT_DAMAGED", what, where=f"{path}: {damaged}", remedy=DOWNLOAD_AGAIN)
    return pickles[0].split("/")[0]


def _has_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(entry, Tensor) for entry in value.values())


def _is_plain(value: Tensor) -> bool:
    return value.layout is torch.strided and value.device.type == "cpu" and not (value.is_quantized or value.is_nested)


def _split(
    content: Any, path: Path, placeholders: tuple[str, ...]
) -> tuple[dict[str, Tensor], dict[str, str], dict[str, Any]]:
    """Returns the tensors, the types of what stands among them and is none, and the values beside them."""
    weights: Any = content
    metadata: dict[str, Any] = {}
    if isinstance(content, Mapping):
        wrapper = next((name for name in WRAPPERS if _has_tensors(content.get(name))), None)
        if wrapper is not None:
            weights = content[wrapper]
            metadata = {str(key): value for key, value in content.items() if key != wrapper}
    tensors: dict[str, Tensor] = {}
    not_tensors: dict[str, str] = {}
    for key, value in weights.items() if isinstance(weights, Mapping) else ():
        if isinstance(key, str) and len(key) > MAX_NAME_CHARACTERS:
            raise _costly(path, CostlyError(f"a parameter's name of {len(key)} characters"))
        if isinstance(key, str) and isinstance(value, Tensor) and _is_plain(value):
            tensors[key] = value.detach()
        else:
            not_tensors[str(key)] = type(value).__name__
    if not tensors:
        held = f"{type(content).__name__} with {len(not_tensors)} values" if not_tensors else type(content).__name__
        raise InputError(
            "E_CKPT_FORMAT",
            "the file holds no weights by name",
            where=path,
            found=f"objects of {', '.join(placeholders[:3])}" if placeholders else held,
            expected="a dictionary of tensors, alone or under " + ", ".join(WRAPPERS),
            remedy=RE_SAVE,
        )
    return tensors, not_tensors, metadata
