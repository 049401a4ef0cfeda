"""The diff that is stored with a run: everything that git would commit of code and settings, and nothing else."""

import subprocess
from pathlib import Path

import pytest

from pipelines import lineage


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a repository of one commit that stands for the project."""
    monkeypatch.setattr(lineage, "PROJECT", tmp_path)
    (tmp_path / "model.py").write_text("width = 1\n")
    (tmp_path / ".gitignore").write_text("data/\n")
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    for words in (("init", "-q"), ("add", "."), (*identity, "commit", "-q", "-m", "first")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return tmp_path


def test_a_clean_tree_has_no_diff(repository: Path) -> None:
    assert lineage.git_diff() == ""
    assert lineage.git_lineage()["git.dirty"] == "false"


def test_untracked_code_and_settings_stand_in_the_diff(repository: Path) -> None:
    (repository / "model.py").write_text("width = 2\n")
    (repository / "a new decoder.py").write_text("depth = 7\n")
    (repository / "mine.yaml").write_text("seed: 5\n")
    (repository / "notes.txt").write_text("private\n")
    (repository / "data").mkdir()
    (repository / "data" / "ignored.py").write_text("secret = 1\n")
    diff = lineage.git_diff()
    for line in ("-width = 1", "+width = 2", "+depth = 7", "+seed: 5"):
        assert line in diff.splitlines()
    assert "private" not in diff
    assert "secret" not in diff
    tags = lineage.git_lineage()
    assert tags["git.dirty"] == "true"
    assert len(tags["git.diff_sha256"]) == 64
    # and it applies to the commit
    (repository / "code.diff").write_text(diff)
    for name in ("a new decoder.py", "mine.yaml"):
        (repository / name).unlink()
    subprocess.run(["git", "checkout", "-q", "model.py"], cwd=repository, check=True)
    subprocess.run(["git", "apply", "code.diff"], cwd=repository, check=True)
    assert (repository / "a new decoder.py").read_text() == "depth = 7\n"
    assert (repository / "model.py").read_text() == "width = 2\n"


def test_without_a_repository_the_submitter_says_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "PROJECT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv(lineage.COMMIT_VARIABLE, "abc")
    assert lineage.git_lineage() == {"git.commit": "abc", "git.dirty": "unknown"}
    assert lineage.git_diff() == ""
