"""No damaged byte of a shard goes unnoticed, and each kind of damage has its code."""

import dataclasses
import hashlib
import struct
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from setr.data import shard_file
from setr.data.manifest import MANIFEST_NAME, read_manifest, write_manifest
from setr.data.reading.camvid import CAMVID
from setr.data.reading.samples import Sample
from setr.data.shard_index import ShardIndex, index_path, read_index
from setr.data.shards import open_shards, write_shards
from setr.errors import InputError, IntegrityError
from setr.files.signed_json import dumps_signed
from tests.helpers.environment import environment
from tests.helpers.made_shards import change

MUTANTS = """
    import random, shutil, sys
    from pathlib import Path
    from setr.data.shards import open_shards
    from setr.errors import SetrError

    good, work, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    generator = random.Random(int(sys.argv[4]))
    names = sorted(path.name for path in good.iterdir())

    def flip(data):
        position = generator.randrange(len(data))
        return data[:position] + bytes([data[position] ^ (1 << generator.randrange(8))]) + data[position + 1:]
    def flip_footer(data):
        position = len(data) - 1 - generator.randrange(min(400, len(data)))
        return data[:position] + bytes([data[position] ^ (1 << generator.randrange(8))]) + data[position + 1:]
    def flip_head(data):
        position = generator.randrange(min(900, len(data)))
        return data[:position] + bytes([data[position] ^ (1 << generator.randrange(8))]) + data[position + 1:]
    def zero_page(data):
        start = generator.randrange(0, len(data), 512)
        return data[:start] + bytes(len(data[start:start + 512])) + data[start + 512:]
    def cut(data):
        return data[:generator.randrange(len(data))]
    def append(data):
        return data + b"x"
    def swap(data):
        half = len(data) // 2
        return data[half:2 * half] + data[:half] + data[2 * half:]
    def other_shard(data):
        return (good / generator.choice([n for n in names if n.endswith(".arrow")])).read_bytes()

    silent = same = 0
    for number in range(count):
        shutil.copytree(good, work)
        name = generator.choice(names)
        path = work / name
        data = path.read_bytes()
        mutant = generator.choice([flip, flip_footer, flip_head, zero_page, cut, append, swap, other_shard])(data)
        if mutant == data:
            same += 1
        else:
            path.unlink()
            path.write_bytes(mutant)
            try:
                for record in open_shards(work):
                    record.image.sum(), record.label.sum()
            except SetrError as error:
                assert str(error).startswith(("E_MANIFEST", "E_SHARD_")) and str(work) in str(error), error
                assert "\\n" not in str(error)
            else:
                silent += 1
                print("not noticed:", name, number)
        shutil.rmtree(work)
    print("silent", silent, "same", same)
"""


@pytest.mark.parametrize("storage", ["raw", "encoded"])
def test_every_mutant_is_noticed_and_none_crashes(tmp_path: Path, samples: list[Sample], storage: str) -> None:
    write_shards(samples, CAMVID, tmp_path / "good", split="train", storage=storage, rows_per_shard=4, workers=1)
    command = [sys.executable, "-c", textwrap.dedent(MUTANTS), tmp_path / "good", tmp_path / "work", "150", storage]
    command[-1] = "1" if storage == "raw" else "2"
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("silent 0 "), done.stdout


def damage(code: str, edit: Callable[[Path], None]) -> object:
    return pytest.param(edit, code, id=code)


def _rewrite_schema(folder: Path, schema: pa.Schema) -> None:
    """Replace the first shard by one of another schema whose hashes are all right, as somebody else might write it."""
    path = folder / "00000.arrow"
    good = pa.ipc.open_file(path).read_all()
    columns = [
        good[field.name] if field.name in good.schema.names else pa.array([0] * good.num_rows, field.type)
        for field in schema
    ]
    batches = pa.table(columns, schema=schema).to_batches(max_chunksize=1)
    index = read_index(index_path(path))
    head = 8 + schema.serialize().size
    sizes = [batch.serialize().size for batch in batches]
    path.unlink()
    with pa.ipc.new_file(path, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    data = path.read_bytes()
    offsets = np.cumsum([head, *sizes]).tolist()
    resign(
        folder,
        dataclasses.replace(
            index,
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            frame_sha256=hashlib.sha256(data[: offsets[0]] + data[offsets[-1] :]).hexdigest(),
            offsets=tuple(offsets),
        ),
    )


def resign(folder: Path, index: ShardIndex) -> None:
    """Write the first shard's index and a manifest that vouches for it."""
    path = folder / "00000.index.json"
    path.unlink()
    path.write_bytes(dumps_signed(dataclasses.asdict(index)))
    manifest, _ = read_manifest(folder)
    entry = dataclasses.replace(
        manifest.shards[0],
        bytes=index.bytes,
        sha256=index.sha256,
        index_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    write_manifest(folder, dataclasses.replace(manifest, shards=(entry, *manifest.shards[1:])))


def _extra_column(folder: Path) -> None:
    _rewrite_schema(folder, shard_file.shard_schema("raw").append(pa.field("more", pa.int64())))


def _newer_version(folder: Path) -> None:
    schema = shard_file.shard_schema("raw")
    _rewrite_schema(folder, schema.with_metadata({**schema.metadata, b"setr.schema_version": b"2"}))


def _extension_type(folder: Path) -> None:
    schema = shard_file.shard_schema("raw")
    marked = schema.field("image").with_metadata({b"ARROW:extension:name": b"ray.data.arrow_tensor"})
    _rewrite_schema(folder, schema.set(5, marked))


def _other_endianness(folder: Path) -> None:
    """Let the schema say big-endian, under right hashes: in Arrow's metadata, the first field of the Schema table."""
    path = folder / "00000.arrow"
    index = read_index(index_path(path))
    data = bytearray(path.read_bytes())

    def number(position: int, form: str = "<I") -> int:
        return int(struct.unpack_from(form, data, position)[0])

    def slot(table: int, field: int) -> int:
        return table - number(table, "<i") + 4 + 2 * field

    start = 16  # magic, continuation, length
    message = start + number(start)
    header = message + number(slot(message, 2), "<H")
    schema = header + number(header)
    assert number(slot(schema, 0), "<H") == 0  # little-endian is the default and not stored
    one = next(place for place in range(schema + 4 + schema % 2, len(data), 2) if number(place, "<H") == 1)
    struct.pack_into("<H", data, slot(schema, 0), one - schema)
    change(path, lambda _: bytes(data))
    frame = hashlib.sha256(data[: index.offsets[0]] + data[index.offsets[-1] :]).hexdigest()
    resign(folder, dataclasses.replace(index, frame_sha256=frame, sha256=hashlib.sha256(bytes(data)).hexdigest()))


def _wild_offsets(folder: Path, *, to: int = 2**40) -> None:
    """Let the image's offsets point far outside the file, under a right checksum."""
    path = folder / "00000.arrow"
    index = read_index(index_path(path))
    data = bytearray(path.read_bytes())
    size = (32 * 20 * 3).to_bytes(8, "little")
    position = data.index(bytes(8) + size, index.offsets[0]) + 8
    data[position : position + 8] = to.to_bytes(8, "little", signed=True)
    change(path, lambda _: bytes(data))
    block = bytes(data[index.offsets[0] : index.offsets[1]])
    checksums = (zlib.crc32(block), *index.checksums[1:])
    resign(folder, dataclasses.replace(index, checksums=checksums, sha256=hashlib.sha256(bytes(data)).hexdigest()))


def _edit_manifest(**values: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        manifest, _ = read_manifest(folder)
        write_manifest(folder, dataclasses.replace(manifest, **values))  # type: ignore[arg-type]

    return edit


def _rename_first_shard(folder: Path) -> None:
    manifest, _ = read_manifest(folder)
    entry = dataclasses.replace(manifest.shards[0], file="../00000.arrow")
    write_manifest(folder, dataclasses.replace(manifest, shards=(entry, *manifest.shards[1:])))


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        damage("E_MANIFEST", lambda folder: (folder / MANIFEST_NAME).unlink()),
        damage("E_MANIFEST", lambda folder: change(folder / MANIFEST_NAME, lambda data: data.replace(b"10", b"11"))),
        damage("E_MANIFEST", lambda folder: change(folder / MANIFEST_NAME, lambda data: data[:-40])),
        damage("E_MANIFEST", lambda folder: change(folder / MANIFEST_NAME, lambda data: b"[" * 100_000)),
        damage("E_MANIFEST", lambda folder: change(folder / MANIFEST_NAME, lambda data: b"\xff\xfe")),
        damage("E_MANIFEST", _edit_manifest(schema_version=2)),
        damage("E_MANIFEST", _edit_manifest(rows=11)),
        damage("E_MANIFEST", _edit_manifest(rows="10")),
        damage("E_MANIFEST", _edit_manifest(storage="zip")),
        damage("E_MANIFEST", _edit_manifest(class_histogram=(1, 2))),
        damage("E_MANIFEST", _edit_manifest(shards=(), rows=0)),
        damage("E_MANIFEST", _rename_first_shard),
        damage("E_SHARD_MISSING", lambda folder: (folder / "00001.arrow").unlink()),
        damage("E_SHARD_MISSING", lambda folder: (folder / "00001.index.json").unlink()),
        damage("E_SHARD_EXTRA", lambda folder: (folder / "00003.arrow").touch()),
        damage("E_SHARD_SIZE", lambda folder: change(folder / "00001.arrow", lambda data: data[:-1])),
        damage("E_SHARD_SIZE", lambda folder: change(folder / "00001.arrow", lambda data: b"")),
        damage("E_SHARD_INDEX", lambda folder: change(folder / "00001.index.json", lambda data: data[:-9])),
        damage("E_SHARD_HASH", lambda folder: change(folder / "00001.arrow", lambda data: data[:-1] + b"2")),
        damage("E_SHARD_HASH", lambda folder: change(folder / "00001.arrow", lambda data: b"PARROT" + data[6:])),
        damage(
            "E_SHARD_RECORD",
            lambda folder: change(folder / "00001.arrow", lambda data: data[:5000] + b"!?" + data[5002:]),
        ),
        damage("E_SHARD_SCHEMA", _extra_column),
        damage("E_SHARD_VERSION", _newer_version),
        damage("E_SHARD_TYPE", _extension_type),
        damage("E_SHARD_SCHEMA", _other_endianness),
        damage("E_SHARD_INVALID", _wild_offsets),
        damage("E_SHARD_INVALID", lambda folder: _wild_offsets(folder, to=-8)),
    ],
)
def test_each_damage_has_its_code(folder: Path, edit: Callable[[Path], None], code: str) -> None:
    edit(folder)
    with pytest.raises((InputError, IntegrityError)) as caught:
        list(open_shards(folder))
    assert caught.value.code == code
    assert str(folder) in str(caught.value)
    with pytest.raises((InputError, IntegrityError)) as caught:
        open_shards(folder, verify="open")
    assert caught.value.code == code


def test_a_damaged_record_is_named(folder: Path) -> None:
    index = read_index(folder / "00001.index.json")
    position = index.offsets[2] + 600
    change(folder / "00001.arrow", lambda d: d[:position] + bytes([d[position] ^ 1]) + d[position + 1 :])
    shards = open_shards(folder)
    for good in (0, 4, 5, 7, 9):
        assert shards[good].image.any()
    with pytest.raises(IntegrityError, match=r"E_SHARD_RECORD .*00001.arrow row 2 \(street/006\)"):
        shards[6]
    assert open_shards(folder, verify="none")[6].key == "street/006"  # asked for: nothing is compared
