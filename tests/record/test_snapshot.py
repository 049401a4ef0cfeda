"""Snapshots of code: what is in one, that it is kept once, and that one which was touched is never run."""

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from setr.errors import InputError, IntegrityError
from setr.record import snapshot
from setr.record.lineage import SENT
from setr.record.snapshot import CODE, code_tree, differing, keep, read_code, require_code, tree_hash, verify
from setr.settings.home import SNAPSHOT
from tests.helpers.environment import environment
from tests.helpers.project_copy import copy_of_project, git, run


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a repository with the project's code, which no test changes."""
    return copy_of_project(tmp_path_factory.mktemp("snapshots") / "a project")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Returns a repository with a little code."""
    folder = tmp_path / "small"
    for name, text in {
        "setr/settings/config.py": "one = 1\n",
        "setr/a.html": "<p>",
        "params.yaml": "data: {}\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / ".gitignore").write_text("/scratch/\n")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


def test_a_clone_a_copy_without_git_and_a_snapshot_are_one_code(project: Path, tmp_path: Path) -> None:
    code = read_code(project)
    assert {"setr/training/loop.py", "pipelines/sweep.py", "studies/setr.yaml", "params.yaml"} <= code.keys()
    copy = copy_of_project(tmp_path / "copy", repository=False)
    (copy / SENT).write_text("{}")  # as a submitted job's has
    kept = keep(code, tmp_path)
    assert tree_hash(read_code(copy)) == tree_hash(read_code(kept)) == tree_hash(code) == kept.name
    assert kept.parent == tmp_path / CODE


def test_new_and_changed_files_are_code_and_data_are_not(small: Path) -> None:
    (small / "setr" / "settings" / "config.py").write_text("one = 2\n")
    (small / "mine.py").write_text("")
    before = read_code(small)
    assert before["setr/settings/config.py"] == b"one = 2\n"
    assert "mine.py" in before
    for name in ("data", "weights", "checkpoints/x", "runs/y", "tests", "docs", ".hidden", "setr/__pycache__"):
        (small / name).mkdir(parents=True)
        (small / name / "left.py").write_text("out")
    (small / "scratch").mkdir()
    (small / "scratch" / "ignored.py").write_text("out")
    (small / "photo.jpg").write_bytes(bytes(100))
    (small / "away.py").symlink_to(sys.executable)
    git(small, "rm", "--quiet", "--cached", "params.yaml")
    (small / "params.yaml").unlink()
    assert read_code(small, leave_out=[small / "runs"]) == {k: v for k, v in before.items() if k != "params.yaml"}


def test_a_snapshot_below_the_project_is_not_part_of_the_next(small: Path) -> None:
    first = keep(read_code(small), small / "runs")  # which git does not ignore
    assert keep(read_code(small), small / "runs") == first


def test_what_is_too_large_to_be_code_is_refused_by_name(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MAX_BYTES", 1000)
    (small / "annotations.json").write_bytes(bytes(2000))
    with pytest.raises(InputError, match=r"E_SNAPSHOT.*annotations\.json") as caught:
        read_code(small)
    assert "\n" not in str(caught.value)


def test_those_who_keep_the_same_at_once_keep_one(small: Path, tmp_path: Path) -> None:
    code = read_code(small)
    with ThreadPoolExecutor(8) as threads:
        folders = set(threads.map(lambda _: keep(code, tmp_path / "storage"), range(16)))
    [folder] = folders
    assert [path.name for path in (tmp_path / "storage" / CODE).iterdir()] == [folder.name]
    verify(folder)


def test_files_are_read_only_and_follow_the_folders_rights(small: Path, tmp_path: Path) -> None:
    before = os.umask(0o002)  # two users of one group
    try:
        folder = keep(read_code(small), tmp_path / "storage")
    finally:
        os.umask(before)
    for path in [folder, *folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o775 if path.is_dir() else 0o444), path
    shutil.rmtree(tmp_path / "storage")  # a user may clean up


def test_what_a_killed_process_left_is_neither_used_nor_in_the_way(small: Path, tmp_path: Path) -> None:
    code = read_code(small)
    left = tmp_path / CODE / ".new-host-1-aaaa"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    recent = tmp_path / CODE / ".new-host-2-bbbb"
    recent.mkdir()
    verify(keep(code, tmp_path))
    assert not left.exists()
    assert recent.exists()


def _change(folder: Path) -> str:
    path = folder / "setr" / "settings" / "config.py"
    path.chmod(0o644)
    path.write_text("one = 3\n")
    return "setr/settings/config.py"


def _remove(folder: Path) -> str:
    (folder / "setr" / "a.html").unlink()
    return "setr/a.html"


def _add(folder: Path) -> str:
    (folder / "setr" / "more.py").write_text("")
    return "setr/more.py"


def _add_library(folder: Path) -> str:
    (folder / "setr" / "settings" / "config.so").write_text("")
    return "setr/settings/config.so"


def _forge(folder: Path) -> str:
    """Changes a file and its hash in the manifest."""
    _change(folder)
    record = json.loads((folder / SNAPSHOT).read_text())
    record["files"]["setr/settings/config.py"] = "0" * 64
    (folder / SNAPSHOT).chmod(0o644)
    (folder / SNAPSHOT).write_text(json.dumps(record))
    return SNAPSHOT


def _cut(folder: Path) -> str:
    (folder / SNAPSHOT).chmod(0o644)
    (folder / SNAPSHOT).write_text('{"files": {')
    return SNAPSHOT


@pytest.mark.parametrize("damage", [_change, _remove, _add, _add_library, _forge, _cut])
def test_what_is_not_as_it_was_is_refused_by_name(small: Path, tmp_path: Path, damage: Callable[[Path], str]) -> None:
    code = read_code(small)
    folder = keep(code, tmp_path)
    name = damage(folder)
    for refuse in (lambda: verify(folder), lambda: keep(code, tmp_path)):
        with pytest.raises(IntegrityError, match="E_SNAPSHOT") as caught:
            refuse()
        for part in (str(folder / name), "found", "expected", "--anew"):
            assert part in str(caught.value)


def test_compiled_files_and_the_lineage_beside_it_are_nobodys_business(small: Path, tmp_path: Path) -> None:
    folder = keep(read_code(small), tmp_path)
    (folder / "setr" / "settings" / "__pycache__").mkdir()
    (folder / "setr" / "settings" / "__pycache__" / "config.cpython-311.pyc").write_bytes(b"x")
    (folder / SENT).write_text("{}")
    verify(folder)


def test_differences_are_files_changed_new_and_gone(small: Path, tmp_path: Path) -> None:
    folder = keep(read_code(small), tmp_path)
    (small / "setr" / "settings" / "config.py").write_text("one = 2\n")
    (small / "new.py").write_text("")
    (small / "params.yaml").unlink()
    assert differing(read_code(small), folder) == ["new.py", "params.yaml", "setr/settings/config.py"]


def test_a_process_outside_of_any_snapshot_takes_no_job_that_names_one() -> None:
    code_tree.cache_clear()
    assert code_tree() == ""
    require_code("")
    with pytest.raises(IntegrityError, match=r"E_SNAPSHOT.*found no snapshot, expected aaaa"):
        require_code("aaaa")


@pytest.mark.parametrize("damage", [_change, _add])
def test_a_worker_knows_its_snapshot_and_refuses_another_and_a_changed_one(
    project: Path, tmp_path: Path, damage: Callable[[Path], str]
) -> None:
    folder = keep(read_code(project), tmp_path)
    ask = (
        "import sys; sys.path.insert(0, sys.argv[1]); from setr.record.snapshot import code_tree, require_code\n"
        "require_code(sys.argv[2]); print(code_tree())"
    )

    def worker(expected: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", ask, folder, expected], capture_output=True, text=True, cwd=project
        )

    assert worker(folder.name).stdout.strip() == folder.name
    assert "a worker has other code" in worker("b" * 64).stderr
    with (
        (folder / "setr" / "settings" / "config.py").open("a")
        if damage is _change
        else (folder / "setr/x.py").open("w") as file
    ):
        file.write("# an edit\n")
    assert "E_SNAPSHOT" in worker(folder.name).stderr


def test_a_command_in_a_snapshot_that_was_changed_runs_nothing(project: Path, tmp_path: Path) -> None:
    folder = keep(read_code(project), tmp_path / "storage")
    with (folder / "setr" / "training" / "loop.py").open("a") as file:
        file.write("# an edit\n")
    said = run(folder, tmp_path, "train", status=3)
    [line] = said.splitlines()
    assert line.startswith("error: E_SNAPSHOT | a changed file")
    assert "setr/training/loop.py" in line
    assert not (tmp_path / "checkpoints").exists()


def test_a_snapshot_has_no_home_of_its_own(project: Path, tmp_path: Path) -> None:
    folder = keep(read_code(project), tmp_path)
    said = subprocess.run(
        [sys.executable, folder / "pipelines" / "scenes.py"],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert said.returncode == 2
    assert "SETR_HOME" in said.stderr.splitlines()[-1]
    verify(folder)
