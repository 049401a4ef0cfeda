"""Zip and tar archives read in place, and archives that could harm."""

import io
import os
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from setr.data.reading.archives import ArchiveMember, is_archive, list_members, read_member
from setr.errors import InputError

FILES = {"data/a.txt": b"first", "data/sub/b.bin": bytes(range(256)), "c": b""}


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("data")
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        folder = tarfile.TarInfo("./data")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("make", "name"), [(make_zip, "a.zip"), (make_tar, "a.tar"), (make_tar, "a.tar.gz"), (make_tar, "a.TGZ")]
)
def test_members_are_listed_and_read_in_any_order(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path], name: str
) -> None:
    archive = make(tmp_path / name, FILES)
    assert is_archive(archive)
    assert list_members(archive) == {member: len(data) for member, data in FILES.items()}
    for member in [*FILES, *reversed(FILES)]:
        assert read_member(ArchiveMember(archive, member)) == FILES[member]
    assert sorted(path.name for path in tmp_path.iterdir()) == [archive.name]


def test_member_is_hashable_picklable_and_named(tmp_path: Path) -> None:
    member = ArchiveMember(tmp_path / "a.zip", "data/a.txt")
    assert pickle.loads(pickle.dumps({member: 1})) == {member: 1}
    assert member.name == "a.txt"
    assert str(member).endswith("a.zip:data/a.txt")


def test_a_replaced_archive_is_listed_anew(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", FILES)
    list_members(archive)
    make_zip(tmp_path / "b.zip", {"other": b"other"}).replace(archive)
    os.utime(archive, (1, 1))
    assert list_members(archive) == {"other": 5}
    assert read_member(ArchiveMember(archive, "other")) == b"other"


def refused(archive: Path) -> str:
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(InputError) as caught:
        list_members(archive)
    assert sorted(archive.parent.rglob("*")) == before
    assert caught.value.code == "E_ARCHIVE_MEMBER"
    assert "nothing was written" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["../evil.png", "data/../../evil.png", "/tmp/evil.png", "C:/evil.png", "a\\..\\b.png"])
def test_paths_that_leave_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("good.png", b"good")
        archive.writestr(name, b"evil")
    assert "evil" in refused(tmp_path / "a.zip") or "\\" in name
    if "\\" in name:
        return
    with tarfile.open(tmp_path / "a.tar", "w") as archive_tar:
        info = tarfile.TarInfo(name)
        info.size = 4
        archive_tar.addfile(info, io.BytesIO(b"evil"))
    assert "evil" in refused(tmp_path / "a.tar")


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
    ids=["symlink", "hard link", "character device", "block device", "pipe"],
)
def test_links_and_devices_in_tars_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("data/trick.png")
        info.type = kind
        info.linkname = "/etc/passwd"
        archive.addfile(info)
    assert "data/trick.png" in refused(tmp_path / "a.tar")


@pytest.mark.parametrize("mode", [0o120777, 0o010644, 0o020644, 0o104755, 0o102755])
def test_links_devices_and_set_user_bits_in_zips_are_refused(tmp_path: Path, mode: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("data/trick.png")
        info.create_system = 3
        info.external_attr = mode << 16
        archive.writestr(info, "/etc/passwd")
    assert "data/trick.png" in refused(tmp_path / "a.zip")


def test_set_user_bit_in_a_tar_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("data/trick.png")
        info.mode = 0o4755
        archive.addfile(info)
    assert "set-user-id" in refused(tmp_path / "a.tar")


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.png", bytes(2_000_000))
    assert "unpack to 2000000" in refused(tmp_path / "a.zip")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive_tar:
        info = tarfile.TarInfo("zeros.png")
        info.size = 2_000_000
        archive_tar.addfile(info, io.BytesIO(bytes(info.size)))
    assert "unpacks to over 2000000 bytes" in refused(tmp_path / "a.tar.gz")


def test_a_member_over_the_size_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("setr.data.reading.archives.MAX_MEMBER_BYTES", 100)
    assert "more than 100" in refused(make_zip(tmp_path / "a.zip", FILES))
    assert "more than 100" in refused(make_tar(tmp_path / "a.tar", FILES))


def test_a_name_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("a.png", b"one")
        archive.writestr("a.png", b"two")
    assert "twice" in refused(tmp_path / "a.zip")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
@pytest.mark.parametrize("data", [b"", b"<html>moved</html>", b"PK\x03\x04" + bytes(40), b"\x1f\x8b\x08" + bytes(40)])
def test_what_is_no_archive_is_an_error(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=r"E_ARCHIVE_READ.*download it again"):
        list_members(tmp_path / name)


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_truncated_and_damaged_archives_are_errors(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    name = "a.zip" if make is make_zip else "a.tar.gz"
    data = make(tmp_path / name, {"a.png": os.urandom(5000)}).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"E_ARCHIVE_READ"):
        list_members(tmp_path / name)
    damaged = bytearray(data)
    damaged[2000] ^= 1
    (tmp_path / name).write_bytes(damaged)
    with pytest.raises(InputError, match=r"E_ARCHIVE_READ"):
        read_member(ArchiveMember(tmp_path / name, "a.png"))


def test_a_missing_member_and_a_missing_archive_are_errors(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", FILES)
    with pytest.raises(InputError, match=r"E_ARCHIVE_READ.*no such file"):
        read_member(ArchiveMember(archive, "nothing"))
    with pytest.raises(InputError, match=r"E_ARCHIVE_READ"):
        list_members(tmp_path / "missing.zip")
