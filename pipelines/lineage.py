"""Where a run's code came from: git commit, dirty flag and diff; a submitted job's copy has no .git and is told.

Untracked code and settings count as changes, and stand in the diff: git's own diff leaves them out.
"""

import hashlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

from pipelines.command import PROJECT

DIFF_ARTIFACT = "code.diff"  # of a sweep's or a training's run
CODE = ("*.py", "*.yaml", "*.yml")  # untracked files that count
COMMIT_VARIABLE = "SETR_GIT_COMMIT"  # set by the submitter where the copy has no .git
PACKAGES = ("torch", "torchvision", "timm", "ray", "mlflow", "dvc", "pyarrow", "numpy", "opencv-python-headless")


def git_lineage() -> dict[str, str]:
    """Returns commit, dirty flag (true | false | unknown) and the hash of the uncommitted diff, as tags."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return {"git.commit": os.environ.get(COMMIT_VARIABLE, "unknown"), "git.dirty": "unknown"}
    diff = git_diff()
    tags = {"git.commit": commit.strip(), "git.dirty": "true" if diff else "false"}
    return tags | ({"git.diff_sha256": hashlib.sha256(diff.encode()).hexdigest()} if diff else {})


def git_diff() -> str:
    """Returns the uncommitted change against HEAD, empty if there is none or no repository.

    Untracked files of CODE that git does not ignore stand in it as new ones.
    """
    changed = _git("diff", "HEAD") or ""
    untracked = (_git("ls-files", "--others", "--exclude-standard", "-z", "--", *CODE) or "").split("\0")
    # Status 1 means that there is a difference.
    new = [_git("diff", "--no-index", "--", os.devnull, name, accepted=(0, 1)) or "" for name in untracked if name]
    return "".join([changed, *new])


def environment() -> dict[str, str]:
    """Returns the versions that a run was made with, as tags."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    return {"setr.environment": ", ".join(f"{name} {value}" for name, value in versions.items())}


def engine_versions() -> dict[str, str]:
    """Returns the version of Ray that is installed, {} without it: what a training's resume compares.

    A training by hand uses none of it, but a sweep may go on in the same folder.
    """
    try:
        return {"ray": version("ray")}
    except PackageNotFoundError:
        return {}


def _git(*words: str, accepted: tuple[int, ...] = (0,)) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=PROJECT, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode in accepted else None
