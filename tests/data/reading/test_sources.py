"""Files below a root: what is listed, passed over and refused."""

import os
import unicodedata
import zipfile
from pathlib import Path

import pytest

from setr.data.reading.archives import ArchiveMember
from setr.data.reading.sources import check_root, find_file, find_files, is_junk, read_bytes, spelled
from setr.errors import InputError


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def test_files_are_listed_below_their_folder(tmp_path: Path) -> None:
    touch(tmp_path, "images/b.png", "images/a/c.png", "other/d.png")
    files = find_files(tmp_path, "images")
    assert list(files.found) == ["a/c.png", "b.png"]
    assert files.present
    assert not find_files(tmp_path, "missing").present
    assert read_bytes(files.found["b.png"]) == b"images/b.png"


def test_junk_is_passed_over_and_counted(tmp_path: Path) -> None:
    touch(tmp_path, "i/a.png", "i/._a.png", "i/.DS_Store", "i/Thumbs.db", "i/x/desktop.ini", "i/__MACOSX/b.png")
    files = find_files(tmp_path, "i")
    assert (list(files.found), files.junk) == (["a.png"], 5)
    assert is_junk("__MACOSX/a.png")
    assert not is_junk("a._b.png")


def test_prefixes_and_archives_stand_for_folders(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("Data/images/a.png", b"a")
        archive.writestr("__MACOSX/Data/images/._a.png", b"junk")
        archive.writestr("Data/images/._a.png", b"junk")
    prefixes = ("", "Data")
    files = find_files(tmp_path, "images", archives=("none.zip", "all.zip"), prefixes=prefixes)
    assert files.found == {"a.png": ArchiveMember(tmp_path / "all.zip", "Data/images/a.png")}
    assert files.junk == 1
    assert find_files(tmp_path / "all.zip", "images", prefixes=prefixes).found.keys() == {"a.png"}
    touch(tmp_path, "Data/images/b.png")
    assert find_files(tmp_path, "images", archives=("all.zip",), prefixes=prefixes).found.keys() == {"b.png"}


def test_one_file_is_found_by_path(tmp_path: Path) -> None:
    touch(tmp_path, "lists/train.txt")
    assert find_file(tmp_path, "lists/train.txt") == tmp_path / "lists/train.txt"
    assert find_file(tmp_path, "lists/val.txt") is None


@pytest.mark.parametrize("kind", ["file", "folder", "relative", "base"])
def test_links_out_of_the_root_are_refused(tmp_path: Path, kind: str) -> None:
    touch(tmp_path, "outside/secret.png", "root/images/a.png")
    images = tmp_path / "root/images"
    if kind == "file":
        (images / "trick.png").symlink_to(tmp_path / "outside/secret.png")
    elif kind == "folder":
        (images / "trick").symlink_to(tmp_path / "outside")
    elif kind == "relative":
        (images / "trick.png").symlink_to("../../outside/secret.png")
    else:
        (tmp_path / "root/labels").symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match=r"E_PATH_ESCAPE.*outside.*set data.root"):
        find_files(tmp_path / "root", "labels" if kind == "base" else "images")


def test_links_within_the_root_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "root/store/a.png", "root/images/b.png")
    (tmp_path / "root/images/a.png").symlink_to("../store/a.png")
    (tmp_path / "root/images/loop").symlink_to(tmp_path / "root/images")
    (tmp_path / "link").symlink_to(tmp_path / "root")
    assert find_files(tmp_path / "root", "images").found.keys() == {"a.png", "b.png"}
    assert find_files(tmp_path / "link", "images").found.keys() == {"a.png", "b.png"}


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    ("store", "remedy"),
    [
        (".git/annex/objects/Wx/2f/MD5E-s9--0a.png/MD5E-s9--0a.png", "git annex get, then git annex unlock"),
        (".dvc/cache/files/md5/0a/0123456789abcdef0123456789abcd", "dvc checkout --relink"),
        ("shared-cache/files/md5/0a/0123456789abcdef0123456789abcd", "dvc checkout --relink"),
        ("hub/datasets--x/blobs/0a0a", "cp -rL"),
        ("elsewhere/a.png", "set data.root"),
    ],
)
def test_a_link_into_a_store_says_how_to_bring_the_file(tmp_path: Path, store: str, remedy: str, there: bool) -> None:
    if there:
        touch(tmp_path, store)
    touch(tmp_path, "root/images/b.png")
    (tmp_path / "root/images/a.png").symlink_to(tmp_path / store)
    with pytest.raises(InputError, match=rf"E_PATH_ESCAPE.*images/a\.png.*{remedy}") as caught:
        find_files(tmp_path / "root", "images")
    assert "move" not in str(caught.value)  # the store would lose what its other users link to


@pytest.mark.parametrize(
    ("store", "remedy"), [(".git/annex/objects/a", "git annex get"), (".dvc/cache/a", "dvc"), ("a", "or remove it")]
)
def test_a_link_within_the_root_whose_file_is_missing(tmp_path: Path, store: str, remedy: str) -> None:
    touch(tmp_path, "images/b.png")
    (tmp_path / "images/a.png").symlink_to(tmp_path / store)
    with pytest.raises(InputError, match=rf"E_FILE_READ.*images/a\.png.*{remedy}"):
        find_files(tmp_path, "images")


@pytest.mark.parametrize("setting", ["data.root", "data.images", "data.labels"])
def test_a_missing_folder_names_its_own_setting(tmp_path: Path, setting: str) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match=rf"E_DATA_ROOT.*photo \| did you mean photos\? set {setting}=<folder>"):
        check_root(tmp_path / "photo", setting=setting)


def test_a_path_is_found_in_either_form_of_its_letters(tmp_path: Path) -> None:
    for form, other in (("NFC", "NFD"), ("NFD", "NFC")):
        name = unicodedata.normalize(form, f"Bäume-{form}")
        touch(tmp_path, f"{name}/é.txt")
        assert spelled(tmp_path / unicodedata.normalize(other, name)) == tmp_path / name
    assert spelled(tmp_path / "none") == tmp_path / "none"


@pytest.mark.timeout(20)
def test_a_pipe_is_refused_and_never_opened(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png")
    os.mkfifo(tmp_path / "images/pipe.png")
    with pytest.raises(InputError, match=r"E_PATH_ESCAPE.*pipe\.png"):
        find_files(tmp_path, "images")
    with pytest.raises(InputError, match=r"E_PATH_ESCAPE.*pipe\.png"):
        read_bytes(tmp_path / "images/pipe.png")
    with pytest.raises(InputError, match=r"E_PATH_ESCAPE"):
        read_bytes(Path(os.devnull))


def test_missing_things_are_one_line_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"E_DATA_ROOT.*does not exist.*set data\.root"):
        find_files(tmp_path / "missing", "images")
    touch(tmp_path, "file.txt", "images/a.png")
    with pytest.raises(InputError, match=r"E_DATA_ROOT.*neither a folder nor an archive"):
        check_root(tmp_path / "file.txt")
    with pytest.raises(InputError, match=r"E_FILE_READ"):
        read_bytes(tmp_path / "missing.png")
    (tmp_path / "images/broken.png").symlink_to("nothing.png")
    with pytest.raises(InputError, match=r"E_FILE_READ.*broken\.png"):
        find_files(tmp_path, "images")


def test_a_file_of_absurd_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("setr.data.reading.sources.MAX_MEMBER_BYTES", 10)
    touch(tmp_path, "a-long-name.png")
    with pytest.raises(InputError, match=r"E_FILE_TOO_LARGE"):
        read_bytes(tmp_path / "a-long-name.png")
