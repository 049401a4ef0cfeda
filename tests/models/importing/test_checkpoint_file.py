"""Nothing a checkpoint file names is executed, and what is wrong with it is said in one line."""

import contextlib
import io
import os
import pickle
import random
import tarfile
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from setr.errors import EnvironmentFailure, InputError, IntegrityError, SetrError
from setr.files.hashing import file_sha256
from setr.models.importing.checkpoint_file import read_checkpoint


class Execute:
    """A pickled instance creates the marker file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.fixture
def weights() -> OrderedDict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(6, 4, generator=generator)
    return OrderedDict(
        a=whole, b=whole[2:4].t(), c=torch.arange(3), d=torch.randn(5, generator=generator).half(), e=torch.tensor(7)
    )


@pytest.fixture
def runner_content(weights: OrderedDict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What mmengine's Runner stores: weights, an optimizer, and a message hub of its own class with numpy values."""

    class HistoryBuffer:
        def __init__(self) -> None:
            self.history = np.arange(4.0)
            self.last = np.float64(0.5)
            self.methods = {"mean": HistoryBuffer.mean}

        def mean(self) -> float:
            return float(self.history.mean())

    module = ModuleType("mmengine.logging.history_buffer")
    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = module.__name__, "HistoryBuffer"
    HistoryBuffer.mean.__module__, HistoryBuffer.mean.__qualname__ = module.__name__, "HistoryBuffer.mean"
    module.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(__import__("sys").modules, name, ModuleType(name))
    monkeypatch.setitem(__import__("sys").modules, module.__name__, module)
    parameter = torch.nn.Parameter(torch.ones(2))
    return {
        "meta": {"iter": 3, "cfg": "model = dict()", "seed": np.int64(1)},
        "state_dict": weights | {"parameter": parameter},
        "message_hub": {"log_scalars": OrderedDict(loss=HistoryBuffer()), "counts": defaultdict(dict)},
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
    }


def one_line(error: pytest.ExceptionInfo[SetrError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_opens_what_torch_and_safetensors_write(tmp_path: Path, weights: OrderedDict[str, torch.Tensor]) -> None:
    torch.save({"state_dict": weights, "meta": {"epoch": 3}}, tmp_path / "wrapped.pth")
    torch.save({"model": weights}, tmp_path / "deit.pth")
    torch.save(weights, tmp_path / "plain.pth")
    torch.save(weights, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file(
        {key: value.contiguous().clone() for key, value in weights.items()}, tmp_path / "x.safetensors", {"k": "v"}
    )
    for path in sorted(tmp_path.iterdir()):
        file = read_checkpoint(path)
        assert file.opened_with == ("safetensors" if path.suffix == ".safetensors" else "weights_only")
        assert list(file.tensors) == list(weights) or path.suffix == ".safetensors"
        assert all(torch.equal(file.tensors[key], value) for key, value in weights.items())
        assert file.sha256 == file_sha256(path)
        assert file.size_bytes == path.stat().st_size
    assert read_checkpoint(tmp_path / "wrapped.pth").metadata == {"meta": {"epoch": 3}}
    assert read_checkpoint(tmp_path / "x.safetensors").metadata == {"k": "v"}


def test_reads_a_runner_checkpoint_without_its_classes(
    tmp_path: Path, weights: OrderedDict[str, torch.Tensor], runner_content: dict[str, Any]
) -> None:
    path = tmp_path / "iter_3.pth"
    torch.save(runner_content, path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    file = read_checkpoint(path)
    assert file.opened_with == "restricted"
    assert "mmengine.logging.history_buffer.HistoryBuffer" in file.placeholders
    assert file.metadata["meta"]["iter"] == 3
    assert list(file.tensors) == [*weights, "parameter"]
    for key, value in weights.items():
        assert torch.equal(file.tensors[key], value)
        assert file.tensors[key].dtype == value.dtype


@pytest.mark.parametrize("zipped", [True, False])
def test_executes_nothing(tmp_path: Path, weights: OrderedDict[str, torch.Tensor], zipped: bool) -> None:
    marker = tmp_path / "marker"
    for name, content in {
        "beside": {"state_dict": weights, "meta": Execute(marker)},
        "inside": {"state_dict": {**weights, "x": Execute(marker)}},
        "alone": Execute(marker),
    }.items():
        path = tmp_path / f"{name}.pth"
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(InputError) as error:
            read_checkpoint(path)
        assert "E_CKPT_UNSAFE" in one_line(error)
        assert "posix.system" in one_line(error)
    assert not marker.exists()


def test_executes_nothing_in_other_containers(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    raw = tmp_path / "raw.pkl"
    raw.write_bytes(pickle.dumps({"state_dict": Execute(marker)}))
    tar = tmp_path / "old.tar"
    with tarfile.open(tar, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(Execute(marker))
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    renamed = tmp_path / "renamed.safetensors"
    renamed.write_bytes(raw.read_bytes())
    for path in (raw, tar, renamed):
        with pytest.raises(InputError) as error:
            read_checkpoint(path)
        one_line(error)
    assert not marker.exists()


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize(
    "payload",
    [
        # Names that look harmless, chained to reach what is not: getattr, BUILD on what was built, a dotted name.
        b"cbuiltins\ngetattr\n(cnumpy\ntesting\nVsystem\ntR(Vtouch marker\ntR.",
        b"ccollections\nOrderedDict\n(tR}Vitems\ncnumpy\nsystem\nsb.",
        b"cnumpy\n__builtins__.eval\n(V__import__('os').system('touch marker')\ntR.",
        b"ctorch._utils\n_rebuild_tensor_v2\n}V__call__\nI1\nsb.",
        b"ctorch\nFloatStorage\n)R.",
        b"(lp0\ng0\na.",
        b"}r\xff\xff\xff\xff.",  # memo entry 4,294,967,295
        b".",
        b"",
    ],
)
def test_odd_pickles_stay_inert(tmp_path: Path, payload: bytes, protocol: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = (b"\x80" + bytes([protocol]) if protocol > 1 else b"") + payload
    write_archive(tmp_path / "odd.pth", {"data.pkl": data})
    with pytest.raises((InputError, IntegrityError)) as error:
        read_checkpoint(tmp_path / "odd.pth")
    one_line(error)
    assert not (tmp_path / "marker").exists()


def write_archive(path: Path, entries: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(f"archive/{name}", data)


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [((4, 4), (4, 1), 9), ((5, 5), (5, 1), 0), ((2, 2), (-1, 1), 4), ((10**9,), (0,), 0), ((2,), (2**62,), 0)],
)
def test_a_tensor_outside_its_storage_is_refused(
    tmp_path: Path, runner_content: dict[str, Any], size: tuple[int, ...], stride: tuple[int, ...], offset: int
) -> None:
    class Lies:
        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor = tensor

        def __reduce__(self) -> tuple[Any, ...]:
            storage = torch.storage.TypedStorage(
                wrap_storage=self.tensor.untyped_storage(), dtype=torch.float32, _internal=True
            )
            return torch._utils._rebuild_tensor_v2, (storage, offset, size, stride, False, OrderedDict())

    runner_content["state_dict"] = {"a": Lies(torch.zeros(16))}
    torch.save(runner_content, tmp_path / "lies.pth")
    with pytest.raises((InputError, IntegrityError)) as error:
        read_checkpoint(tmp_path / "lies.pth")
    one_line(error)


def test_truncation_and_flips_are_found(
    tmp_path: Path, weights: OrderedDict[str, torch.Tensor], runner_content: dict[str, Any]
) -> None:
    whole = {"plain.pth": weights, "legacy.pth": weights, "runner.pth": runner_content}
    for name, content in whole.items():
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=name != "legacy.pth")
    save_file({"a": weights["a"]}, tmp_path / "x.safetensors")
    cut = tmp_path / "cut"
    for name in (*whole, "x.safetensors"):
        data = (tmp_path / name).read_bytes()
        for length in (0, 1, 7, 100, len(data) // 2, len(data) - 1):
            cut.write_bytes(data[:length])
            with pytest.raises((InputError, IntegrityError)) as error:
                read_checkpoint(cut)
            one_line(error)
    data = bytearray((tmp_path / "plain.pth").read_bytes())
    position = bytes(data).index(weights["a"].numpy().tobytes()) + 5
    data[position] ^= 1
    cut.write_bytes(data)
    with pytest.raises(IntegrityError, match="E_CKPT_DAMAGED"):
        read_checkpoint(cut)


@pytest.mark.parametrize("seed", range(3))
def test_any_damage_to_a_pickle_is_refused_or_harmless(
    tmp_path: Path, weights: OrderedDict[str, torch.Tensor], runner_content: dict[str, Any], seed: int
) -> None:
    generator = random.Random(seed)
    torch.save(weights, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(runner_content, tmp_path / "runner.pth")
    with zipfile.ZipFile(tmp_path / "runner.pth") as archive:
        entries = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}
    legacy = (tmp_path / "legacy.pth").read_bytes()
    for mutant in range(100):
        path = tmp_path / f"{mutant}.pth"
        # Checksums made anew: only the pickle itself is wrong.
        if mutant % 2:
            write_archive(path, entries | {"data.pkl": damaged(entries["data.pkl"], generator)})
        else:
            path.write_bytes(damaged(legacy, generator))
        with contextlib.suppress(InputError, IntegrityError):
            read_checkpoint(path)


def damaged(data: bytes, generator: random.Random) -> bytes:
    result = bytearray(data)
    for _ in range(generator.choice((1, 1, 3))):
        place = generator.randrange(len(result))
        match generator.randrange(3):
            case 0:
                result[place] = generator.randrange(256)
            case 1:
                del result[place : place + generator.randrange(1, 9)]
            case 2:
                result[place:place] = generator.randbytes(3)
    return bytes(result)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pth")

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(EnvironmentFailure, match=r"E_STORAGE.*Permission denied"):
        read_checkpoint(tmp_path / "a.pth")


def test_says_what_the_file_is_instead(tmp_path: Path) -> None:
    compressed = io.BytesIO()
    with zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    for data, said in {
        b"<!DOCTYPE html><html>404</html>": "web page",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0": "Git LFS pointer",
        b"\x1f\x8b\x08\x00": "gzip",
        b"just text, no weights": "bytes that start",
        compressed.getvalue(): "compressed",
    }.items():
        path = tmp_path / "file.pth"
        path.write_bytes(data)
        with pytest.raises(InputError, match=said) as error:
            read_checkpoint(path)
        one_line(error)
    torch.save(torch.ones(3), path)
    with pytest.raises(InputError, match="holds no weights by name"):
        read_checkpoint(path)
    write_archive(path, {"data.txt": b"x"})
    with pytest.raises(InputError, match=r"zip archive without data\.pkl"):
        read_checkpoint(path)
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path)
    with pytest.raises(InputError, match="TorchScript"):
        read_checkpoint(path)
    with pytest.raises(InputError, match="E_CKPT_NOT_FOUND"):
        read_checkpoint(tmp_path / "absent.pth")
    with pytest.raises(InputError, match="folder"):
        read_checkpoint(tmp_path)


def test_refuses_to_start_where_the_environment_forces_unsafe_loading(
    tmp_path: Path, weights: OrderedDict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(weights, tmp_path / "a.pth")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(EnvironmentFailure, match="E_ENV_UNSAFE_LOAD"):
        read_checkpoint(tmp_path / "a.pth")
