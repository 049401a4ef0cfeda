"""Everything that a command leaves behind for the next one, left by one user and replaced by another."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.processes import PROCESSES
from pipelines.cluster.driver import quiet
from pipelines.terminal.command import check_writable
from setr.data.locations import _only_copier
from setr.files.atomic import append, make_folder, new_file, write_file, write_json, write_text
from setr.record.lineage import Lineage, keep_diff
from setr.reporting.numbers.results import save_results
from setr.reporting.site.site_folder import swap_in
from tests.helpers.users import FIRST, GROUP, SECOND, as_root, modes, shared_folder, work_as

pytestmark = as_root


def log(folder: Path) -> None:
    with quiet(folder / "logs" / f"{os.getpid()}.log"):
        pass


def copy_lock(folder: Path) -> None:
    with _only_copier(folder / "copy"):
        pass


def stream(folder: Path) -> None:
    with new_file(folder / "streamed") as file:
        file.write(b"x")


WRITES: dict[str, Callable[[Path], None]] = {
    "record": lambda folder: write_json(folder / "below" / "scores.json", {}),
    "text": lambda folder: write_text(folder / "below" / "text", "x"),
    "file": lambda folder: write_file(folder / "file", b"x"),
    "stream": stream,
    "line": lambda folder: append(folder / "below" / "events.jsonl", b"{}\n"),
    "folder": lambda folder: make_folder(folder / "one" / "two"),
    "check": lambda folder: check_writable(folder / "checked"),
    "results": lambda folder: save_results(folder / "runs" / "a.json", []),
    "diff": lambda folder: keep_diff(folder, Lineage(diff=f"of {os.getuid()}")),
    "site": lambda folder: swap_in(folder / "report", {"index.html": b"x", "figures/a.svg": b"x"}),
    "log": log,
    "copy": copy_lock,
}


def write(name: str, folder: Path) -> None:
    WRITES[name](folder)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Returns a temporary folder that other users may reach."""
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if folder.stat().st_uid == os.getuid() and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o711)
    return tmp_path


@pytest.mark.parametrize("umask", [0o022, 0o077], ids=oct)
@pytest.mark.parametrize("name", WRITES)
def test_what_one_user_left_another_one_replaces(here: Path, name: str, umask: int) -> None:
    folder = shared_folder(here / "storage", 0o2775)
    for user in (FIRST, SECOND, FIRST):
        assert work_as(PROCESSES, user, umask, write, name, folder) == ""
    found = modes(folder)
    assert found
    for path, mode in found.items():
        assert (folder / path).stat().st_gid == GROUP
        wanted = 0o070 if stat.S_ISDIR((folder / path).stat().st_mode) else 0o060 if mode & stat.S_IWUSR else 0o040
        assert mode & 0o070 == wanted, (path, oct(mode))


@pytest.mark.parametrize("name", [name for name in WRITES if name != "log"])
def test_who_may_not_write_is_told_in_one_line(here: Path, name: str) -> None:
    folder = shared_folder(here / "storage", 0o2755)
    said = work_as(PROCESSES, SECOND, 0o002, write, name, folder)
    assert said.startswith("E_STORAGE | ")
    assert "Permission denied" in said
    assert "\n" not in said
    assert modes(folder) == {}
