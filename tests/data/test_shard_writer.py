"""Shards are written with the same bytes every time, resumable, and never by halves."""

import dataclasses
import errno
import os
import random
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from setr.data import shard_file
from setr.data.manifest import MANIFEST_NAME
from setr.data.reading.camvid import CAMVID
from setr.data.reading.samples import Sample
from setr.data.shards import open_shards, write_shards
from setr.errors import EnvironmentFailure, InputError
from tests.helpers.environment import environment
from tests.helpers.made_shards import change, contents, make_samples


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
