"""A checkout whose commit git does not give is named once, and no copy without a repository is."""

import os
import subprocess

import pytest

from setr.record.lineage import lineage


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
