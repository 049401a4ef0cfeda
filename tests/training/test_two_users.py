"""Two users of one group, one after the other, in one storage folder."""

import os
import signal
import stat
import tempfile
from pathlib import Path

import pytest

from benchmarks.processes import PROCESSES
from tests.helpers.tiny_training import events, recording, run, weights
from tests.helpers.users import FIRST, GROUP, SECOND, as_root, modes, shared_folder, work_as

pytestmark = as_root


def train_once():
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder, "experiment"))


def train_as(user, umask, work, folder):
    return work_as(PROCESSES, user, umask, work, folder, before=train_once)


def train_and_die(folder):
    run(folder, context=recording(folder, at={"event": "metrics", "step": 8, "signal": signal.SIGKILL}))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder)
    return weights(folder)


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_the_second_goes_on_where_the_first_was_killed(tmp_path, undisturbed, umask):
    folder = shared_folder(tmp_path / "storage", 0o2775) / "experiment"
    assert train_as(FIRST, umask, train_and_die, folder) == "status -9"
    assert events(folder, "metrics")[-1]["step"] == 8
    assert train_as(SECOND, umask, run, folder) == ""
    assert events(folder, "start")[-1]["resumed_from"] == "step-00000006"
    assert weights(folder) == undisturbed
    for name, mode in modes(folder).items():
        path = folder / name
        assert path.stat().st_gid == GROUP
        wanted = 0o2770 if path.is_dir() else 0o660 if mode & stat.S_IWUSR else 0o440
        assert mode & 0o2770 == wanted, (name, oct(mode))
        assert not mode & umask & 0o007, (name, oct(mode))
    owners = {path.stat().st_uid for path in folder.iterdir()}
    assert owners == {FIRST, SECOND}
    assert train_as(FIRST, umask, run, folder) == "", "and the first comes back"


def test_what_an_older_version_left_to_nobody_else_is_no_end(tmp_path, undisturbed):
    folder = shared_folder(tmp_path / "storage", 0o2775) / "experiment"
    assert train_as(FIRST, 0o002, train_and_die, folder) == "status -9"
    half = folder / ".tmp-step-00000009-7"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    os.chown(half, FIRST, GROUP)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o444 if not path.stat().st_mode & stat.S_IWUSR else 0o644)
    assert train_as(SECOND, 0o002, run, folder) == ""
    assert weights(folder) == undisturbed
    assert [event["step"] for event in events(folder, "metrics")][:8] == list(range(1, 9)), "the record is kept"


@pytest.mark.parametrize("name", ["", "experiment"])
def test_who_may_not_write_is_told_in_one_line(tmp_path, name):
    storage = shared_folder(tmp_path / "storage", 0o2755)
    folder = storage / name
    if name:
        assert train_as(FIRST, 0o022, run, folder) == ""
    before = modes(storage)
    said = train_as(SECOND, 0o002, run, folder if name else storage / "new")
    assert said.startswith("E_STORAGE | cannot write (Permission denied) | ")
    assert "\n" not in said
    assert modes(storage) == before


@pytest.mark.parametrize("mode", [0o755, 0o2755, 0o1777], ids=oct)
@pytest.mark.parametrize("umask", [0o022, 0o077], ids=oct)
def test_elsewhere_the_umask_decides(tmp_path, umask, mode):
    folder = shared_folder(tmp_path / "storage", mode)
    assert train_as(FIRST, umask, run, folder) == ""
    for name, found in modes(folder).items():
        path = folder / name
        every = 0o777 if path.is_dir() else 0o666 if found & stat.S_IWUSR else 0o444
        assert found & 0o777 == every & ~umask, (name, oct(found))
