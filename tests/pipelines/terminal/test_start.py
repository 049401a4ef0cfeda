"""Which code a command starts with: that of its own project, of now, or of where it was interrupted."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.terminal import start
from setr.errors import EnvironmentFailure, InputError
from setr.record.events import Event, read_events
from setr.record.lineage import DIFFS, SNAPSHOT_TAG, project_version
from setr.record.snapshot import CODE, keep, read_code
from setr.settings.config import Config, StorageConfig
from tests.helpers.project_copy import BREAKS, ROOT, begin, copy_of_project, git, run, variables
from tests.helpers.tiny import CELL

COMMANDS = sorted(
    path.stem for path in (ROOT / "pipelines").glob("*.py") if '__name__ == "__main__"' in path.read_text()
)
WORDS = ["sweep.tables=[2]", "sweep.seeds=2"]


class Started:
    """A project of one's own, and what its commands would become."""

    def __init__(self, folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[[], Any]) -> None:
        """Take a project's folder."""
        self.project = folder
        self.home, self.patch, self.said = home, monkeypatch, said
        self.became: list[tuple[list[str], dict[str, str]]] = []
        monkeypatch.setenv("SETR_HOME", str(home))
        monkeypatch.setattr(os, "execve", lambda _, words, found: self.became.append((words, found)))

    def __call__(self, *words: str, command: str = "sweep") -> tuple[Path, str]:
        """Returns the snapshot that the command would run in, and what it says."""
        self.patch.setattr(start, "PROJECT", self.project)
        self.patch.setattr(sys, "argv", [f"pipelines/{command}.py", *words])
        start.enter(command)
        [(arguments, found)] = self.became
        self.became.clear()
        assert arguments[-len(words) :] == list(words)
        assert found["SETR_HOME"] == str(self.home)
        script = Path(arguments[-len(words) - 1])
        assert script.name == f"{command}.py"
        return script.parents[1], self.said().out

    def interrupted(self, *words: str, end: BaseException | int = 143) -> Path:
        """Starts a sweep and ends it; returns the snapshot that it had."""
        folder, _ = self(*words)
        self.patch.setattr(start, "PROJECT", folder)

        def work(config: Config, arguments: Namespace) -> int:
            if isinstance(end, BaseException):
                raise end
            return end

        config = Config(storage=StorageConfig(checkpoints=str(self.home / "checkpoints")))
        with contextlib.suppress(*([type(end)] if isinstance(end, BaseException) else [])):
            start.marked("sweep", work)(config, Namespace())
        return folder

    @property
    def marks(self) -> list[Path]:
        """Returns the marks of what is under way."""
        return list((self.home / "checkpoints" / CODE / start.MARKS).glob("*"))


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Started:
    for name in ("SLURM_RESTART_COUNT", "DVC_STAGE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    project = tmp_path / "project"
    for name in (
        "setr/settings/config.py",
        "setr/training/loop.py",
        "pipelines/sweep.py",
        "params.yaml",
        "pyproject.toml",
    ):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, project / name)
    return Started(project, tmp_path / "home", monkeypatch, capsys.readouterr)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_project(tmp_path_factory.mktemp("projects") / "project")


def edit(project: Path, name: str = "setr/training/loop.py", line: str = "EDITED = True\n") -> None:
    with (project / name).open("a") as file:
        file.write(line)


def other_settings(project: Path) -> None:
    edit(project, "params.yaml", "# another comment\n")


@pytest.mark.parametrize("words", [["--plan"], ["--simulate", "nodes=2"], ["--help"], ["plan=true"]])
def test_what_trains_nothing_stays_where_it_is_and_writes_nothing(started: Started, words: list[str]) -> None:
    started.patch.setattr(start, "PROJECT", started.project)
    started.patch.setattr(sys, "argv", ["pipelines/sweep.py", *words])
    start.enter("sweep")
    assert not started.became
    assert not started.home.exists()


@pytest.mark.parametrize("command", start.SECTIONS)
def test_a_wrong_setting_is_told_before_anything_is_kept_or_imported(started: Started, command: str) -> None:
    with pytest.raises(SystemExit) as caught:
        started("training.nothing=1", command=command)
    assert caught.value.code == 2
    assert started.said().err.startswith("error: E_CONFIG | unknown key training.nothing")
    assert not started.became
    assert not started.home.exists()


@pytest.mark.parametrize("command", start.SECTIONS)
def test_a_command_becomes_itself_in_a_snapshot_without_a_word(started: Started, command: str) -> None:
    folder, said = started("training.seed=3", command=command)
    assert folder == keep(read_code(started.project), started.home / "checkpoints")
    assert said == ""


def test_what_was_interrupted_goes_on_with_its_code_and_says_what_differs(started: Started) -> None:
    first = started.interrupted(*WORDS)
    assert started(*WORDS) == (first, "")  # nothing differs
    edit(started.project)
    other_settings(started.project)
    folder, said = started(*WORDS)
    assert folder == first
    [line] = said.splitlines()
    assert re.match(r"goes on with the code that it began with on \d{4}-.*, snapshot " + first.name[:12], line)
    assert "2 files differ (params.yaml, setr/training/loop.py) now" in line
    assert "--anew" in line
    assert started.interrupted(*WORDS) == first  # and again
    folder, said = started(*WORDS, "--anew")
    assert folder != first
    assert "plans anew with the present code" in said
    assert first.name[:12] in said


def test_another_command_is_another_beginning(started: Started) -> None:
    first = started.interrupted(*WORDS)
    edit(started.project)
    for words, command in ((["sweep.tables=[4]"], "sweep"), (WORDS, "search")):
        folder, said = started(*words, command=command)
        assert folder != first
        assert said == ""


def test_settings_alone_are_taken_as_they_are_now(started: Started) -> None:
    first = started.interrupted(*WORDS)
    other_settings(started.project)
    folder, said = started(*WORDS)
    assert (folder / "params.yaml").read_text() == (started.project / "params.yaml").read_text()
    assert folder != first
    assert said == ""


@pytest.mark.parametrize("words", [[], ["--anew"]])
@pytest.mark.parametrize("change", [edit, other_settings])
def test_a_job_that_is_queued_again_goes_on_with_all_that_it_began_with(
    started: Started, change: Callable[[Path], None], words: list[str]
) -> None:
    first = started.interrupted(*WORDS)
    change(started.project)
    started.patch.setenv("SLURM_RESTART_COUNT", "1")
    folder, said = started(*WORDS, *words)
    assert folder == first
    assert "1 file differs" in said


def test_a_stage_of_dvc_runs_the_code_that_dvc_records(started: Started) -> None:
    first = started.interrupted(*WORDS)
    edit(started.project)
    started.patch.setenv("DVC_STAGE", "sweep")
    folder, said = started(*WORDS)
    assert folder != first
    assert "plans anew" in said


REFUSED = InputError("E_CELL", "no such cell")
AWAY = EnvironmentFailure("E_CLUSTER", "no cluster answers")
TAKEN = EnvironmentFailure("E_LEASE", "another sweep works here")


@pytest.mark.parametrize(
    ("end", "stays"),
    [
        *[(0, False), (1, False), (2, False), (REFUSED, False), (TAKEN, False)],
        *[(4, True), (130, True), (143, True), (AWAY, True), (KeyboardInterrupt(), True), (OSError(), True)],
    ],
)
def test_the_mark_goes_when_the_command_has_ended_in_order(
    started: Started, end: BaseException | int, stays: bool
) -> None:
    started.interrupted(*WORDS, end=end)
    assert bool(started.marks) == stays


@pytest.mark.parametrize("end", [REFUSED, TAKEN])
def test_who_is_refused_leaves_the_mark_of_who_was_there(started: Started, end: BaseException) -> None:
    first = started.interrupted(*WORDS)
    [mark] = started.marks
    before = mark.read_text()
    edit(started.project)
    started.patch.setattr(sys, "argv", ["pipelines/sweep.py", *WORDS, "--anew"])
    assert started.interrupted(*WORDS, "--anew", end=end) != first
    assert mark.read_text() == before


def test_a_snapshot_that_is_gone_or_changed_is_one_line_and_anew_goes_round_it(started: Started) -> None:
    first = started.interrupted(*WORDS)
    edit(first)
    edit(started.project)
    for what in ("a changed file", "is gone"):
        with pytest.raises(SystemExit) as caught:
            started(*WORDS)
        assert caught.value.code == 3
        *_, line = started.said().err.splitlines()
        assert line.startswith("error: E_SNAPSHOT")
        assert what in line
        assert started(*WORDS, "--anew")[0] != first
        shutil.rmtree(first, ignore_errors=True)


@pytest.mark.parametrize("change", [{"command": 1}, {"what": 2}, {"snapshot": "../../elsewhere"}, {"snapshot": 3}])
def test_a_mark_that_is_none_is_refused(started: Started, change: dict[str, Any]) -> None:
    started.interrupted(*WORDS)
    record = json.loads(started.marks[0].read_text())
    started.marks[0].write_text(json.dumps(record | change))
    with pytest.raises(SystemExit):
        started(*WORDS)
    assert "E_SNAPSHOT | not a mark" in started.said().err


def test_options_of_the_interpreter_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/sweep.py", "seeds=2"])
    for given, kept in {
        ("python", "-u", "-X", "dev", "pipelines/sweep.py", "seeds=2"): ["-u", "-X", "dev"],
        ("python", "-u", "-m", "pipelines.sweep", "seeds=2"): ["-u"],
        ("python", "-c", "some program"): [],
        ("python", "sweep.py", "seeds=2"): [],
    }.items():
        monkeypatch.setattr(sys, "orig_argv", list(given))
        assert start._interpreter_options() == kept


# Stands in for the libraries, whose import takes seconds: any module, any name.
NO_LIBRARIES = """
import importlib.machinery, sys, types

LIBRARIES = "cv2 mlflow numpy PIL pyarrow ray rich safetensors timm torch torchvision yaml".split()

class Module(types.ModuleType):
    def __getattr__(self, name):
        return object

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in LIBRARIES:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return Module(spec.name)

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_file_imports_its_own_project(tmp_path: Path, command: str) -> None:
    """Whatever is installed or on the path: the packages say where they are, and end the process there."""
    for copy in ("own", "installed"):
        for package in ("pipelines", "setr"):
            (tmp_path / copy / package).mkdir(parents=True)
            (tmp_path / copy / package / "__init__.py").write_text("print(__file__)\nraise SystemExit(0)\n")
    (tmp_path / "installed" / "sitecustomize.py").write_text(NO_LIBRARIES)
    script = tmp_path / "own" / "pipelines" / f"{command}.py"
    shutil.copy(ROOT / "pipelines" / script.name, script)
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        cwd=tmp_path / "installed",
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip().startswith(str(tmp_path / "own")), done.stdout + done.stderr


def _clone(first: Path, folder: Path) -> None:
    git(first, "clone", "--quiet", str(first), str(folder))


def _worktree(first: Path, folder: Path) -> None:
    git(first, "worktree", "add", "--quiet", str(folder))


def _copy(first: Path, folder: Path) -> None:
    copy_of_project(folder, repository=False)


@pytest.mark.parametrize("make", [_clone, _worktree, _copy])
def test_a_project_runs_its_own_settings_and_writes_below_itself(
    tmp_path: Path, make: Callable[[Path, Path], None]
) -> None:
    other = copy_of_project(tmp_path / "first")
    mine = tmp_path / "second"
    make(other, mine)
    settings = yaml.safe_load((mine / "params.yaml").read_text())
    settings["scenes"] |= {"train_images": 2, "val_images": 1, "height": 64, "width": 128}
    (mine / "params.yaml").write_text(yaml.safe_dump(settings))
    edit(mine, "pipelines/scenes.py", 'print("mine")\n')
    found = variables(tmp_path, PYTHONPATH=str(other))
    del found["SETR_HOME"]
    done = subprocess.run(
        [sys.executable, mine / "pipelines" / "scenes.py"], env=found, cwd=other, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "2 train and 1 val scenes" in done.stdout
    assert (mine / "data" / "raw" / "scenes").is_dir()
    assert not (other / "data").exists()


def test_the_version_is_the_codes_own_and_needs_no_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> str:
        raise AssertionError(f"asked for {name}")

    monkeypatch.setattr("setr.record.lineage.version", absent)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "7.8.9"\n')
    assert project_version(tmp_path) == "7.8.9"
    assert re.fullmatch(r"\d+\.\d+\.\d+", project_version())


@pytest.fixture
def work_home(tiny_home: Path, tmp_path: Path) -> Path:
    """Returns a home with the tiny data, files where weights would be (nothing here reads them), and no results."""
    from setr.training.proxies import PROXIES

    home = tmp_path / "a home"
    (home / "weights").mkdir(parents=True)
    (home / "data").symlink_to(tiny_home / "data")
    for proxy in PROXIES:
        (home / "weights" / f"{proxy.name}.safetensors").write_bytes(proxy.name.encode())
    return home


def starts(home: Path, storage: str = "checkpoints") -> dict[str, list[Event]]:
    """Returns the attempts at each experiment."""
    found = {path.parent.name: read_events(path) for path in (home / storage).glob("*/events.jsonl")}
    return {name: [event for event in events if event["event"] == "start"] for name, events in found.items()}


def wait_for(home: Path, process: "subprocess.Popen[str]", kind: str) -> None:
    """Returns when any experiment has an event of the kind."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        for path in home.glob("checkpoints/*/events.jsonl"):
            if any(event["event"] == kind for event in read_events(path)):
                return
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    raise AssertionError(f"no {kind} in time: {process.communicate()[0]}")


@pytest.mark.slow
def test_a_killed_training_goes_on_from_its_snapshot_alone_and_anew_with_the_present_code(
    pristine: Path, tmp_path: Path, work_home: Path
) -> None:
    project = tmp_path / "project"
    shutil.copytree(pristine, project)
    edit(project)  # uncommitted
    words = (f"cell={CELL}", "miniature.iterations={40k: 40}")
    training = begin(project, work_home, "train", *words)
    wait_for(work_home, training, "metrics")
    os.killpg(training.pid, signal.SIGKILL)
    training.communicate()
    edit(project, "setr/training/computation.py", '[].append("EDITED_AGAIN")\n')  # which a training runs through

    said = run(project, work_home, "train", *words, "--anew")
    assert "plans anew with the present code" in said
    dirty, anew = sorted(starts(work_home), key=lambda name: starts(work_home)[name][0]["time"])
    assert not list((work_home / "checkpoints" / CODE / start.MARKS).iterdir())

    shutil.rmtree(project)  # the first code is in its snapshot alone
    [first] = starts(work_home)[dirty]
    kept = work_home / "checkpoints" / CODE / first["tags"][SNAPSHOT_TAG]
    assert "mIoU" in run(kept, work_home, "train", *words, "--no-replay")  # or the other code's result would do
    assert starts(work_home).keys() == {dirty, anew}
    again = starts(work_home)[dirty][-1]["tags"]
    assert len(starts(work_home)[dirty]) == 2
    assert again == first["tags"]
    assert first["tags"][SNAPSHOT_TAG] != starts(work_home)[anew][0]["tags"][SNAPSHOT_TAG]
    diff = (work_home / "checkpoints" / DIFFS / f"{again['git.diff_sha256']}.diff").read_text()
    assert "+EDITED = True" in diff
    assert "EDITED_AGAIN" not in diff


@pytest.mark.slow
def test_a_sweep_has_one_code_whatever_becomes_of_the_project(pristine: Path, tmp_path: Path, work_home: Path) -> None:
    """Edited after its first step and after its first experiment, and its driver killed between; real Ray."""
    project = tmp_path / "project"
    shutil.copytree(pristine, project)
    words = (
        f"cells=[{CELL},table2/hybrid-base-random/40k]",
        f"two_worker_cells=[{CELL}]",
        "miniature.iterations={40k: 4}",
    )
    shutil.rmtree(work_home / "weights")  # Hybrid's CNN is read
    run(project, work_home, "weights", "weights.images=4", "weights.size=32", "weights.steps=2")
    sweep = begin(project, work_home, "sweep", *words)
    wait_for(work_home, sweep, "start")
    for name in (
        "setr/training/loop.py",
        "setr/models/segmenter.py",
        "setr/experiments/worker.py",
        "pipelines/cluster/session.py",
    ):
        edit(project, name, BREAKS)
    wait_for(work_home, sweep, "finished")
    os.killpg(sweep.pid, signal.SIGKILL)
    sweep.communicate()
    git(project, "rm", "-r", "--quiet", "-f", "setr/evaluation")

    said = run(project, work_home, "sweep", *words)
    assert "goes on with the code that it began with" in said
    assert "2 of 2 experiments have results" in said
    found = starts(work_home)
    assert len(found) == 2
    assert {event["world_size"] for events in found.values() for event in events} == {1, 2}
    [code] = {event["tags"][SNAPSHOT_TAG] for events in found.values() for event in events}
    assert (work_home / "checkpoints" / CODE / code / "setr" / "evaluation" / "evaluate.py").is_file()
    assert not list((work_home / "checkpoints" / CODE / start.MARKS).iterdir())
