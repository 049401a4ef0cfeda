"""Shards: the same bytes every time, resumable, and no damaged byte that is not noticed."""

import dataclasses
import errno
import hashlib
import json
import os
import pickle
import random
import signal
import stat
import struct
import subprocess
import sys
import textwrap
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

from setr.data import shard_file
from setr.data.manifest import MANIFEST_NAME, Manifest, read_manifest, write_manifest
from setr.data.reading.camvid import CAMVID
from setr.data.reading.samples import Sample
from setr.data.shard_index import ShardIndex, index_path, read_index
from setr.data.shards import open_shards, write_shards
from setr.errors import EnvironmentFailure, InputError, IntegrityError
from setr.files.signed_json import dumps_signed
from tests.helpers.environment import environment


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Returns ten samples of two sizes, as PNG files."""
    return make_samples(tmp_path / "source", 10)


@pytest.fixture
def folder(tmp_path: Path, samples: list[Sample]) -> Path:
    """Returns a prepared folder with three shards."""
    write_shards(samples, CAMVID, tmp_path / "shards", split="train", rows_per_shard=4, workers=1)
    return tmp_path / "shards"


def make_samples(folder: Path, count: int, *, suffix: str = ".png") -> list[Sample]:
    """Returns samples whose files it writes."""
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    samples = []
    for number in range(count):
        image, label = folder / f"{number:03d}{suffix}", folder / f"{number:03d}_label.png"
        height = 24 if number % 3 else 20
        cv2.imwrite(str(image), generator.integers(0, 256, (height, 32, 3), dtype=np.uint8))
        cv2.imwrite(str(label), generator.integers(0, 12, (height, 32), dtype=np.uint8))
        samples.append(Sample(f"street/{number:03d}", image, label))
    return samples


def contents(folder: Path) -> dict[str, str]:
    """Returns name -> SHA-256 of every file in a folder, hidden ones too."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def change(path: Path, edit: Callable[[bytes], bytes]) -> None:
    """Replace a read-only file by an edited copy."""
    data = edit(path.read_bytes())
    path.unlink()
    path.write_bytes(data)


@pytest.mark.parametrize("storage", ["raw", "encoded"])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_records_are_the_sources(tmp_path: Path, storage: str, suffix: str) -> None:
    samples = make_samples(tmp_path / "source", 5, suffix=suffix)
    manifest = write_shards(
        samples, CAMVID, tmp_path / "shards", split="val", storage=storage, rows_per_shard=2, workers=1
    )
    shards = open_shards(tmp_path / "shards")
    assert len(shards) == 5
    assert shards.manifest == manifest
    histogram = np.zeros(256, int)
    for sample, record in zip(samples, shards, strict=True):
        assert record.key == sample.key
        expected = cv2.cvtColor(cv2.imread(str(sample.image)), cv2.COLOR_BGR2RGB)
        np.testing.assert_array_equal(record.image, expected)
        raw = cv2.imread(str(sample.label), cv2.IMREAD_GRAYSCALE)
        np.testing.assert_array_equal(record.label, np.where(raw == 11, 255, raw))
        assert len(record.source_hash) == 64
        histogram += np.bincount(record.label.ravel(), minlength=256)
    assert list(manifest.class_histogram) == histogram[:11].tolist()
    assert manifest.ignored_pixels == histogram[255]
    assert manifest.classes == CAMVID.classes
    assert [entry.rows for entry in manifest.shards] == [2, 2, 1]
    assert (manifest.labelled, manifest.storage, manifest.split) == (True, storage, "val")


def test_raw_records_are_read_only_views_on_the_file(folder: Path) -> None:
    record = open_shards(folder)[3]
    for array in (record.image, record.label):
        assert not array.flags.writeable
        assert not array.flags.owndata


def test_positions_behave_like_a_sequence(folder: Path) -> None:
    shards = open_shards(folder)
    assert shards[-1].key == shards[9].key == "street/009"
    assert [record.key for record in shards[3:5]] == ["street/003", "street/004"]
    for outside in (10, -11):
        with pytest.raises(IndexError):
            shards[outside]
    copy = pickle.loads(pickle.dumps(shards))
    assert copy.manifest_hash == shards.manifest_hash
    assert shards.where(5) == f"{folder / '00001.arrow'} row 1"
    shards.close()
    assert shards[0].key == "street/000"


def test_few_descriptors_are_enough(folder: Path) -> None:
    shards = open_shards(folder)
    shards._max_opened = 1
    first = shards[0].image
    before = first.copy()
    assert [shards[number].key for number in (9, 0, 5)] == ["street/009", "street/000", "street/005"]
    assert len(shards._opened) == 1
    np.testing.assert_array_equal(first, before)  # its file is no longer open, its memory still is


def test_a_split_without_labels_is_all_ignored(tmp_path: Path, samples: list[Sample]) -> None:
    bare = [dataclasses.replace(sample, label=None) for sample in samples]
    manifest = write_shards(bare, CAMVID, tmp_path / "shards", split="test", workers=1)
    assert not manifest.labelled
    assert sum(manifest.class_histogram) == 0
    assert (open_shards(tmp_path / "shards")[0].label == 255).all()
    with pytest.raises(InputError, match="E_PAIR_MISSING"):
        write_shards([*bare[:1], *samples[1:]], CAMVID, tmp_path / "mixed", split="test", workers=1)


def test_arrow_reads_the_files_too(folder: Path) -> None:
    table = pa.ipc.open_file(folder / "00000.arrow").read_all()
    table.validate(full=True)
    assert table.num_rows == 4
    assert {str(field.type) for field in table.schema} == {"string", "int32", "large_binary"}


def test_files_are_read_only(folder: Path) -> None:
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o444, path


def test_bytes_do_not_depend_on_the_number_of_processes(tmp_path: Path, samples: list[Sample], folder: Path) -> None:
    seen = []
    write_shards(
        samples,
        CAMVID,
        tmp_path / "parallel",
        split="train",
        rows_per_shard=4,
        workers=2,
        progress=lambda done, rows: seen.append((done, rows)),
    )
    assert contents(tmp_path / "parallel") == contents(folder)
    assert len(seen) == 3
    assert seen[-1] == (10, 10)


def test_finished_shards_are_kept_and_changed_ones_written_again(samples: list[Sample], folder: Path) -> None:
    before = contents(folder)
    written = {path.name: path.stat().st_ino for path in folder.iterdir()}
    write_shards(samples, CAMVID, folder, split="train", rows_per_shard=4, workers=1)
    assert {path.name: path.stat().st_ino for path in folder.iterdir()} == written

    change(folder / "00001.arrow", lambda data: data[:-1] + b"x")
    (folder / MANIFEST_NAME).unlink()
    (folder / "00007.arrow").write_bytes(b"of an earlier build")
    (folder / ".00000.arrow.123.tmp").write_bytes(b"half")
    write_shards(samples, CAMVID, folder, split="train", rows_per_shard=4, workers=1)
    assert contents(folder) == before
    now = {path.name: path.stat().st_ino for path in folder.iterdir()}
    assert now["00000.arrow"] == written["00000.arrow"]
    assert now["00001.arrow"] != written["00001.arrow"]

    cv2.imwrite(str(samples[9].image), np.zeros((20, 32, 3), np.uint8))
    write_shards(samples, CAMVID, folder, split="train", rows_per_shard=4, workers=1)
    after = contents(folder)
    assert {name for name in after if after[name] != before[name]} == {
        "00002.arrow",
        "00002.index.json",
        MANIFEST_NAME,
    }
    assert not open_shards(folder)[9].image.any()


def test_other_settings_are_another_build(samples: list[Sample], folder: Path) -> None:
    before = open_shards(folder).manifest_hash
    other = dataclasses.replace(CAMVID, label_map=(*CAMVID.label_map[:10], 9, *CAMVID.label_map[11:]))
    write_shards(samples, other, folder, split="train", rows_per_shard=4, workers=1)
    assert open_shards(folder).manifest_hash != before
    assert not any((record.label == 10).any() for record in open_shards(folder))


BUILD = """
    import sys
    from pathlib import Path
    from setr.data.reading.camvid import CAMVID
    from setr.data.reading.samples import Sample
    from setr.data.shards import write_shards

    if __name__ == "__main__":
        source, folder, workers = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
        images = sorted(path for path in source.glob("*.png") if "_label" not in path.name)
        samples = [Sample(path.stem, path, path.with_name(path.stem + "_label.png")) for path in images]
        print("ready", flush=True)
        write_shards(samples, CAMVID, folder, split="train", rows_per_shard=2, workers=workers)
"""


def test_a_build_killed_anywhere_ends_with_the_same_bytes(tmp_path: Path) -> None:
    make_samples(tmp_path / "source", 60)
    script = tmp_path / "build.py"
    script.write_text(textwrap.dedent(BUILD))

    def start(folder: str, workers: int) -> subprocess.Popen[str]:
        command = [sys.executable, str(script), str(tmp_path / "source"), str(tmp_path / folder), str(workers)]
        return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)

    assert start("undisturbed", 1).wait() == 0
    generator = random.Random(0)
    killed, left = 0, tmp_path / "disturbed"
    for shards, workers in ((0, 1), (4, 1), (9, 1), (15, 1), (20, 2)):
        build = start("disturbed", workers)
        assert build.stdout is not None
        build.stdout.readline()
        # By what is done, not by the clock: how long 30 shards take is the machine's affair.
        while build.poll() is None and len(list(left.glob("*.arrow"))) < shards:
            time.sleep(0.001)
        time.sleep(generator.uniform(0, 0.01))
        build.send_signal(signal.SIGKILL)
        killed += build.wait() == -signal.SIGKILL
        assert not (left / MANIFEST_NAME).exists() or contents(left) == contents(tmp_path / "undisturbed")
    assert killed >= 3
    assert start("disturbed", 1).wait() == 0
    assert contents(tmp_path / "disturbed") == contents(tmp_path / "undisturbed")


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


def test_another_data_set_than_asked_for_is_refused(folder: Path) -> None:
    right = open_shards(folder).manifest_hash
    assert open_shards(folder, manifest_hash=right).manifest_hash == right
    with pytest.raises(IntegrityError, match="E_MANIFEST"):
        open_shards(folder, manifest_hash="0" * 64)


def test_a_shard_replaced_while_it_is_read_keeps_its_data(folder: Path, tmp_path: Path) -> None:
    shards = open_shards(folder)
    record = shards[0]
    before = record.image.copy()
    cv2.imwrite(str(tmp_path / "source" / "000.png"), np.zeros((20, 32, 3), np.uint8))
    samples = [
        Sample(f"street/{n:03d}", tmp_path / "source" / f"{n:03d}.png", tmp_path / "source" / f"{n:03d}_label.png")
        for n in range(10)
    ]
    write_shards(samples, CAMVID, folder, split="train", rows_per_shard=4, workers=1)
    np.testing.assert_array_equal(record.image, before)
    np.testing.assert_array_equal(shards[0].image, before)
    shards.close()  # from here on it is the new file, which is not that of the manifest read at the start
    with pytest.raises(IntegrityError, match="E_SHARD"):
        shards[0]


def test_opening_costs_no_time_however_many_rows(tmp_path: Path) -> None:
    rows, per_shard = 100_000, 64
    make_samples(tmp_path / "source", 1)
    base = write_shards(make_samples(tmp_path / "source", 1), CAMVID, tmp_path / "one", split="train", workers=1)
    folder = tmp_path / "many"
    folder.mkdir()
    count = -(-rows // per_shard)
    entries = []
    for number in range(count):
        name = f"{number:05d}.arrow"
        with (folder / name).open("wb") as file:
            file.truncate(1000)
        (folder / f"{number:05d}.index.json").touch()
        size = min(per_shard, rows - number * per_shard)
        entries.append(dataclasses.replace(base.shards[0], file=name, rows=size, bytes=1000))
    write_manifest(folder, dataclasses.replace(base, rows=rows, shards=tuple(entries)))
    durations = []
    for _ in range(5):
        began = time.process_time()
        assert len(open_shards(folder)) == rows
        durations.append(time.process_time() - began)
    assert min(durations) < 0.05


def test_bad_samples_are_named_and_leave_no_data_set(tmp_path: Path, samples: list[Sample]) -> None:
    cv2.imwrite(str(samples[6].label), np.zeros((5, 5), np.uint8))
    for workers in (1, 2):
        with pytest.raises(InputError, match=r"E_SIZE_MISMATCH .*006_label.png"):
            write_shards(samples, CAMVID, tmp_path / "shards", split="train", rows_per_shard=4, workers=workers)
        left = {path.name for path in (tmp_path / "shards").iterdir()}
        assert MANIFEST_NAME not in left
        assert not any(name.endswith(".tmp") for name in left)
        with pytest.raises(InputError, match=r"E_MANIFEST .*prepare"):
            open_shards(tmp_path / "shards")


def test_arguments_that_make_no_data_set(tmp_path: Path, samples: list[Sample]) -> None:
    with pytest.raises(InputError, match="E_DATA_EMPTY"):
        write_shards([], CAMVID, tmp_path / "shards", split="val")
    with pytest.raises(InputError, match=r"E_DUP_KEY.*street/000"):
        write_shards([*samples, samples[0]], CAMVID, tmp_path / "shards", split="val")
    with pytest.raises(InputError, match="rows_per_shard"):
        write_shards(samples, CAMVID, tmp_path / "shards", split="val", rows_per_shard=0)
    with pytest.raises(InputError, match="zip"):
        write_shards(samples, CAMVID, tmp_path / "shards", split="val", storage="zip")  # type: ignore[arg-type]
    assert not (tmp_path / "shards").exists()
    with pytest.raises(InputError, match="E_MANIFEST"):
        open_shards(tmp_path / "shards")


def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = shard_file._Sink.write

    def write(sink: shard_file._Sink, data: object) -> int:
        if sink.position > 6000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(sink, data)

    monkeypatch.setattr(shard_file._Sink, "write", write)
    with pytest.raises(EnvironmentFailure, match=r"E_STORAGE .*No space left.*00000.arrow"):
        write_shards(samples, CAMVID, tmp_path / "shards", split="train", workers=1)
    assert contents(tmp_path / "shards") == {}
    monkeypatch.undo()
    write_shards(samples, CAMVID, tmp_path / "shards", split="train", workers=1)


def test_a_folder_that_cannot_be_made(tmp_path: Path, samples: list[Sample]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFailure, match="E_STORAGE"):
        write_shards(samples, CAMVID, tmp_path / "file" / "shards", split="train", workers=1)


def test_two_builders_of_one_folder(tmp_path: Path, samples: list[Sample]) -> None:
    def build_again(done: int, rows: int) -> None:
        with pytest.raises(EnvironmentFailure, match="E_BUSY"):
            write_shards(samples, CAMVID, tmp_path / "shards", split="train", workers=1)

    write_shards(samples, CAMVID, tmp_path / "shards", split="train", workers=1, progress=build_again)
    assert len(open_shards(tmp_path / "shards")) == 10


def test_the_manifest_reads_as_json(folder: Path) -> None:
    record = json.loads((folder / MANIFEST_NAME).read_text())
    assert record["dataset"] == "camvid"
    assert record["rows"] == 10
    assert set(record["shards"][0]) == {"file", "rows", "bytes", "sha256", "index_sha256"}
    manifest, digest = read_manifest(folder)
    assert isinstance(manifest, Manifest)
    assert digest == hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()
    assert manifest.shards[0].sha256 == hashlib.sha256((folder / "00000.arrow").read_bytes()).hexdigest()
