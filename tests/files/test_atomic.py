import errno
import os
import stat
from pathlib import Path

import pytest

from setr.errors import EnvironmentFailure
from setr.files import atomic
from setr.files.atomic import append, give_rights, make_folder, new_file, renew, write_file, write_json


class Owner:
    """Owns a folder until it is told that it does not."""

    number = 7

    def __init__(self, folder: Path) -> None:
        self.folder, self.lost, self.asked = folder, False, 0

    def check(self) -> None:
        self.asked += 1
        if self.lost:
            raise EnvironmentFailure("E_LEASE", "taken")


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_owner_is_asked_before_the_rename_and_its_temporary_files_carry_its_number(tmp_path: Path) -> None:
    owner = Owner(tmp_path)
    with new_file(tmp_path / "a", owner=owner) as file:
        [temporary] = tmp_path.iterdir()
        assert temporary.name.startswith(".tmp-00000007-a-")
        file.write(b"new")
        assert owner.asked == 0
    assert owner.asked == 1
    owner.lost = True
    with pytest.raises(EnvironmentFailure, match="E_LEASE"):
        write_file(tmp_path / "a", b"late", owner=owner)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"new"}


def test_a_write_that_fails_because_of_a_takeover_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Owner(tmp_path)
    monkeypatch.setattr(atomic.Path, "replace", full)
    with pytest.raises(EnvironmentFailure, match=r"E_STORAGE .*No space left"):
        write_json(tmp_path / "a.json", {}, owner=owner)

    def taken(*_: object) -> None:
        owner.lost = True
        raise FileNotFoundError

    monkeypatch.setattr(atomic.Path, "replace", taken)
    with pytest.raises(EnvironmentFailure, match="E_LEASE"):
        write_json(tmp_path / "a.json", {}, owner=owner)
    assert list(tmp_path.iterdir()) == []


def test_a_line_goes_where_its_file_was_when_the_owner_was_asked(tmp_path: Path) -> None:
    path, owner = tmp_path / "a.jsonl", Owner(tmp_path)
    append(path, b'{"event": 1}\n', owner=owner)
    with path.open("ab") as file:
        file.write(b'{"event": ')  # killed here
    append(path, b'{"event": 2}\n', owner=owner)
    assert path.read_bytes() == b'{"event": 1}\n{"event": \n{"event": 2}\n'
    held_up = os.open(path, os.O_WRONLY | os.O_APPEND)
    renew(path, owner=owner)
    os.write(held_up, b'{"event": 3}\n')
    os.close(held_up)
    append(path, b'{"event": 4}\n', owner=owner)
    assert path.read_bytes() == b'{"event": 1}\n{"event": \n{"event": 2}\n{"event": 4}\n'
    owner.lost = True
    with pytest.raises(EnvironmentFailure, match="E_LEASE"):
        append(path, b'{"event": 5}\n', owner=owner)
    assert b"5" not in path.read_bytes()


def test_a_disk_that_is_full_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic.os, "write", full)
    with pytest.raises(EnvironmentFailure, match=r"E_STORAGE \| cannot write \(No space left on device\) \| .*a.jsonl"):
        append(tmp_path / "a.jsonl", b"{}\n")


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o027, 0o077], ids=oct)
@pytest.mark.parametrize("mode", [0o755, 0o775, 0o2775, 0o770, 0o1777], ids=oct)
def test_rights_are_the_umasks_and_those_of_a_folder_that_is_its_groups(tmp_path: Path, umask: int, mode: int) -> None:
    place = tmp_path / "place"
    place.mkdir()
    os.chown(place, -1, os.getgid())
    place.chmod(mode)
    before = os.umask(umask)
    try:
        write_json(place / "record.json", {})
        write_file(place / "shard", b"x")
        make_folder(place / "one")
        (place / "private").touch(0o600)
        give_rights(place / "private")
        append(place / "events.jsonl", b"{}\n")
    finally:
        os.umask(before)
    shared = 0o070 if mode & stat.S_IWGRP and not mode & stat.S_ISVTX else 0
    for name, every in (("record.json", 0o666), ("private", 0o666), ("events.jsonl", 0o666), ("one", 0o777)):
        found = (place / name).stat().st_mode & 0o777
        assert found == (every & ~umask) | (every & shared), (name, oct(found))
    assert (place / "shard").stat().st_mode & 0o777 == ((0o666 & ~umask) | (0o666 & shared)) & 0o444
    assert bool((place / "one").stat().st_mode & stat.S_ISGID) == bool(mode & stat.S_ISGID)


def test_another_groups_folder_gives_nothing_to_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a folder to another group")
    place = tmp_path / "place"
    place.mkdir()
    os.chown(place, -1, 61000)
    place.chmod(0o777)
    write_json(place / "record.json", {})
    assert (place / "record.json").stat().st_gid != 61000
    assert (place / "record.json").stat().st_mode & 0o777 == 0o666 & ~atomic._umask()


def test_a_file_in_the_place_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(EnvironmentFailure, match="E_STORAGE"):
            make_folder(path)
