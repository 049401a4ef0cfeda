"""Shards that lie elsewhere: copied once to a node, verified, shared by its processes, refused when damaged."""

import hashlib
import multiprocessing
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from pyarrow import fs

from setr.data import locations
from setr.data.locations import below, local_folder, manifest_at, open_location, shown
from setr.data.manifest import MANIFEST_NAME
from setr.data.reading.camvid import CAMVID
from setr.data.reading.samples import Sample
from setr.data.shards import open_shards, write_shards
from setr.errors import EnvironmentFailure, InputError, IntegrityError


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Returns six prepared samples in two shards, as they lie on shared storage."""
    folder = tmp_path / "shared" / "set" / "train"
    write(folder, tmp_path, seed=0)
    return folder


def write(folder: Path, tmp_path: Path, *, seed: int) -> None:
    generator = np.random.default_rng(seed)
    samples = []
    for number in range(6):
        image, label = tmp_path / f"{number}.png", tmp_path / f"{number}_label.png"
        cv2.imwrite(str(image), generator.integers(0, 256, (20, 30, 3), dtype=np.uint8))
        cv2.imwrite(str(label), generator.integers(0, 11, (20, 30), dtype=np.uint8))
        samples.append(Sample(f"k{number}", image, label))
    write_shards(samples, CAMVID, folder, split="train", rows_per_shard=3, workers=1)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def copies(cache: Path) -> list[str]:
    """Returns the names in a cache besides the lock files."""
    return sorted(path.name for path in cache.iterdir() if not path.name.endswith(".lock"))


def as_uri(folder: Path) -> str:
    return f"file://{folder}"


@pytest.mark.parametrize("location", [str, as_uri], ids=["path", "file URI"])
def test_a_copy_is_the_source_and_is_used_again(shared: Path, tmp_path: Path, location, monkeypatch) -> None:
    place, cache = location(shared), tmp_path / "node"
    assert manifest_at(place) == manifest_at(str(shared))
    shards = open_location(place, local_copy=str(cache))
    assert shards.folder.parent == cache
    assert contents(shards.folder) == contents(shared)
    assert [record.key for record in shards] == [f"k{number}" for number in range(6)]
    assert all(path.stat().st_mode & 0o777 == 0o444 for path in shards.folder.iterdir())

    def never(*_: object) -> None:
        raise AssertionError("copied again")

    monkeypatch.setattr(locations, "_copy_file", never)
    assert open_location(place, local_copy=str(cache)).manifest_hash == shards.manifest_hash
    assert copies(cache) == [shards.folder.name]


def test_a_damaged_source_is_named_and_no_copy_stays(shared: Path, tmp_path: Path) -> None:
    path = shared / "00001.arrow"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"E_SHARD_HASH.*00001\.arrow"):
        local_folder(as_uri(shared), str(tmp_path / "node"))
    assert copies(tmp_path / "node") == []


def test_a_copy_that_was_cut_or_left_half_is_made_anew(shared: Path, tmp_path: Path) -> None:
    cache = tmp_path / "node"
    folder = local_folder(str(shared), str(cache))
    (folder / "00000.arrow").unlink()
    (cache / f".{folder.name}.4711.tmp").mkdir()
    assert contents(local_folder(str(shared), str(cache))) == contents(shared)
    assert copies(cache) == [folder.name]


def test_other_data_get_a_copy_of_their_own(shared: Path, tmp_path: Path) -> None:
    cache = str(tmp_path / "node")
    first = local_folder(str(shared), cache)
    before = contents(first)
    write(shared, tmp_path, seed=1)
    second = local_folder(str(shared), cache)
    assert first != second
    assert contents(first) == before  # whoever reads it goes on
    assert open_shards(second).manifest_hash != open_shards(first).manifest_hash


def _ask(location: str, cache: str, count: str) -> None:
    original = locations._copy_file

    def counted(*arguments: object) -> None:
        with Path(count).open("a") as file:
            file.write("x")
        time.sleep(0.05)
        original(*arguments)  # type: ignore[arg-type]

    locations._copy_file = counted  # type: ignore[assignment]
    assert len(open_location(location, local_copy=cache)) == 6


def test_processes_of_a_node_copy_once_between_them(shared: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    arguments = (as_uri(shared), str(tmp_path / "node"), str(tmp_path / "count"))
    started = [context.Process(target=_ask, args=arguments) for _ in range(3)]
    for one in started:
        one.start()
    for one in started:
        one.join(60)
    assert [one.exitcode for one in started] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "x" * 4  # two shards with their indexes


def test_what_cannot_be_is_one_line(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"E_CONFIG.*data\.local_copy"):
        open_location(as_uri(shared))
    for relative in ("node", "$NO_SUCH_VARIABLE/node"):
        with pytest.raises(InputError, match=r"E_CONFIG.*not an absolute path"):
            open_location(str(shared), local_copy=relative)
    with pytest.raises(InputError, match=r"E_MANIFEST.*nowhere"):
        manifest_at(f"file://{tmp_path}/nowhere")
    with pytest.raises(InputError, match=r"E_CONFIG.*nothing://bucket"):
        manifest_at("nothing://bucket/train")
    with pytest.raises(InputError, match=r"E_CONFIG.*environment") as caught:
        manifest_at("s3://login:canary@bucket/train?region=x")
    assert "canary" not in str(caught.value)
    monkeypatch.setattr(locations.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(EnvironmentFailure, match=r"E_STORAGE.*not enough space"):
        local_folder(str(shared), str(tmp_path / "node"))
    assert copies(tmp_path / "node") == []


def test_variables_of_the_node_are_put_in(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_DISK", str(tmp_path / "disk"))
    assert local_folder(str(shared), "$NODE_DISK/setr").parent == tmp_path / "disk" / "setr"


def test_places_below_a_location() -> None:
    assert below("/data/shards", "set", "train") == "/data/shards/set/train"
    assert below("s3://bucket/prefix/?region=x", "set", "train") == "s3://bucket/prefix/set/train?region=x"
    assert below("s3://bucket", "set") == "s3://bucket/set"
    assert shown("s3://bucket/set?access_key=canary") == "s3://bucket/set"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Returns the URI of a bucket on a local S3 server, or skips."""
    server = os.environ.get("SETR_MOTO_SERVER") or shutil.which("moto_server")
    if not server:
        pytest.skip("no local S3 server: pip install 'moto[server]', or name moto_server in SETR_MOTO_SERVER")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen([server, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        else:
            pytest.fail((tmp_path / "server.log").read_text())
        options = f"?region=us-east-1&scheme=http&endpoint_override=127.0.0.1:{port}&allow_bucket_creation=true"
        yield f"s3://bucket/prefix{options}"
    finally:
        process.terminate()
        process.wait()


def test_shards_in_an_s3_bucket(bucket: str, shared: Path, tmp_path: Path) -> None:
    place = below(bucket, "set", "train")
    remote, path = fs.FileSystem.from_uri(place)
    remote.create_dir("bucket")
    with pytest.raises(InputError, match=r"E_MANIFEST.*s3://bucket/prefix/set/train/manifest\.json"):
        manifest_at(place)
    fs.copy_files(str(shared), path, source_filesystem=fs.LocalFileSystem(), destination_filesystem=remote)
    shards = open_location(place, local_copy=str(tmp_path / "node"))
    assert contents(shards.folder) == contents(shared)
    remote.delete_file(f"{path}/00000.arrow")
    (shards.folder / MANIFEST_NAME).unlink()
    with pytest.raises(EnvironmentFailure, match=r"E_STORAGE.*s3://bucket/prefix/set/train/00000\.arrow"):
        open_location(place, local_copy=str(tmp_path / "node"))
