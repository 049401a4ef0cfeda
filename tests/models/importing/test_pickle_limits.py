"""A file of a few kilobytes cannot ask for hours or for all memory: each bomb is refused with one line, quickly."""

import json
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from setr.errors import InputError, IntegrityError
from setr.models.importing.checkpoint_file import LEGACY_MAGIC, read_checkpoint
from setr.models.importing.pickle_limits import CostlyError, require_key
from setr.models.weights import SPEC_KEY, import_checkpoint

SECONDS, GIGABYTES = 20, 4

# Reads each file within a limit on memory, and says what came of it: a bomb may stop the process, not the tests.
READER = f"""
import resource, sys, time
from setr.errors import SetrError
from setr.models.importing.checkpoint_file import read_checkpoint
resource.setrlimit(resource.RLIMIT_AS, ({GIGABYTES} << 30, {GIGABYTES} << 30))
for path in sys.argv[1:]:
    start = time.perf_counter()
    try:
        read_checkpoint(path)
        said = "accepted"
    except SetrError as error:
        said = str(error)
    except BaseException as error:
        said = "TRACEBACK " + repr(error)[:200]
    seconds = f"{{time.perf_counter() - start:.1f}}"
    print(path.rsplit("/", 1)[-1], seconds, said.replace("\\n", "/"), sep="|", flush=True)
"""


def name(module: str, qualified: str) -> bytes:
    return f"c{module}\n{qualified}\n".encode()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def put(index: int) -> bytes:
    return b"r" + struct.pack("<I", index)


def get(index: int) -> bytes:
    return b"j" + struct.pack("<I", index)


def tower(height: int = 60) -> bytes:
    """Leaves t = ('a',), then `height` times t = (t, t), on the stack: 2^height steps to hash."""
    levels = b"".join(b"(" + get(index) + get(index) + b"t" + put(index + 1) + b"0" for index in range(height))
    return text("a") + b"\x85" + put(0) + b"0" + levels + get(height)


MANY = 200_000
LONG_LIST = b"(" + b"N" * MANY + b"l" + put(90) + b"0"
LONG_TUPLE = b"(" + b"N" * MANY + b"t" + put(90) + b"0"
LONG_DICT = b"}" + put(90) + b"(" + b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(MANY)) + b"u0"
LONG_TEXT = text("x" * 4_000_000) + put(90) + b"0"
STORAGE = b"(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + b"K\x04tQ" + put(91) + b"0"

BOMBS = {
    "a tuple tower as a key": b"}" + tower() + b"Ns.",
    "a tuple tower as one of many keys": b"}(" + tower() + b"Nu.",
    "a tuple tower in DICT": b"(" + tower() + b"Nd.",
    "a tuple tower in a set": b"\x80\x04\x8f(" + tower() + b"\x90.",
    "a tuple tower in a frozenset": b"\x80\x04(" + tower() + b"\x91.",
    "a tuple tower among an OrderedDict's pairs": name("collections", "OrderedDict")
    + b"(]("
    + tower()
    + b"N\x86etR.",
    "a tuple tower handed to set": name("builtins", "set") + b"(](" + tower() + b"etR.",
    "a tuple tower handed to Counter": name("collections", "Counter") + b"(](" + tower() + b"etR.",
    "a text key of four million characters": LONG_TEXT + b"}" + (get(90) + b"Ns") * 3 + b".",
    "a number of four million bytes as a key": b"\x8b" + struct.pack("<i", 4_000_000) + b"\1" * 4_000_000 + put(90)
    + b"0}" + (get(90) + b"Ns") * 3 + b".",
    "a dictionary copied for ever": LONG_DICT
    + (name("collections", "OrderedDict") + get(90) + b"\x85R0") * 2000 + b"N.",
    "a list copied for ever": LONG_LIST + (name("torch", "Size") + get(90) + b"\x85R0") * 2000 + b"N.",
    "arguments copied for ever": LONG_TUPLE + (name("torch", "Size") + get(90) + b"R0") * 2000 + b"N.",
    "a text copied for ever": LONG_TEXT
    + (name("_codecs", "encode") + get(90) + text("latin1") + b"\x86R0") * 3000 + b"N.",
    "a state copied for ever": name("collections", "OrderedDict") + b")R" + LONG_DICT + (get(90) + b"b") * 2000 + b".",
    "a class whose name is a long text": b"\x80\x04" + LONG_TEXT + (get(90) + get(90) + b"\x93" + b"0") * 3000 + b"N.",
    "a storage whose name is a long text": LONG_TEXT
    + (b"(" + text("storage") + name("torch", "FloatStorage") + get(90) + text("cpu") + b"K\x04tQ0") * 3000 + b"N.",
    "a tensor of 200,000 dimensions": STORAGE + LONG_TUPLE
    + (name("torch._utils", "_rebuild_tensor_v2") + b"(" + get(91) + b"K\0" + get(90) + get(90) + b"\x89NtR0") * 100
    + b"N.",
    "a product of long numbers": STORAGE
    + b"(" + (b"\x8b" + struct.pack("<i", 100_000) + b"\1" * 100_000) * 60 + b"t" + put(90) + b"0"
    + (name("torch._utils", "_rebuild_tensor_v2") + b"(" + get(91) + b"K\0" + get(90) + get(90) + b"\x89NtR0") * 100
    + b"N.",
    "torch.FloatTensor of 2^36": name("torch", "FloatTensor") + b"\x8a\6\0\0\0\0\x10\0\x85R.",
    "a bytearray of 2^36": name("builtins", "bytearray") + b"\x8a\6\0\0\0\0\x10\0\x85R.",
    "a bytearray that claims 2^36": b"\x80\x05\x96" + struct.pack("<Q", 1 << 36) + b".",
    "punycode of a long text": LONG_TEXT + name("_codecs", "encode") + get(90) + text("punycode") + b"\x86R.",
    "a tensor moved to another storage": STORAGE + name("torch._utils", "_rebuild_tensor_v2")
    + b"(" + get(91) + b"K\0K\4\x85K\1\x85\x89NtR(" + get(91) + b"K\0\x8a\5\0\0\0\0\x10\x85K\1\x85tb.",
    "twelve million steps": b"N0" * 6_000_000 + b"N.",
    "two million dictionaries": b"(" + b"}" * 2_000_000 + b"l.",
    "memo entry 4,294,967,295": b"}r\xff\xff\xff\xff.",
    "LONG4 of 2 GB": b"\x8b" + struct.pack("<i", 2**31 - 1) + b".",
    "a frame of 2^62": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
    "200,000 lists deep": b"]" * 200_000 + b"a" * 199_999 + b".",
    "a tower that is a value": b"}" + text("meta") + tower() + b"s.",
}  # fmt: skip
PLACEHOLDER = name("mmengine.logging", "HistoryBuffer") + b"0"
WAYS = ("torch", "restricted", "legacy")


def write(path: Path, payload: bytes, way: str) -> Path:
    """Writes the pickle where torch.load would read it, where the restricted reader would, or as before torch 1.6."""
    if way == "legacy":
        start = b"".join(pickle.dumps(value, 2) for value in (LEGACY_MAGIC, 1001, {"little_endian": True}))
        path.write_bytes(start + b"\x80\2" + payload + pickle.dumps([], 2))
        return path
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\2" + (PLACEHOLDER if way == "restricted" else b"") + payload)
        archive.writestr("archive/data/0", bytes(16))
        archive.writestr("archive/version", "3\n")
    return path


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What came of each bomb in each way: seconds and words by file name."""
    folder = tmp_path_factory.mktemp("bombs")
    files = [
        str(write(folder / f"{index}-{way}", payload, way))
        for index, payload in enumerate(BOMBS.values())
        for way in WAYS
    ]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", READER, *files], stdout=subprocess.PIPE, text=True
    )
    try:
        output, _ = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    return {line.split("|")[0]: line.split("|", 2)[1:] for line in output.splitlines() if "|" in line}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_quickly(outcomes: dict[str, list[str]], bomb: str, way: str) -> None:
    file = f"{list(BOMBS).index(bomb)}-{way}"
    assert file in outcomes, "the process that read it hung or died"
    seconds, said = outcomes[file]
    assert said.startswith(("E_CKPT_COSTLY", "E_CKPT_FORMAT", "E_CKPT_TRUNCATED", "E_CKPT_UNSAFE")), said
    assert float(seconds) < SECONDS  # of CPU and waiting, on a busy machine


def test_the_largest_honest_pickles_pay_little(tmp_path: Path) -> None:
    weights = OrderedDict((f"layers.{index}.weight", torch.zeros(2)) for index in range(2000))
    optimizer = {"state": {index: {"momentum_buffer": torch.zeros(2)} for index in range(2000)}}
    content = {"state_dict": weights, "optimizer": optimizer, "history": [float(index) for index in range(300_000)]}
    content |= {"by_pair": {(0, 1): "x"}, "seen": {1, 2}, "raw": b"bytes"}
    torch.save(content, tmp_path / "a.pth")
    assert len(read_checkpoint(tmp_path / "a.pth").tensors) == 2000


@pytest.mark.parametrize("key", ["a", 1, 2.5, None, True, b"x", (1, "a"), 2**63])
def test_plain_keys_are_kept(key: object) -> None:
    require_key(key)


@pytest.mark.parametrize("key", [((1,),), "a" * 5000, b"a" * 5000, 1 << 65, ("a" * 5000,), (frozenset(),)])
def test_keys_that_take_long_to_hash_are_not(key: object) -> None:
    with pytest.raises(CostlyError):
        require_key(key)


def test_entries_that_lie_over_each_other(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(100_000)}, tmp_path / "a.pth")
    data = (tmp_path / "a.pth").read_bytes()
    start = data.rindex(b"PK\1\2")  # the last entry of the directory, said to be as long as it can be
    (tmp_path / "b.pth").write_bytes(data[: start + 20] + struct.pack("<II", 1 << 30, 1 << 30) + data[start + 28 :])
    with pytest.raises(IntegrityError, match=r"E_CKPT_DAMAGED.*longer than the file"):
        read_checkpoint(tmp_path / "b.pth")


def test_a_name_cannot_ask_for_a_billion_layers(tmp_path: Path) -> None:
    weights = {
        "backbone.pos_embed": torch.zeros(1, 5, 48),
        "backbone.cls_token": torch.zeros(1, 1, 48),
        "backbone.patch_embed.proj.weight": torch.zeros(48, 3, 16, 16),
        "backbone.blocks.0.norm1.weight": torch.zeros(48),
        "backbone.blocks.0.mlp.fc1.weight": torch.zeros(192, 48),
        "decode_head.conv_0.weight": torch.zeros(5, 48, 1, 1),
    }
    for key in (
        "backbone.blocks.1000000000.norm1.weight",
        f"backbone.blocks.{'9' * 900}.norm1.weight",
        "auxiliary_head.1000000000.conv_0.weight",
        "decode_head.conv_1000000000.weight",
    ):
        torch.save(weights | {key: torch.zeros(48)}, tmp_path / "a.pth")
        with pytest.raises(InputError, match="E_CKPT_KEYS"):
            import_checkpoint(tmp_path / "a.pth", num_heads=3)


ENCODER = {"type": "EncoderSize", "name": "x", "embed_dim": 8, "depth": 1, "num_heads": 1}
DECODER = {"type": "UpHeadSpec", "in_channels": 8}
SPEC = {
    "type": "SegmenterSpec",
    "encoder": ENCODER,
    "image_size": [32, 32],
    "num_classes": 2,
    "decoder": DECODER,
    "main_taps": [0],
}


@pytest.mark.parametrize(
    "header",
    [
        json.dumps({**SPEC, "encoder": {**ENCODER, "depth": 10**9}}),
        json.dumps({**SPEC, "decoder": {**DECODER, "up_scales": [1] * 100_000}}),
        json.dumps({**SPEC, "auxiliary": [DECODER] * 100_000}),
        json.dumps({**SPEC, "encoder": {**ENCODER, "embed_dim": "8"}}),
        json.dumps({**SPEC, "encoder": {**ENCODER, "embed_dim": 2**62}}),
        json.dumps({**SPEC, "encoder": {**ENCODER, "num_heads": 0}}),
        json.dumps({**SPEC, "encoder": None}),
        json.dumps({**SPEC, "decoder": 3}),
        json.dumps({**SPEC, "image_size": 3}),
        json.dumps({**SPEC, "main_taps": [99]}),
        json.dumps(SPEC | {"num_classes": -1}),
        json.dumps([]),
        "null",
        "{",
        "[" * 100_000,
        "1" * 5000,
    ],
    ids=range(16),
)
def test_a_header_whose_structure_is_none_or_a_bomb(tmp_path: Path, header: str) -> None:
    save_file(
        {"a": torch.zeros(1), "b": torch.zeros(1), "c": torch.zeros(1)}, tmp_path / "a.safetensors", {SPEC_KEY: header}
    )
    with pytest.raises(InputError, match=r"E_CKPT_(FORMAT|ARCHITECTURE)"):
        import_checkpoint(tmp_path / "a.safetensors")
