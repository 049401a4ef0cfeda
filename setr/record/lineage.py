"""Where a run's code came from: git commit, dirty flag and diff.

A submitted job's copy has no .git: `pipelines/submit.py` sends what git knows along in a file. Without that the commit
is what SETR_GIT_COMMIT says, and what nobody said is "unknown", a gap that the trace names.
"""

import functools
import hashlib
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from setr.files.atomic import storage_failure, write_json, write_text
from setr.redaction import redact, without_known
from setr.settings.home import PROJECT, SNAPSHOT

COMMIT_VARIABLE = "SETR_GIT_COMMIT"  # set by who builds an image, or submits without pipelines/submit.py
SENT = ".lineage.json"  # in the project's folder: written before an upload, ignored by git
SNAPSHOT_TAG = "setr.snapshot"  # hash of the snapshot of code that a run's processes have in common
DIFF_ARTIFACT = "code.diff"  # of a sweep's or a training's run
CODE = ("*.py", "*.yaml", "*.yml")  # files that git does not know yet and that belong to the diff
DIFFS = "diffs"  # in the storage path: <SHA-256>.diff
MAX_DIFF = 5_000_000  # characters
_ADDRESS_SETTING = re.compile(r"(?m)^([-+ ]\s*uri:\s*)(\S+)")  # in a diff of params.yaml
UNKNOWN = "unknown"
PACKAGES = ("torch", "torchvision", "timm", "ray", "mlflow", "dvc", "pyarrow", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class Lineage:
    """The code that runs: a commit and what was changed since."""

    commit: str = UNKNOWN
    dirty: str = UNKNOWN  # true | false | unknown
    diff: str = ""

    @property
    def diff_sha256(self) -> str:
        """Returns the hash of the diff, "" if there is none."""
        return hashlib.sha256(self.diff.encode()).hexdigest() if self.diff else ""

    @property
    def tags(self) -> dict[str, str]:
        """Returns what a run is tagged with."""
        tags = {"git.commit": self.commit, "git.dirty": self.dirty}
        return tags | ({"git.diff_sha256": self.diff_sha256} if self.diff else {})


@functools.cache
def lineage(project: Path = PROJECT) -> Lineage:
    """Returns the lineage of a copy of the project: what git says, else what was sent with it, else what is unknown.

    Asked for once in a process: what is loaded later is the code that the process started with. A repository that git
    does not read is named on stderr: every run of such a checkout would lose its commit and nobody would know.
    """
    commit = None if (project / SNAPSHOT).is_file() else _git(project, "rev-parse", "HEAD")
    # A copy may lie in somebody else's repository: then that one's commit says nothing about it.
    if commit is not None and _git(project, "ls-files", "--error-unmatch", "pyproject.toml") is not None:
        diff = _diff(project)
        return Lineage(commit.strip(), "true" if diff else "false", diff)
    try:
        sent = json.loads((project / SENT).read_text(encoding="utf-8"))
        return Lineage(str(sent["commit"]), str(sent["dirty"]), str(sent["diff"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        named = os.environ.get(COMMIT_VARIABLE)
        if not named and (reason := _unread(project)):
            print(f"warning: {reason}", file=sys.stderr, flush=True)
        return Lineage(commit=named or UNKNOWN)


def write_lineage(project: Path = PROJECT) -> Lineage:
    """Writes the file that travels with an upload of the project; returns what is in it."""
    found = lineage(project)
    write_json(project / SENT, asdict(found))
    return found


def keep_diff(storage: Path, found: Lineage) -> None:
    """Writes the diff below the storage path, under its hash: an experiment's record names it."""
    path = storage / DIFFS / f"{found.diff_sha256}.diff"
    try:
        if found.diff and not path.is_file():
            write_text(path, found.diff)
    except OSError as error:  # a folder that this user may not even look into
        raise storage_failure(path, error) from error


@functools.cache
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


def origin() -> dict[str, str]:
    """Returns the tags that say what a run was made with: the code's lineage and snapshot, and the versions."""
    snapshot = {SNAPSHOT_TAG: PROJECT.name} if (PROJECT / SNAPSHOT).is_file() else {}
    return {**lineage().tags, **snapshot, **environment()}


def project_version(project: Path = PROJECT) -> str:
    """Returns the version that the code gives itself; the installed one, if any, may be another copy's."""
    try:
        return str(tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    try:
        return version("setr-tables")
    except PackageNotFoundError:
        return UNKNOWN


def _diff(project: Path) -> str:
    """Returns the change against HEAD with the code's new files, cut off where it is too long to be read by anyone."""
    parts = [_git(project, "diff", "HEAD") or ""]
    untracked = _git(project, "ls-files", "--others", "--exclude-standard", "-z", "--", *CODE) or ""
    # Status 1 says that the two differ, as a new file does from nothing.
    for path in filter(None, untracked.split("\0")):
        parts.append(_git(project, "diff", "--no-index", "--", os.devnull, path, ok=(0, 1)) or "")
    # An address of the settings, with its login, must not travel with the code.
    text = _ADDRESS_SETTING.sub(lambda found: found[1] + redact(found[2]), without_known("".join(parts)))
    return text if len(text) <= MAX_DIFF else text[:MAX_DIFF] + "\n[cut off here]\n"


def _unread(project: Path) -> str:
    """Returns why the project's own repository tells nothing, and what to do; "" if there is none."""
    if not (project / ".git").exists():
        return ""
    try:
        asked = ["git", "rev-parse", "HEAD"]
        done = subprocess.run(asked, cwd=project, capture_output=True, text=True, errors="replace", timeout=20)
        found = " ".join(done.stderr.split()) or f"git ends with {done.returncode}"
    except (OSError, subprocess.SubprocessError) as error:
        found = str(error)
    # Not lifted from here: git does not trust another owner's settings, which may name programs to run.
    if "safe.directory" in found or "dubious ownership" in found:
        found = "the checkout belongs to another user, and git does not read it"
        remedy = f"git config --global --add safe.directory {shlex.quote(str(project))}"
    else:
        remedy = "make a commit" if "HEAD" in found else "mend it"
    return f"the commit of {project} is unknown ({found[:200]}): {remedy}, or set {COMMIT_VARIABLE}"


def _git(project: Path, *words: str, ok: tuple[int, ...] = (0,)) -> str | None:
    try:
        done = subprocess.run(
            ["git", *words], cwd=project, capture_output=True, text=True, errors="replace", timeout=20, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode in ok else None
