"""Shards read: what was stored, by position, as views, and of the data set that was asked for."""

import dataclasses
import pickle
import time
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

from setr.data.manifest import write_manifest
from setr.data.reading.camvid import CAMVID
from setr.data.reading.samples import Sample
from setr.data.shards import open_shards, write_shards
from setr.errors import InputError, IntegrityError
from tests.helpers.made_shards import make_samples


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
