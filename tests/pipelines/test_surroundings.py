"""What lies around a command and is looked at before it fails far away: Ray's folder, the tracking database, git."""

import os
import sqlite3
import subprocess

import pytest

from pipelines.cluster.socket_folder import ray_folder
from pipelines.tracking.database import check_file
from setr.errors import EnvironmentFailure
from setr.record.lineage import lineage


@pytest.fixture
def variables(monkeypatch):
    for name in ("RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_ray_takes_its_own_folder_where_it_fits(variables, tmp_path):
    assert ray_folder() is None
    variables.setenv("TMPDIR", "/tmp")
    assert ray_folder() is None


@pytest.mark.parametrize("kind", ["long", "file"])
def test_a_tmpdir_that_ray_cannot_use_is_passed_over_or_named(variables, tmp_path, kind):
    bad = tmp_path / ("x" * 60 if kind == "long" else "file")
    bad.write_text("") if kind == "file" else bad.mkdir()
    variables.setenv("TMPDIR", str(bad / "below" if kind == "file" else bad))
    assert ray_folder() == "/tmp/ray"
    with pytest.raises(EnvironmentFailure, match=r"TMPDIR=.*RAY_TMPDIR=<a short"):
        ray_folder(system=bad)
    variables.setenv("RAY_TMPDIR", str(bad))
    with pytest.raises(EnvironmentFailure, match=r"where|RAY_TMPDIR="):
        ray_folder()


def test_a_database_that_is_not_there_or_sound_is_no_problem(tmp_path):
    check_file(tmp_path / "a" / "new.db")
    (tmp_path / "empty.db").touch()
    check_file(tmp_path / "empty.db")
    with sqlite3.connect(tmp_path / "sound.db") as database:
        database.execute("CREATE TABLE t (x)")
        check_file(tmp_path / "sound.db")  # while somebody writes
    check_file(tmp_path / "sound.db")


@pytest.mark.parametrize(("kind", "found"), [("folder", "a folder"), ("text", "another kind"), ("damaged", "")])
def test_a_database_that_cannot_be_opened_is_refused_at_once(tmp_path, kind, found):
    path = tmp_path / "mlflow.db"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("a text, and no database at all")
    else:
        path.write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
    with pytest.raises(EnvironmentFailure, match=f"E_TRACKING.*{found}.*move it away"):
        check_file(path)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_database_without_the_right_to_write_is_refused(tmp_path):
    (tmp_path / "mlflow.db").touch(mode=0o444)
    with pytest.raises(EnvironmentFailure, match=r"no right to write"):
        check_file(tmp_path / "mlflow.db")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Returns a small checkout of a project with one commit."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.delenv("SETR_GIT_COMMIT", raising=False)
    (tmp_path / "pyproject.toml").write_text("")
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for words in (("init", "-q"), ("add", "-A"), (*author, "commit", "-q", "-m", "one")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return tmp_path


def test_a_checkout_that_git_reads_says_nothing(checkout, capsys):
    assert len(lineage(checkout).commit) == 40
    assert not capsys.readouterr().err


@pytest.mark.parametrize("kind", ["owner", "no git", "broken", "no commit"])
def test_a_checkout_whose_commit_is_lost_is_named(checkout, kind, monkeypatch, capsys):
    if kind == "owner":
        monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    elif kind == "no git":
        monkeypatch.setenv("PATH", str(checkout))
    elif kind == "broken":
        (checkout / ".git/HEAD").unlink()
    else:
        subprocess.run(["git", "update-ref", "-d", "HEAD"], cwd=checkout, check=True)
    lineage.cache_clear()
    assert lineage(checkout).commit == "unknown"
    [line] = capsys.readouterr().err.splitlines()
    assert str(checkout) in line
    assert "SETR_GIT_COMMIT" in line
    if kind == "owner":
        assert "git config --global --add safe.directory" in line
    lineage.cache_clear()
    monkeypatch.setenv("SETR_GIT_COMMIT", "c" * 40)
    assert lineage(checkout).commit == "c" * 40
    assert not capsys.readouterr().err
    lineage.cache_clear()


def test_a_copy_without_a_repository_is_no_matter_for_a_warning(tmp_path, capsys):
    (tmp_path / "pyproject.toml").write_text("")
    assert lineage(tmp_path).commit == "unknown"
    assert not capsys.readouterr().err
