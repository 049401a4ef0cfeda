"""Where a run's code came from: git commit, dirty flag and diff; a submitted job's copy has no .git and is told."""

import hashlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

from pipelines.command import PROJECT

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
    """Returns the uncommitted change against HEAD, empty if there is none or no repository."""
    return _git("diff", "HEAD") or ""


def environment() -> dict[str, str]:
    """Returns the versions that a run was made with, as tags."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    return {"setr.environment": ", ".join(f"{name} {value}" for name, value in versions.items())}


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=PROJECT, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
