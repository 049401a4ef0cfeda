"""Reads a torch archive whose pickle names classes beside the weights, resolving none of these names.

The unpickler builds records, plain containers and placeholders; tensors are made afterwards from records whose bounds
were checked. A pickle can therefore call nothing, whatever it names: it only chooses which inert values stand where.
The same reading, without the tensors, tells whether torch.load may be given a file: torch executes nothing either, but
it hashes, copies and allocates whatever it is told.
"""

import io
import math
import pickle
import sys
import zipfile
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor

from setr.models.importing.pickle_limits import (
    MAX_DIMENSIONS,
    MAX_PICKLE_BYTES,
    BoundedUnpickler,
    CostlyError,
    require_key,
    require_name,
)

# Packages whose objects may stand beside the weights of an honest file (mmengine's Runner stores its message_hub).
# They become placeholders. A name from elsewhere (posix.system, builtins.eval) is reported: no checkpoint needs it.
HARMLESS_PACKAGES = {
    "addict", "argparse", "collections", "datetime", "enum", "mmcls", "mmcv", "mmdet", "mmengine", "mmpretrain",
    "mmseg", "numpy", "pathlib", "torch",
}  # fmt: skip
HARMLESS_NAMES = {"_codecs.encode", "copyreg._reconstructor", "builtins.getattr"} | {
    f"builtins.{name}" for name in ("bytearray", "complex", "frozenset", "list", "object", "range", "set", "slice")
}


class NamesCodeError(Exception):
    """The pickle names a function or class that no checkpoint needs; its text is that name."""


class ByteOrderError(Exception):
    """The weights were written on a machine of the other byte order; its text is that order."""


class _Record:
    """Base of everything the unpickler may build: BUILD, which could set attributes, changes nothing."""

    def __setstate__(self, state: object) -> None:
        return None


class _Placeholder(_Record):
    """Stands for an object of any other class: takes whatever a pickle does to it, keeps nothing, calls nothing."""

    def __new__(cls, *args: object, **kwargs: object) -> "_Placeholder":
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        return None

    def __call__(self, *args: object, **kwargs: object) -> "_Placeholder":
        return _Placeholder()

    def __setitem__(self, key: object, value: object) -> None:
        return None

    def append(self, value: object) -> None:
        return None

    def extend(self, values: object) -> None:
        return None

    def add(self, value: object) -> None:
        return None


class _PlainDict(dict, _Record):
    """OrderedDict and its like, without the attributes that a pickle may hang on them."""

    def __new__(cls, *args: object, **kwargs: object) -> "_PlainDict":
        return super().__new__(cls)

    def __init__(self, *args: Any) -> None:
        items = args[0] if len(args) == 1 and isinstance(args[0], (dict, list, tuple)) else ()
        for pair in () if isinstance(items, dict) else items:
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise pickle.UnpicklingError("a dictionary is made of something other than pairs")
            require_key(pair[0])
        super().__init__(items)


class _PlainTuple(_Record):
    """torch.Size and tuple, as a plain tuple."""

    def __new__(cls, values: object = ()) -> Any:
        return tuple(values) if isinstance(values, (list, tuple)) else ()


@dataclass(frozen=True)
class _Storage(_Record):
    dtype: torch.dtype
    key: str
    elements: int


@dataclass(frozen=True)
class _TensorRecord(_Record):
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def __setstate__(self, state: object) -> None:
        # torch would point the tensor at another storage and grow that.
        raise pickle.UnpicklingError("a tensor is changed after it was made")


class _RebuildTensor(_Record):
    """torch._utils._rebuild_tensor and _rebuild_tensor_v2: a record of the tensor instead of the tensor."""

    def __new__(cls, storage: Any, offset: Any, size: Any, stride: Any, *rest: object) -> Any:
        if isinstance(storage, _Placeholder):
            return _Placeholder()
        if len(size) > MAX_DIMENSIONS or len(stride) > MAX_DIMENSIONS:
            raise CostlyError(f"a tensor of {max(len(size), len(stride))} dimensions")
        numbers = (offset, *size, *stride)
        if not isinstance(storage, _Storage) or any(
            type(number) is not int or not 0 <= number < 1 << 63 for number in numbers
        ):
            raise pickle.UnpicklingError("a tensor is described by something other than counts")
        if len(size) != len(stride):
            raise pickle.UnpicklingError("a tensor has other numbers of sizes and strides")
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if math.prod(size) and (last >= storage.elements or math.prod(size) > storage.elements):
            raise pickle.UnpicklingError("a tensor reaches past the end of its storage")
        return _TensorRecord(storage, offset, tuple(size), tuple(stride))


class _RebuildParameter(_Record):
    """torch._utils._rebuild_parameter: the tensor's record."""

    def __new__(cls, data: Any, *rest: object) -> Any:
        return data if isinstance(data, _TensorRecord) else _Placeholder()


_STORAGE_DTYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
# One class per storage type: a pickle names the class, persistent_load reads its dtype.
_STORAGE_TYPES = {name: type(name, (_Record,), {"dtype": dtype}) for name, dtype in _STORAGE_DTYPES.items()}

_CONTAINERS: dict[str, type] = {
    "collections.OrderedDict": _PlainDict,
    "collections.defaultdict": _PlainDict,
    "builtins.dict": _PlainDict,
    "builtins.tuple": _PlainTuple,
    "torch.Size": _PlainTuple,
    "torch._utils._rebuild_tensor": _RebuildTensor,
    "torch._utils._rebuild_tensor_v2": _RebuildTensor,
    "torch._utils._rebuild_parameter": _RebuildParameter,
}


# What torch.load may be given: the names whose effect the records above have too. It knows more, and some of these
# allocate what they are told (torch.FloatTensor, bytearray) or hash it (set, Counter).
_TORCH_NAMES = (
    {name for name in _CONTAINERS if name.startswith(("collections.OrderedDict", "torch."))}
    | {f"torch.{name}" for name in _STORAGE_TYPES}
    | {str(value) for value in vars(torch).values() if isinstance(value, torch.dtype)}
    | {"torch.device"}
)


class _RestrictedUnpickler(BoundedUnpickler):
    """Resolves no name to what it means: every class and function of the file becomes one of the records above."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="utf-8")
        self.placeholders: set[str] = set()
        self.names: set[str] = set()
        self.storages: set[_Storage] = set()

    def find_class(self, module: str, name: str) -> type:
        require_name(module, name)
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        full_name = f"{module}.{name}"
        self.names.add(full_name)
        if full_name in _CONTAINERS:
            return _CONTAINERS[full_name]
        if module in ("torch", "torch.storage") and name in _STORAGE_TYPES:
            return _STORAGE_TYPES[name]
        if module.split(".")[0] not in HARMLESS_PACKAGES and full_name not in HARMLESS_NAMES:
            raise NamesCodeError(full_name)
        self.placeholders.add(full_name)
        return _Placeholder

    def persistent_load(self, identity: Any) -> _Storage | _Placeholder:
        if not isinstance(identity, tuple) or len(identity) not in (5, 6):
            return _Placeholder()
        kind, storage_type, key, _, elements = identity[:5]
        require_name(key)
        dtype = getattr(storage_type, "dtype", None)
        if kind != "storage" or type(key) is not str or type(elements) is not int or not 0 <= elements < 1 << 63:
            raise pickle.UnpicklingError("a storage is described in a way torch.save does not use")
        if not isinstance(dtype, torch.dtype):
            return _Placeholder()  # of a type that no weights have
        storage = _Storage(dtype, key, elements)
        self.storages.add(storage)
        return storage


@dataclass(frozen=True)
class Pickled:
    """What a pickle holds, without its tensors' values."""

    content: Any
    placeholders: tuple[str, ...]  # names of which nothing but a placeholder was made
    names: frozenset[str]
    storages: frozenset[_Storage]

    @property
    def beyond_torch(self) -> tuple[str, ...]:
        """Returns the names for which the file must not be given to torch.load."""
        return tuple(sorted(self.names - _TORCH_NAMES))


def read_pickle(file: BinaryIO) -> Pickled:
    """Returns the next pickle of a file.

    Raises NamesCodeError, CostlyError, or what a malformed pickle makes its parser raise (UnpicklingError, EOFError,
    TypeError, ...).
    """
    unpickler = _RestrictedUnpickler(file)
    content = unpickler.load()
    names, storages = frozenset(unpickler.names), frozenset(unpickler.storages)
    return Pickled(content, tuple(sorted(unpickler.placeholders)), names, storages)


def read_archive(archive: zipfile.ZipFile, root: str) -> Pickled:
    """Returns the pickle of a torch archive; raises as read_pickle does, and where a storage has another size."""
    sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    if sizes[f"{root}/data.pkl"] > MAX_PICKLE_BYTES:
        raise CostlyError(f"a pickle of {sizes[f'{root}/data.pkl']:,} bytes beside the weights")
    pickled = read_pickle(io.BytesIO(archive.read(f"{root}/data.pkl")))
    for storage in pickled.storages:
        stored = sizes.get(f"{root}/data/{storage.key}")
        if stored is not None and stored != storage.elements * storage.dtype.itemsize:
            raise pickle.UnpicklingError(f"storage {storage.key} has {stored} bytes for {storage.elements} elements")
    return pickled


def read_restricted(archive: zipfile.ZipFile, root: str, pickled: Pickled) -> tuple[Any, tuple[str, ...]]:
    """Returns the content of a torch archive and the names that became placeholders.

    Tensors are made of the weights alone, which stand at most two dictionaries deep. Raises ByteOrderError, or what a
    malformed archive makes its parser raise.
    """
    names = set(archive.namelist())
    order = archive.read(f"{root}/byteorder").decode() if f"{root}/byteorder" in names else "little"
    if order != sys.byteorder:
        raise ByteOrderError(order)
    return _tensors_in(pickled.content, archive, root, {}), pickled.placeholders


def _tensors_in(content: Any, archive: zipfile.ZipFile, root: str, storages: dict[str, Tensor], depth: int = 0) -> Any:
    """Returns `content` with the records of its first two levels read as tensors; deeper ones, an optimizer's, stay."""
    if isinstance(content, _TensorRecord):
        return _read_tensor(content, archive, root, storages)
    if isinstance(content, dict) and depth < 2:
        return {key: _tensors_in(value, archive, root, storages, depth + 1) for key, value in content.items()}
    return content


def _read_tensor(record: _TensorRecord, archive: zipfile.ZipFile, root: str, storages: dict[str, Tensor]) -> Tensor:
    storage = record.storage
    # Compared as a name of the archive, so a key cannot lead anywhere else.
    name = f"{root}/data/{storage.key}"
    if name not in storages:
        data = bytearray(archive.read(name))
        storages[name] = torch.frombuffer(data, dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
    stored = storages[name]
    if stored.numel() != storage.elements * storage.dtype.itemsize:
        raise pickle.UnpicklingError(
            f"storage {storage.key} has {stored.numel()} bytes for {storage.elements} elements"
        )
    return torch.as_strided(stored.view(storage.dtype), record.size, record.stride, record.offset)
