"""What git knows travels with a submitted job, and what nobody knows is called unknown."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import submit
from setr.errors import InputError
from setr.record.lineage import DIFFS, SENT, Lineage, keep_diff, lineage, write_lineage
from setr.reporting.numbers.results import Result
from setr.reporting.tracing.trace import links
from tests.helpers.environment import ROOT

MAX_UPLOAD_BYTES = 3_000_000


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Returns a repository with a committed file of code."""
    folder = tmp_path / "a project"
    (folder / "setr").mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    (folder / "setr" / "code.py").write_text("one = 1\n")
    (folder / ".gitignore").write_text(f"/{SENT}\n")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "first")
    lineage.cache_clear()
    return folder


def test_a_clean_copy_is_its_commit(project: Path) -> None:
    assert lineage(project) == Lineage(git(project, "rev-parse", "HEAD").strip(), "false", "")


def test_changes_and_new_files_of_code_are_in_the_diff(project: Path, tmp_path: Path) -> None:
    (project / "setr" / "code.py").write_text("one = 2\n")
    (project / "setr" / "a new.py").write_text("fresh = True\n")
    (project / "notes.txt").write_text("nobody's business")
    found = lineage(project)
    assert found.dirty == "true"
    assert "+one = 2" in found.diff
    assert "+fresh = True" in found.diff
    assert "business" not in found.diff
    git(project, "stash", "--include-untracked")
    git(project, "apply", str(write(tmp_path / "code.diff", found.diff)))
    assert (project / "setr" / "a new.py").read_text() == "fresh = True\n"
    assert (project / "setr" / "code.py").read_text() == "one = 2\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_what_was_sent_counts_where_there_is_no_git(project: Path, tmp_path: Path) -> None:
    (project / "setr" / "code.py").write_text("one = 2\n")
    sent = write_lineage(project)
    assert git(project, "status", "--porcelain").split() == ["M", "setr/code.py"]  # the file itself is ignored
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / SENT).write_bytes((project / SENT).read_bytes())
    assert lineage(copy) == sent
    assert lineage(copy).tags["git.diff_sha256"] == sent.diff_sha256
    keep_diff(tmp_path / "storage", sent)
    assert (tmp_path / "storage" / DIFFS / f"{sent.diff_sha256}.diff").read_text() == sent.diff


@pytest.mark.parametrize("sent", ["", "{", "[]", "{}"])
def test_without_a_word_from_anybody_the_commit_is_unknown(
    tmp_path: Path, sent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lineage.cache_clear()
    (tmp_path / SENT).write_text(sent)
    monkeypatch.delenv("SETR_GIT_COMMIT", raising=False)
    assert lineage(tmp_path) == Lineage()
    lineage.cache_clear()
    monkeypatch.setenv("SETR_GIT_COMMIT", "abc")
    assert lineage(tmp_path) == Lineage(commit="abc")


def test_a_repository_around_the_copy_says_nothing_about_it(project: Path) -> None:
    inner = project / "vendored"
    inner.mkdir()
    (inner / "pyproject.toml").touch()
    assert lineage(inner).commit == "unknown"


def test_the_trace_names_an_unknown_commit_as_a_gap() -> None:
    result = Result("0" * 64, (), {}, {}, {}, tags=Lineage().tags)
    broken = {link.name: link.broken for link in links(None, result)}
    assert broken["commit"] == "the commit was not recorded"
    assert broken["diff"] == "whether the code was changed after the commit was not recorded"


def test_submission_is_rays_own_with_the_projects_folder() -> None:
    words = submit.submission(["--address", "http://head:8265", "--", "python", "pipelines/sweep.py", "tables=[2]"])
    assert Path(words[0]).name == "ray"
    assert words[1:5] == ["job", "submit", "--working-dir", str(ROOT)]
    assert words[5:] == ["--address", "http://head:8265", "--", "python", "pipelines/sweep.py", "tables=[2]"]


@pytest.mark.parametrize("words", [[], ["python", "pipelines/sweep.py"], ["--no-wait", "--"]])
def test_submission_without_a_command_is_refused(words: list[str]) -> None:
    with pytest.raises(InputError, match="E_COMMAND"):
        submit.submission(words)


def test_the_upload_is_small_and_has_all_that_a_job_imports(tmp_path: Path) -> None:
    packaging = pytest.importorskip("ray._private.runtime_env.packaging")
    copy = tmp_path / "project"
    git(tmp_path, "clone", "--quiet", str(ROOT), str(copy))
    for name in (".rayignore", ".gitignore"):
        (copy / name).write_bytes((ROOT / name).read_bytes())
    (copy / SENT).write_text(json.dumps({"commit": "abc", "dirty": "false", "diff": ""}))
    for heavy in ("data", "weights", "checkpoints", "results", "report", "logs", "mlartifacts", ".venv", "tests"):
        (copy / heavy).mkdir(exist_ok=True)
        (copy / heavy / "large.bin").write_bytes(bytes(MAX_UPLOAD_BYTES))
    (copy / "mlflow.db").write_bytes(bytes(MAX_UPLOAD_BYTES))
    for respect_gitignore in (True, False):  # plain `ray job submit`, pipelines/submit.py
        archive = tmp_path / f"{respect_gitignore}.zip"
        packaging.create_package(str(copy), archive, include_gitignore=respect_gitignore)
        assert archive.stat().st_size < MAX_UPLOAD_BYTES
        unpacked = tmp_path / str(respect_gitignore)
        subprocess.run([sys.executable, "-m", "zipfile", "-e", archive, unpacked], check=True)
        files = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
        assert set(git(copy, "ls-files", "setr", "pipelines", "params.yaml").splitlines()) <= files
        assert (SENT in files) == (not respect_gitignore)
        assert not any(name.startswith((".git/", ".dvc/", "tests/", "docs/")) for name in files)
