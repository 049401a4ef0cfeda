"""What an experiment starts from: data and weights, found in their folders and hashed once."""

import contextlib
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from setr.data.locations import is_uri, manifest_at
from setr.data.manifest import MANIFEST_NAME
from setr.errors import EnvironmentFailure, InputError
from setr.files.atomic import read_json, write_json
from setr.files.hashing import file_sha256
from setr.models.importing.weight_files import stored_file
from setr.models.variants import Variant, structure_of
from setr.study.code import loading_code
from setr.study.experiment import sha256_of
from setr.training.proxies import PROXIES

LOADED = (
    "as-loaded.json"  # in the storage path: hashes of tensors as they were put into models, by file, model and code
)


def manifest_hash(location: str) -> str:
    """Returns the SHA-256 of a split's manifest; one on this machine that did not change is not read again."""
    path = Path(location, MANIFEST_NAME)
    stamp = path.stat().st_mtime_ns if not is_uri(location) and path.is_file() else 0
    return _manifest_hash(location, stamp)


@functools.lru_cache(maxsize=64)
def _manifest_hash(location: str, _: int) -> str:
    return manifest_at(location)[1]


def weights_hash(path: Path) -> str:
    """Returns the SHA-256 of a file of weights; one that did not change is not read again."""
    status = path.stat()
    return _weights_hash(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _weights_hash(path: Path, *_: int) -> str:
    return file_sha256(path)


def weight_files(row: Variant, scale: str, folder: Path) -> tuple[Path, ...]:
    """Returns the files a model's encoder starts from: transformer first, then the CNN; none for random weights.

    In miniature weights that nothing stands in for are random too.
    """
    names = [entry.timm_name for entry in (row.pretrained, row.cnn_pretrained) if entry is not None]
    if scale == "miniature":
        if row.timm:
            return ()
        stand_ins = {proxy.stands_for: proxy.name for proxy in PROXIES}
        names = [stand_ins[name] for name in names if name in stand_ins]
    files = tuple(stored_file(folder, name) for name in names)
    for path in files:
        if not path.is_file():
            raise InputError(
                "E_WEIGHTS",
                f"the pre-trained weights of {row.name} are missing",
                where=path,
                remedy="run `python pipelines/weights.py`" + ("" if scale == "miniature" else " sweep.scale=paper"),
            )
    return files


def loaded_hash(files: Sequence[Path], structure: Mapping[str, Any], storage: Path) -> str:
    """Returns the hash of the tensors that the files put into a model of this structure; "" for no files.

    What was found is kept in the storage path, under the hashes of the files and of the code that reads them: only
    what is new has to be loaded, which takes torch and as long as reading the files.
    """
    if not files:
        return ""
    shape = {name: structure.get(name) for name in ("encoder", "image_size", "cnn")}
    key = sha256_of({"files": [weights_hash(path) for path in files], "model": shape, "code": loading_code()})
    known = _known(storage)
    if key not in known:
        from setr.models.weights import loaded_sha256  # with torch, which a plan seldom needs

        known[key] = loaded_sha256(structure_of(structure)[0], *files)
        with contextlib.suppress(EnvironmentFailure):  # a storage that may only be read: found again each time
            # Others may have added to it meanwhile.
            write_json(storage / LOADED, {**(read_json(storage / LOADED) or {}), **known})
    return known[key]


@functools.lru_cache(maxsize=4)
def _known(storage: Path) -> dict[str, str]:
    """Returns what earlier plans have kept; what this process adds is added to it."""
    kept = read_json(storage / LOADED) or {}
    return {str(key): value for key, value in kept.items() if isinstance(value, str) and len(value) == 64}
