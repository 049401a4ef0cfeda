"""Copies of this project's code that a test may edit, and commands run from them as processes of their own."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.helpers.environment import ENGINES, ROOT, environment
from tests.helpers.tiny import TINY

PARTS = ("setr", "pipelines", "studies", "params.yaml", "pyproject.toml", ".gitignore")
BREAKS = 'raise RuntimeError("the edited code runs")\n'  # a line that no process can pass over


def copy_of_project(folder: Path, *, repository: bool = True) -> Path:
    """Returns `folder` with the code of this project, committed in a repository of its own unless told otherwise."""
    folder.mkdir(parents=True)
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)
    if repository:
        git(folder, "init", "--quiet")
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "--message", "first")
    return folder


def git(folder: Path, *words: str) -> str:
    """Returns what git says in a folder."""
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def variables(home: Path, **more: str) -> dict[str, str]:
    """Returns the environment of a command that works in `home`; this project stays the installed one."""
    patient = {"RAY_raylet_start_wait_time_s": "240"}  # seconds; on a busy machine Ray's own 30 are too few
    found = environment(home, without=(*ENGINES, "SLURM_", "DVC_"), **patient)
    del found["PYTHONPATH"]
    return {**found, **more}


def begin(project: Path, home: Path, command: str, *words: str, **more: str) -> subprocess.Popen[str]:
    """Starts a command of the project, at the smallest settings, in the folder of another copy: this one's."""
    return subprocess.Popen(
        [sys.executable, str(project / "pipelines" / f"{command}.py"), *TINY, *words],
        env=variables(home, **more),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(project: Path, home: Path, command: str, *words: str, status: int = 0, **more: str) -> str:
    """Returns what a command prints; fails unless it ends with `status`."""
    process = begin(project, home, command, *words, **more)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == status, said
    assert "Traceback" not in said, said
    return said
